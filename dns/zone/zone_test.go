package zone

import (
	"strings"
	"testing"

	miekg "github.com/miekg/dns"
)

// mustRead makes a zone of text.
func mustRead(t testing.TB, origin, text string) *Zone {
	t.Helper()
	z, err := Read(strings.NewReader(text), Options{Origin: origin})
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// addText adds a record to a version in the making.
func addText(t testing.TB, e *edit, text string) {
	t.Helper()
	rr, err := miekg.NewRR(text)
	if err == nil {
		err = e.add(rr)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// ask prints the answer to "name type" in sections, one record a line.
func ask(z *Zone, name string, typ uint16, o AnswerOptions) string {
	r := z.Answer(miekg.Question{Name: name, Qtype: typ, Qclass: miekg.ClassINET}, o)
	var b strings.Builder
	b.WriteString(miekg.RcodeToString[r.Rcode])
	if r.Authoritative {
		b.WriteString(" aa")
	}
	b.WriteString("\n")
	for i, s := range [][]miekg.RR{r.Answer, r.Ns, r.Extra} {
		for _, rr := range s {
			b.WriteString([]string{"an ", "ns ", "ex "}[i])
			b.WriteString(strings.Join(strings.Fields(rr.String()), " "))
			b.WriteString("\n")
		}
	}
	return b.String()
}

// rfc4592 is the zone of RFC 4592 section 2.2.1.
const rfc4592 = `
$ORIGIN example.
example.                 3600     SOA   ns.example.com. host.example.com. 1 2 3 4 5
example.                 3600     NS    ns.example.com.
example.                 3600     NS    ns.example.net.
*.example.               3600     TXT   "this is a wildcard"
*.example.               3600     MX    10 host1.example.
sub.*.example.           3600     TXT   "this is not a wildcard"
host1.example.           3600     A     192.0.2.1
_ssh._tcp.host1.example. 3600     SRV   0 0 22 host1.example.
_ssh._tcp.host2.example. 3600     SRV   0 0 22 host2.example.
subdel.example.          3600     NS    ns.example.com.
subdel.example.          3600     NS    ns.example.net.
`

// TestWildcards asks the questions of RFC 4592 section 2.2.1.
func TestWildcards(t *testing.T) {
	z := mustRead(t, "example.", rfc4592)
	negative := "ns example. 5 IN SOA ns.example.com. host.example.com. 1 2 3 4 5\n"
	for _, c := range []struct{ name, typ, want string }{
		{"host3.example.", "MX", "NOERROR aa\nan host3.example. 3600 IN MX 10 host1.example.\n"},
		{"host3.example.", "A", "NOERROR aa\n" + negative},
		{"foo.bar.example.", "TXT", "NOERROR aa\nan foo.bar.example. 3600 IN TXT \"this is a wildcard\"\n"},
		{"host1.example.", "MX", "NOERROR aa\n" + negative},
		{"sub.*.example.", "MX", "NOERROR aa\n" + negative},
		{"_telnet._tcp.host1.example.", "SRV", "NXDOMAIN aa\n" + negative},
		{"host.subdel.example.", "A", "NOERROR\nns subdel.example. 3600 IN NS ns.example.com.\nns subdel.example. 3600 IN NS ns.example.net.\n"},
		{"ghost.*.example.", "MX", "NXDOMAIN aa\n" + negative},
	} {
		if got := ask(z, c.name, miekg.StringToType[c.typ], AnswerOptions{Minimal: true}); got != c.want {
			t.Errorf("%s %s:\n%swant\n%s", c.name, c.typ, got, c.want)
		}
	}
}
