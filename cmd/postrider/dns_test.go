package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
	"postrider/dns/own"
	"postrider/dns/recursor"
	"postrider/dns/zone"
)

// world is a tree of names on loopback addresses: a root, edu and hamburger.edu,
// which are signed by Debian's dnssec-signzone, and a resolver.
type world struct {
	dir      string
	port     string
	hints    string // file
	anchors  string // file
	resolver string // ADDR:PORT
}

// The addresses of the world.
const (
	rootAt, eduAt, hamburgerAt, resolverAt = "127.66.0.1", "127.66.0.2", "127.66.0.3", "127.66.0.9"
)

const worldRoot = `
. 3600 SOA a.root. nobody.root. 1 3600 600 86400 60
. 3600 NS a.root.
a.root. 3600 A 127.66.0.1
edu. 3600 NS ns.edu.
ns.edu. 3600 A 127.66.0.2
`

const worldEdu = `
edu. 3600 SOA ns.edu. nobody.edu. 1 3600 600 86400 60
edu. 3600 NS ns.edu.
ns.edu. 3600 A 127.66.0.2
hamburger.edu. 3600 NS ns.hamburger.edu.
ns.hamburger.edu. 3600 A 127.66.0.3
plain.edu. 3600 NS ns.hamburger.edu.
`

const worldHamburger = `
hamburger.edu. 3600 SOA ns.hamburger.edu. nobody.hamburger.edu. 7 3600 600 86400 60
hamburger.edu. 3600 NS ns.hamburger.edu.
ns.hamburger.edu. 3600 A 127.66.0.3
hamburger.edu. 3600 MX 10 mx.hamburger.edu.
mx.hamburger.edu. 3600 A 127.66.0.25
www.hamburger.edu. 3600 CNAME mx.hamburger.edu.
broken.hamburger.edu. 3600 A 127.66.0.26
`

const worldPlain = `
plain.edu. 3600 SOA ns.hamburger.edu. nobody.hamburger.edu. 1 3600 600 86400 60
plain.edu. 3600 NS ns.hamburger.edu.
plain.edu. 3600 A 127.66.0.30
`

// newWorld builds it, with more records in hamburger.edu, and starts its servers;
// on a port that is free everywhere if port is "0".
func newWorld(t *testing.T, port, more string) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), port: port}
	hamburger := w.sign(t, "hamburger.edu.", worldHamburger+more)
	edu := w.sign(t, "edu.", worldEdu+w.read(t, "dsset-hamburger.edu."))
	root := w.sign(t, ".", worldRoot+w.read(t, "dsset-edu."))
	w.hints, w.anchors = filepath.Join(w.dir, "hints"), filepath.Join(w.dir, "dsset-.")
	w.write(t, "hints", ". 3600 NS a.root.\na.root. 3600 A "+rootAt+"\n")
	plain, err := zone.Read(strings.NewReader(worldPlain), zone.Options{Origin: "plain.edu."})
	if err != nil {
		t.Fatal(err)
	}
	w.serve(t, rootAt, authority(root))
	w.serve(t, eduAt, authority(edu))
	w.serve(t, hamburgerAt, authority(spoil(t, hamburger), plain))
	w.serve(t, resolverAt, w.recursion(t))
	w.resolver = net.JoinHostPort(resolverAt, w.port)
	return w
}

func (w *world) read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (w *world) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// sign has Debian's bind9-utils make a signed zone and its dsset file.
func (w *world) sign(t *testing.T, origin, text string) *zone.Zone {
	t.Helper()
	file := "zone-" + origin
	w.write(t, file, text)
	for _, args := range [][]string{
		{"dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", "-f", "KSK", origin},
		{"dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", origin},
		{"dnssec-signzone", "-S", "-x", "-o", origin, "-f", file + ".signed", file},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = w.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	z, err := zone.Load(filepath.Join(w.dir, file+".signed"), origin)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// spoil changes a signed record behind the signer's back.
func spoil(t *testing.T, z *zone.Zone) *zone.Zone {
	t.Helper()
	var rrs []miekg.RR
	for rr := range z.All() {
		if a, ok := rr.(*miekg.A); ok && a.Hdr.Name == "broken.hamburger.edu." {
			rr = &miekg.A{Hdr: a.Hdr, A: net.IPv4(127, 66, 0, 66)}
		}
		rrs = append(rrs, rr)
	}
	z, err := zone.New(z.Origin(), rrs)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// serve listens at an address, over UDP and TCP; the first one chooses the port.
func (w *world) serve(t *testing.T, at string, h miekg.HandlerFunc) {
	t.Helper()
	var packet net.PacketConn
	var stream net.Listener
	var err error
	for range 20 { // a port that is free for TCP may be taken for UDP
		if stream, err = net.Listen("tcp", net.JoinHostPort(at, w.port)); err != nil {
			t.Fatal(err)
		}
		if packet, err = net.ListenPacket("udp", stream.Addr().String()); err == nil {
			break
		}
		stream.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	_, w.port, _ = net.SplitHostPort(stream.Addr().String())
	for _, s := range []*miekg.Server{{PacketConn: packet, Handler: h}, {Listener: stream, Handler: h}} {
		started, ended := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer close(ended)
			s.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() {
			s.Shutdown()
			<-ended
		})
	}
}

// authority answers from zones.
func authority(zones ...*zone.Zone) miekg.HandlerFunc {
	return func(out miekg.ResponseWriter, q *miekg.Msg) {
		m := new(miekg.Msg).SetReply(q)
		m.Rcode = miekg.RcodeRefused
		do := q.IsEdns0() != nil && q.IsEdns0().Do()
		name := miekg.CanonicalName(q.Question[0].Name)
		for _, z := range zones {
			if !miekg.IsSubDomain(z.Origin(), name) {
				continue
			}
			asked := q.Question[0]
			asked.Name = name
			r := z.Answer(asked, zone.AnswerOptions{DNSSEC: do})
			m.Rcode, m.Authoritative, m.Answer, m.Ns, m.Extra = r.Rcode, r.Authoritative, r.Answer, r.Ns, append([]miekg.RR(nil), r.Extra...)
		}
		if opt := q.IsEdns0(); opt != nil {
			m.SetEdns0(1232, do)
		}
		if _, udp := out.RemoteAddr().(*net.UDPAddr); udp {
			m.Truncate(1232)
		}
		out.WriteMsg(m) // who does not hear it asks again
	}
}

// recursion answers as a validating resolver does.
func (w *world) recursion(t *testing.T) miekg.HandlerFunc {
	t.Helper()
	trusted, err := dnssec.LoadAnchors(w.anchors)
	if err != nil {
		t.Fatal(err)
	}
	v, err := dnssec.New(dnssec.Options{Anchors: trusted})
	if err != nil {
		t.Fatal(err)
	}
	hints, err := recursor.ReadHints(strings.NewReader(w.read(t, "hints")), "hints")
	if err != nil {
		t.Fatal(err)
	}
	var port uint16
	fmt.Sscan(w.port, &port)
	r, err := recursor.New(recursor.Options{Hints: hints, Validator: v, Port: port, Local: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return func(out miekg.ResponseWriter, q *miekg.Msg) {
		m := new(miekg.Msg).SetReply(q)
		asked := q.Question[0]
		asked.Name = miekg.CanonicalName(asked.Name)
		a := r.Resolve(t.Context(), asked, recursor.Ask{CheckingDisabled: q.CheckingDisabled})
		m.RecursionAvailable, m.Rcode, m.AuthenticatedData, m.CheckingDisabled = true, a.Rcode, a.Authenticated, q.CheckingDisabled
		m.Answer, m.Ns, m.Extra = a.Answer, a.Ns, a.Extra
		if opt := q.IsEdns0(); opt != nil {
			m.SetEdns0(1232, opt.Do())
			for _, e := range a.ExtendedErrors {
				m.IsEdns0().Option = append(m.IsEdns0().Option, &miekg.EDNS0_EDE{InfoCode: e.Code, ExtraText: e.Text})
			}
		}
		if _, udp := out.RemoteAddr().(*net.UDPAddr); udp {
			m.Truncate(1232)
		}
		out.WriteMsg(m)
	}
}

// matches fails unless each line of want, as a regular expression, is found in
// got, one behind the other.
func matches(t *testing.T, what, got, want string) {
	t.Helper()
	rest := got
	for line := range strings.Lines(strings.TrimSpace(want)) {
		re := regexp.MustCompile(`(?m)^` + strings.TrimSpace(line))
		at := re.FindStringIndex(rest)
		if at == nil {
			t.Errorf("%s has no line %q at its place:\n%s", what, strings.TrimSpace(line), got)
			return
		}
		rest = rest[at[1]:]
	}
}

func TestDNSQuery(t *testing.T) {
	w := newWorld(t, "0", "")
	p := newProgram(t)
	tree := []string{"--root-hints", w.hints, "--trust-anchors", w.anchors, "--dns-port", w.port}
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"hamburger.edu mx --server " + net.JoinHostPort(hamburgerAt, w.port), exitDone, `
;; opcode: QUERY, status: NOERROR, id: \d+
;; flags: qr aa rd \(0x8500: an answer, authoritative, recursion was asked for\)
;; EDNS: version 0, datagrams of 1232 octets$
;; question: hamburger.edu. IN MX
;; answer \(1\):
hamburger.edu.	3600	IN	MX	10 mx.hamburger.edu.
;; server: 127.66.0.3:\d+ \(udp\), \d+ octets`},
		{"hamburger.edu --no-recursion --tcp --server " + net.JoinHostPort(rootAt, w.port), exitFailed, `
;; flags: qr \(0x8000: an answer\)
;; authority \(1\):
edu.	3600	IN	NS	ns.edu.
;; server: .*\(tcp\)`},
		{"www.hamburger.edu --dnssec --server " + w.resolver, exitDone, `
;; flags: qr rd ra ad
;; EDNS: version 0, datagrams of 1232 octets, do
;; answer \(4\):
;; security: secure`},
		{"nothing.hamburger.edu --dnssec --server " + w.resolver, exitFailed, `
;; opcode: QUERY, status: NXDOMAIN
;; security: secure`},
		{"plain.edu --dnssec --server " + w.resolver, exitDone, `
plain.edu.	3600	IN	A	127.66.0.30
;; security: insecure: .`},
		{"broken.hamburger.edu --dnssec --server " + w.resolver, exitFailed, `
;; the server says SERVFAIL, and this when it is asked not to check signatures:
;; flags: qr rd ra cd
broken.hamburger.edu.	\d+	IN	A	127.66.0.66
;; security: bogus: .*\(extended error 6, DNSSEC Bogus\)`},
		{"broken.hamburger.edu --server " + w.resolver, exitFailed, `
;; opcode: QUERY, status: SERVFAIL
;; extended error 6 \(DNSSEC Bogus\)`},
	} {
		args := append([]string{"dns", "query"}, strings.Fields(tt.args)...)
		if strings.Contains(tt.args, "--dnssec") {
			args = append(args, tree...)
		}
		code, out, errs := p.run("", args...)
		if code != tt.code {
			t.Errorf("%s: exit %d, want %d: %s", tt.args, code, tt.code, errs)
		}
		matches(t, tt.args, out, tt.want)
	}
	iterative := fmt.Sprintf("hostname = \"mail.example.org\"\n[dns]\nresolver = \"iterative\"\nroot_hints = %q\ntrust_anchors = %q\n", w.hints, w.anchors)
	if err := os.WriteFile(filepath.Join(p.dir, "config.toml"), []byte(iterative), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := p.run("", "dns", "query", "www.hamburger.edu", "--dnssec", "--dns-port", w.port)
	if code != exitDone {
		t.Errorf("iterative: exit %d, %s", code, errs)
	}
	matches(t, "iterative", out, `
www\.hamburger\.edu\.	3600	IN	CNAME	mx\.hamburger\.edu\.
;; security: secure`)
	code, out, errs = p.run("", "dns", "query", "a.example", "--trace", "--server", "127.0.0.1")
	if code != exitUsage || !strings.Contains(errs, "--root-hints") {
		t.Errorf("--trace with --server: %d, %s%s", code, out, errs)
	}
}

func TestDNSTrace(t *testing.T) {
	w := newWorld(t, "0", "")
	p := newProgram(t)
	tree := []string{"--root-hints", w.hints, "--trust-anchors", w.anchors, "--dns-port", w.port}
	code, out, errs := p.run("", append([]string{"dns", "query", "hamburger.edu", "MX", "--trace"}, tree...)...)
	if code != exitDone {
		t.Errorf("exit %d: %s", code, errs)
	}
	matches(t, "the trace", out, `
;; bailiwick \.: a\.root\. \(127\.66\.0\.1:\d+, udp, \S+s\) asked for \S+ \S+: refers to edu\.
edu\.	3600	IN	NS	ns\.edu\.
ns\.edu\.	3600	IN	A	127\.66\.0\.2
;; bailiwick edu\.: ns\.edu\. \(127\.66\.0\.2:\d+, udp, \S+s\) asked for \S+ \S+: refers to hamburger\.edu\.
hamburger\.edu\.	3600	IN	NS	ns\.hamburger\.edu\.
;; bailiwick hamburger\.edu\.: ns\.hamburger\.edu\. \(127\.66\.0\.3:\d+, udp, \S+s\) asked for hamburger\.edu\. MX: NOERROR
;; opcode: QUERY, status: NOERROR
;; answer
hamburger\.edu\.	3600	IN	MX	10 mx\.hamburger\.edu\.`)

	if strings.Contains(out, "RRSIG") || strings.Contains(out, "\tDS\t") {
		t.Errorf("signatures that nobody asked for:\n%s", out)
	}
	code, out, errs = p.run("", append([]string{"dns", "query", "broken.hamburger.edu", "--trace", "--dnssec"}, tree...)...)
	if code != exitFailed || !strings.Contains(out, ";; security: bogus") || !strings.Contains(out, "extended error 6") {
		t.Errorf("a bogus answer: exit %d\n%s%s", code, out, errs)
	}
	code, out, _ = p.run("", append([]string{"dns", "query", "mx.hamburger.edu", "--trace", "--dnssec", "--json"}, tree...)...)
	var got traced
	if err := json.Unmarshal([]byte(out), &got); code != exitDone || err != nil {
		t.Fatalf("exit %d, %v\n%s", code, err, out)
	}
	if got.Security != "secure" || len(got.Steps) < 4 || got.Answer.Rcode != "NOERROR" || len(got.Answer.Answer) == 0 {
		t.Errorf("%s", out)
	}
}

// TestDNSCheck: a running server, its records in a signed zone, and what is said
// when they are there, and when they are not.
func TestDNSCheck(t *testing.T) {
	free := newWorld(t, "0", "") // its port is free at the other addresses, too
	p := newProgram(t)
	text := fmt.Sprintf("hostname = \"mx.hamburger.edu\"\ndata_dir = \"data\"\n[listen]\nsmtp = [\"127.66.0.25:%s\"]\nimaps = [\"127.66.0.25:0\"]\n[delivery]\nremote_port = %s\n[dns]\nhosts = \"\"\n", free.port, free.port)
	if err := os.WriteFile(filepath.Join(p.dir, "config.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.want(exitDone, "", "", "", "init", "--domain", "hamburger.edu")
	p.serve()
	code, records, errs := p.run("", "dns", "records", "hamburger.edu", "--address", "127.66.0.25")
	if code != exitDone || !strings.Contains(records, "TLSA 3 1 1") || !strings.Contains(records, "_imaps._tcp.hamburger.edu.  IN SRV  0 1 ") {
		t.Fatalf("exit %d, %s\n%s", code, errs, records)
	}
	check := func(w *world, more ...string) []string {
		return append([]string{"dns", "check", "hamburger.edu", "--address", "127.66.0.25", "--server", w.resolver,
			"--root-hints", w.hints, "--trust-anchors", w.anchors, "--dns-port", w.port}, more...)
	}
	code, out, errs := p.run("", check(newWorld(t, "0", records))...)
	if code != exitDone || errs != "" {
		t.Errorf("exit %d, %s", code, errs)
	}
	matches(t, "the check", out, `
note +zone +hamburger\.edu\.: one name server
ok +delegation +hamburger\.edu\.: its name servers at 127\.66\.0\.3 answer with authority and with serial 7
ok +delegation +hamburger\.edu\.: the zone above, edu\., names the same servers
ok +dnssec +hamburger\.edu\.: the zone is signed
note +mx +mx\.hamburger\.edu\.: 127\.66\.0\.25 is a loopback address: this server is for trial
ok +mx +hamburger\.edu\.: mail goes to 10 mx\.hamburger\.edu
ok +tlsa +_25\._tcp\.mx\.hamburger\.edu\.: is 3 1 1
ok +spf +hamburger\.edu\.: "v=spf1 mx -all"
note +ptr +127\.66\.0\.25: has no name
ok +smtp +mx\.hamburger\.edu\.: answers at 127\.66\.0\.25:\d+ and offers TLS`)

	code, out, _ = p.run("", check(free)...) // its zone has the MX and A records alone
	if code != exitFailed {
		t.Errorf("exit %d with records missing", code)
	}
	matches(t, "the check", out, `
warning +srv +_imaps\._tcp\.hamburger\.edu\.: is missing: .* -- publish: _imaps\._tcp\.hamburger\.edu\. 3600 IN SRV 0 1 \d+ mx\.hamburger\.edu\.
warning +tlsa .*is missing.* -- publish: _25\._tcp\.mx\.hamburger\.edu\. 3600 IN TLSA 3 1 1
warning +spf +hamburger\.edu\.: has no SPF record.* -- publish: hamburger\.edu\. 3600 IN TXT "v=spf1 mx -all"`)
	code, out, _ = p.run("", check(free, "--json")...)
	var list []own.Finding
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != exitFailed || own.Well(list) || len(list) < 10 {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
	code, out, _ = p.run("", "dns", "check", "edu", "--server", free.resolver, "--dns-port", free.port, "--trust-anchors", free.anchors)
	if code != exitFailed || !strings.Contains(out, "is not a domain of this server") || !strings.Contains(out, "mail cannot reach it") {
		t.Errorf("another domain: exit %d\n%s", code, out)
	}
	p.want(exitFailed, "", "label 1", "", "dns", "check", strings.Repeat("x", 64)+".edu")
}

// serve runs the server until the test ends.
func (p *program) serve() {
	p.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	out, in := io.Pipe()
	var errs bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"--config", filepath.Join(p.dir, "config.toml"), "serve"}, strings.NewReader(""), in, &errs)
		in.Close()
	}()
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "ready"; {
	}
	go io.Copy(io.Discard, out) // ends with the server
	p.t.Cleanup(func() {
		stop()
		if code := <-ended; code != exitDone {
			p.t.Errorf("serve: exit %d\n%s", code, errs.String())
		}
	})
}
