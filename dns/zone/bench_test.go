package zone

import (
	"fmt"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"
)

// bigZone has n delegations with glue, hosts and a wildcard: a top-level domain
// and an organisation in one.
func bigZone(b *testing.B, n int) *Zone {
	var s strings.Builder
	s.WriteString("$TTL 3600\n@ SOA ns1 host 1 7200 900 604800 300\n@ NS ns1\n@ NS ns2\nns1 A 192.0.2.1\nns2 A 192.0.2.2\n" +
		"@ MX 10 mail\nmail A 192.0.2.3\nmail AAAA 2001:db8::3\n*.wild TXT \"any\"\n")
	for i := range n {
		fmt.Fprintf(&s, "h%d A 10.%d.%d.%d\nd%d NS ns.d%d\nd%d NS ns.elsewhere.test.\nns.d%d A 10.%d.%d.%d\n",
			i, i>>16, i>>8&255, i&255, i, i, i, i, i>>16, i>>8&255, i&255)
	}
	z, err := Read(strings.NewReader(s.String()), Options{Origin: "bench.test."})
	if err != nil {
		b.Fatal(err)
	}
	return z
}

// BenchmarkAnswer answers from a zone of 400,000 records.
func BenchmarkAnswer(b *testing.B) {
	z := bigZone(b, 100_000)
	for _, c := range []struct {
		about, name string
		typ         uint16
	}{
		{"address", "h%d.bench.test.", miekg.TypeA},
		{"case", "H%d.Bench.Test.", miekg.TypeA},
		{"referral", "www.d%d.bench.test.", miekg.TypeA},
		{"nodata", "h%d.bench.test.", miekg.TypeMX},
		{"nxdomain", "x%d.bench.test.", miekg.TypeA},
		{"mx", "bench.test.", miekg.TypeMX},
		{"wildcard", "w%d.wild.bench.test.", miekg.TypeTXT},
	} {
		for _, minimal := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/minimal=%v", c.about, minimal), func(b *testing.B) {
				names := make([]string, 4096)
				for i := range names {
					names[i] = strings.Replace(c.name, "%d", fmt.Sprint(i*7919%100_000), 1)
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					z.Answer(miekg.Question{Name: names[i&4095], Qtype: c.typ, Qclass: miekg.ClassINET}, AnswerOptions{Minimal: minimal})
				}
			})
		}
	}
}

// BenchmarkUpdate adds and deletes a name in a zone of 400,000 records.
func BenchmarkUpdate(b *testing.B) {
	z := bigZone(b, 100_000)
	add := message(b, "bench.test.", "! new.bench.test. 300 IN A 192.0.2.7")
	del := message(b, "bench.test.", "! new.bench.test. 0 ANY ANY")
	b.ReportAllocs()
	for b.Loop() {
		next, _, _ := z.Update(add)
		next.Update(del)
	}
}
