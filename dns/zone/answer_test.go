package zone

import (
	"fmt"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"
)

// TestDNAMESubstitution is the table of RFC 6672 section 2.2.
func TestDNAMESubstitution(t *testing.T) {
	long := strings.Repeat(strings.Repeat("x", 62)+".", 3)
	for _, c := range []struct{ qname, owner, target, want string }{
		{"com.", "example.com.", "example.net.", ""},
		{"example.com.", "example.com.", "example.net.", ""},
		{"a.example.com.", "example.com.", "example.net.", "a.example.net."},
		{"a.b.example.com.", "example.com.", "example.net.", "a.b.example.net."},
		{"ab.example.com.", "b.example.com.", "example.net.", ""},
		{"foo.example.com.", "example.com.", "example.net.", "foo.example.net."},
		{"a.x.example.com.", "x.example.com.", "example.net.", "a.example.net."},
		{"a.example.com.", "example.com.", "y.example.net.", "a.y.example.net."},
		{"cyc.example.com.", "example.com.", "example.com.", "cyc.example.com."},
		{"cyc.example.com.", "example.com.", "c.example.com.", "cyc.c.example.com."},
		{"shortloop.x.x.", "x.", ".", "shortloop.x."},
		{"shortloop.x.", "x.", ".", "shortloop."},
		{"Keep.Case.example.com.", "example.com.", "example.net.", "Keep.Case.example.net."},
		{long + "example.com.", "example.com.", strings.Repeat("y", 60) + ".example.net.", "overflow"},
	} {
		z := mustRead(t, ".", fmt.Sprintf("$TTL 9\n. SOA . . 1 2 3 4 5\n. NS .\n%s DNAME %s\n", c.owner, c.target))
		r := z.Answer(miekg.Question{Name: c.qname, Qtype: miekg.TypeA}, AnswerOptions{})
		got := ""
		for _, rr := range r.Answer {
			if a, ok := rr.(*miekg.CNAME); ok && a.Hdr.Name == c.qname {
				got = a.Target
				if a.Hdr.Ttl != 9 {
					t.Errorf("%s: the alias has TTL %d (section 3.1)", c.qname, a.Hdr.Ttl)
				}
			}
		}
		if r.Rcode == miekg.RcodeYXDomain && len(r.Answer) == 1 {
			got = "overflow"
		}
		if got != c.want {
			t.Errorf("%s, %s DNAME %s: %q, want %q", c.qname, c.owner, c.target, got, c.want)
		}
	}
}

const rules = `
$ORIGIN example.
$TTL 300
@          600 SOA ns1 host 10 7200 900 604800 60
@          NS    ns1
@          NS    ns.sub
@          MX    10 mail
@          MX    20 mx.example.org.
ns1        A     192.0.2.1
mail       A     192.0.2.25
mail       AAAA  2001:db8::25
www        CNAME web.farm
web.farm   A     192.0.2.80
chain      CNAME www
out        CNAME www.example.org.
loop1      CNAME loop2
loop2      CNAME loop1
lost       CNAME nowhere
down       CNAME host.sub
a.b.c      TXT   "below empty names"
_x._tcp    SRV   0 0 25 mail
svc        HTTPS 0 web.farm
own        HTTPS 1 . alpn=h2
own        A     192.0.2.90
sub        NS    ns.sub
sub        NS    ns.sib
sub        NS    ns1
sub        DS    1 13 2 00
ns.sub     A     192.0.2.53
sib        NS    ns.sib
ns.sib     A     192.0.2.54
*.wild     A     192.0.2.99
*.wild     MX    5 mail
d          DNAME web.farm
`

// TestAnswer goes through RFC 1034 section 4.3.2 and what later RFCs say of it.
func TestAnswer(t *testing.T) {
	z := mustRead(t, "example.", rules)
	soa := "ns example. 60 IN SOA ns1.example. host.example. 10 7200 900 604800 60\n"
	sub := "ns sub.example. 300 IN NS ns.sub.example.\nns sub.example. 300 IN NS ns.sib.example.\nns sub.example. 300 IN NS ns1.example.\n" +
		"ex ns.sub.example. 300 IN A 192.0.2.53\nex ns.sib.example. 300 IN A 192.0.2.54\nex ns1.example. 300 IN A 192.0.2.1\n"
	for _, c := range []struct {
		about, name, typ string
		want             string
	}{
		{"3a: the node is found", "web.farm.example.", "A", "NOERROR aa\nan web.farm.example. 300 IN A 192.0.2.80\n"},
		{"names are compared without case", "WEB.Farm.example.", "A", "NOERROR aa\nan web.farm.example. 300 IN A 192.0.2.80\n"},
		{"3a: an alias is followed", "www.example.", "A", "NOERROR aa\nan www.example. 300 IN CNAME web.farm.example.\nan web.farm.example. 300 IN A 192.0.2.80\n"},
		{"3a: not when CNAME is asked for", "www.example.", "CNAME", "NOERROR aa\nan www.example. 300 IN CNAME web.farm.example.\n"},
		{"3a: nor for ANY", "www.example.", "ANY", "NOERROR aa\nan www.example. 300 IN CNAME web.farm.example.\n"},
		{"3a: a chain", "chain.example.", "A", "NOERROR aa\nan chain.example. 300 IN CNAME www.example.\nan www.example. 300 IN CNAME web.farm.example.\nan web.farm.example. 300 IN A 192.0.2.80\n"},
		{"an alias of no data", "www.example.", "MX", "NOERROR aa\nan www.example. 300 IN CNAME web.farm.example.\n" + soa},
		{"RFC 6604: an alias of no name", "lost.example.", "A", "NXDOMAIN aa\nan lost.example. 300 IN CNAME nowhere.example.\n" + soa},
		{"an alias of another zone's name", "out.example.", "A", "NOERROR aa\nan out.example. 300 IN CNAME www.example.org.\n"},
		{"a loop of aliases", "loop1.example.", "A", "NOERROR aa\nan loop1.example. 300 IN CNAME loop2.example.\nan loop2.example. 300 IN CNAME loop1.example.\n"},
		{"an alias of a delegated name", "down.example.", "A", "NOERROR aa\nan down.example. 300 IN CNAME host.sub.example.\n" + sub},
		{"3b: a referral with glue, its sibling's, and addresses of ours", "host.sub.example.", "A", "NOERROR\n" + sub},
		{"3b: at the cut itself", "sub.example.", "NS", "NOERROR\n" + sub},
		{"3b: what is below is not ours", "ns.sub.example.", "A", "NOERROR\n" + sub},
		{"RFC 4035 3.1.4.1: DS is", "sub.example.", "DS", "NOERROR aa\nan sub.example. 300 IN DS 1 13 2 00\n"},
		{"RFC 4035 3.1.4.1: and so is its absence", "sib.example.", "DS", "NOERROR aa\n" + soa},
		{"DS below is not", "x.sub.example.", "DS", "NOERROR\n" + sub},
		{"3c: no such name, RFC 2308 3", "nowhere.example.", "A", "NXDOMAIN aa\n" + soa},
		{"RFC 2308 2.2: no such data", "mail.example.", "TXT", "NOERROR aa\n" + soa},
		{"RFC 8020: an empty non-terminal exists", "c.example.", "TXT", "NOERROR aa\n" + soa},
		{"RFC 8020: and one below it", "b.c.example.", "A", "NOERROR aa\n" + soa},
		{"3c: a wildcard", "a.b.wild.example.", "A", "NOERROR aa\nan a.b.wild.example. 300 IN A 192.0.2.99\n"},
		{"RFC 4592 2.1.1: an asterisk in a question is a name", "*.wild.example.", "A", "NOERROR aa\nan *.wild.example. 300 IN A 192.0.2.99\n"},
		{"RFC 4592: not for the name above", "wild.example.", "A", "NOERROR aa\n" + soa},
		{"RFC 4592: no such type", "x.wild.example.", "TXT", "NOERROR aa\n" + soa},
		{"RFC 6672 3.2: DNAME", "x.d.example.", "A", "NXDOMAIN aa\nan d.example. 300 IN DNAME web.farm.example.\nan x.d.example. 300 IN CNAME x.web.farm.example.\n" + soa},
		{"RFC 6672 2.3: not at its owner", "d.example.", "A", "NOERROR aa\n" + soa},
		{"outside the zone", "example.org.", "A", "REFUSED\n"},
		{"above it", ".", "NS", "REFUSED\n"},
		{"no name at all", "a..example.", "A", "REFUSED\n"},
	} {
		if got := ask(z, c.name, miekg.StringToType[c.typ], AnswerOptions{Minimal: true}); got != c.want {
			t.Errorf("%s: %s %s:\n%swant\n%s", c.about, c.name, c.typ, got, c.want)
		}
	}
}

// TestAdditional: what comes beside an answer if it is not to be minimal.
func TestAdditional(t *testing.T) {
	z := mustRead(t, "example.", rules)
	ns := "ns example. 300 IN NS ns1.example.\nns example. 300 IN NS ns.sub.example.\n"
	servers := "ex ns1.example. 300 IN A 192.0.2.1\nex ns.sub.example. 300 IN A 192.0.2.53\n"
	mail := "ex mail.example. 300 IN A 192.0.2.25\nex mail.example. 300 IN AAAA 2001:db8::25\n"
	for _, c := range []struct{ about, name, typ, want string }{
		{"RFC 1035 3.3.9", "example.", "MX", "NOERROR aa\nan example. 300 IN MX 10 mail.example.\nan example. 300 IN MX 20 mx.example.org.\n" + ns + mail + servers},
		{"a wildcard's", "x.wild.example.", "MX", "NOERROR aa\nan x.wild.example. 300 IN MX 5 mail.example.\n" + ns + mail + servers},
		{"RFC 2782", "_x._tcp.example.", "SRV", "NOERROR aa\nan _x._tcp.example. 300 IN SRV 0 0 25 mail.example.\n" + ns + mail + servers},
		{"the answer is the name servers", "example.", "NS", "NOERROR aa\n" + strings.ReplaceAll(ns, "ns example", "an example") + servers},
		{"what is an answer is not repeated", "ns1.example.", "A", "NOERROR aa\nan ns1.example. 300 IN A 192.0.2.1\n" + ns + "ex ns.sub.example. 300 IN A 192.0.2.53\n"},
		{"RFC 9460 4.1, an alias", "svc.example.", "HTTPS", "NOERROR aa\nan svc.example. 300 IN HTTPS 0 web.farm.example.\n" + ns + "ex web.farm.example. 300 IN A 192.0.2.80\n" + servers},
		{"RFC 9460 2.5, the owner", "own.example.", "HTTPS", "NOERROR aa\nan own.example. 300 IN HTTPS 1 . alpn=\"h2\"\n" + ns + "ex own.example. 300 IN A 192.0.2.90\n" + servers},
	} {
		if got := ask(z, c.name, miekg.StringToType[c.typ], AnswerOptions{}); got != c.want {
			t.Errorf("%s: %s %s:\n%swant\n%s", c.about, c.name, c.typ, got, c.want)
		}
	}
	got := z.Answer(miekg.Question{Name: "example.", Qtype: miekg.TypeANY}, AnswerOptions{OneOfANY: true, Minimal: true})
	if len(got.Answer) != 2 || got.Answer[0].Header().Rrtype != miekg.TypeNS {
		t.Errorf("RFC 8482 section 4.1: one set, not %v", got.Answer)
	}
}

// TestAnswersAreShared: appending to a part of an answer, as servers do, leaves
// the zone as it is.
func TestAnswersAreShared(t *testing.T) {
	z := mustRead(t, "example.", rules)
	before := text(z)
	junk := &miekg.TXT{Hdr: miekg.RR_Header{Name: "junk.", Rrtype: miekg.TypeTXT}}
	for _, q := range []miekg.Question{{Name: "mail.example.", Qtype: miekg.TypeA}, {Name: "x.sub.example.", Qtype: miekg.TypeA}, {Name: "no.example.", Qtype: miekg.TypeA}} {
		r := z.Answer(q, AnswerOptions{})
		for _, part := range [][]miekg.RR{r.Answer, r.Ns, r.Extra} {
			_ = append(part, junk)
		}
	}
	if text(z) != before {
		t.Error("it changed")
	}
}

// TestManyTargets: the additional section is bounded.
func TestManyTargets(t *testing.T) {
	var b strings.Builder
	b.WriteString(head)
	for i := range maxSet {
		fmt.Fprintf(&b, "@ MX %d m%d\nm%d A 10.0.%d.%d\n", i, i, i, i/256, i%256)
	}
	z := mustRead(t, "example.", b.String())
	r := z.Answer(miekg.Question{Name: "example.", Qtype: miekg.TypeMX}, AnswerOptions{})
	if len(r.Answer) != maxSet || len(r.Extra) < maxExtra || len(r.Extra) > maxExtra+2 {
		t.Errorf("%d records and %d additional", len(r.Answer), len(r.Extra))
	}
}
