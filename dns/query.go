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
	"postrider/dns/recursor"
)

// Record is one resource record, as text.
type Record struct {
	Name  string `json:"name"` // fully qualified, as the server spelled it
	TTL   uint32 `json:"ttl"`
	Class string `json:"class"`
	Type  string `json:"type"`
	Data  string `json:"data"` // in the form of zone files
}

// Asking says how a question is put; the zero value is the usual way.
type Asking struct {
	DNSSEC      bool // signatures are wanted (the DO bit)
	Unchecked   bool // the server is to validate nothing (the CD bit)
	NoRecursion bool // the server is to say what it knows itself
	TCP         bool
}

// EDNS is what an answer's OPT record says (RFC 6891).
type EDNS struct {
	Version uint8    `json:"version"`
	Size    uint16   `json:"udp"` // octets of a datagram that the server takes
	DNSSEC  bool     `json:"do"`
	Options []string `json:"options,omitempty"` // without extended errors
}

// ExtendedError is one of RFC 8914.
type ExtendedError struct {
	Code    uint16 `json:"code"`
	Meaning string `json:"meaning"` // "Prohibited"; "" of a code that is not known
	Text    string `json:"text,omitempty"`
}

// Answer is what a server said to a Query.
type Answer struct {
	Name       string          `json:"name"` // the question; fully qualified
	Type       Type            `json:"type"`
	ID         uint16          `json:"id"`
	Opcode     string          `json:"opcode"` // "QUERY"
	Rcode      string          `json:"rcode"`  // "NOERROR", "NXDOMAIN", ...
	Flags      []string        `json:"flags"`  // of qr aa tc rd ra ad cd
	Bits       uint16          `json:"bits"`   // the second pair of octets of the header
	EDNS       *EDNS           `json:"edns,omitempty"`
	Errors     []ExtendedError `json:"extended_errors,omitempty"`
	Answer     []Record        `json:"answer"`
	Authority  []Record        `json:"authority,omitempty"`
	Additional []Record        `json:"additional,omitempty"` // without OPT
	Server     string          `json:"server"`
	Network    string          `json:"network"` // "udp" or "tcp"
	Size       int             `json:"size"`    // octets
	Took       time.Duration   `json:"took"`    // nanoseconds in JSON

	// Security is "secure", "insecure", "bogus" or "indeterminate"; "" when a
	// server was asked, whose word is the AD flag.
	Security string `json:"security,omitempty"`

	err error
	msg *miekg.Msg
}

// Message is the answer as it came; it is not to be changed.
func (a *Answer) Message() *miekg.Msg { return a.msg }

// Err is nil when the answer has what was asked for, else an *Error.
func (a *Answer) Err() error { return a.err }

// Query asks a server and returns what it says, whatever that is; an error
// means that none said anything. It uses neither the cache nor the hosts file
// and follows no alias. A name without a dot is tried with the search suffixes
// first, and then as it is. Type 0 is A; for an IP address, whose PTR records
// are asked for, it is PTR.
func (r *Resolver) Query(ctx context.Context, name string, typ Type) (*Answer, error) {
	return r.QueryAs(ctx, name, typ, Asking{})
}

// QueryAs is Query in another way.
func (r *Resolver) QueryAs(ctx context.Context, name string, typ Type, how Asking) (*Answer, error) {
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
		m, err := r.ask(ctx, q, how)
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

// ParseQuestion is what Query asks for a name that is taken as absolute.
func ParseQuestion(name string, typ Type) (miekg.Question, error) {
	if a, err := netip.ParseAddr(name); err == nil && (typ == 0 || typ == TypePTR) {
		name, typ = reverse(a), TypePTR
	}
	if typ == 0 {
		typ = TypeA
	}
	full, err := normalize(name)
	if err != nil {
		return miekg.Question{}, &Error{Name: strings.TrimSuffix(name, "."), Type: typ, Err: err}
	}
	return miekg.Question{Name: full, Qtype: uint16(typ), Qclass: miekg.ClassINET}, nil
}

// AnswerOf is what the recursor found, as an answer: the message that a resolver
// would send, with signatures when they are wanted.
func AnswerOf(q miekg.Question, found recursor.Answer, signed bool) *Answer {
	m := &miekg.Msg{Question: []miekg.Question{q}, Answer: found.Answer, Ns: found.Ns, Extra: found.Extra}
	m.Rcode, m.Response, m.RecursionDesired, m.RecursionAvailable, m.AuthenticatedData = found.Rcode, true, true, true, found.Authenticated
	a := newAnswer(question{q.Name, Type(q.Qtype)}, &message{Msg: m, server: "this program", network: "from the root", size: m.Len()})
	if !signed && q.Qtype != miekg.TypeDS && q.Qtype != miekg.TypeRRSIG {
		a.Answer, a.Authority = unsigned(a.Answer), unsigned(a.Authority)
	}
	for _, e := range found.ExtendedErrors {
		a.Errors = append(a.Errors, ExtendedError{e.Code, miekg.ExtendedErrorCodeToString[e.Code], printable(e.Text)})
	}
	return a
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
		Opcode: miekg.OpcodeToString[m.Opcode], msg: m.Msg,
	}
	a.header(m.Msg)
	if m.network == "iterative" {
		a.Security = m.security.String()
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

// flags are the bits of the header's second pair of octets (RFC 1035 section
// 4.1.1, RFC 4035 section 3.2), each with its meaning in an answer.
var flags = []struct {
	name    string
	bit     uint16
	meaning string
	set     func(*miekg.Msg) bool
}{
	{"qr", 1 << 15, "an answer", func(m *miekg.Msg) bool { return m.Response }},
	{"aa", 1 << 10, "authoritative", func(m *miekg.Msg) bool { return m.Authoritative }},
	{"tc", 1 << 9, "cut short", func(m *miekg.Msg) bool { return m.Truncated }},
	{"rd", 1 << 8, "recursion was asked for", func(m *miekg.Msg) bool { return m.RecursionDesired }},
	{"ra", 1 << 7, "recursion is given", func(m *miekg.Msg) bool { return m.RecursionAvailable }},
	{"ad", 1 << 5, "the server validated it", func(m *miekg.Msg) bool { return m.AuthenticatedData }},
	{"cd", 1 << 4, "validation was not wanted", func(m *miekg.Msg) bool { return m.CheckingDisabled }},
}

// header fills in what the header and the OPT record say.
func (a *Answer) header(m *miekg.Msg) {
	a.Flags = []string{}
	a.Bits = uint16(m.Opcode&15)<<11 | uint16(m.Rcode&15)
	for _, f := range flags {
		if f.set(m) {
			a.Flags = append(a.Flags, f.name)
			a.Bits |= f.bit
		}
	}
	opt := m.IsEdns0()
	if opt == nil {
		return
	}
	a.EDNS = &EDNS{Version: opt.Version(), Size: opt.UDPSize(), DNSSEC: opt.Do()}
	for _, o := range opt.Option {
		if e, ok := o.(*miekg.EDNS0_EDE); ok {
			a.Errors = append(a.Errors, ExtendedError{e.InfoCode, miekg.ExtendedErrorCodeToString[e.InfoCode], printable(e.ExtraText)})
			continue
		}
		name := optionNames[o.Option()]
		if name == "" {
			name = fmt.Sprintf("option %d", o.Option())
		}
		a.EDNS.Options = append(a.EDNS.Options, printable(name+" "+o.String()))
	}
}

// optionNames are those of EDNS options that servers send.
var optionNames = map[uint16]string{
	miekg.EDNS0NSID: "nsid", miekg.EDNS0COOKIE: "cookie", miekg.EDNS0SUBNET: "client subnet", miekg.EDNS0EXPIRE: "expire",
	miekg.EDNS0TCPKEEPALIVE: "tcp keepalive", miekg.EDNS0PADDING: "padding", miekg.EDNS0LLQ: "llq", miekg.EDNS0UL: "update lease",
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

// Format prints an answer in the manner of dig, with a word on each flag.
func Format(w io.Writer, a *Answer) error {
	var b strings.Builder
	fmt.Fprintf(&b, ";; opcode: %s, status: %s, id: %d\n", a.Opcode, a.Rcode, a.ID)
	fmt.Fprintf(&b, ";; flags: %s (0x%04x%s)\n", strings.Join(a.Flags, " "), a.Bits, a.meanings())
	if a.EDNS != nil {
		fmt.Fprintf(&b, ";; EDNS: version %d, datagrams of %d octets", a.EDNS.Version, a.EDNS.Size)
		if a.EDNS.DNSSEC {
			b.WriteString(", do")
		}
		for _, o := range a.EDNS.Options {
			fmt.Fprintf(&b, ", %s", o)
		}
		b.WriteByte('\n')
	}
	for _, e := range a.Errors {
		fmt.Fprintf(&b, ";; extended error %d", e.Code)
		if e.Meaning != "" {
			fmt.Fprintf(&b, " (%s)", e.Meaning)
		}
		if e.Text != "" {
			fmt.Fprintf(&b, ": %s", e.Text)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, ";; question: %s IN %s\n", printable(a.Name), a.Type)
	for _, s := range []struct {
		title   string
		records []Record
	}{{"answer", a.Answer}, {"authority", a.Authority}, {"additional", a.Additional}} {
		if len(s.records) == 0 {
			continue
		}
		fmt.Fprintf(&b, ";; %s (%d):\n", s.title, len(s.records))
		for _, r := range s.records {
			fmt.Fprintf(&b, "%s\n", r)
		}
	}
	fmt.Fprintf(&b, ";; server: %s (%s), %d octets in %v\n", a.Server, a.Network, a.Size, a.Took.Round(100*time.Microsecond))
	_, err := io.WriteString(w, b.String())
	return err
}

// String is the record in the form of zone files.
func (r Record) String() string {
	return fmt.Sprintf("%s\t%d\t%s\t%s\t%s", r.Name, r.TTL, r.Class, r.Type, r.Data)
}

// meanings are those of the flags that are set.
func (a *Answer) meanings() string {
	var list []string
	for _, f := range flags {
		if a.Bits&f.bit != 0 {
			list = append(list, f.meaning)
		}
	}
	if len(list) == 0 {
		return ""
	}
	return ": " + strings.Join(list, ", ")
}
