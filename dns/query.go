package dns

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/exchange"
)

// Record is one resource record, as text.
type Record struct {
	Name  string `json:"name"` // fully qualified, as the server spelled it
	TTL   uint32 `json:"ttl"`
	Class string `json:"class"`
	Type  string `json:"type"`
	Data  string `json:"data"` // in the form of zone files
}

// Answer is what a server said to a Query.
type Answer struct {
	Name       string        `json:"name"` // the question; fully qualified
	Type       Type          `json:"type"`
	ID         uint16        `json:"id"`
	Rcode      string        `json:"rcode"` // "NOERROR", "NXDOMAIN", ...
	Flags      []string      `json:"flags"` // of qr aa tc rd ra ad cd
	Answer     []Record      `json:"answer"`
	Authority  []Record      `json:"authority,omitempty"`
	Additional []Record      `json:"additional,omitempty"` // without OPT
	Server     string        `json:"server"`
	Network    string        `json:"network"` // "udp" or "tcp"
	Size       int           `json:"size"`    // octets
	Took       time.Duration `json:"took"`    // nanoseconds in JSON

	err error
}

// Err is nil when the answer has what was asked for, else an *Error.
func (a *Answer) Err() error { return a.err }

// Query asks a server and returns what it says, whatever that is; an error
// means that none said anything. It uses neither the cache nor the hosts file
// and follows no alias. A name without a dot is tried with the search suffixes
// first, and then as it is. Type 0 is A; for an IP address, whose PTR records
// are asked for, it is PTR.
func (r *Resolver) Query(ctx context.Context, name string, typ Type) (*Answer, error) {
	if a, err := netip.ParseAddr(name); err == nil && (typ == 0 || typ == TypePTR) {
		name, typ = reverse(a), TypePTR
	}
	if typ == 0 {
		typ = TypeA
	}
	candidates, full, err := r.candidates(name)
	if err != nil {
		return nil, &Error{Name: strings.TrimSuffix(name, "."), Type: typ, Err: err}
	}
	var a *Answer
	for _, c := range candidates {
		q := question{c, typ}
		m, err := r.stub.ask(ctx, q)
		if err != nil {
			return nil, &Error{Name: plain(c), Type: typ, Err: err}
		}
		got := newAnswer(q, m)
		if got.err == nil {
			return got, nil
		}
		if c == full {
			a = got
		}
	}
	return a, nil
}

// candidates are the names to ask for, in order; full is the name as it is.
func (r *Resolver) candidates(name string) (list []string, full string, err error) {
	full, err = normalize(name)
	if err != nil {
		return nil, "", err
	}
	if strings.Contains(name, ".") {
		return []string{full}, full, nil
	}
	suffixes, ndots := r.search()
	for _, s := range suffixes {
		if n, err := normalize(full + s); err == nil {
			list = append(list, n)
		}
	}
	if ndots == 0 {
		return append([]string{full}, list...), full, nil
	}
	return append(list, full), full, nil
}

func newAnswer(q question, m *message) *Answer {
	a := &Answer{
		Name: q.name, Type: q.typ, ID: m.Id, Rcode: exchange.RcodeText(m.Rcode),
		Answer: records(m.Answer), Authority: records(m.Ns), Additional: records(m.Extra),
		Server: m.server, Network: m.network, Size: m.size, Took: m.took,
	}
	for _, f := range []struct {
		set  bool
		name string
	}{
		{m.Response, "qr"}, {m.Authoritative, "aa"}, {m.Truncated, "tc"}, {m.RecursionDesired, "rd"},
		{m.RecursionAvailable, "ra"}, {m.AuthenticatedData, "ad"}, {m.CheckingDisabled, "cd"},
	} {
		if f.set {
			a.Flags = append(a.Flags, f.name)
		}
	}
	var err error
	s := interpret(q, m)
	switch {
	case s.outcome == noData && q.typ == Type(miekg.TypeANY) && len(a.Answer) > 0:
	case s.outcome == noData:
		err = aliased(q.name, s.name, ErrNoData)
	case s.outcome == alias:
		err = aliased(q.name, s.name, ErrNoData)
	case s.outcome == notExist:
		err = aliased(q.name, s.name, ErrNotExist)
	case s.outcome == failed:
		err = s.err
	}
	if err != nil {
		a.err = &Error{Name: plain(q.name), Type: q.typ, Server: m.server, Err: err}
	}
	return a
}

func records(rrs []miekg.RR) []Record {
	list := []Record{}
	for _, rr := range rrs {
		h := rr.Header()
		if h.Rrtype == miekg.TypeOPT {
			continue
		}
		list = append(list, Record{
			Name: printable(h.Name), TTL: h.Ttl, Class: miekg.Class(h.Class).String(), Type: miekg.Type(h.Rrtype).String(),
			Data: printable(data(rr)),
		})
	}
	return list
}

// data is the part of a record behind its type.
func data(rr miekg.RR) string {
	if u, ok := rr.(*miekg.RFC3597); ok { // repeats the header in its own way
		return fmt.Sprintf(`\# %d %s`, len(u.Rdata)/2, u.Rdata)
	}
	return strings.TrimPrefix(rr.String(), rr.Header().String())
}

// printable keeps a server from writing to the terminal: the library escapes
// what is not printable in names and texts; this holds for all other types.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' && c != '\t' || c > '~' {
			return '?'
		}
		return c
	}, s)
}

// Format prints an answer in the manner of dig, without what is the same in
// every answer.
func Format(w io.Writer, a *Answer) error {
	var b strings.Builder
	fmt.Fprintf(&b, ";; status: %s, id: %d, flags: %s\n", a.Rcode, a.ID, strings.Join(a.Flags, " "))
	fmt.Fprintf(&b, ";; question: %s IN %s\n", printable(a.Name), a.Type)
	for _, s := range []struct {
		title   string
		records []Record
	}{{"answer", a.Answer}, {"authority", a.Authority}, {"additional", a.Additional}} {
		if len(s.records) == 0 {
			continue
		}
		fmt.Fprintf(&b, ";; %s:\n", s.title)
		for _, r := range s.records {
			fmt.Fprintf(&b, "%s\t%d\t%s\t%s\t%s\n", r.Name, r.TTL, r.Class, r.Type, r.Data)
		}
	}
	fmt.Fprintf(&b, ";; server: %s (%s), %d octets in %v\n", a.Server, a.Network, a.Size, a.Took.Round(100*time.Microsecond))
	_, err := io.WriteString(w, b.String())
	return err
}
