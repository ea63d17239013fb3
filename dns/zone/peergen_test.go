package zone

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"
)

// sample is a generated zone and what to ask about it.
type sample struct {
	origin   string
	seed     uint64
	text     string
	signed   string // "", "nsec", "nsec3" or "optout"
	occluded bool   // has data below DNAME, which some servers refuse to load
	names    []string
	zone     *Zone
}

// generator makes zones in which everything happens often: few labels, so that
// names meet.
type gen struct {
	*rand.Rand
	origin   string
	occlude  bool
	at       map[string]map[string]int // owner, type: how many
	lines    []string
	occluded bool
}

var genLabels = []string{"a", "b", "c", "www", "mail", "*", "_sip", "ns1"}

var genTypes = []string{"A", "A", "A", "AAAA", "TXT", "MX", "CNAME", "CNAME", "NS", "NS", "NS", "DNAME", "SRV", "PTR", "CAA", "TLSA", "SSHFP", "HTTPS", "SVCB", "TYPE65400", "DS"}

func (g *gen) pick(list []string) string { return list[g.IntN(len(list))] }

// name is one at or below the origin.
func (g *gen) name() string {
	n := []int{0, 1, 1, 1, 1, 2, 2, 2, 3, 4}[g.IntN(10)]
	s := g.origin
	for range n {
		s = g.pick(genLabels) + "." + s
	}
	return s
}

// target is a name to point to: in the zone, most often one that is there.
func (g *gen) target() string {
	switch {
	case g.IntN(8) == 0:
		return "host.invalid."
	case g.IntN(3) > 0 && len(g.at) > 0:
		// Maps have no order, and a seed must give one zone.
		owners := make([]string, 0, len(g.at))
		for o := range g.at {
			owners = append(owners, o)
		}
		slices.Sort(owners)
		return g.pick(owners)
	}
	return g.name()
}

func (g *gen) data(typ string) string {
	hex := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(g.Uint32())
		}
		return fmt.Sprintf("%X", b)
	}
	switch typ {
	case "A":
		return fmt.Sprintf("192.0.2.%d", g.IntN(256))
	case "AAAA":
		return fmt.Sprintf("2001:db8::%x", 1+g.IntN(65535))
	case "TXT":
		return fmt.Sprintf(`"text %d"`, g.IntN(1000))
	case "MX":
		return fmt.Sprintf("%d %s", g.IntN(100), g.target())
	case "SRV":
		return fmt.Sprintf("0 %d 5060 %s", g.IntN(100), g.target())
	case "CAA":
		return fmt.Sprintf(`0 issue "ca%d.invalid"`, g.IntN(100))
	case "TLSA":
		return "3 1 1 " + hex(32)
	case "SSHFP":
		return "4 2 " + hex(32)
	case "HTTPS", "SVCB":
		if g.IntN(3) == 0 {
			return "0 " + g.target()
		}
		return fmt.Sprintf(`%d %s alpn="h2"`, 1+g.IntN(9), g.pick([]string{".", g.target()}))
	case "TYPE65400":
		return `\# 4 ` + hex(4)
	case "DS":
		return "12345 13 2 " + hex(32)
	}
	return g.target()
}

// may tells whether a record may stand at a name, beside what is there: the
// rules that every server enforces (and what RFC 4592 leaves undefined is left out).
func (g *gen) may(owner, typ string) bool {
	at := g.at[owner]
	wild := strings.HasPrefix(owner, "*.")
	apex := owner == g.origin
	switch {
	case at["CNAME"] > 0 || at["DNAME"] > 0 && (typ == "DNAME" || typ == "NS" && !apex):
		return false
	case typ == "CNAME" && (len(at) > 0 || apex):
		return false
	case typ == "NS" && (wild || at["DNAME"] > 0 || apex): // named wants addresses of those at the origin
		return false
	case typ == "DNAME" && (wild || at["NS"] > 0 && !apex || apex):
		return false
	case typ == "DS" && (apex || at["NS"] == 0):
		return false
	case at["NS"] > 0 && !apex && typ != "NS" && typ != "DS" && typ != "A" && typ != "AAAA":
		return false
	}
	return true
}

// belowDNAME tells that a name is below a DNAME record.
func (g *gen) belowDNAME(owner string) bool {
	for i, end := miekg.NextLabel(owner, 0); !end; i, end = miekg.NextLabel(owner, i) {
		if g.at[owner[i:]]["DNAME"] > 0 {
			return true
		}
	}
	return false
}

func (g *gen) add(owner, typ string) {
	if !g.may(owner, typ) {
		return
	}
	below := g.belowDNAME(owner) || typ == "DNAME" && slices.ContainsFunc(g.lines, func(l string) bool {
		return strings.HasSuffix(strings.Fields(l)[0], "."+owner)
	})
	if below && !g.occlude {
		return
	}
	g.occluded = g.occluded || below
	if g.at[owner] == nil {
		g.at[owner] = map[string]int{}
	}
	g.at[owner][typ]++
	g.lines = append(g.lines, fmt.Sprintf("%s %s %s", owner, typ, g.data(typ)))
}

// generate makes the zone of a seed.
func generate(origin string, seed uint64) *sample {
	g := &gen{Rand: rand.New(rand.NewPCG(seed, 0)), origin: origin, at: map[string]map[string]int{}}
	g.occlude = g.IntN(6) == 0
	g.at[origin] = map[string]int{"SOA": 1, "NS": 1}
	g.lines = []string{
		fmt.Sprintf("%s SOA ns1.%[1]s host.%[1]s 1 7200 900 604800 %d", origin, 30+g.IntN(600)),
		fmt.Sprintf("%s NS host.invalid.", origin),
	}
	if g.IntN(15) == 0 { // nothing may be below it, not even a name server
		g.lines = append(g.lines, origin+" DNAME "+g.pick([]string{"other.invalid.", "a." + origin}))
		g.at[origin]["DNAME"], g.occlude = 1, false
	} else {
		g.lines = append(g.lines, fmt.Sprintf("%s NS ns1.%[1]s", origin))
		g.add("ns1."+origin, "A")
	}
	for range 3 + g.IntN(40) {
		if owner := g.name(); owner != "ns1."+origin {
			g.add(owner, g.pick(genTypes))
		}
		if last := strings.Fields(g.lines[len(g.lines)-1]); last[1] == "NS" && g.IntN(2) == 0 {
			if strings.HasSuffix(last[2], origin) {
				g.add(last[2], g.pick([]string{"A", "AAAA"})) // glue
			}
			g.add(last[0], "DS")
		}
	}
	s := &sample{origin: origin, seed: seed, occluded: g.occluded}
	s.text = "$TTL 300\n" + strings.Join(g.lines, "\n") + "\n"
	if !g.occluded {
		s.signed = g.pick([]string{"", "", "nsec", "nsec3", "optout"})
	}
	for o := range g.at {
		s.names = append(s.names, o)
	}
	slices.Sort(s.names)
	for range 25 {
		s.names = append(s.names, g.name())
	}
	for range 10 {
		s.names = append(s.names, g.pick([]string{"x", "A", "*", "zz.y"})+"."+g.pick(s.names))
	}
	s.names = append(s.names, strings.Repeat(strings.Repeat("l", 60)+".", 3)+"a."+origin)
	slices.Sort(s.names)
	s.names = slices.Compact(s.names)
	return s
}

// write puts the zone's file into dir, signed by BIND's tool if it is to be.
func (s *sample) write(t *testing.T, dir string) {
	t.Helper()
	file := filepath.Join(dir, s.origin+"zone")
	if err := os.WriteFile(file, []byte(s.text), 0o666); err != nil {
		t.Fatal(err)
	}
	if s.signed != "" {
		s.sign(t, dir, file)
	}
	z, err := Load(file, s.origin)
	if err != nil {
		t.Fatalf("seed %d: %v\n%s", s.seed, err, s.text)
	}
	s.zone = z
}

func (s *sample) sign(t *testing.T, dir, file string) {
	t.Helper()
	run := func(name string, args ...string) string {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("seed %d: %s: %v\n%s\n%s", s.seed, name, err, out, s.text)
		}
		return strings.TrimSpace(string(out))
	}
	keys := strings.Fields(run("/usr/bin/dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", "-f", "KSK", s.origin))
	key := keys[len(keys)-1]
	public, err := os.ReadFile(filepath.Join(dir, key+".key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file+".raw", []byte(s.text+string(public)), 0o666); err != nil {
		t.Fatal(err)
	}
	args := []string{"-q", "-z", "-P", "-O", "full", "-o", s.origin, "-f", file}
	switch s.signed {
	case "nsec3":
		args = append(args, "-3", "ab12", "-H", "2")
	case "optout":
		args = append(args, "-3", "-", "-H", "0", "-A")
	}
	run("/usr/bin/dnssec-signzone", append(args, file+".raw", key)...)
}
