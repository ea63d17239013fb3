package zone

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"
)

var askTypes = []uint16{
	miekg.TypeA, miekg.TypeAAAA, miekg.TypeNS, miekg.TypeMX, miekg.TypeTXT, miekg.TypeSRV, miekg.TypeCNAME, miekg.TypeDNAME,
	miekg.TypeDS, miekg.TypeSOA, miekg.TypeANY, miekg.TypeHTTPS, miekg.TypeSVCB, miekg.TypePTR, 65400, miekg.TypeDNSKEY,
}

// TestPeers asks named, nsd and knotd, from Debian, the same questions about the
// same generated zones as this package, and wants the same answers: response
// code, AA, and each section as a set. POSTRIDER_ZONES=5000 makes it more than the
// few of every day, POSTRIDER_SEED another series.
func TestPeers(t *testing.T) {
	total, seed := 12, uint64(1)
	if s := os.Getenv("POSTRIDER_ZONES"); s != "" {
		total, _ = strconv.Atoi(s)
	}
	if s := os.Getenv("POSTRIDER_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	const batch = 100
	for n := 0; n < total; n += batch {
		t.Run(fmt.Sprintf("seed %d", seed+uint64(n)), func(t *testing.T) {
			comparePeers(t, seed+uint64(n), min(batch, total-n))
		})
	}
}

func comparePeers(t *testing.T, seed uint64, n int) {
	dir := t.TempDir()
	var samples []*sample
	var origins []string
	for i := range n {
		s := generate(fmt.Sprintf("z%d.test.", seed+uint64(i)), seed+uint64(i))
		s.write(t, dir)
		samples = append(samples, s)
		origins = append(origins, s.origin)
	}
	peers := startPeers(t, dir, origins)
	asked, faults := 0, 0
	for _, s := range samples {
		for _, p := range peers {
			if s.occluded && p.name != "named" {
				continue // they refuse the zone, for RFC 6672 section 2.4
			}
			for i, name := range s.names {
				types := askTypes
				if !slices.Contains(s.names[:i], name) && i%3 != 0 {
					types = []uint16{askTypes[i%len(askTypes)], miekg.TypeA}
				}
				for _, typ := range types {
					for _, do := range []bool{false, true} {
						if do && s.signed == "" && i%4 != 0 {
							continue
						}
						asked++
						if !compareOne(t, s, p, miekg.Question{Name: name, Qtype: typ, Qclass: miekg.ClassINET}, do) {
							faults++
						}
						if faults > 3 {
							t.Fatal("and so on")
						}
					}
				}
			}
		}
	}
	t.Logf("%d zones, %d questions", n, asked)
}

// compareOne tells whether a peer and this package give the same answer.
func compareOne(t *testing.T, s *sample, p *peer, q miekg.Question, do bool) bool {
	t.Helper()
	theirs := p.ask(t, q, do)
	ours := s.zone.Answer(q, AnswerOptions{DNSSEC: do})
	c := &comparison{s, q, do, sections(ours), sections(Result{theirs.Rcode, theirs.Authoritative, theirs.Answer, theirs.Ns, theirs.Extra})}
	for _, d := range knownDifferences {
		if strings.Contains(d.peers, p.name) {
			d.apply(c)
		}
	}
	a, b := c.ours, c.theirs
	for i, what := range []string{"header", "answer", "authority", "additional"} {
		if slices.Equal(a[i], b[i]) {
			continue
		}
		t.Errorf("seed %d %s, %s %s do=%v: %s of %s\n  ours   %s\n  theirs %s\n%s", s.seed, s.signed, q.Name, miekg.Type(q.Qtype), do, what, p.name,
			strings.Join(a[i], "\n         "), strings.Join(b[i], "\n         "), s.text)
		return false
	}
	return true
}

// sections is an answer as four sets of lines.
func sections(r Result) (out [4][]string) {
	out[0] = []string{miekg.RcodeToString[r.Rcode], fmt.Sprint("aa=", r.Authoritative)}
	for i, list := range [][]miekg.RR{r.Answer, r.Ns, r.Extra} {
		for _, rr := range list {
			if rr.Header().Rrtype == miekg.TypeOPT {
				continue
			}
			c := miekg.Copy(rr)
			c.Header().Name = strings.ToLower(c.Header().Name)
			head := c.Header().String()
			data := strings.ToLower(strings.TrimPrefix(c.String(), head)) // compression makes names alike
			if c, ok := c.(*miekg.RRSIG); ok {
				data = fmt.Sprintf("%s %d %s", miekg.Type(c.TypeCovered), c.KeyTag, c.SignerName)
			}
			out[i+1] = append(out[i+1], strings.Join(strings.Fields(head+data), " "))
		}
		slices.Sort(out[i+1])
		out[i+1] = slices.Compact(out[i+1])
	}
	return out
}

// difference is one thing in which a peer may answer otherwise, for a reason. It
// changes the two answers so that they no longer differ in it.
type difference struct {
	peers string // names of those that differ
	apply func(c *comparison)
}

// comparison is two answers as sections: header, answer, authority, additional.
type comparison struct {
	s            *sample
	q            miekg.Question
	do           bool
	ours, theirs [4][]string
}

func (c *comparison) positive() bool { return len(c.theirs[1]) > 0 }

var knownDifferences = []difference{
	// RFC 8482 section 4.1: to ANY they answer with a part of what there is.
	{"nsd knot", func(c *comparison) {
		if c.q.Qtype == miekg.TypeANY && c.positive() && subsetOf(without(c.theirs[1], " RRSIG "), c.ours[1]) {
			c.ours[1], c.ours[2], c.ours[3] = c.theirs[1], c.theirs[2], c.theirs[3]
		}
	}},
	// RFC 4035 section 3.1: no RRSIG and NSEC records without DO unless they are
	// asked for by name. named gives them for ANY.
	{"named", func(c *comparison) {
		if c.q.Qtype == miekg.TypeANY && !c.do {
			c.theirs[1] = without(c.theirs[1], " RRSIG ", " NSEC ")
		}
	}},
	// RFC 6672 section 3.2 step 3C goes back to step 1 after a DNAME. named takes
	// the alias that it makes for an answer to ANY, and to CNAME, and goes no
	// further.
	{"named", func(c *comparison) {
		any := c.q.Qtype == miekg.TypeANY && subsetOf(c.theirs[1], c.ours[1])
		alias := c.q.Qtype == miekg.TypeCNAME && slices.Equal(c.theirs[1], c.ours[1])
		if (any || alias) && len(only(c.theirs[1], " DNAME ")) > 0 {
			c.ours = c.theirs
		}
	}},
	// RFC 1034 section 3.6.2 wants loops of aliases "signalled as an error", which
	// may be a server failure, or the loop for the asker to see.
	{"named", func(c *comparison) {
		if c.theirs[0][0] == "SERVFAIL" && c.ours[0][0] == "NOERROR" && len(only(c.ours[1], " CNAME ")) > 0 && subsetOf(c.theirs[1], c.ours[1]) {
			c.ours = c.theirs
		}
	}},
	// A DNAME record that points below itself: they redirect up to a limit.
	{"named knot", func(c *comparison) {
		for _, l := range only(c.theirs[1], " DNAME ") {
			if f := strings.Fields(l); miekg.IsSubDomain(f[0], f[4]) && subsetOf(c.ours[1], c.theirs[1]) {
				c.ours = c.theirs
			}
		}
	}},
	// RFC 5155 section 7.2: they take an asterisk in a question, or in an alias's
	// target, for a wildcard that was expanded, and prove more than is asked, or
	// less; nsd leaves out the closest encloser when a wildcard has not the type
	// (section 7.2.5).
	{"nsd knot", func(c *comparison) {
		names := append([]string{c.q.Name}, c.theirs[1]...)
		if slices.ContainsFunc(names, func(l string) bool { return strings.HasPrefix(l, "*.") || strings.Contains(l, " CNAME *.") }) {
			c.ours[2], c.theirs[2] = without(c.ours[2], " NSEC3 ", " NSEC "), without(c.theirs[2], " NSEC3 ", " NSEC ")
		}
	}},
	// RFC 5155 section 7.2.1: the closest encloser that can be proved may be above
	// the one that exists, with opt-out. They then deny more wildcards than the one
	// below it.
	{"named nsd", func(c *comparison) {
		if c.s.signed == "optout" && subsetOf(c.ours[2], c.theirs[2]) && len(c.theirs[2]) <= len(c.ours[2])+2 {
			c.ours[2] = c.theirs[2]
		}
	}},
	// With opt-out nsd proves no encloser for what leads to unsigned delegations
	// only, and has no NSEC3 record (named and knot do).
	{"nsd", func(c *comparison) {
		if (c.s.signed == "optout" || subsetOf(c.theirs[2], c.ours[2])) && len(only(c.theirs[2], " NSEC3 ")) > 0 {
			c.ours[2], c.theirs[2] = without(c.ours[2], " NSEC3 "), without(c.theirs[2], " NSEC3 ")
		}
	}},
	// RFC 4035 section 3.1.3.4: that the name does not exist, and that the wildcard
	// has not the type, are to be proved even if the wildcard is an empty
	// non-terminal (the next name of some record is then below an asterisk). They
	// leave one of the two out.
	{"named nsd knot", func(c *comparison) {
		below := func(l string) bool {
			f := strings.Fields(l)
			return f[3] == "NSEC" && strings.Contains(f[4], ".*.") || strings.HasPrefix(f[4], "*.*.")
		}
		if subsetOf(c.theirs[2], c.ours[2]) && slices.ContainsFunc(c.ours[2], below) {
			c.theirs[2] = c.ours[2]
		}
	}},
	// nsd denies the name that a DNAME leads to, or its wildcard, but not both (RFC
	// 4035 section 3.1.3.2), or gives a record that covers neither.
	{"nsd", func(c *comparison) {
		if len(only(c.theirs[1], " DNAME ")) > 0 {
			c.ours[2], c.theirs[2] = without(c.ours[2], " NSEC "), without(c.theirs[2], " NSEC ")
		}
	}},
	// RFC 1034 section 6.2: a name error is authoritative, and has the SOA record.
	// knot leaves both out where opt-out leaves no proof.
	{"knot", func(c *comparison) {
		if c.s.signed == "optout" && c.do && slices.Equal(c.theirs[0], []string{"NXDOMAIN", "aa=false"}) && c.ours[0][0] == "NXDOMAIN" && len(c.theirs[2]) == 0 {
			c.theirs = c.ours
		}
	}},
	// No RFC asks for NS records beside an answer: knot never adds them, named not
	// for DS and DNSKEY.
	{"named nsd knot", func(c *comparison) {
		if c.positive() {
			for _, r := range []*[4][]string{&c.ours, &c.theirs} {
				r[2] = slices.DeleteFunc(slices.Clone(r[2]), func(l string) bool {
					return strings.HasPrefix(l, c.s.origin+" ") && (strings.Contains(l, " IN NS ") || strings.Contains(l, " IN RRSIG NS "))
				})
			}
		}
	}},
	// RFC 9460 section 4.1: named follows aliases of services, and adds what the last
	// leads to.
	{"named", func(c *comparison) {
		seen := slices.Concat(c.theirs[1], c.theirs[3])
		if len(only(seen, " HTTPS 0 "))+len(only(seen, " SVCB 0 ")) > 0 {
			c.ours[3] = c.theirs[3]
		}
	}},
	// RFC 1034 section 4.3.2 step 6: additional records are what "may be useful".
	// knot proves of them that they come from a wildcard, may leave the wildcard's
	// name, and repeats an answer's;
	// named adds aliases of targets, what they lead to, and TLSA records.
	{"named nsd knot", func(c *comparison) {
		extra := without(c.theirs[3], " NSEC3 ", " NSEC ", " CNAME ", " TLSA ")
		aliases := only(c.theirs[3], " CNAME ")
		extra = slices.DeleteFunc(extra, func(l string) bool {
			return strings.HasPrefix(l, "*.") && !slices.Contains(c.ours[3], l) || slices.Contains(c.theirs[1], l) || slices.ContainsFunc(aliases, func(a string) bool {
				return strings.HasSuffix(a, " "+strings.Fields(l)[0])
			})
		})
		// What is left must be there here, too; and glue is not optional (RFC 9471).
		if subsetOf(extra, c.ours[3]) && subsetOf(glue(&c.ours), extra) {
			c.ours[3], c.theirs[3] = nil, nil
		}
	}},
}

// without drops the lines that contain one of the words.
func without(lines []string, words ...string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(l string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(l, w) })
	})
}

// only keeps the lines that contain the word.
func only(lines []string, word string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return !strings.Contains(l, word) })
}

func subsetOf(a, b []string) bool {
	return !slices.ContainsFunc(a, func(l string) bool { return !slices.Contains(b, l) })
}

// glue is the additional records without which a referral leads nowhere: the
// addresses of name servers whose names are at or below the delegation.
func glue(r *[4][]string) []string {
	var need []string
	for _, ns := range r[2] {
		f := strings.Fields(ns)
		if f[3] != "NS" || slices.Contains(r[0], "aa=true") || !miekg.IsSubDomain(f[0], f[4]) {
			continue
		}
		for _, l := range r[3] {
			if strings.HasPrefix(l, f[4]+" ") && !strings.Contains(l, " RRSIG ") {
				need = append(need, l)
			}
		}
	}
	return need
}
