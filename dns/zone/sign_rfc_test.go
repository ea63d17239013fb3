package zone

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
)

// TestExamplesOfRFCs validates answers from the signed zones that RFC 4035
// and RFC 5155 print, at a time when their signatures were valid.
func TestExamplesOfRFCs(t *testing.T) {
	// The keys of RFC 5155 are of 512 bits, which Go refuses otherwise.
	t.Setenv("GODEBUG", "rsa1024min=0")
	for i, c := range []struct {
		file string
		at   time.Time
	}{
		{"rfc4035.zone", time.Date(2004, 4, 20, 0, 0, 0, 0, time.UTC)},
		{"rfc5155.zone", time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC)}, // all with opt-out
	} {
		z, err := Load(filepath.Join("testdata", c.file), "example.")
		if err != nil {
			t.Fatal(err)
		}
		var anchors []miekg.RR
		for _, rr := range z.Find("example.", miekg.TypeDNSKEY) {
			if rr.(*miekg.DNSKEY).Flags&miekg.SEP != 0 {
				anchors = append(anchors, rr)
			}
		}
		v, err := dnssec.New(dnssec.Options{Anchors: anchors, Clock: standing{now: c.at}})
		if err != nil {
			t.Fatal(err)
		}
		const no = dnssec.Indeterminate // not for this zone
		for _, q := range []struct {
			name  string
			typ   uint16
			rcode int
			want  [2]dnssec.Security
		}{
			{"x.w.example.", miekg.TypeMX, 0, [2]dnssec.Security{dnssec.Secure, dnssec.Secure}},                         // RFC 4035 B.1
			{"ml.example.", miekg.TypeA, miekg.RcodeNameError, [2]dnssec.Security{dnssec.Secure, dnssec.Insecure}},      // B.2
			{"a.c.x.w.example.", miekg.TypeA, miekg.RcodeNameError, [2]dnssec.Security{dnssec.Secure, dnssec.Insecure}}, // RFC 5155 B.1
			{"ns1.example.", miekg.TypeMX, 0, [2]dnssec.Security{dnssec.Secure, dnssec.Secure}},                         // B.3, RFC 5155 B.2
			{"y.w.example.", miekg.TypeA, 0, [2]dnssec.Security{dnssec.Secure, dnssec.Secure}},                          // RFC 5155 B.2.1
			{"a.z.w.example.", miekg.TypeMX, 0, [2]dnssec.Security{dnssec.Secure, dnssec.Insecure}},                     // B.6, RFC 5155 B.4
			{"a.z.w.example.", miekg.TypeAAAA, 0, [2]dnssec.Security{dnssec.Secure, dnssec.Insecure}},                   // B.7, RFC 5155 B.5
			{"c.example.", miekg.TypeDS, 0, [2]dnssec.Security{no, dnssec.Insecure}},                                    // RFC 5155 B.3
			{"a.example.", miekg.TypeDS, 0, [2]dnssec.Security{dnssec.Secure, dnssec.Secure}},                           // B.4
			{"b.example.", miekg.TypeDS, 0, [2]dnssec.Security{dnssec.Secure, no}},                                      // B.5
		} {
			if q.want[i] == no {
				continue
			}
			m := served{z}.ask(q.name, q.typ)
			got := v.Validate(context.Background(), m.Question[0], m, served{z})
			if m.Rcode != q.rcode || got.Security != q.want[i] {
				t.Errorf("%s: %s %s: %s: %s\n%s", c.file, q.name, miekg.Type(q.typ), got.Security, got.Text, m)
			}
		}
	}
}
