package recursor

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
)

// The servers of the generated trees; unbound asks port 53 and no other.
const (
	treePrefix  = "127.203.7."
	treeServers = 6
	// treeQuestions is how many each tree is asked.
	treeQuestions = 80
	treeLame      = "127.203.7.7" // serves no zone
	unboundAddr   = "127.203.7.250"
	// unboundChances is how often a tree is tried on which unbound alone fails.
	unboundChances = 6
)

// TestUnbound compares with unbound over generated trees of zones: the same
// root hints, the same anchor, the same questions. POSTRIDER_TREES=FIRST-LAST
// runs other seeds.
func TestUnbound(t *testing.T) {
	probe, err := net.ListenPacket("udp", treePrefix+"1:53")
	if err != nil {
		inNamespace(t, err)
		return
	}
	probe.Close()
	first, last := int64(4), int64(7) // in tree 3 unbound alone fails every third time
	if s := os.Getenv("POSTRIDER_TREES"); s != "" {
		if _, err := fmt.Sscanf(s, "%d-%d", &first, &last); err != nil {
			t.Fatalf("POSTRIDER_TREES=%s: %v", s, err)
		}
	}
	total := 0
	for seed := first; seed <= last; seed++ {
		t.Run(strconv.FormatInt(seed, 10), func(t *testing.T) { total += compareTree(t, seed) })
	}
	t.Logf("%d questions", total)
}

// inNamespace runs the test again where it may bind port 53: in a network
// namespace of its own.
func inNamespace(t *testing.T, why error) {
	if os.Getenv("POSTRIDER_NAMESPACE") != "" {
		t.Fatal(why)
	}
	cmd := exec.Command("sh", "-c", `ip link set lo up && exec "$0" "$@"`, os.Args[0], "-test.run=^TestUnbound$", "-test.v")
	cmd.Env = append(os.Environ(), "POSTRIDER_NAMESPACE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("port 53 can't be had (%v), nor a namespace that has one (%v): run this as root\n%s", why, err, out)
	}
	t.Logf("in a namespace of its own:\n%s", out)
}

// listen puts the world's hosts on real sockets.
func (w *world) listen(t *testing.T) {
	w.twist(treeLame, nil)
	for i := 1; i <= treeServers+1; i++ {
		addr := netip.MustParseAddr(treePrefix + strconv.Itoa(i))
		w.mu.Lock()
		h := w.hosts[addr]
		w.mu.Unlock()
		pc, err := net.ListenPacket("udp", addr.String()+":53")
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", addr.String()+":53")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pc.Close(); l.Close() })
		w.wg.Go(func() {
			buf := make([]byte, 4096)
			for {
				n, from, err := pc.ReadFrom(buf)
				if err != nil {
					return
				}
				for _, out := range w.handle(h, addr, "udp", bytes.Clone(buf[:n])) {
					pc.WriteTo(out, from)
				}
			}
		})
		w.wg.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				w.wg.Go(func() { w.stream(c, h, addr) })
			}
		})
	}
}

func (w *world) stream(c net.Conn, h *host, addr netip.Addr) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	for {
		b, err := readQuery(c, "tcp", nil)
		if err != nil {
			return
		}
		for _, out := range w.handle(h, addr, "tcp", b) {
			c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...))
		}
	}
}

// compareTree returns the number of questions. Where unbound alone had no
// answer, as it happens when the machine is busy, it is started anew: after the
// first answers that come late it takes a server for dead.
func compareTree(t *testing.T, seed int64) int {
	var found *tree
	for range unboundChances {
		ok := t.Run("", func(t *testing.T) { found = runTree(t, seed) })
		if !ok || found.differences == "" || found.sure {
			break
		}
	}
	if found != nil && found.differences != "" {
		t.Errorf("seed %d: %s", seed, found.differences)
		if os.Getenv("POSTRIDER_SHOW") != "" {
			t.Log(found.steps, found.text)
		}
	}
	return treeQuestions
}

// runTree asks both about one tree.
func runTree(t *testing.T, seed int64) *tree {
	w := newWorld(t)
	tree := growTree(t, w, seed)
	w.listen(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	hints := write("hints", tree.hints)
	startUnbound(t, dir, hints, write("anchors", tree.anchors))

	f, err := os.Open(hints)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, err := ReadHints(f, hints)
	if err != nil {
		t.Fatal(err)
	}
	anchors, err := dnssec.ReadAnchors(strings.NewReader(tree.anchors), "anchors")
	if err != nil {
		t.Fatal(err)
	}
	v, err := dnssec.New(dnssec.Options{Anchors: anchors})
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Options{Hints: h, Validator: v, NoIPv6: true, Local: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, q := range tree.questions {
		want := askUnbound(t, q)
		var steps strings.Builder
		got := verdict(r.Resolve(t.Context(), q, Ask{Observe: func(s Step) {
			fmt.Fprintf(&steps, "%v %s zone %s at %s: %v %v\n", s.Kind, s.Question.String(), s.Zone, s.Addr, s.what(), s.Reply)
		}}))
		if q.Qtype == miekg.TypeCNAME && strings.Contains(want, " CNAME ") {
			want = strings.Replace(want, "NXDOMAIN", "NOERROR", 1) // unbound says how the alias ends, if it knows
		}
		if got != want {
			tree.differ(q, want, got, steps.String())
		}
	}
	return tree
}

func (t *tree) differ(q miekg.Question, unbound, we, steps string) {
	t.differences += fmt.Sprintf("%s %s\n  unbound: %s\n  we:      %s\n", q.Name, miekg.Type(q.Qtype), unbound, we)
	t.steps += steps
	if !strings.HasPrefix(unbound, "SERVFAIL") {
		t.sure = true
	}
}

// verdict is what is compared: rcode, AD, and the answer as a set.
func verdict(a Answer) string {
	return summary(a.Rcode, a.Authenticated, a.Answer)
}

func summary(rcode int, ad bool, rrs []miekg.RR) string {
	var list []string
	for _, rr := range rrs {
		if rr.Header().Rrtype != miekg.TypeRRSIG {
			list = append(list, miekg.CanonicalName(rr.Header().Name)+" "+miekg.Type(rr.Header().Rrtype).String()+" "+strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
	}
	slices.Sort(list)
	return fmt.Sprintf("%s ad=%v %s", miekg.RcodeToString[rcode], ad && rcode != miekg.RcodeServerFailure, strings.Join(list, "; "))
}

func askUnbound(t *testing.T, q miekg.Question) string {
	t.Helper()
	m := new(miekg.Msg)
	m.Id, m.RecursionDesired, m.Question = miekg.Id(), true, []miekg.Question{q}
	m.SetEdns0(4096, true)
	c := miekg.Client{Net: "tcp", Timeout: 30 * time.Second}
	a, _, err := c.Exchange(m, unboundAddr+":53")
	if err != nil {
		t.Fatalf("unbound: %v", err)
	}
	return summary(a.Rcode, a.AuthenticatedData, a.Answer)
}

func startUnbound(t *testing.T, dir, hints, anchors string) {
	conf := filepath.Join(dir, "unbound.conf")
	text := fmt.Sprintf(`server:
	interface: %s
	access-control: 127.0.0.0/8 allow
	do-ip6: no
	do-daemonize: no
	username: ""
	chroot: ""
	directory: %q
	pidfile: ""
	use-syslog: no
	logfile: ""
	verbosity: 1
	num-threads: 1
	unknown-server-time-limit: 3000
	root-hints: %q
	trust-anchor-file: %q
	do-not-query-localhost: no
	module-config: "validator iterator"
	aggressive-nsec: no
	harden-below-nxdomain: no
	minimal-responses: yes
	rrset-roundrobin: no
	outgoing-interface: %s
remote-control:
	control-enable: no
`, unboundAddr, dir, hints, anchors, unboundAddr)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	path, err := exec.LookPath("unbound")
	if err != nil {
		path = "/usr/sbin/unbound" // not in everybody's path
	}
	var out bytes.Buffer
	cmd := exec.Command(path, "-c", conf, "-d")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: integration/setup.sh installs unbound", err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		if os.Getenv("POSTRIDER_SHOW") != "" {
			t.Logf("unbound: %s", out.String())
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; {
		if c, err := net.Dial("tcp", unboundAddr+":53"); err == nil {
			c.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("unbound ended: %s", out.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("unbound does not listen: %s", out.String())
		}
	}
}

// tree is a root and what is below it.
type tree struct {
	hints, anchors string
	questions      []miekg.Question
	text           string // all zones, for those who look into a difference

	differences, steps string
	sure               bool // some are not for want of an answer from unbound
}

// branch is one zone of a tree as it grows.
type branch struct {
	origin  string
	servers []string // addresses
	names   []string // all names that it has
	text    strings.Builder
	signed  bool
	hashed  bool
	kids    []*branch
	ns      []nameServer
}

// nameServer is one that a zone is delegated to; its address is said by the
// parent unless it is in another zone.
type nameServer struct{ name, glue string }

type grower struct {
	t    *testing.T
	w    *world
	r    *rand.Rand
	all  []*branch
	tree *tree
}

func growTree(t *testing.T, w *world, seed int64) *tree {
	g := &grower{t: t, w: w, r: rand.New(rand.NewSource(seed)), tree: &tree{}}
	root := g.zone(".", 3)
	root.signed = true
	for _, b := range g.all {
		g.fill(b)
	}
	g.publish(root)
	for i, a := range root.servers {
		g.tree.hints += fmt.Sprintf(". 3600 NS r%d.\nr%d. 3600 A %s\n", i, i, a)
	}
	for range treeQuestions {
		g.ask()
	}
	return g.tree
}

func (g *grower) address() string { return treePrefix + strconv.Itoa(1+g.r.Intn(treeServers)) }

// zone makes a zone and those below it.
func (g *grower) zone(origin string, depth int) *branch {
	b := &branch{origin: origin, signed: g.r.Intn(3) > 0, hashed: g.r.Intn(3) == 0}
	g.all = append(g.all, b)
	for range 1 + g.r.Intn(2) {
		if a := g.address(); !slices.Contains(b.servers, a) {
			b.servers = append(b.servers, a)
		}
	}
	for i, a := range b.servers {
		name := under(fmt.Sprintf("ns%d", i), origin)
		if origin == "." {
			name = fmt.Sprintf("r%d.", i)
		}
		b.ns = append(b.ns, nameServer{name, a})
	}
	if origin != "." {
		g.outside(b)
	}
	if depth > 0 {
		for i := range 1 + g.r.Intn(3) {
			label := fmt.Sprintf("z%d", i)
			if g.r.Intn(5) == 0 {
				label += ".ent"
			}
			b.kids = append(b.kids, g.zone(under(label, origin), depth-1))
		}
	}
	return b
}

// outside lets a zone be served by a server of one that was there before, or be
// delegated to a server that refuses. (Where that one had the parent zone, unbound
// takes its referral to the same zone for an empty answer.)
func (g *grower) outside(b *branch) {
	other := g.all[g.r.Intn(len(g.all))]
	switch g.r.Intn(6) {
	case 0, 1:
		if ns := other.ns; other != b && len(ns) > 0 && ns[0].glue != "" && !slices.Contains(b.servers, ns[0].glue) {
			b.servers = append(b.servers, ns[0].glue)
			b.ns = append(b.ns, nameServer{name: ns[0].name})
		}
		if g.r.Intn(2) == 0 && len(b.ns) > 1 {
			b.ns = b.ns[len(b.ns)-1:] // and by no other
		}
	case 2:
		b.ns = append(b.ns, nameServer{under("lame", b.origin), treeLame})
	}
}

func under(label, origin string) string {
	if origin == "." {
		return label + "."
	}
	return label + "." + origin
}

// fill gives a zone its own data: hosts, aliases, wildcards, redirections.
func (g *grower) fill(b *branch) {
	put := func(name, format string, args ...any) {
		b.names = append(b.names, name)
		fmt.Fprintf(&b.text, "%s 300 IN %s\n", name, fmt.Sprintf(format, args...))
	}
	put(b.origin, "SOA %s nobody. 1 3600 600 86400 60", under("ns0", b.origin))
	for _, ns := range b.ns {
		put(b.origin, "NS %s", ns.name)
		if ns.glue != "" {
			put(ns.name, "A %s", ns.glue)
		}
	}
	for i := range 2 + g.r.Intn(3) {
		name := under(fmt.Sprintf("h%d", i), b.origin)
		put(name, "A 192.0.2.%d", 1+g.r.Intn(250))
		if g.r.Intn(2) == 0 {
			put(name, "TXT \"text %d\"", g.r.Intn(100))
		}
	}
	put(under("deep.below", b.origin), "MX 10 %s", under("h0", b.origin))
	if g.r.Intn(2) == 0 {
		put(under("*.wild", b.origin), "A 192.0.2.%d", 1+g.r.Intn(250))
	}
	for i := range g.r.Intn(3) {
		put(under(fmt.Sprintf("c%d", i), b.origin), "CNAME %s", g.somewhere())
	}
	if g.r.Intn(4) == 0 {
		put(under("d", b.origin), "DNAME %s", g.all[g.r.Intn(len(g.all))].origin)
	}
}

// somewhere is a name in some zone, there or not.
func (g *grower) somewhere() string {
	b := g.all[g.r.Intn(len(g.all))]
	return under([]string{"h0", "h1", "c0", "c1", "none", "x.wild", "below", "h0.d"}[g.r.Intn(8)], b.origin)
}

// publish puts a zone and those below it on their servers, deepest first, and
// returns what the parent has to say of it.
func (g *grower) publish(b *branch) (delegation string) {
	for _, kid := range b.kids {
		b.text.WriteString(g.publish(kid))
	}
	for _, a := range b.servers {
		g.w.serve(a, b.origin, b.text.String())
	}
	g.tree.text += "; " + b.origin + " on " + strings.Join(b.servers, " ") + fmt.Sprintf(" signed %v hashed %v\n", b.signed, b.hashed) + b.text.String()
	ds := ""
	if b.signed {
		ds = g.w.sign(dnssec.Policy{NSEC3: b.hashed, SingleKey: g.r.Intn(2) == 0}, b.origin, b.servers...)
	}
	if b.origin == "." {
		g.tree.anchors = ds
		return ""
	}
	switch g.r.Intn(12) {
	case 0: // the parent never heard of the keys
		ds = ""
	case 1: // the parent has another key: bogus
		if ds != "" {
			ds = strings.Replace(ds, "\t13 2 ", "\t13 2 00", 1)
			ds = ds[:len(ds)-3] + "\n"
		}
	}
	var text strings.Builder
	for _, ns := range b.ns {
		fmt.Fprintf(&text, "%s 300 IN NS %s\n", b.origin, ns.name)
		if ns.glue != "" {
			fmt.Fprintf(&text, "%s 300 IN A %s\n", ns.name, ns.glue)
		}
	}
	return text.String() + ds
}

func (g *grower) ask() {
	b := g.all[g.r.Intn(len(g.all))]
	name := b.names[g.r.Intn(len(b.names))]
	switch g.r.Intn(4) {
	case 0:
		name = g.somewhere()
	case 1:
		name = under("x", strings.Replace(name, "*.", "y.", 1))
	}
	typ := []uint16{miekg.TypeA, miekg.TypeA, miekg.TypeTXT, miekg.TypeMX, miekg.TypeCNAME, miekg.TypeNS, miekg.TypeSOA, miekg.TypeDS}[g.r.Intn(8)]
	if typ == miekg.TypeCNAME && strings.Contains("."+name, ".d.") {
		typ = miekg.TypeA // unbound follows the alias made from a DNAME record although it was asked for
	}
	if _, ok := miekg.IsDomainName(name); ok {
		g.tree.questions = append(g.tree.questions, miekg.Question{Name: name, Qtype: typ, Qclass: miekg.ClassINET})
	}
}
