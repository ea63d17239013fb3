package own

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"math/big"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	miekg "github.com/miekg/dns"

	"postrider/dns/zone"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// full is a domain with everything.
func full() *Domain {
	return &Domain{
		Name: "hamburger.edu.", Host: "mail.hamburger.edu.",
		Addresses: addrs("2001:db8::25", "192.0.2.25"),
		Ports:     map[string]uint16{"smtp": 25, "submission": 587, "submissions": 465, "imap": 143, "imaps": 993, "metrics": 9090},
		Keys:      []Key{{SHA256: sha256.Sum256([]byte("now"))}, {SHA256: sha256.Sum256([]byte("next")), Next: true}},
		Issuer:    "letsencrypt.org",
	}
}

// domains are those of the golden files.
func domains() map[string]*Domain {
	bare := &Domain{Name: "hamburger.edu.", Host: "hamburger.edu.", Ports: map[string]uint16{"smtp": 10025}}
	hosted := full()
	hosted.Name, hosted.Smarthost = "crepes.fr.", "out.example.net."
	quiet := full()
	quiet.Ports = map[string]uint16{"imaps": 993}
	return map[string]*Domain{"full": full(), "bare": bare, "hosted": hosted, "quiet": quiet}
}

func TestRecords(t *testing.T) {
	for name, d := range domains() {
		var b bytes.Buffer
		if err := Print(&b, d.Records()); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".zone", b.String())
	}
}

// TestPrintIsAZone: what is printed is what is meant, for the library and for
// BIND's checker.
func TestPrintIsAZone(t *testing.T) {
	for name, d := range domains() {
		var b bytes.Buffer
		if err := Print(&b, d.Records()); err != nil {
			t.Fatal(err)
		}
		want := map[string]bool{}
		for _, r := range d.Records() {
			if r.Place == InZone {
				rr, err := r.RR()
				if err != nil {
					t.Fatal(err)
				}
				want[rr.String()] = true
			}
		}
		p := miekg.NewZoneParser(&b, d.Name, "")
		for rr, ok := p.Next(); ok; rr, ok = p.Next() {
			if !want[rr.String()] {
				t.Errorf("%s: printed and not meant: %v", name, rr)
			}
			delete(want, rr.String())
		}
		if err := p.Err(); err != nil || len(want) > 0 {
			t.Errorf("%s: %v; not printed: %v", name, err, want)
		}
		checkZone(t, d)
	}
}

// checkZone has named-checkzone look at the records in a zone.
func checkZone(t *testing.T, d *Domain) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("@ 3600 IN SOA ns hostmaster 1 7200 900 1209600 300\n@ 3600 IN NS ns.example.\n")
	if err := Print(&b, d.Records()); err != nil {
		t.Fatal(err)
	}
	if len(d.Addresses) == 0 { // the MX needs one
		b.WriteString(d.Host + " IN A 192.0.2.1\n")
	}
	file := filepath.Join(t.TempDir(), "zone")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("named-checkzone", "-i", "local", "-k", "fail", "-m", "fail", "-M", "fail", "-S", "fail", "-r", "fail", d.Name, file).CombinedOutput()
	if err != nil {
		t.Errorf("named-checkzone (of Debian's bind9-utils): %v\n%s\n%s", err, out, b.String())
	}
}

func TestUnknownHasNoRR(t *testing.T) {
	d := domains()["bare"]
	for _, r := range d.Records() {
		rr, err := r.RR()
		if (err != nil) != (r.Place == Unknown) {
			t.Errorf("%+v: %v, %v", r, rr, err)
		}
	}
}

func TestNextKey(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Issuer: pkix.Name{}, Subject: pkix.Name{Organization: []string{"Let's Encrypt"}}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	want := Key{sha256.Sum256(spki), true}
	for typ, b := range map[string][]byte{"CERTIFICATE": der, "PUBLIC KEY": spki} {
		text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("skipped")})
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: b})...)
		if got, err := NextKey(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", typ, got, err)
		}
		if _, err := NextKey(pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: []byte("x")})); err == nil {
			t.Errorf("%s: takes anything", typ)
		}
	}
	if _, err := NextKey([]byte("nothing")); !errors.Is(err, ErrNoKey) {
		t.Error(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil || KeyOf(c, true) != want || IssuerOf(c) != "letsencrypt.org" {
		t.Errorf("%v, %v, %q", err, KeyOf(c, true), IssuerOf(c))
	}
}

// TestPart: a part of the domain that its zone delegates to us. Its records are in
// the part alone, and the domain's zone leads there.
func TestPart(t *testing.T) {
	d := full()
	part := Zone{Name: "_tcp.hamburger.edu.", Servers: []NameServer{{Name: d.Host}, {Name: "ns._tcp.hamburger.edu.", Addresses: addrs("192.0.2.53")}},
		DS: []string{"7 13 2 " + strings.Repeat("AB", 32)}}
	d.Zones = []Zone{part}
	above := []miekg.RR{mustRR(t, "hamburger.edu. 3600 IN SOA ns hostmaster 1 7200 900 1209600 300"), mustRR(t, "hamburger.edu. 3600 IN NS ns.example.")}
	for _, r := range d.Records() {
		inPart := miekg.IsSubDomain(part.Name, r.Name) && r.Type != "NS" && r.Type != "DS" && r.Name != part.Servers[1].Name
		if inPart != (r.Place == Served) {
			t.Errorf("%s %s is at %v", r.Name, r.Type, r.Place)
		}
		if !inPart && r.Place != Unknown && miekg.IsSubDomain(d.Name, r.Name) {
			above = append(above, mustRR(t, r.Name+" 3600 IN "+r.Type+" "+r.Data))
		}
	}
	list, err := part.Records(5, []*Domain{d}, []miekg.RR{mustRR(t, "www.hamburger.edu. 60 IN A 192.0.2.80"), mustRR(t, "_x._tcp.hamburger.edu. 60 IN TXT y")})
	if err != nil {
		t.Fatal(err)
	}
	below, err := zone.New(part.Name, list)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := zone.New(d.Name, above)
	if err != nil {
		t.Fatal(err)
	}
	o := zone.AnswerOptions{DNSSEC: true}
	q := miekg.Question{Name: "_imaps._tcp.hamburger.edu.", Qtype: miekg.TypeSRV, Qclass: miekg.ClassINET}
	if r := whole.Answer(q, o); r.Authoritative || len(r.Answer) > 0 || len(r.Ns) != 2 || len(r.Extra) == 0 || len(whole.Find(part.Name, miekg.TypeDS)) != 1 {
		t.Errorf("the zone above does not refer with two servers, a DS record and glue: %+v", r)
	}
	if r := below.Answer(q, o); !r.Authoritative || len(r.Answer) != 1 || !strings.HasSuffix(r.Answer[0].String(), "0 1 993 mail.hamburger.edu.") {
		t.Errorf("the part says %+v", r)
	}
	q.Name, q.Qtype = "_x._tcp.hamburger.edu.", miekg.TypeTXT
	if r := below.Answer(q, o); len(r.Answer) != 1 {
		t.Errorf("another record in the part: %+v", r)
	}
	for rr := range below.All() {
		if !miekg.IsSubDomain(part.Name, rr.Header().Name) {
			t.Errorf("%v is outside the part", rr)
		}
	}
	q.Name, q.Qtype = d.Name, miekg.TypeMX
	if r := whole.Answer(q, o); !r.Authoritative || len(r.Answer) != 1 {
		t.Errorf("the zone above says %+v", r)
	}
}

func mustRR(t *testing.T, text string) miekg.RR {
	t.Helper()
	rr, err := miekg.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}
