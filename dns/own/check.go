package own

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/internal/clock"
)

// Asker puts questions to name servers. All names are canonical; the messages
// that it returns are not changed by either side.
type Asker interface {
	// Resolve asks the resolver that we use, not its hosts file.
	Resolve(ctx context.Context, name string, typ uint16) (Answer, error)
	// Ask asks one name server what it knows by itself, without recursion.
	Ask(ctx context.Context, server netip.Addr, name string, typ uint16) (*miekg.Msg, error)
}

// Answer is what a resolver says.
type Answer struct {
	*miekg.Msg
	Security string // "secure", "insecure", "bogus", "indeterminate"; "" = not looked at
	Why      string // of the security, for people
}

// Severity is how much a finding matters.
type Severity string

// The severities, mildest first. Warnings and errors are not well.
const (
	OK      Severity = "ok"
	Note    Severity = "note"
	Warning Severity = "warning"
	Error   Severity = "error"
)

// Finding is one thing that was looked at.
type Finding struct {
	Severity Severity `json:"severity"`
	Check    string   `json:"check"` // "mx", "spf", "ptr", "delegation", ...
	Name     string   `json:"name"`  // canonical name, or an address
	Text     string   `json:"text"`
	// Mend is the record to publish, or the command to give, that mends it; "" of
	// what is well or of what only somebody else can mend, whom Text names.
	Mend string `json:"mend,omitempty"`
}

// Well tells whether nothing needs mending.
func Well(list []Finding) bool {
	return !slices.ContainsFunc(list, func(f Finding) bool { return f.Severity == Warning || f.Severity == Error })
}

// Options of a check.
type Options struct {
	Domain string // canonical
	// Ours describes the server when it is one of Domain; nil: the domain is
	// looked at as anybody's.
	Ours  *Domain
	Asker Asker
	// Dial connects to mail servers; nil: package net.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Port is where mail servers listen; 0 = 25.
	Port uint16
	// Hello is our name in EHLO; "" = the domain's.
	Hello string
	// Progress is told what is looked at next; nil: nobody is.
	Progress func(what string)
	Clock    clock.Clock // nil: package time
}

// Limits of one check. What is beyond them is not looked at, and the finding
// says so.
const (
	stepTime    = 30 * time.Second // each of the parts
	askTime     = 8 * time.Second  // one question to one server
	maxServers  = 13               // name servers of a zone
	maxMX       = 10               // mail exchangers
	maxPerHost  = 4                // addresses of one host
	maxSessions = 12               // SMTP sessions in all
)

// checker is one check under way.
type checker struct {
	o        Options
	findings []Finding

	zone    string       // the apex of the zone that the domain is in; "": not found
	servers []nameserver // of the zone
	secure  bool         // answers of the zone are validated as secure
	mx      []*miekg.MX
	gone    bool // there is nothing to look at: no such domain, or no resolver that answers
}

// Check looks at a domain from the outside and says what it found, in the
// order of the parts. It never fails: what could not be looked at is a finding.
func Check(ctx context.Context, o Options) []Finding {
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Port == 0 {
		o.Port = 25
	}
	if o.Hello == "" {
		o.Hello = strings.TrimSuffix(o.Domain, ".")
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	c := &checker{o: o}
	for _, part := range []struct {
		what string
		run  func(context.Context)
	}{
		{"the zone and its delegation", c.checkZone},
		{"DNSSEC", c.checkSecurity},
		{"mail exchangers", c.checkMX},
		{"the records of this server", c.checkExpected},
		{"SPF", c.checkSPF},
		{"names of the addresses", c.checkPTR},
		{"mail servers on port 25", c.checkSMTP},
	} {
		if ctx.Err() != nil {
			c.add(Error, "time", c.o.Domain, "", "%s: not looked at, the time is over", part.what)
			continue
		}
		if c.gone {
			break
		}
		if o.Progress != nil {
			o.Progress(part.what)
		}
		step, cancel := context.WithTimeout(ctx, stepTime)
		part.run(step)
		cancel()
	}
	return c.findings
}

func (c *checker) add(s Severity, check, name, mend, format string, args ...any) {
	c.findings = append(c.findings, Finding{s, check, name, printable(fmt.Sprintf(format, args...)), printable(mend)})
}

// maxText bounds what is shown of a finding, in octets: others publish its parts.
const maxText = 4 << 10

// printable keeps what others publish from writing to the terminal, and from
// filling it.
func printable(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// Format prints findings, one a line.
func Format(w io.Writer, list []Finding) error {
	var b strings.Builder
	for _, f := range list {
		fmt.Fprintf(&b, "%-7s  %-10s  %s: %s", f.Severity, f.Check, f.Name, f.Text)
		if f.Mend != "" {
			fmt.Fprintf(&b, " -- %s", f.Mend)
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// The outcomes of a lookup beside records.
var (
	errNoName    = errors.New("does not exist")
	errNoRecord  = errors.New("has no such record")
	errNoAnswer  = errors.New("no answer") // but an error code
	errEndsThere = errors.New("the chain of aliases is too long or a loop")
)

// lookup asks the resolver for the records of a name; alias is where the name's
// aliases end, "" when it is none.
func (c *checker) lookup(ctx context.Context, name string, typ uint16) (rrs []miekg.RR, alias string, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	a, err := c.o.Asker.Resolve(ctx, name, typ)
	if err != nil {
		return nil, "", err
	}
	return pick(a.Msg, name, typ)
}

// maxAliases bounds a chain of aliases in one answer.
const maxAliases = 12

// pick is what an answer says of a name and type, aliases followed.
func pick(m *miekg.Msg, name string, typ uint16) (rrs []miekg.RR, alias string, err error) {
	at := name
	for range maxAliases {
		next := ""
		for _, rr := range m.Answer {
			h := rr.Header()
			if miekg.CanonicalName(h.Name) != at || h.Class != miekg.ClassINET {
				continue
			}
			if h.Rrtype == typ {
				rrs = append(rrs, rr)
			} else if cname, ok := rr.(*miekg.CNAME); ok {
				next = miekg.CanonicalName(cname.Target)
			}
		}
		switch {
		case len(rrs) > 0:
			return rrs, alias, nil
		case next != "":
			at, alias = next, next
			continue
		case m.Rcode == miekg.RcodeNameError:
			return nil, alias, errNoName
		case m.Rcode != miekg.RcodeSuccess:
			return nil, alias, fmt.Errorf("%w: %s", errNoAnswer, rcode(m.Rcode))
		}
		return nil, alias, errNoRecord
	}
	return nil, alias, errEndsThere
}

func rcode(n int) string {
	if s := miekg.RcodeToString[n]; s != "" {
		return s
	}
	return fmt.Sprintf("RCODE%d", n)
}

// deaf tells whether the resolver answers nothing at all, and reports it.
func (c *checker) deaf(ctx context.Context) bool {
	_, _, err := c.lookup(ctx, ".", miekg.TypeNS)
	if err == nil || !unknown(err) || errors.Is(err, errNoAnswer) {
		return false
	}
	c.add(Error, "resolver", c.o.Domain, "see [dns] resolver, or ask another one: --server ADDR", "nothing can be looked up: %v", err)
	return true
}

// unknown tells whether an error says nothing about the name.
func unknown(err error) bool {
	return err != nil && !errors.Is(err, errNoName) && !errors.Is(err, errNoRecord)
}

// addressesOf are those of a host, at most maxPerHost of each family; alias as
// in lookup.
func (c *checker) addressesOf(ctx context.Context, host string) (list []netip.Addr, alias string, err error) {
	for _, typ := range []uint16{miekg.TypeA, miekg.TypeAAAA} {
		rrs, to, e := c.lookup(ctx, host, typ)
		if to != "" {
			alias = to
		}
		if err == nil || unknown(e) {
			err = e
		}
		for i, rr := range rrs {
			if a, ok := address(rr); ok && i < maxPerHost && !slices.Contains(list, a) {
				list = append(list, a)
			}
		}
	}
	if len(list) > 0 {
		err = nil
	}
	return list, alias, err
}

// address is that of an A or AAAA record.
func address(rr miekg.RR) (netip.Addr, bool) {
	var ip net.IP
	switch rr := rr.(type) {
	case *miekg.A:
		ip = rr.A
	case *miekg.AAAA:
		ip = rr.AAAA
	}
	a, ok := netip.AddrFromSlice(ip)
	return a.Unmap(), ok
}

// bare is a name as people write it.
func bare(name string) string {
	if name == "." {
		return name
	}
	return strings.TrimSuffix(name, ".")
}

// publish is the advice to publish a record.
func publish(r Record) string {
	return fmt.Sprintf("publish: %s %d IN %s %s", r.Name, r.TTL, r.Type, r.Data)
}
