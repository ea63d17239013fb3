package zone

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
	"postrider/dns/names"
)

// These tests compare with programs of Debian: dnssec-signzone, dnssec-verify and
// delv of BIND, ldns-signzone and ldns-verify-zone of ldns, unbound-host of
// Unbound (integration/setup.sh). They go by the present, as those programs do.

// program runs one of them, and fails the test if it is not there.
func program(t *testing.T, dir, name string, args ...string) (output string, ok bool) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v; integration/setup.sh installs it", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, ctx.Err(), out)
	}
	return string(out), err == nil
}

func writeZone(t *testing.T, dir, name string, rrs []miekg.RR) string {
	t.Helper()
	var b strings.Builder
	for _, rr := range rrs {
		b.WriteString(rr.String() + "\n")
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// randomZone is the zone of signText after some edits. What BIND calls an error
// is left out.
func randomZone(t *testing.T, seed uint64, edits int) *Zone {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	e := mustRead(t, "example.", signText).edit()
	for range edits {
		labels := []string{"a", "b", "c", "sub", "*", "only", "ent"}
		name := "example."
		for range 1 + r.IntN(3) {
			name = labels[r.IntN(len(labels))] + "." + name
		}
		n := e.node(name, false)
		data := []string{"A 192.0.2.1", "A 192.0.2.2", "AAAA 2001:db8::1", "TXT \"x y\" z", "MX 1 Mail.Example.", "NS ns.example.",
			"SRV 1 2 3 Host.Example.", "CAA 0 issue \"ca.example\"", "TYPE65280 \\# 3 010203", "SVCB 1 . alpn=h2", "NAPTR 1 2 \"s\" \"x\" \"\" A.Example."}
		text := data[r.IntN(len(data))]
		if strings.HasPrefix(text, "NS") && (n != nil || strings.Contains(name, "*")) || n != nil && n.has != 0 {
			continue
		}
		addText(t, e, name+" 3600 IN "+text)
	}
	z, err := e.finish()
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// agreeKeys are the sets of keys that zones are signed with.
func agreeKeys(t *testing.T) map[string][]*dnssec.Key {
	t.Helper()
	sets := make(map[string][]*dnssec.Key)
	for name, c := range map[string]struct {
		alg   uint8
		roles []dnssec.Role
	}{
		"P-256":   {miekg.ECDSAP256SHA256, []dnssec.Role{dnssec.KSK, dnssec.ZSK}},
		"Ed25519": {miekg.ED25519, []dnssec.Role{dnssec.CSK}},
	} {
		for _, role := range c.roles {
			k, err := dnssec.GenerateKey("example.", role, c.alg, 3600)
			if err != nil {
				t.Fatal(err)
			}
			sets[name] = append(sets[name], k)
		}
	}
	return sets
}

// TestOthersAcceptWhatWeSign, and refuse it when it is spoiled.
func TestOthersAcceptWhatWeSign(t *testing.T) {
	dir := t.TempDir()
	verify := func(rrs []miekg.RR, single bool) (bind, ldns bool, text string) {
		args := []string{"-o", "example.", writeZone(t, dir, "zone", rrs)}
		file := args[2]
		if single {
			args = append([]string{"-z"}, args...)
		}
		a, bind := program(t, dir, "dnssec-verify", args...)
		b, ldns := program(t, dir, "ldns-verify-zone", file)
		return bind, ldns, a + b
	}
	for name, keys := range agreeKeys(t) {
		for i, p := range signPolicies {
			p.SingleKey = len(keys) == 1
			s := signing(t, p, time.Now(), keys...)
			z, _, err := randomZone(t, uint64(i), 25).Sign(SignOptions{Signing: s})
			if err != nil {
				t.Fatal(err)
			}
			// And after a change, signed incrementally.
			e := z.edit()
			for _, text := range []string{"new.b.example. 60 IN A 192.0.2.9", "0.example. 60 IN NS ns.example.", "zz.zz.example. 60 IN TXT last"} {
				addText(t, e, text)
			}
			changed, err := e.finish()
			if err != nil {
				t.Fatal(err)
			}
			if z, _, err = changed.Sign(SignOptions{Signing: s, Old: z}); err != nil {
				t.Fatal(err)
			}
			rrs := slices.Collect(z.All())
			if bind, ldns, text := verify(rrs, p.SingleKey); !bind || !ldns {
				t.Errorf("%s, %+v: dnssec-verify %t, ldns-verify-zone %t\n%s", name, p, bind, ldns, text)
			}
			r := rand.New(rand.NewPCG(7, uint64(i)))
			for range 3 {
				// A signature or a denial less.
				at := r.IntN(len(rrs))
				for !slices.Contains([]uint16{miekg.TypeRRSIG, miekg.TypeNSEC, miekg.TypeNSEC3}, rrs[at].Header().Rrtype) {
					at = r.IntN(len(rrs))
				}
				if bind, ldns, text := verify(slices.Delete(slices.Clone(rrs), at, at+1), p.SingleKey); bind || ldns {
					t.Errorf("%s, %+v: without %s: dnssec-verify %t, ldns-verify-zone %t\n%s", name, p, rrs[at], bind, ldns, text)
				}
			}
		}
	}
}

// TestWeAcceptWhatOthersSign: zones signed by dnssec-signzone and ldns-signzone,
// with our key files.
func TestWeAcceptWhatOthersSign(t *testing.T) {
	for name, keys := range agreeKeys(t) {
		dir := t.TempDir()
		var paths []string
		for _, k := range keys {
			path, err := k.Write(dir)
			if err != nil {
				t.Fatal(err)
			}
			paths = append(paths, filepath.Base(path))
		}
		for i, p := range signPolicies {
			rrs := slices.Collect(randomZone(t, 100+uint64(i), 25).All())
			for _, k := range keys {
				rrs = append(rrs, k.Record())
			}
			file := writeZone(t, dir, "zone", rrs)
			bind := []string{"-o", "example.", "-f", "bind.signed", "-z"}
			ldns := []string{"-o", "example.", "-f", "ldns.signed", "-u"}
			if len(keys) > 1 {
				bind, ldns = bind[:4], ldns[:4]
			}
			if p.NSEC3 {
				bind, ldns = append(bind, "-3", "aabb", "-H", "2"), append(ldns, "-n", "-s", "aabb", "-t", "2")
			}
			if p.OptOut {
				bind, ldns = append(bind, "-A"), append(ldns, "-p")
			}
			for tool, args := range map[string][]string{"dnssec-signzone": bind, "ldns-signzone": ldns} {
				if out, ok := program(t, dir, tool, append(append(args, file), paths...)...); !ok {
					t.Fatalf("%s %v: %s", tool, args, out)
				}
				signed, err := Load(filepath.Join(dir, args[3]), "example.")
				if err != nil {
					t.Fatal(err)
				}
				v, err := dnssec.New(dnssec.Options{Anchors: []miekg.RR{keys[0].DS()}})
				if err != nil {
					t.Fatal(err)
				}
				n := believe(t, v, signed, p.OptOut)
				if n < 100 {
					t.Errorf("%s, %s: only %d answers", name, tool, n)
				}
			}
		}
	}
}

// believe asks about each name of a zone and beside it, and wants answers that
// are secure. It returns how many there were.
func believe(t *testing.T, v *dnssec.Validator, z *Zone, optOut bool) (answers int) {
	t.Helper()
	z.visit(func(n *node, _ position) bool {
		for _, name := range []string{n.name, "no." + n.name, "no.no." + n.name} {
			for _, typ := range []uint16{miekg.TypeA, miekg.TypeTXT, miekg.TypeDS} {
				if believed(t, v, z, name, typ, optOut) {
					answers++
				}
			}
		}
		return true
	})
	return answers
}

// forwarder serves a tree of zones as a recursive server that does not validate
// would, over UDP and TCP on one port; spoil changes its answers.
type forwarder struct {
	port string

	mu    sync.Mutex
	zones map[string]*Zone
	spoil func(*miekg.Msg)
}

func (f *forwarder) answer(q miekg.Question) *miekg.Msg {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := names.Canonical(q.Name)
	at := name
	if q.Qtype == miekg.TypeDS && f.zones[name] != nil && name != "example." {
		at = name[strings.IndexByte(name, '.')+1:]
	}
	for f.zones[at] == nil {
		if at == "." || at == "" {
			return &miekg.Msg{MsgHdr: miekg.MsgHdr{Rcode: miekg.RcodeRefused}}
		}
		at = at[strings.IndexByte(at, '.')+1:]
	}
	q.Name = name
	r := f.zones[at].Answer(q, AnswerOptions{DNSSEC: true, Minimal: true})
	m := &miekg.Msg{MsgHdr: miekg.MsgHdr{Rcode: r.Rcode}}
	for _, rr := range r.Answer {
		m.Answer = append(m.Answer, miekg.Copy(rr))
	}
	for _, rr := range r.Ns {
		m.Ns = append(m.Ns, miekg.Copy(rr))
	}
	if f.spoil != nil {
		f.spoil(m)
	}
	return m
}

func (f *forwarder) Fetch(_ context.Context, name string, typ uint16) (*miekg.Msg, error) {
	return f.answer(miekg.Question{Name: name, Qtype: typ, Qclass: miekg.ClassINET}), nil
}

func (f *forwarder) ServeDNS(w miekg.ResponseWriter, q *miekg.Msg) {
	m := f.answer(q.Question[0])
	m.SetReply(q)
	r := f.answer(q.Question[0])
	m.Rcode, m.Answer, m.Ns, m.RecursionAvailable = r.Rcode, r.Answer, r.Ns, true
	m.SetEdns0(4096, true)
	if _, tcp := w.RemoteAddr().(*net.TCPAddr); !tcp {
		m.Truncate(4096)
	}
	_ = w.WriteMsg(m) // the asker may have gone
}

// serve listens on a port of the loopback until the test ends.
func (f *forwarder) serve(t *testing.T) {
	t.Helper()
	var udp net.PacketConn
	var tcp net.Listener
	for range 20 { // until one port is free for both
		var err error
		if udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		_, f.port, _ = net.SplitHostPort(udp.LocalAddr().String())
		if tcp, err = net.Listen("tcp", "127.0.0.1:"+f.port); err == nil {
			break
		}
		udp.Close()
	}
	if tcp == nil {
		t.Fatal("no port is free for UDP and TCP")
	}
	for _, s := range []*miekg.Server{{PacketConn: udp, Handler: f}, {Listener: tcp, Handler: f}} {
		done := make(chan error, 1)
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { done <- s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			if err := s.Shutdown(); err != nil {
				t.Error(err)
			}
			<-done
		})
	}
}

// agreeWorld is a signed zone with children: signed with NSEC3, not signed,
// signed with expired signatures, with a DS for another key.
func agreeWorld(t *testing.T) (*forwarder, *dnssec.Key) {
	t.Helper()
	f := &forwarder{zones: make(map[string]*Zone)}
	parent := signText
	now := time.Now()
	for _, c := range []struct {
		label  string
		policy dnssec.Policy
		at     time.Time
		ds     bool
		signed bool
		other  bool
	}{
		{"hashed", dnssec.Policy{NSEC3: true, SingleKey: true}, now, true, true, false},
		{"optout", dnssec.Policy{NSEC3: true, OptOut: true, SingleKey: true}, now, true, true, false},
		{"island", dnssec.Policy{SingleKey: true}, now, false, true, false},
		{"plain", dnssec.Policy{}, now, false, false, false},
		{"stripped", dnssec.Policy{}, now, true, false, false},
		{"expired", dnssec.Policy{SingleKey: true}, now.Add(-60 * 24 * time.Hour), true, true, false},
		{"future", dnssec.Policy{SingleKey: true}, now.Add(60 * 24 * time.Hour), true, true, false},
		{"wrongds", dnssec.Policy{SingleKey: true}, now, true, true, true},
	} {
		origin := c.label + ".example."
		z := mustRead(t, origin, strings.ReplaceAll(signText, "ns.sub", "ns.sub."+origin))
		k, err := dnssec.GenerateKey(origin, dnssec.CSK, miekg.ECDSAP256SHA256, 3600)
		if err != nil {
			t.Fatal(err)
		}
		if c.signed {
			if z, _, err = z.Sign(SignOptions{Signing: signing(t, c.policy, c.at, k)}); err != nil {
				t.Fatal(err)
			}
		}
		if c.other {
			if k, err = dnssec.GenerateKey(origin, dnssec.CSK, miekg.ECDSAP256SHA256, 3600); err != nil {
				t.Fatal(err)
			}
		}
		f.zones[origin] = z
		parent += fmt.Sprintf("%s NS ns\n", c.label)
		if c.ds {
			parent += k.DS().String() + "\n"
		}
	}
	keys := signKeys(t, "example.")
	z, _, err := mustRead(t, "example.", parent).Sign(SignOptions{Signing: signing(t, dnssec.Policy{}, now, keys...)})
	if err != nil {
		t.Fatal(err)
	}
	f.zones["example."] = z
	return f, keys[0]
}

// judges are three validators that ask the forwarder. Each says secure, insecure
// or bogus.
type judges struct {
	t      *testing.T
	f      *forwarder
	dir    string
	anchor *dnssec.Key
}

func newJudges(t *testing.T) *judges {
	f, key := agreeWorld(t)
	f.serve(t)
	j := &judges{t, f, t.TempDir(), key}
	bind := bindAnchor(key)
	unbound := "server:\n\tdo-not-query-localhost: no\n\ttrust-anchor: \"" + key.DS().String() + "\"\n" +
		"forward-zone:\n\tname: \".\"\n\tforward-addr: 127.0.0.1@" + f.port + "\n"
	for name, text := range map[string]string{"anchor": bind, "unbound.conf": unbound} {
		if err := os.WriteFile(filepath.Join(j.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return j
}

// bindAnchor is the file of trust anchors that delv takes.
func bindAnchor(key *dnssec.Key) string {
	d := key.Record()
	return fmt.Sprintf("trust-anchors { example. static-key %d %d %d \"%s\"; };\n", d.Flags, d.Protocol, d.Algorithm, d.PublicKey)
}

func (j *judges) delv(name string, typ uint16) (verdict, text string) {
	out, _ := program(j.t, j.dir, "delv", j.f.delv(name, typ)...)
	return delvVerdict(out), out
}

// delv are the arguments with which delv asks the forwarder.
func (f *forwarder) delv(name string, typ uint16) []string {
	return []string{"@127.0.0.1", "-p", f.port, "-a", "anchor", "+root=example.", name, miekg.Type(typ).String()}
}

func delvVerdict(out string) string {
	switch {
	case strings.Contains(out, "fully validated"):
		return "secure"
	case strings.Contains(out, "unsigned answer"), strings.Contains(out, "answer not validated"):
		return "insecure"
	case strings.Contains(out, "resolution failed"):
		return "bogus"
	}
	return "nothing"
}

func (j *judges) unbound(name string, typ uint16) (verdict, text string) {
	out, _ := program(j.t, j.dir, "unbound-host", "-C", "unbound.conf", "-v", "-t", miekg.Type(typ).String(), name)
	switch {
	case strings.Contains(out, "(BOGUS"), strings.Contains(out, "SERVFAIL"):
		return "bogus", out
	case strings.Contains(out, "(insecure)"):
		return "insecure", out
	case strings.Contains(out, "(secure)"):
		return "secure", out
	}
	return "nothing", out
}

func (j *judges) ours(name string, typ uint16) (verdict, text string) {
	v, err := dnssec.New(dnssec.Options{Anchors: []miekg.RR{j.anchor.DS()}})
	if err != nil {
		j.t.Fatal(err)
	}
	q := miekg.Question{Name: name, Qtype: typ, Qclass: miekg.ClassINET}
	got := v.Validate(context.Background(), q, j.f.answer(q), j.f)
	return got.Security.String(), got.Text
}

// compare asks all three, and wants one verdict.
func (j *judges) compare(what, name string, typ uint16, want string) {
	j.t.Helper()
	ours, why := j.ours(name, typ)
	delv, a := j.delv(name, typ)
	unbound, b := j.unbound(name, typ)
	if delv != ours || unbound != ours || want != "" && ours != want {
		j.t.Errorf("%s %s %s: we say %s (%s), delv %s, unbound-host %s; wanted %q\n%s%s", what, name, miekg.Type(typ), ours, why, delv, unbound, want, a, b)
	}
}

// TestValidatorsAgree about honest answers of all kinds of zones.
func TestValidatorsAgree(t *testing.T) {
	j := newJudges(t)
	for _, c := range []struct {
		zone, want string
	}{
		{"", "secure"}, {"hashed.", "secure"}, {"island.", "insecure"}, {"plain.", "insecure"},
		{"stripped.", "bogus"}, {"expired.", "bogus"}, {"future.", "bogus"}, {"wrongds.", "bogus"},
	} {
		for _, name := range []string{"mail.", "no.", "x.wild.", "b.ent."} {
			j.compare("honest", name+c.zone+"example.", miekg.TypeA, c.want)
		}
		j.compare("honest", "mail."+c.zone+"example.", miekg.TypeTXT, c.want)
		j.compare("honest", "x.wild."+c.zone+"example.", miekg.TypeTXT, c.want)
	}
	j.compare("honest", "mail.optout.example.", miekg.TypeA, "secure")
	j.compare("honest", "x.wild.optout.example.", miekg.TypeA, "")
	// A denial with opt-out is not secure (RFC 5155 section 9.2). Unbound says so
	// too, BIND does not.
	for name, typ := range map[string]uint16{"no.optout.example.": miekg.TypeA, "x.wild.optout.example.": miekg.TypeTXT, "sub.optout.example.": miekg.TypeDS} {
		ours, why := j.ours(name, typ)
		if unbound, text := j.unbound(name, typ); ours != "insecure" || unbound != ours {
			t.Errorf("%s: we say %s (%s), unbound-host %s\n%s", name, ours, why, unbound, text)
		}
	}
	j.compare("honest", "www.example.", miekg.TypeA, "secure")
	j.compare("honest", "www.hashed.example.", miekg.TypeA, "secure")
	j.compare("honest", "hashed.example.", miekg.TypeDS, "secure")
	j.compare("honest", "plain.example.", miekg.TypeDS, "secure")
}

// TestValidatorsAgreeOnBreaks: what one refuses, all refuse.
func TestValidatorsAgreeOnBreaks(t *testing.T) {
	j := newJudges(t)
	drop := func(typ uint16) func(*miekg.Msg) {
		match := func(rr miekg.RR) bool { return rr.Header().Rrtype == typ }
		return func(m *miekg.Msg) {
			m.Answer = slices.DeleteFunc(m.Answer, match)
			m.Ns = slices.DeleteFunc(m.Ns, match)
		}
	}
	each := func(f func(miekg.RR)) func(*miekg.Msg) {
		return func(m *miekg.Msg) {
			for _, rr := range slices.Concat(m.Answer, m.Ns) {
				f(rr)
			}
		}
	}
	for _, c := range []struct {
		what  string
		spoil func(*miekg.Msg)
		hits  []string // names whose A records this concerns
	}{
		{"no signatures", drop(miekg.TypeRRSIG), []string{"mail.", "no.", "x.wild."}},
		{"no NSEC", drop(miekg.TypeNSEC), []string{"no.", "x.wild.", "b.ent."}},
		{"no NSEC3", drop(miekg.TypeNSEC3), []string{"no.hashed.", "x.wild.hashed.", "b.ent.hashed."}},
		{"no DS", drop(miekg.TypeDS), []string{"mail.hashed.", "no.hashed."}},
		{"no DNSKEY", drop(miekg.TypeDNSKEY), []string{"mail.", "mail.hashed."}},
		{"another address", each(func(rr miekg.RR) {
			if a, ok := rr.(*miekg.A); ok {
				a.A = net.IPv4(192, 0, 2, 66).To4()
			}
		}), []string{"mail.", "x.wild.", "mail.hashed."}},
		{"another signer", each(func(rr miekg.RR) {
			if s, ok := rr.(*miekg.RRSIG); ok {
				s.SignerName = "island.example."
			}
		}), []string{"mail.", "mail.hashed.", "no."}},
		{"another key tag", each(func(rr miekg.RR) {
			if s, ok := rr.(*miekg.RRSIG); ok {
				s.KeyTag++
			}
		}), []string{"mail.", "mail.hashed.", "no.hashed."}},
		{"a longer life", each(func(rr miekg.RR) {
			if s, ok := rr.(*miekg.RRSIG); ok {
				s.Expiration += 86400 * 365
			}
		}), []string{"mail.", "mail.expired."}},
		{"a wider denial", each(func(rr miekg.RR) {
			if n, ok := rr.(*miekg.NSEC); ok {
				n.NextDomain = "zzzz.example."
			}
		}), []string{"no.", "b.ent."}},
		{"opt-out set", each(func(rr miekg.RR) {
			if n, ok := rr.(*miekg.NSEC3); ok {
				n.Flags = 1
			}
		}), []string{"no.hashed."}},
		{"NXDOMAIN for all that has no data", func(m *miekg.Msg) {
			if len(m.Answer) == 0 {
				m.Rcode = miekg.RcodeNameError
			}
		}, []string{"b.ent.hashed."}}, // with NSEC, Unbound makes NODATA of it
		{"no NXDOMAIN", func(m *miekg.Msg) { m.Rcode = miekg.RcodeSuccess }, []string{"no.", "no.hashed."}},
	} {
		j.f.mu.Lock()
		j.f.spoil = c.spoil
		j.f.mu.Unlock()
		for _, name := range c.hits {
			j.compare(c.what, name+"example.", miekg.TypeA, "bogus")
		}
	}
}
