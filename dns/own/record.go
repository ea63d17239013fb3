package own

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	miekg "github.com/miekg/dns"
)

// TTL is that of the records that we propose, in seconds: an hour, so that a
// change of server or certificate is known soon enough.
const TTL = 3600

// Domain is a mail domain and the server that serves it.
type Domain struct {
	Name string // canonical: lower case, with the final dot
	Host string // the server's name; canonical
	// Addresses are those under which the world reaches the server; none: not
	// known.
	Addresses []netip.Addr
	// Ports of the services that are on, by their names in [listen].
	Ports map[string]uint16
	// LoopbackOnly: nobody but this machine reaches any of them.
	LoopbackOnly bool
	// Keys are SHA-256 of the public keys (SubjectPublicKeyInfo) of the
	// certificate in use and of the one that comes next, as far as known.
	Keys []Key
	// Issuer is the CAA name of the authority that signed the certificate; "":
	// an authority of our own, or one that is not known.
	Issuer string
	// Smarthost sends our mail, when it is not "": a canonical name.
	Smarthost string
	// Zones are those at, above or below the domain that the server serves itself.
	Zones []Zone
}

// Key is a public key that the server shows, or will.
type Key struct {
	SHA256 [sha256.Size]byte
	Next   bool
}

// KeyOf is the key of a certificate.
func KeyOf(c *x509.Certificate, next bool) Key {
	return Key{sha256.Sum256(c.RawSubjectPublicKeyInfo), next}
}

// ErrNoKey says that a file has neither a certificate nor a public key.
var ErrNoKey = errors.New("has neither a certificate nor a public key in PEM")

// NextKey reads the key of the certificate that comes next: the first
// certificate or public key of a PEM file.
func NextKey(text []byte) (Key, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return Key{}, err
			}
			return KeyOf(c, true), nil
		case "PUBLIC KEY":
			if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
				return Key{}, err
			}
			return Key{sha256.Sum256(block.Bytes), true}, nil
		}
	}
	return Key{}, ErrNoKey
}

// Place says whose a record is to publish.
type Place string

// The places of a record.
const (
	InZone    Place = "zone"    // the domain's own zone
	Elsewhere Place = "other"   // the zone of the server's name, which is another
	Reverse   Place = "reverse" // whoever gave us the address has its PTR record
	Unknown   Place = "unknown" // its data is not known here
)

// More places, of zones that we serve ourselves.
const (
	Served Place = "served" // by this server: nobody has to do anything
	Parent Place = "parent" // the zone above, by way of the registrar
)

// Record is one record to publish.
type Record struct {
	Name  string `json:"name"` // canonical
	TTL   uint32 `json:"ttl"`  // seconds
	Type  string `json:"type"`
	Data  string `json:"data"` // in the form of zone files; of Unknown, what is missing
	Place Place  `json:"place"`
	About string `json:"about"` // a word for people, one line
}

// RR is the record as the library has it; an error means that its text is none.
func (r Record) RR() (miekg.RR, error) {
	if r.Place == Unknown {
		return nil, fmt.Errorf("the %s record of %s has no data", r.Type, r.Name)
	}
	rr, err := miekg.NewRR(fmt.Sprintf("%s %d IN %s %s", r.Name, r.TTL, r.Type, r.Data))
	if err != nil {
		return nil, fmt.Errorf("the %s record of %s: %w", r.Type, r.Name, err)
	}
	if rr == nil {
		return nil, fmt.Errorf("the %s record of %s is empty", r.Type, r.Name)
	}
	return rr, nil
}

// line is the record in the form of zone files.
func (r Record) line() string {
	return fmt.Sprintf("%s  IN %-4s %s", r.Name, r.Type, r.Data)
}

// clients are the services that mail programs look for (RFC 6186 section 3,
// RFC 8314 section 5.1). The lower priority is preferred, also between IMAP and
// POP3 (RFC 6186 section 3.4): TLS from the start before STARTTLS.
var clients = []struct {
	service, label string
	priority       int
	about          string
}{
	{"submissions", "_submissions._tcp.", 0, "sending, TLS"},
	{"submission", "_submission._tcp.", 10, "sending, STARTTLS"},
	{"imaps", "_imaps._tcp.", 0, "reading over IMAP, TLS"},
	{"imap", "_imap._tcp.", 10, "reading over IMAP, STARTTLS"},
	{"pop3s", "_pop3s._tcp.", 20, "download over POP3, TLS"},
	{"pop3", "_pop3._tcp.", 30, "download over POP3, STLS"},
}

// Records are those that the server honours for the domain, in the order in
// which one would explain them.
func (d *Domain) Records() []Record {
	var list []Record
	add := func(name, typ, data string, about string, args ...any) {
		list = append(list, Record{Name: name, TTL: TTL, Type: typ, Data: data, Place: d.place(name), About: fmt.Sprintf(about, args...)})
	}
	if port, on := d.Ports["smtp"]; on {
		about := "mail for the domain comes to this server"
		if port != 25 {
			about += fmt.Sprintf("; others connect to port 25, and this server listens on %d", port)
		}
		add(d.Name, "MX", "10 "+d.Host, "%s", about)
	}
	list = append(list, d.addresses()...)
	list = append(list, d.spf()...)
	for _, c := range clients {
		name := c.label + d.Name
		if port, on := d.Ports[c.service]; on {
			add(name, "SRV", fmt.Sprintf("%d 1 %d %s", c.priority, port, d.Host), "mail programs: %s", c.about)
		} else {
			add(name, "SRV", "0 0 0 .", "mail programs: no %s", c.about)
		}
	}
	if _, on := d.Ports["smtp"]; on {
		for _, k := range d.Keys {
			about := "the key of the server's certificate (DANE; counts where the zone is signed)"
			if k.Next {
				about = "the key of the certificate that comes next"
			}
			add("_25._tcp."+d.Host, "TLSA", "3 1 1 "+hex.EncodeToString(k.SHA256[:]), "%s", about)
		}
	}
	if d.Issuer != "" {
		add(d.Host, "CAA", fmt.Sprintf("0 issue %q", d.Issuer), "who may sign certificates of the server's name")
	}
	for _, a := range d.Addresses {
		reverse, err := miekg.ReverseAddr(a.WithZone("").String())
		if err != nil {
			continue // no address of the Internet
		}
		list = append(list, Record{reverse, TTL, "PTR", d.Host, Reverse, "ask for it where the address comes from"})
	}
	return d.inZones(list)
}

// place is where a record of a name belongs, as long as we serve no zone.
func (d *Domain) place(name string) Place {
	if miekg.IsSubDomain(d.Name, name) {
		return InZone
	}
	return Elsewhere
}

// addresses are the records of the server's name.
func (d *Domain) addresses() []Record {
	if len(d.Addresses) == 0 {
		return []Record{{d.Host, TTL, "A", "(the public IPv4 address of this machine)", Unknown,
			"this machine has no public address of its own: give it by --address"}}
	}
	var list []Record
	for _, a := range d.Addresses {
		list = append(list, Record{d.Host, TTL, addressType(a), a.WithZone("").String(), d.place(d.Host), "the server's address"})
	}
	slices.SortStableFunc(list, func(a, b Record) int { return cmp.Compare(a.Type, b.Type) })
	return list
}

// spf says who sends mail of the domain (RFC 7208), and for bounces, whose
// sender is empty, who calls itself by the server's name (section 2.3).
func (d *Domain) spf() []Record {
	text, about := "v=spf1 mx -all", "only the domain's mail servers send its mail (SPF)"
	if _, on := d.Ports["smtp"]; !on {
		text, about = "v=spf1 a:"+strings.TrimSuffix(d.Host, ".")+" -all", "only this server sends the domain's mail (SPF)"
	}
	if d.Smarthost != "" {
		text = strings.TrimSuffix(text, "-all") + "a:" + strings.TrimSuffix(d.Smarthost, ".") + " ~all"
		about = "this server and the smarthost send the domain's mail (SPF); put what your provider says, such as include:NAME, in place of a:"
	}
	list := []Record{{d.Name, TTL, "TXT", fmt.Sprintf("%q", text), InZone, about}}
	if d.Host != d.Name {
		list = append(list, Record{d.Host, TTL, "TXT", `"v=spf1 a -all"`, d.place(d.Host), "the same for the server's own name, which bounces come from"})
	}
	return list
}

// Print writes records as a part of a zone file (RFC 1035 section 5): what is
// to be published in another zone, or is not known, is a comment.
func Print(w io.Writer, records []Record) error {
	var b strings.Builder
	fmt.Fprintf(&b, "$TTL %d\n", TTL)
	width := 0
	for _, r := range records {
		if n := len(r.line()); r.Place == InZone && n < 80 {
			width = max(width, n)
		}
	}
	for _, r := range records {
		switch r.Place {
		case InZone:
			fmt.Fprintf(&b, "%-*s  ; %s\n", width, r.line(), r.About)
		case Elsewhere:
			fmt.Fprintf(&b, "; %s  ; belongs to another zone: %s\n", r.line(), r.About)
		case Served:
			fmt.Fprintf(&b, "; %s  ; served by this server: %s\n", r.line(), r.About)
		case Parent:
			fmt.Fprintf(&b, "; %s  ; give it to the zone above: %s\n", r.line(), r.About)
		default:
			fmt.Fprintf(&b, "; %s  ; %s\n", r.line(), r.About)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// authorities are the CAA names of certificate authorities (RFC 8659 section
// 4.2), by the organisation in their certificates.
var authorities = map[string]string{
	"Let's Encrypt":         "letsencrypt.org",
	"Google Trust Services": "pki.goog",
	"ZeroSSL":               "sectigo.com",
	"Sectigo Limited":       "sectigo.com",
	"DigiCert Inc":          "digicert.com",
	"GlobalSign nv-sa":      "globalsign.com",
	"Buypass AS-983163327":  "buypass.com",
	"SSL Corporation":       "ssl.com",
	"SSL Corp":              "ssl.com",
	"Actalis S.p.A.":        "actalis.it",
	"HARICA":                "harica.gr",
}

// IssuerOf is the CAA name of the authority that signed a certificate; "" when
// it is not one that we know.
func IssuerOf(c *x509.Certificate) string {
	for _, o := range c.Issuer.Organization {
		if name := authorities[o]; name != "" {
			return name
		}
	}
	return ""
}
