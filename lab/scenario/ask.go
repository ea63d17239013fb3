package scenario

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns"
	"postrider/dns/exchange"
	"postrider/lab"
)

// answer is what a name server said, or a lookup found.
type answer struct {
	msg   *miekg.Msg
	query []byte
	wire  []byte
	took  time.Duration
	err   error
	found *dns.Answer // of a lookup
}

// questionPatience is how long a scenario waits for one answer, in the lab's
// time; a resolver may need several tries.
const questionPatience = 8 * time.Second

// ask SERVER NAME TYPE [norec] [dnssec] [cd] [tcp] [noedns] [from HOST]
func (p *player) ask(ctx context.Context, c Command) error {
	f, err := want(c, 3, "SERVER NAME TYPE [norec] [dnssec] [cd] [tcp] [noedns] [from HOST]")
	if err != nil {
		return err
	}
	f, from := option(f, "from")
	h, ok := p.lab.World().Host(f[0])
	if !ok {
		return fmt.Errorf("there is no host %q", f[0])
	}
	name := f[1]
	if ip := net.ParseIP(name); ip != nil {
		if name, err = miekg.ReverseAddr(name); err != nil {
			return err
		}
	}
	typ, ok := miekg.StringToType[strings.ToUpper(f[2])]
	if !ok {
		return fmt.Errorf("%q is no type", f[2])
	}
	flag := func(word string) bool { return slices.Contains(f[3:], word) }
	q, err := exchange.Pack(rand.Reader, miekg.Fqdn(name), typ, func(m *miekg.Msg) {
		m.RecursionDesired = !flag("norec")
		m.CheckingDisabled = flag("cd")
		if !flag("noedns") {
			m.SetEdns0(exchange.Size, flag("dnssec"))
		}
	})
	if err != nil {
		return err
	}
	network := "udp"
	if flag("tcp") {
		network = "tcp"
	}
	t := exchange.Transport{Dial: p.lab.Dialer(from), Clock: p.lab.Clock()}
	var reply *exchange.Reply
	if werr := p.lab.Await(ctx, func() {
		reply, err = t.Do(ctx, network, net.JoinHostPort(h.Address.String(), "53"), q, questionPatience)
	}); werr != nil {
		return werr
	}
	p.reply = &answer{query: q.Wire, err: err}
	if err == nil {
		p.reply.msg, p.reply.wire, p.reply.took = reply.Msg, reply.Wire, reply.Took
	}
	return nil
}

// lookup HOST NAME [TYPE]: as a program on that host looks a name up, with its
// hosts file, its resolver and its site's suffixes.
func (p *player) lookup(ctx context.Context, c Command) error {
	f, err := want(c, 2, "HOST NAME [TYPE]")
	if err != nil {
		return err
	}
	typ := dns.Type(miekg.TypeA)
	if len(f) > 2 {
		if typ, err = dns.ParseType(f[2]); err != nil {
			return err
		}
	}
	o := dns.Options{HostsFile: p.hosts[f[0]], CacheSize: -1, Dial: p.lab.Dialer(f[0]), Clock: p.lab.Clock()}
	if o.Servers, o.Search, err = p.lab.ResolvConf(f[0]); err != nil {
		return err
	}
	r, err := dns.NewResolver(o)
	if err != nil {
		return err
	}
	if list := r.InHosts(f[1]); list != nil && (typ == dns.TypeA || typ == dns.TypeAAAA) {
		p.reply = &answer{msg: fromHosts(f[1], typ, list)}
		return nil
	}
	a, err := r.Query(ctx, f[1], typ)
	p.reply = &answer{err: err, found: a}
	if a != nil {
		p.reply.msg = a.Message()
	}
	return nil
}

// fromHosts is what a hosts file says, in the form of an answer.
func fromHosts(name string, typ dns.Type, list []netip.Addr) *miekg.Msg {
	m := new(miekg.Msg)
	for _, a := range list {
		h := miekg.RR_Header{Name: miekg.CanonicalName(name), Rrtype: uint16(typ), Class: miekg.ClassINET}
		switch {
		case typ == dns.TypeA && a.Is4():
			m.Answer = append(m.Answer, &miekg.A{Hdr: h, A: a.AsSlice()})
		case typ == dns.TypeAAAA && a.Is6():
			m.Answer = append(m.Answer, &miekg.AAAA{Hdr: h, AAAA: a.AsSlice()})
		}
	}
	return m
}

const (
	maxFlood = 1000
	// floodQuiet ends the wait for the answers to a flood: none came for so long.
	floodQuiet = 300 * time.Millisecond
)

// flood SERVER NAME TYPE N [from HOST]: so many questions over UDP, as fast as they
// go. The values answered, cut and firsts are how many answers came, how many of them
// said no more than that one should ask over TCP, and how many different records
// stood first.
func (p *player) flood(ctx context.Context, c Command) error {
	f, err := want(c, 4, "SERVER NAME TYPE N [from HOST]")
	if err != nil {
		return err
	}
	f, from := option(f, "from")
	h, ok := p.lab.World().Host(f[0])
	typ, known := miekg.StringToType[strings.ToUpper(f[2])]
	n, err := strconv.Atoi(f[3])
	if !ok || !known || err != nil || n < 1 || n > maxFlood {
		return fmt.Errorf("the form is: flood SERVER NAME TYPE N, N at most %d", maxFlood)
	}
	conn, err := p.lab.Dialer(from)(ctx, "udp", net.JoinHostPort(h.Address.String(), "53"))
	if err != nil {
		return err
	}
	defer conn.Close()
	for range n {
		q, err := exchange.Pack(rand.Reader, miekg.Fqdn(f[1]), typ, func(m *miekg.Msg) { m.RecursionDesired = false })
		if err == nil {
			_, err = conn.Write(q.Wire)
		}
		if err != nil {
			return err
		}
	}
	p.values["answered"], p.values["cut"], p.values["firsts"] = 0, 0, 0
	firsts := map[string]bool{}
	buf := make([]byte, miekg.MaxMsgSize)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(floodQuiet)); err != nil {
			return err
		}
		size, err := conn.Read(buf)
		if err != nil { // it is quiet
			return ctx.Err()
		}
		p.values["answered"]++
		if size > 2 && buf[2]&2 != 0 { // TC: RFC 1035 section 4.1.1
			p.values["cut"]++
		}
		if m := new(miekg.Msg); m.Unpack(buf[:size]) == nil && len(m.Answer) > 0 {
			firsts[m.Answer[0].String()] = true
			p.values["firsts"] = float64(len(firsts))
		}
	}
}

// hostsfile HOST, with its lines in the block.
func (p *player) hostsFile(_ context.Context, c Command) error {
	f, err := os.CreateTemp("", "postrider-hosts-")
	if err != nil {
		return err
	}
	defer f.Close()
	name := f.Name()
	p.undo = append(p.undo, func(context.Context) error { return os.Remove(name) })
	p.hosts[c.Args] = name
	_, err = f.WriteString(strings.Join(c.Block, "\n") + "\n")
	return err
}

// D: what the last answer must be.
func (p *player) dns(_ context.Context, c Command) error {
	if p.reply == nil {
		return fmt.Errorf("nothing was asked yet")
	}
	f, err := want(c, 1, "SECTION ...")
	if err != nil {
		return err
	}
	a := p.reply
	if f[0] == "none" || f[0] == "fails" {
		if a.err == nil {
			return fmt.Errorf("there is an answer: %s", a)
		}
		return nil
	}
	if a.msg == nil {
		return a.err
	}
	switch f[0] {
	case "rcode":
		if got := miekg.RcodeToString[a.msg.Rcode]; len(f) < 2 || got != f[1] {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	case "flags":
		return a.flags(f[1:])
	case "answers":
		return compare(float64(len(a.msg.Answer)), f[1:])
	case "ttl":
		return a.ttl(f[1:])
	case "header":
		return a.header(f[1:])
	case "answer", "authority", "additional":
		return a.section(f[0], f[1:])
	case "error":
		return a.extended(f[1:])
	}
	return fmt.Errorf("%q is not one of rcode, flags, answers, ttl, header, answer, authority, additional, error, none", f[0])
}

func (a *answer) String() string {
	if a.msg == nil {
		return fmt.Sprint(a.err)
	}
	return strings.Join(strings.Fields(strings.ReplaceAll(a.msg.String(), "\n", " · ")), " ")
}

// flags wants each flag to be there, or not to be with a minus before it.
func (a *answer) flags(f []string) error {
	m := a.msg
	set := map[string]bool{"qr": m.Response, "aa": m.Authoritative, "tc": m.Truncated, "rd": m.RecursionDesired,
		"ra": m.RecursionAvailable, "ad": m.AuthenticatedData, "cd": m.CheckingDisabled}
	for _, name := range f {
		bare, not := strings.CutPrefix(name, "-")
		have, known := set[bare]
		if !known {
			return fmt.Errorf("%q is no flag", bare)
		}
		if have == not {
			return fmt.Errorf("flag %s: %v", bare, have)
		}
	}
	return nil
}

// section wants a record whose text begins as given, in a section: NAME TYPE
// DATA, without TTL and class. "answer none" wants an empty section.
func (a *answer) section(name string, f []string) error {
	rrs := map[string][]miekg.RR{"answer": a.msg.Answer, "authority": a.msg.Ns, "additional": a.msg.Extra}[name]
	wanted := strings.ToLower(strings.Join(f, " "))
	var have []string
	for _, rr := range rrs {
		if rr.Header().Rrtype == miekg.TypeOPT {
			continue
		}
		h := rr.Header()
		data := strings.TrimSpace(strings.TrimPrefix(rr.String(), h.String()))
		have = append(have, strings.ToLower(h.Name)+" "+miekg.TypeToString[h.Rrtype]+" "+data)
	}
	if wanted == "none" {
		if len(have) > 0 {
			return fmt.Errorf("there is %q", have)
		}
		return nil
	}
	bare, not := strings.CutPrefix(wanted, "lacks ")
	for _, text := range have {
		if strings.HasPrefix(strings.ToLower(text), bare) {
			if not {
				return fmt.Errorf("there is %q", text)
			}
			return nil
		}
	}
	if not {
		return nil
	}
	return fmt.Errorf("it has %q", have)
}

// ttl compares the TTL of the first record of the answer.
func (a *answer) ttl(f []string) error {
	if len(a.msg.Answer) == 0 {
		return fmt.Errorf("there is no record in the answer")
	}
	return compare(float64(a.msg.Answer[0].Header().Ttl), f)
}

// header compares the flags word of the query or the reply: header query 0x0100.
func (a *answer) header(f []string) error {
	if len(f) != 2 {
		return fmt.Errorf("the form is: D: header query|reply 0xFLAGS")
	}
	b := a.wire
	if f[0] == "query" {
		b = a.query
	}
	n, err := strconv.ParseUint(f[1], 0, 16)
	if err != nil || len(b) < 12 {
		return fmt.Errorf("%q is no number of 16 bits", f[1])
	}
	if got := uint64(b[2])<<8 | uint64(b[3]); got != n {
		return fmt.Errorf("they are 0x%04x", got)
	}
	return nil
}

// extended wants an extended error (RFC 8914) of that number.
func (a *answer) extended(f []string) error {
	opt := a.msg.IsEdns0()
	var have []string
	if opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*miekg.EDNS0_EDE); ok {
				have = append(have, strconv.Itoa(int(e.InfoCode)))
			}
		}
	}
	if len(f) == 0 || !slices.Contains(have, f[0]) {
		return fmt.Errorf("it has %v", have)
	}
	return nil
}

// update ZONE [at HOST], with lines in the block:
//
//	add NAME TTL TYPE DATA
//	delete NAME [TYPE [DATA]]
//	require NAME [TYPE]
//	forbid NAME [TYPE]
func (p *player) update(ctx context.Context, c Command) error {
	f, err := want(c, 1, "ZONE [at HOST]")
	if err != nil {
		return err
	}
	f, at := option(f, "at")
	m := new(miekg.Msg)
	m.SetUpdate(miekg.Fqdn(f[0]))
	for _, line := range c.Block {
		if err := edit(m, line); err != nil {
			return err
		}
	}
	reply, err := p.lab.Update(ctx, at, m)
	p.reply = &answer{msg: reply, err: err}
	return nil
}

// edit adds one line to an update (RFC 2136 sections 2.4 and 2.5).
func edit(m *miekg.Msg, line string) error {
	verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	f := strings.Fields(rest)
	if len(f) == 0 {
		return fmt.Errorf("%q is no line of an update", line)
	}
	record := func(text string) (miekg.RR, error) { return miekg.NewRR(text) }
	header := miekg.RR_Header{Name: miekg.Fqdn(f[0])}
	if len(f) > 1 {
		header.Rrtype = miekg.StringToType[f[1]]
	}
	some := []miekg.RR{&miekg.ANY{Hdr: header}}
	switch {
	case verb == "add":
		rr, err := record(rest)
		if err != nil || rr == nil {
			return fmt.Errorf("%q: %v", line, err)
		}
		m.Insert([]miekg.RR{rr})
	case verb == "delete" && len(f) == 1:
		m.RemoveName(some)
	case verb == "delete" && len(f) == 2:
		m.RemoveRRset(some)
	case verb == "delete":
		rr, err := record(f[0] + " 0 " + strings.Join(f[1:], " "))
		if err != nil || rr == nil {
			return fmt.Errorf("%q: %v", line, err)
		}
		m.Remove([]miekg.RR{rr})
	case verb == "require" && len(f) == 1:
		m.NameUsed(some)
	case verb == "require":
		m.RRsetUsed(some)
	case verb == "forbid" && len(f) == 1:
		m.NameNotUsed(some)
	case verb == "forbid":
		m.RRsetNotUsed(some)
	default:
		return fmt.Errorf("%q is no line of an update", line)
	}
	return nil
}

// compare checks a number against "7", ">= 3", "< 10" or "3..5".
func compare(have float64, f []string) error {
	op, number := "=", ""
	switch len(f) {
	case 1:
		number = f[0]
		if low, high, ok := strings.Cut(number, ".."); ok {
			if err := compare(have, []string{">=", low}); err != nil {
				return err
			}
			return compare(have, []string{"<=", high})
		}
	case 2:
		op, number = f[0], f[1]
	default:
		return fmt.Errorf("a number is given as 7, >= 3, < 10 or 3..5")
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil {
		if d, derr := lab.ParseDuration(number); derr == nil {
			n, err = d.Seconds(), nil
		}
	}
	if err != nil {
		return fmt.Errorf("%q is no number", number)
	}
	ok, known := map[string]bool{"=": have == n, "<": have < n, "<=": have <= n, ">": have > n, ">=": have >= n, "!=": have != n}[op]
	if !known {
		return fmt.Errorf("%q compares nothing", op)
	}
	if !ok {
		return fmt.Errorf("it is %v", have)
	}
	return nil
}
