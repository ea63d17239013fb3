package dnssec

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"postrider/dns/durable"
)

// Key is a key of a zone that we sign: a DNSKEY record and its private half. It
// does not change.
type Key struct {
	record *dns.DNSKEY
	tag    uint16
	signer crypto.Signer
}

// Role is what a key signs.
type Role string

const (
	KSK Role = "ksk" // the keys of the zone; the parent's DS names it
	ZSK Role = "zsk" // everything else
	CSK Role = "csk" // both
)

func (r Role) flags() uint16 {
	if r == ZSK {
		return dns.ZONE
	}
	return dns.ZONE | dns.SEP
}

// GenerateKey makes a key for a zone. The algorithm is dns.ECDSAP256SHA256 or
// dns.ED25519, the two that RFC 8624 section 3.1 recommends; keys of RSA are read
// but not made. The TTL is that of the DNSKEY record, in seconds.
func GenerateKey(zone string, role Role, algorithm uint8, ttl uint32) (*Key, error) {
	if algorithm != dns.ECDSAP256SHA256 && algorithm != dns.ED25519 {
		return nil, fmt.Errorf("keys of %s are not made here: use %s or %s", algorithmName(algorithm),
			algorithmName(dns.ECDSAP256SHA256), algorithmName(dns.ED25519))
	}
	name, err := canonical(zone)
	if err != nil {
		return nil, err
	}
	k := &dns.DNSKEY{Flags: role.flags(), Protocol: 3, Algorithm: algorithm,
		Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: ttl}}
	for {
		private, err := k.Generate(256)
		if err != nil {
			return nil, err
		}
		if k.KeyTag() != 0 { // one in 65,536; miekg takes it for a tag that is missing
			return newKey(k, private)
		}
	}
}

func newKey(k *dns.DNSKEY, private crypto.PrivateKey) (*Key, error) {
	signer, ok := private.(crypto.Signer)
	if !ok || !supportedAlgorithm(k.Algorithm) || !complete(private) {
		return nil, fmt.Errorf("a key of %s cannot sign here", algorithmName(k.Algorithm))
	}
	key := &Key{k, k.KeyTag(), signer}
	if key.tag == 0 {
		return nil, errors.New("a key whose tag is 0 cannot sign here: make another one")
	}
	// The halves must belong together: a wrong signature would take the zone off
	// the net of all who validate.
	sig, err := key.Sign([]dns.RR{k}, time.Unix(0, 0), time.Unix(1, 0))
	if err != nil {
		return nil, err
	}
	if err := sig.Verify(k, []dns.RR{k}); err != nil {
		return nil, errors.New("the private key is not the one of the DNSKEY record")
	}
	return key, nil
}

// complete tells that a private key has all its parts: a file may leave some out,
// and the packages of the algorithms do not all say so.
func complete(private crypto.PrivateKey) bool {
	switch p := private.(type) {
	case ed25519.PrivateKey:
		return len(p) == ed25519.PrivateKeySize
	case *ecdsa.PrivateKey:
		_, err := p.Bytes()
		return err == nil
	case *rsa.PrivateKey:
		if p.N == nil || p.D == nil || len(p.Primes) < 2 || slices.Contains(p.Primes, nil) {
			return false
		}
		return p.Validate() == nil
	}
	return false
}

// Record is the DNSKEY record, which must not be changed.
func (k *Key) Record() *dns.DNSKEY { return k.record }

// Tag identifies the key in signatures, though not for certain (RFC 4034
// appendix B).
func (k *Key) Tag() uint16 { return k.tag }

// SEP says that the key is one for DS records: a KSK or CSK.
func (k *Key) SEP() bool { return k.record.Flags&dns.SEP != 0 }

// DS is the record that the parent is to publish, with SHA-256 (RFC 8624 section
// 3.3).
func (k *Key) DS() *dns.DS { return k.record.ToDS(dns.SHA256) }

func (k *Key) String() string {
	return fmt.Sprintf("%s/%s/%d", k.record.Hdr.Name, algorithmName(k.record.Algorithm), k.tag)
}

// Sign makes a signature over the records of one set, whose TTL it takes.
func (k *Key) Sign(set []dns.RR, inception, expiration time.Time) (*dns.RRSIG, error) {
	sig := &dns.RRSIG{KeyTag: k.tag, Algorithm: k.record.Algorithm, SignerName: k.record.Hdr.Name,
		Inception: uint32(inception.Unix()), Expiration: uint32(expiration.Unix())}
	sig.Hdr.Ttl = set[0].Header().Ttl
	if err := sig.Sign(k.signer, set); err != nil {
		return nil, fmt.Errorf("sign %s %s with %s: %w", set[0].Header().Name, dns.Type(set[0].Header().Rrtype), k, err)
	}
	return sig, nil
}

// baseName is that of the key's files, as BIND names them: K, the zone, the
// algorithm and the tag.
func (k *Key) baseName() string {
	zone := strings.ReplaceAll(k.record.Hdr.Name, "/", "%2f")
	return fmt.Sprintf("K%s+%03d+%05d", zone, k.record.Algorithm, k.tag)
}

// Write keeps the key in two files of a directory, in the format of BIND: .key
// has the DNSKEY record, .private the private half, readable by the owner only.
// The private half is durable before the record. It returns the path of the files
// without their ending. A key that is there already is an error.
func (k *Key) Write(dir string) (path string, err error) {
	path = filepath.Join(dir, k.baseName())
	for _, name := range []string{path + ".key", path + ".private"} {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("%s: there already", name)
		}
	}
	if err := durable.Write(path+".private", 0o600, []byte(k.record.PrivateKeyString(k.signer))); err != nil {
		return "", err
	}
	return path, durable.Write(path+".key", 0o644, []byte(k.record.String()+"\n"))
}

// maxKeyFile bounds each file of a key in bytes.
const maxKeyFile = 16 << 10

// ReadKey reads the files of a key: path is without .key or .private, or with
// one of them. A private file that others can read is refused.
func ReadKey(path string) (*Key, error) {
	path = strings.TrimSuffix(strings.TrimSuffix(path, ".key"), ".private")
	public, _, err := readKeyFile(path + ".key")
	if err != nil {
		return nil, err
	}
	record, err := parseKey(public, path+".key")
	if err != nil {
		return nil, err
	}
	text, mode, err := readKeyFile(path + ".private")
	if err != nil {
		return nil, err
	}
	if mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s.private: others can read it (%s): chmod 600 it", path, mode.Perm())
	}
	private, err := record.ReadPrivateKey(bytes.NewReader(text), path+".private")
	if err != nil {
		return nil, fmt.Errorf("%s.private: not a private key of %s", path, algorithmName(record.Algorithm))
	}
	key, err := newKey(record, private)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func readKeyFile(name string) ([]byte, fs.FileMode, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("%s: larger than %d bytes", name, maxKeyFile)
	}
	return text, info.Mode(), err
}

// parseKey reads the one DNSKEY record of a .key file, which has comments too.
func parseKey(text []byte, name string) (k *dns.DNSKEY, err error) {
	p := dns.NewZoneParser(bytes.NewReader(text), ".", name)
	p.SetDefaultTTL(3600)
	rr, ok := p.Next()
	if !ok {
		if err := p.Err(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return nil, fmt.Errorf("%s: no DNSKEY record", name)
	}
	if k, ok = rr.(*dns.DNSKEY); !ok || k.Flags&dns.ZONE == 0 || k.Protocol != 3 {
		return nil, fmt.Errorf("%s: not the DNSKEY record of a zone's key", name)
	}
	if k.Hdr.Name, err = canonical(k.Hdr.Name); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return k, nil
}
