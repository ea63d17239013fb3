package own

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/zone"
)

const worldRoot = `. 3600 SOA a.root. nobody. 1 3600 600 86400 60
. NS a.root.
a.root. A 9.0.0.1
edu. NS ns.edu.
ns.edu. A 9.0.0.2
arpa. NS a.root.
`

const worldEdu = `edu. 3600 SOA ns.edu. nobody. 1 3600 600 86400 60
edu. NS ns.edu.
ns.edu. A 9.0.0.2
hamburger.edu. NS ns1.hamburger.edu.
hamburger.edu. NS ns2.hamburger.edu.
ns1.hamburger.edu. A 9.0.0.3
ns2.hamburger.edu. A 9.0.0.4
`

const worldArpa = `arpa. 3600 SOA a.root. nobody. 1 3600 600 86400 60
arpa. NS a.root.
25.0.0.9.in-addr.arpa. PTR mail.hamburger.edu.
26.0.0.9.in-addr.arpa. PTR mail.hamburger.edu.
`

const worldHead = `hamburger.edu. 3600 SOA ns1.hamburger.edu. nobody 7 3600 600 86400 60
hamburger.edu. NS ns1.hamburger.edu.
hamburger.edu. NS ns2.hamburger.edu.
ns1.hamburger.edu. A 9.0.0.3
ns2.hamburger.edu. A 9.0.0.4
`

type addr = netip.Addr

// town is a world in which all is well with our domain, and its options.
type town struct {
	*world
	ours *Domain
	// zone is that of hamburger.edu as text; edit changes it before it is served.
	zone, second, edu string
}

func newTown(t *testing.T) *town {
	t.Helper()
	cert := certificate(t, "mail.hamburger.edu", time.Now().Add(90*24*time.Hour))
	ours := &Domain{
		Name: "hamburger.edu.", Host: "mail.hamburger.edu.", Addresses: addrs("9.0.0.25"),
		Ports: map[string]uint16{"smtp": 25, "imaps": 993, "submissions": 465}, Keys: []Key{KeyOf(cert.Leaf, false)},
	}
	var b bytes.Buffer
	if err := Print(&b, ours.Records()); err != nil {
		t.Fatal(err)
	}
	c := &town{ours: ours, zone: worldHead + b.String(), edu: worldEdu}
	c.world = &world{t: t, security: "secure", stale: map[string]*zone.Zone{}, mail: map[string]*mailServer{
		"9.0.0.25:25": {banner: "mail.hamburger.edu ESMTP postrider", lines: []string{"SIZE", "STARTTLS"}, cert: cert},
	}}
	return c
}

// remove takes the lines out of the zone that have a text.
func (c *town) remove(part string) {
	c.t.Helper()
	var kept strings.Builder
	for line := range strings.Lines(c.zone) {
		if !strings.Contains(line, part) {
			kept.WriteString(line)
		}
	}
	if kept.Len() == len(c.zone) {
		c.t.Fatalf("the zone has no %q:\n%s", part, c.zone)
	}
	c.zone = kept.String()
}

func (c *town) replace(old, text string) {
	c.t.Helper()
	if !strings.Contains(c.zone, old) {
		c.t.Fatalf("the zone has no %q:\n%s", old, c.zone)
	}
	c.zone = strings.ReplaceAll(c.zone, old, text)
}

// check serves what there is now, and looks at it.
func (c *town) check(ctx context.Context) []Finding {
	c.world.servers = map[addr][]*zone.Zone{}
	c.add(worldRoot, "9.0.0.1")
	c.add(worldArpa, "9.0.0.1")
	c.add(c.edu, "9.0.0.2")
	c.add(c.zone, "9.0.0.3")
	if c.second == "" {
		c.second = c.zone
	}
	c.add(c.second, "9.0.0.4")
	return Check(ctx, Options{Domain: "hamburger.edu.", Ours: c.ours, Asker: c.world, Dial: c.dial})
}

// bad are the findings that are not well, printed.
func bad(t *testing.T, list []Finding) string {
	t.Helper()
	var rest []Finding
	for _, f := range list {
		if f.Severity != OK {
			rest = append(rest, f)
		}
	}
	var b bytes.Buffer
	if err := Format(&b, rest); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "\n"); n != len(rest) {
		t.Errorf("%d findings in %d lines", len(rest), n)
	}
	return b.String()
}

func TestAllIsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTown(t)
		list := c.check(t.Context())
		if got := bad(t, list); got != "" || !Well(list) {
			t.Errorf("not well:\n%s", got)
		}
		var b bytes.Buffer
		if err := Format(&b, list); err != nil {
			t.Fatal(err)
		}
		golden(t, "well.txt", regexp.MustCompile(`[0-9a-f]{64}|until \S+`).ReplaceAllString(b.String(), "..."))
	})
}

// findings are the faults that a domain can have, one in each, and what is said
// of it: the only line that is not "ok", as a regular expression.
var findings = map[string]struct {
	spoil func(*town)
	want  string
	well  bool // a note alone
}{
	"no mx": {func(c *town) { c.remove("IN MX") },
		`error +mx +hamburger\.edu\.: is missing: .* -- publish: hamburger\.edu\. 3600 IN MX 10 mail\.hamburger\.edu\.` + "\n" +
			`error +spf +hamburger\.edu\.: .* says fail of this server's address 9\.0\.0\.25.* -- publish the MX and address records that it names`, false},
	"null mx": {func(c *town) { c.replace("MX   10 mail.hamburger.edu.", "MX 0 .") },
		"error +mx +hamburger\\.edu\\.: says that it takes no mail .* -- remove the record MX 0 \\.\n" +
			`error +mx .*is missing.* -- publish: hamburger\.edu\. 3600 IN MX 10 mail\.hamburger\.edu\.` + "\n" +
			`error +spf .* says fail of this server's address.*`, false},
	"mx to an alias": {func(c *town) {
		c.zone += "hamburger.edu. MX 20 alias.hamburger.edu.\nalias.hamburger.edu. CNAME mail.hamburger.edu.\n"
	},
		`error +mx +hamburger\.edu\.: the mail exchanger alias\.hamburger\.edu is an alias.* -- publish: hamburger\.edu\. 3600 IN MX 20 mail\.hamburger\.edu\.` + "\n" +
			`note +mx .*mail goes to alias\.hamburger\.edu, too.*` + "\n" + `note +smtp +alias\.hamburger\.edu\.: at 9\.0\.0\.25:25 answers as "mail\.hamburger\.edu ESMTP postrider"` + "\n" +
			`warning +smtp +alias\.hamburger\.edu\.: the certificate at 9\.0\.0\.25:25 is for mail\.hamburger\.edu.*`, false},
	"mx to an address": {func(c *town) { c.zone += "hamburger.edu. MX 20 9.0.0.25.\n" },
		`error +mx +hamburger\.edu\.: the MX record names the address 9\.0\.0\.25.*RFC 5321.*` + "\n" + `note +mx.*`, false},
	"mx without an address": {func(c *town) { c.zone += "hamburger.edu. MX 20 none.hamburger.edu.\n" },
		`error +mx +none\.hamburger\.edu\.: the mail exchanger has no address: does not exist -- publish: none\.hamburger\.edu\. 3600 IN A .*` + "\n" + `note +mx.*`, false},
	"private address": {func(c *town) {
		c.zone += "hamburger.edu. MX 20 lan.hamburger.edu.\nlan.hamburger.edu. A 192.168.1.25\n"
	},
		`error +mx +lan\.hamburger\.edu\.: 192\.168\.1\.25 is a private address.*` + "\n" + `note +mx.*` + "\n" + `warning +smtp +lan\.hamburger\.edu\.: at 192\.168\.1\.25:25: connection refused`, false},
	"no address": {func(c *town) { c.remove("IN A ") },
		`error +a +mail\.hamburger\.edu\.: is missing: .* -- publish: mail\.hamburger\.edu\. 3600 IN A 9\.0\.0\.25` + "\n" +
			`error +spf +hamburger\.edu\.: .*says fail of this server's address.*` + "\n" + `error +spf +mail.*` + "\n" +
			`error +ptr +9\.0\.0\.25: its name mail\.hamburger\.edu does not lead back to it -- publish: mail\.hamburger\.edu\. 3600 IN A 9\.0\.0\.25`, false},
	"another address": {func(c *town) { c.zone += "mail.hamburger.edu. A 9.0.0.26\n" },
		`warning +a +mail\.hamburger\.edu\.: has the address 9\.0\.0\.26, which is not one of this server's.*` + "\n" + `error +smtp +mail\.hamburger\.edu\.: mail cannot come in at 9\.0\.0\.26:25: connection refused -- let the firewall.*`, false},
	"no srv": {func(c *town) { c.remove("_imaps._tcp") },
		`warning +srv +_imaps\._tcp\.hamburger\.edu\.: is missing.* -- publish: _imaps\._tcp\.hamburger\.edu\. 3600 IN SRV 0 1 993 mail\.hamburger\.edu\.`, false},
	"no srv of what is off": {func(c *town) { c.remove("_pop3._tcp") },
		`note +srv +_pop3\._tcp\.hamburger\.edu\.: is missing.* -- publish: _pop3\._tcp\.hamburger\.edu\. 3600 IN SRV 0 0 0 \.`, true},
	"old srv": {func(c *town) { c.replace("SRV  0 1 993", "SRV 0 1 994") },
		`warning +srv .*is missing.*` + "\n" + `warning +srv .*mail programs are sent to mail\.hamburger\.edu port 994 -- remove the record SRV 0 1 994 mail\.hamburger\.edu\.`, false},
	"no tlsa": {func(c *town) { c.remove("TLSA") },
		`warning +tlsa +_25\._tcp\.mail\.hamburger\.edu\.: is missing.* -- publish: _25\._tcp\.mail\.hamburger\.edu\. 3600 IN TLSA 3 1 1 [0-9a-f]{64}`, false},
	"tlsa of an old key": {func(c *town) {
		c.zone = regexp.MustCompile(`TLSA 3 1 1 [0-9a-f]{64}`).ReplaceAllString(c.zone, "TLSA 3 1 1 "+strings.Repeat("ab", 32))
	}, `warning +tlsa .*is missing.*` + "\n" + `warning +tlsa .*a key that is not this server's.* -- remove the record TLSA 3 1 1 (ab)+` + "\n" +
		`error +smtp +mail\.hamburger\.edu\.: the certificate at 9\.0\.0\.25:25 is not one that its TLSA records name.* -- publish: _25\._tcp\.mail\.hamburger\.edu\. 3600 IN TLSA 3 1 1 [0-9a-f]{64}`, false},
	"no ptr": {func(c *town) {
		c.ours.Addresses = addrs("9.0.0.25", "9.0.0.27")
		c.zone += "mail.hamburger.edu. A 9.0.0.27\n"
		c.mail["9.0.0.27:25"] = c.mail["9.0.0.25:25"]
	},
		`error +ptr +9\.0\.0\.27: has no name: does not exist.* -- ask where the address comes from for: 27\.0\.0\.9\.in-addr\.arpa\. IN PTR mail\.hamburger\.edu\.`, false},
	"not signed": {func(c *town) { c.security = "insecure" }, `note +dnssec +hamburger\.edu\.: the zone is not signed.*`, true},
	"bogus": {func(c *town) { c.security, c.why = "bogus", "the signature has expired" },
		`error +dnssec +hamburger\.edu\.: .*the signature has expired -- postrider dns query hamburger\.edu SOA --trace --dnssec`, false},
	"port 25 closed": {func(c *town) { c.mail = nil },
		`error +smtp +mail\.hamburger\.edu\.: mail cannot come in at 9\.0\.0\.25:25: connection refused -- let the firewall, and the provider, pass port 25 to this server`, false},
	"another port": {func(c *town) { c.mail = nil; c.ours.Ports["smtp"] = 10025 },
		`error +smtp .*connection refused -- this server listens on port 10025.*`, false},
	"silent":           {func(c *town) { c.mail["9.0.0.25:25"].silent = true }, `error +smtp .*mail cannot come in at 9\.0\.0\.25:25: it is too slow.*`, false},
	"stops after EHLO": {func(c *town) { c.mail["9.0.0.25:25"].stops = true }, `error +smtp .*mail cannot come in at 9\.0\.0\.25:25: it is too slow.*`, false},
	"long line": {func(c *town) { c.mail["9.0.0.25:25"].banner = strings.Repeat("x", maxReplyLine) },
		`error +smtp .*mail cannot come in at 9\.0\.0\.25:25: it says a line of more than 2048 octets.*`, false},
	"tlsa of an old key, not signed": {func(c *town) {
		c.unsigned = "_25._tcp.mail.hamburger.edu."
		c.zone = regexp.MustCompile(`TLSA 3 1 1 [0-9a-f]{64}`).ReplaceAllString(c.zone, "TLSA 3 1 1 "+strings.Repeat("ab", 32))
	}, `warning +tlsa .*is missing.*` + "\n" + `warning +tlsa .*a key that is not this server's.*`, false},
	"certificate of tomorrow": {func(c *town) {
		cert := certificate(c.t, "mail.hamburger.edu", time.Now().Add(10001*time.Hour))
		c.mail["9.0.0.25:25"].cert, c.ours.Keys = cert, nil
		c.remove("TLSA")
	}, `warning +smtp .*the certificate at 9\.0\.0\.25:25 begins on .* -- look at the clock of that server`, false},
	"another banner": {func(c *town) { c.mail["9.0.0.25:25"].banner = "other.example ESMTP" },
		`warning +smtp +mail\.hamburger\.edu\.: at 9\.0\.0\.25:25 answers as "other\.example ESMTP" -- let the address lead to this server.*`, false},
	"no starttls": {func(c *town) { c.mail["9.0.0.25:25"].lines = []string{"SIZE"} }, `warning +smtp .*offers no TLS.*`, false},
	"no esmtp":    {func(c *town) { c.mail["9.0.0.25:25"].lines = nil }, `warning +smtp .*offers no TLS.*`, false},
	"not smtp":    {func(c *town) { c.mail["9.0.0.25:25"].banner = "x\r\nSSH-2.0" }, `warning +smtp .*answers as "x".*` + "\n" + `warning +smtp.*offers no TLS.*`, false},
	"another server": {func(c *town) {
		c.mail["9.0.0.25:25"].cert = certificate(c.t, "mail.hamburger.edu", time.Now().Add(90*24*time.Hour))
		c.security = "insecure"
	}, `note +dnssec.*` + "\n" + `error +smtp .*another certificate than this server's is shown at 9\.0\.0\.25:25.*`, false},
	"one server": {func(c *town) {
		c.remove("hamburger.edu. NS ns2")
		c.edu = strings.Replace(c.edu, "hamburger.edu. NS ns2.hamburger.edu.\n", "", 1)
	},
		`note +zone +hamburger\.edu\.: one name server is all there is.*`, true},
	"ns at the parent alone": {func(c *town) { c.remove("hamburger.edu. NS ns2") },
		`note +zone.*` + "\n" + `warning +delegation +hamburger\.edu\.: the zone above names the server ns2\.hamburger\.edu, and the zone itself does not -- publish: hamburger\.edu\. 3600 IN NS ns2\.hamburger\.edu\..*`, false},
	"ns in the zone alone": {func(c *town) { c.edu = strings.Replace(c.edu, "hamburger.edu. NS ns2.hamburger.edu.\n", "", 1) },
		`warning +delegation +hamburger\.edu\.: the zone names the server ns2\.hamburger\.edu, and the zone above does not -- have NS ns2\.hamburger\.edu\. put into edu\..*`, false},
	"no delegation": {func(c *town) { c.edu = regexp.MustCompile(`(?m)^\S*hamburger.*\n`).ReplaceAllString(c.edu, "") },
		`error +delegation +hamburger\.edu\.: the zone above, edu\., does not delegate it.*ns1\.hamburger\.edu, ns2\.hamburger\.edu.*`, false},
	"other glue": {func(c *town) { c.edu = strings.Replace(c.edu, "A 9.0.0.4", "A 9.0.0.5", 1) },
		`error +delegation .*says that ns2\.hamburger\.edu has the address 9\.0\.0\.5, and the zone says 9\.0\.0\.4 -- have the address of ns2\.hamburger\.edu in edu\. changed to 9\.0\.0\.4`, false},
	"no glue": {func(c *town) { c.edu = regexp.MustCompile(`(?m)^ns2.hamburger.*\n`).ReplaceAllString(c.edu, "") },
		`error +delegation .*gives no address of ns2\.hamburger\.edu.*glue.*`, false},
	"lame": {func(c *town) { c.second = "other.edu. 3600 SOA a. b. 1 1 1 1 1\nother.edu. NS a.\n" },
		`error +delegation .*the name server ns2\.hamburger\.edu \(9\.0\.0\.4\) does not serve it: no answer: REFUSED.*`, false},
	"serials": {func(c *town) { c.second = strings.Replace(c.zone, "nobody 7 ", "nobody 6 ", 1) },
		`warning +delegation .*ns1\.hamburger\.edu has serial 7 and ns2\.hamburger\.edu has 6 -- .*`, false},
	"ns is an alias": {func(c *town) {
		c.remove("ns2.hamburger.edu. A")
		c.zone += "ns2.hamburger.edu. CNAME ns3.hamburger.edu.\nns3.hamburger.edu. A 9.0.0.4\n"
	}, `error +delegation .*the name server ns2\.hamburger\.edu is an alias.*RFC 2181.* -- name the server itself: publish: hamburger\.edu\. IN NS ns3\.hamburger\.edu\.`, false},
	"stale resolver": {func(c *town) {
		z, err := zone.Read(strings.NewReader(strings.ReplaceAll(c.zone, "SRV  0 1 465", "SRV 0 1 466")), zone.Options{Origin: "hamburger.edu."})
		if err != nil {
			c.t.Fatal(err)
		}
		c.stale["hamburger.edu."] = z
	}, `note +srv +_submissions\._tcp\.hamburger\.edu\.: the resolver still has an older answer.*`, true},
	"resolver fails": {func(c *town) {
		c.fail = func(name string, typ uint16) error {
			if typ == miekg.TypeMX {
				return errors.New("timeout")
			}
			return nil
		}
	}, `error +mx +hamburger\.edu\.: its MX records could not be had: timeout -- postrider dns query hamburger\.edu MX --trace` + "\n" +
		`warning +spf +hamburger\.edu\.: could not be evaluated.*`, false},
}

func TestFindings(t *testing.T) {
	for name, tt := range findings {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newTown(t)
				tt.spoil(c)
				list := c.check(t.Context())
				got := bad(t, list)
				if !regexp.MustCompile(`^(?:` + tt.want + `)\n$`).MatchString(got) {
					t.Errorf("found\n%swant\n%s", got, tt.want)
				}
				if Well(list) != tt.well {
					t.Errorf("well: %v", Well(list))
				}
			})
		})
	}
}

// TestAnybody: a domain that is not ours.
func TestAnybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTown(t)
		c.ours = nil
		if list := c.check(t.Context()); !Well(list) {
			t.Errorf("not well:\n%s", bad(t, list))
		}
		c = newTown(t)
		c.ours = nil
		c.remove("IN MX")
		c.zone += "hamburger.edu. A 9.0.0.25\n"
		got := bad(t, c.check(t.Context()))
		if !strings.Contains(got, "has no MX record; mail goes to its own address 9.0.0.25") {
			t.Errorf("%s", got)
		}
		c.edu = regexp.MustCompile(`(?m)^\S*hamburger.*\n`).ReplaceAllString(c.edu, "")
		c.zone = strings.ReplaceAll(c.zone, "hamburger.edu", "other.example")
		c.second = ""
		got = bad(t, Check(t.Context(), Options{Domain: "nothing.edu.", Asker: c.world, Dial: c.dial}))
		if got != "error    zone        nothing.edu.: the domain does not exist in the DNS -- register it, or add it to the zone above\n" {
			t.Errorf("%s", got)
		}
	})
}

// TestAliasDomain: the zone of an alias is not that of its target, and it exists
// even where its target does not.
func TestAliasDomain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTown(t)
		c.ours = nil
		c.zone += "www.hamburger.edu. CNAME ns.edu.\nold.hamburger.edu. CNAME none.hamburger.edu.\n"
		c.check(t.Context())
		for _, name := range []string{"www", "old"} {
			list := Check(t.Context(), Options{Domain: name + ".hamburger.edu.", Asker: c.world, Dial: c.dial})
			var b bytes.Buffer
			if err := Format(&b, list); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"hamburger.edu.: has the name servers ns1.hamburger.edu, ns2", "the domain is an alias of "} {
				if !strings.Contains(b.String(), want) {
					t.Errorf("%s: no %q in\n%s", name, want, b.String())
				}
			}
		}
	})
}

// TestDeaf: a resolver that answers nothing is told once.
func TestDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTown(t)
		c.fail = func(string, uint16) error { return errors.New("connection refused") }
		want := "error    resolver    hamburger.edu.: nothing can be looked up: connection refused -- see [dns] resolver, or ask another one: --server ADDR\n"
		if got := bad(t, c.check(t.Context())); got != want {
			t.Errorf("%s", got)
		}
		// One that answers, but nothing about the domain, is not to blame.
		c.fail = func(name string, _ uint16) error {
			if name == "." {
				return nil
			}
			return errors.New("no server of the zone answers")
		}
		if got := bad(t, c.check(t.Context())); !strings.HasPrefix(got, "error    zone        hamburger.edu.: its zone could not be found: no server of the zone answers -- ") {
			t.Errorf("%s", got)
		}
	})
}

// TestTimeIsBounded: servers that never answer cost a bounded time, and a
// context that is over ends the check.
func TestTimeIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTown(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		list := Check(ctx, Options{Domain: "hamburger.edu.", Ours: c.ours, Asker: mute{}, Dial: c.dial})
		if took := time.Since(began); took > time.Minute || Well(list) {
			t.Errorf("took %v:\n%s", took, bad(t, list))
		}
		cancel()
		if got := bad(t, Check(ctx, Options{Domain: "hamburger.edu.", Ours: c.ours, Asker: mute{}})); strings.Count(got, "the time is over") != 7 {
			t.Errorf("%s", got)
		}
	})
}

// mute answers nothing.
type mute struct{}

func (mute) Resolve(ctx context.Context, _ string, _ uint16) (Answer, error) {
	<-ctx.Done()
	return Answer{}, ctx.Err()
}

func (mute) Ask(ctx context.Context, _ addr, _ string, _ uint16) (*miekg.Msg, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestManyServers: what strangers publish in numbers is cut off.
func TestManyServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTown(t)
		for i := range 40 {
			c.zone += fmt.Sprintf("hamburger.edu. MX 20 mx%d.hamburger.edu.\nmx%d.hamburger.edu. A 9.0.1.%d\nmx%d.hamburger.edu. A 9.0.2.%d\n", i, i, i, i, i)
			c.zone += fmt.Sprintf("hamburger.edu. NS ns%d.edu.\n", i+10)
		}
		dials := 0
		c.mail = nil
		list := c.check(t.Context())
		for _, f := range list {
			if f.Check == "smtp" && strings.Contains(f.Text, "connection refused") {
				dials++
			}
		}
		if dials > maxSessions {
			t.Errorf("%d sessions", dials)
		}
		got := bad(t, list)
		for _, want := range []string{"only the first 13 name servers", "only the first 10 of 41 mail exchangers", "only the first 12 of 19 addresses"} {
			if strings.Count(got, want) != 1 {
				t.Errorf("no %q in\n%s", want, got)
			}
		}
	})
}
