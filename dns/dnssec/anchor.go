package dnssec

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/miekg/dns"
)

// rootAnchors are the keys of the root that IANA publishes
// (https://data.iana.org/root-anchors/root-anchors.xml): KSK-2017 and KSK-2024.
const rootAnchors = `
. 172800 IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D
. 172800 IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16
`

// maxAnchors bounds a file of anchors.
const maxAnchors = 256

// RootAnchors returns the trust anchors of the public root zone.
func RootAnchors() []dns.RR {
	rrs, err := ReadAnchors(strings.NewReader(rootAnchors), "built-in")
	if err != nil {
		panic("dnssec: " + err.Error())
	}
	return rrs
}

// LoadAnchors reads a file of trust anchors.
func LoadAnchors(file string) ([]dns.RR, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("trust anchors: %w", err)
	}
	defer f.Close()
	return ReadAnchors(f, file)
}

// ReadAnchors reads DS and DNSKEY records in the format of zone files, as IANA,
// delv and unbound keep them. A DNSKEY must be of a zone and not revoked.
// Records that cannot serve as an anchor are errors: an operator who wrote them
// expects something of them. The name is for messages.
func ReadAnchors(r io.Reader, name string) ([]dns.RR, error) {
	p := dns.NewZoneParser(r, ".", name)
	p.SetDefaultTTL(172800)
	p.SetIncludeAllowed(false)
	var list []dns.RR
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		rr, err := checkAnchor(rr)
		if err != nil {
			return nil, fmt.Errorf("trust anchors %s: %w", name, err)
		}
		if len(list) == maxAnchors {
			return nil, fmt.Errorf("trust anchors %s: more than %d", name, maxAnchors)
		}
		list = append(list, rr)
	}
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("trust anchors %s: %w", name, err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("trust anchors %s: there are none; a DS or DNSKEY record is needed", name)
	}
	return list, nil
}

// checkAnchor returns the record in the one spelling that the wire format leaves,
// or says why it cannot be an anchor.
func checkAnchor(rr dns.RR) (dns.RR, error) {
	var buf [dns.DefaultMsgSize]byte
	n, err := dns.PackRR(dns.Copy(rr), buf[:], 0, nil, false) // a copy: it writes into the header
	if err != nil {
		return nil, fmt.Errorf("%s of %s: malformed", dns.Type(rr.Header().Rrtype), rr.Header().Name)
	}
	if rr, _, err = dns.UnpackRR(buf[:n], 0); err != nil {
		return nil, err
	}
	rr.Header().Name = dns.CanonicalName(rr.Header().Name)
	switch a := rr.(type) {
	case *dns.DS:
		if !supportedAlgorithm(a.Algorithm) || len(a.Digest) != 2*digestSize(a.DigestType) {
			return nil, fmt.Errorf("DS %d of %s: algorithm %d with digest %d is not supported, or the digest is of a wrong length",
				a.KeyTag, a.Hdr.Name, a.Algorithm, a.DigestType)
		}
	case *dns.DNSKEY:
		if !usableKey(a) || a.PublicKey == "" {
			return nil, fmt.Errorf("DNSKEY %d of %s: not a valid key of a zone, or of an algorithm that is not supported", a.KeyTag(), a.Hdr.Name)
		}
	default:
		return nil, fmt.Errorf("%s record of %s: only DS and DNSKEY are trust anchors", dns.Type(rr.Header().Rrtype), rr.Header().Name)
	}
	return rr, nil
}

// digestSize is the length in octets of a digest that is supported; -1 for others.
func digestSize(d uint8) int {
	switch d {
	case dns.SHA1:
		return 20
	case dns.SHA256:
		return 32
	case dns.SHA384:
		return 48
	}
	return -1
}
