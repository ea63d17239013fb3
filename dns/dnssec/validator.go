package dnssec

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"postrider/dns/names"
	"postrider/internal/clock"
)

// Options of a Validator. The zero value trusts the built-in root anchors.
type Options struct {
	// Anchors are the DS and DNSKEY records that are trusted to begin with; nil
	// means RootAnchors. An empty, non-nil list trusts nothing: every answer is
	// indeterminate.
	Anchors []dns.RR

	// State is the file in which anchors that came and went are kept (RFC 5011);
	// "" = anchors do not change. See Refresh.
	State string

	// Clock tells the present; nil means the system's.
	Clock clock.Clock

	// Zones bounds the number of names whose place in the chain is remembered;
	// 0 means 20,000.
	Zones int
}

// Validator decides about answers. New makes one.
type Validator struct {
	clock clock.Clock
	zones *zoneCache

	mu      sync.Mutex
	anchors *anchors
}

// New returns a Validator. The error is about the anchors or their state file.
func New(o Options) (*Validator, error) {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Zones == 0 {
		o.Zones = 20000
	}
	if o.Anchors == nil {
		o.Anchors = RootAnchors()
	}
	a, err := openAnchors(o.Anchors, o.State)
	if err != nil {
		return nil, err
	}
	return &Validator{clock: o.Clock, zones: newZoneCache(o.Zones), anchors: a}, nil
}

// Flush forgets what was learnt about zones, not the anchors.
func (v *Validator) Flush() { v.zones.flush() }

// Validate decides about the answer m to the question q. All records that the
// chain needs are asked of f, within ctx. The message is read only.
//
// Each record set of the answer and authority sections is checked, the aliases
// are followed, and what the message denies must be proven. The verdict on the
// message is that on its weakest part. A message with another code than NOERROR
// or NXDOMAIN says nothing that could be signed: indeterminate.
func (v *Validator) Validate(ctx context.Context, q dns.Question, m *dns.Msg, f Fetcher) Verdict {
	q.Name = dns.CanonicalName(q.Name)
	return v.newRun(f).message(ctx, q, m)
}

// message is Validate within one run.
func (r *run) message(ctx context.Context, q dns.Question, m *dns.Msg) Verdict {
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return Verdict{Target: q.Name, Text: fmt.Sprintf("an answer with code %s cannot be validated", dns.RcodeToString[m.Rcode])}
	}
	w := &weighing{run: r, verdict: Verdict{Security: Secure, Target: q.Name}, lifetime: maxZoneAge}
	w.message(ctx, q, m)
	return w.finish()
}

// weighing collects the verdict on one message.
type weighing struct {
	run      *run
	answer   []*rrset
	ns       []*rrset
	verdict  Verdict
	lifetime time.Duration
	proofs   map[string][]dns.RR // validated NSEC and NSEC3 by zone
	zone     *zone               // the deepest that vouched for something
}

// worse orders the securities: the last decides.
func worse(f *failure) int {
	switch {
	case f == nil:
		return 0
	case f.security == Insecure:
		return 1
	case f.security == Indeterminate && !f.unreachable:
		return 2
	case f.security == Indeterminate:
		return 3
	}
	return 4
}

// fail makes the verdict worse, never better.
func (w *weighing) fail(err error) {
	if err == nil {
		return
	}
	f := asFailure(err)
	old := &failure{security: w.verdict.Security, unreachable: w.verdict.Unreachable}
	if w.verdict.Security == Secure {
		old = nil
	}
	if worse(f) <= worse(old) {
		return
	}
	w.verdict.Security, w.verdict.ExtendedError, w.verdict.Text, w.verdict.Unreachable = f.security, f.code, f.text, f.unreachable
}

// message weighs all parts of a message.
func (w *weighing) message(ctx context.Context, q dns.Question, m *dns.Msg) {
	w.proofs = make(map[string][]dns.RR)
	w.answer, w.ns = groupSets(m.Answer), groupSets(m.Ns)
	if len(w.answer)+len(w.ns) > maxSets {
		w.fail(bogus(dns.ExtendedErrorCodeDNSBogus, "the message has more than %d record sets", maxSets))
		return
	}
	if q.Qtype == dns.TypeRRSIG {
		w.fail(insecure(0, "signatures are not signed themselves"))
		return
	}
	var expanded []expansion
	for i, set := range w.answer {
		if synthesized(w.answer[:i], set) {
			continue
		}
		if c, z := w.set(ctx, set); c.wildcard != "" {
			expanded = append(expanded, expansion{set, c.wildcard, z})
			w.verdict.Wildcards = append(w.verdict.Wildcards, c.wildcard)
		}
	}
	for _, set := range w.ns {
		w.set(ctx, set)
	}
	for _, e := range expanded {
		w.fail(w.checkExpansion(e))
	}
	target, answered := follow(w.answer, q)
	w.verdict.Target = target
	if answered && m.Rcode == dns.RcodeSuccess {
		return
	}
	if target != q.Name && m.Rcode == dns.RcodeSuccess && len(w.ns) == 0 {
		w.verdict.Open = true // the message stops at an alias
		return
	}
	if w.verdict.Security == Bogus {
		return
	}
	w.fail(w.checkDenial(ctx, target, q.Qtype, m.Rcode))
}

// set checks one record set and notes what it gives.
func (w *weighing) set(ctx context.Context, set *rrset) (checked, *zone) {
	c, z, err := w.run.set(ctx, set)
	if err != nil {
		w.fail(err)
		w.vouched(z)
		return checked{}, z
	}
	w.vouched(z)
	w.lifetime = min(w.lifetime, c.lifetime)
	if c.wildcard == "" && (set.typ == dns.TypeNSEC || set.typ == dns.TypeNSEC3) {
		w.proofs[z.name] = append(w.proofs[z.name], set.rrs...)
	}
	return c, z
}

// vouched remembers the deepest zone for the verdict's chain.
func (w *weighing) vouched(z *zone) {
	if z != nil && (w.zone == nil || len(z.chain) > len(w.zone.chain)) {
		w.zone = z
	}
}

// expansion is a set that a wildcard was expanded to.
type expansion struct {
	set      *rrset
	wildcard string
	zone     *zone
}

// checkExpansion wants the proof that no closer name or wildcard exists (RFC
// 4035 section 5.3.4, RFC 5155 section 8.8).
func (w *weighing) checkExpansion(e expansion) error {
	d, err := deny(&w.run.budget, e.zone.name, e.set.name, e.set.typ, w.proofs[e.zone.name])
	if err == nil && d.Iterations == 0 {
		d, err = expansionProof(&w.run.budget, e, w.proofs[e.zone.name], d)
	}
	switch {
	case err != nil:
		return err
	case d.Iterations > 0:
		return tooManyIterations(e.zone.name, d.Iterations)
	case d.Existence == Unproven:
		return bogus(dns.ExtendedErrorCodeNSECMissing, "the %s records of %s come from the wildcard %s, but nothing proves that %s itself does not exist",
			dns.Type(e.set.typ), e.set.name, e.wildcard, e.set.name)
	case d.OptOut:
		return insecure(0, "the records of %s come from the wildcard %s, and its proof has opt-out", e.set.name, e.wildcard)
	}
	return nil
}

// expansionProof accepts that the name does not exist and the closest encloser is
// where the wildcard stands. With NSEC3 the next closer name alone is proven, since
// the signature itself gives the closest encloser.
func expansionProof(b *budget, e expansion, records []dns.RR, d Denial) (Denial, error) {
	encloser := names.Parent(e.wildcard)
	if d.Existence == Expands || d.Existence == NoName || d.Existence == NoData {
		if d.Encloser == encloser {
			return d, nil
		}
		return Denial{}, nil
	}
	return nextCloser(b, e.zone.name, encloser, e.set.name, records)
}

// follow walks the aliases of an answer from the question's name to the name
// that is answered or denied. The walk is as long as the answer at most.
func follow(answer []*rrset, q dns.Question) (target string, answered bool) {
	name := q.Name
	for range len(answer) + 1 {
		if q.Qtype == dns.TypeANY && nameAnswered(answer, name) || find(answer, name, q.Qtype) != nil {
			return name, true
		}
		alias := find(answer, name, dns.TypeCNAME)
		if alias == nil {
			return name, false
		}
		c, ok := alias.rrs[0].(*dns.CNAME)
		if !ok {
			return name, false
		}
		name = dns.CanonicalName(c.Target)
	}
	return name, true // a loop: nothing more is claimed
}

func nameAnswered(answer []*rrset, name string) bool {
	for _, s := range answer {
		if s.name == name {
			return true
		}
	}
	return false
}

// synthesized says that a set is the CNAME that a server made of a DNAME before
// it; it is not signed, and as true as the DNAME (RFC 6672 section 5.3.1).
func synthesized(before []*rrset, set *rrset) bool {
	if set.typ != dns.TypeCNAME || len(set.rrs) != 1 || len(set.sigs) > 0 {
		return false
	}
	c, ok := set.rrs[0].(*dns.CNAME)
	if !ok {
		return false
	}
	for _, s := range before {
		if s.typ != dns.TypeDNAME || !above(s.name, set.name) || len(s.rrs) != 1 {
			continue
		}
		d, ok := s.rrs[0].(*dns.DNAME)
		if !ok {
			continue
		}
		prefix := set.name[:len(set.name)-len(s.name)]
		if s.name == "." {
			prefix = set.name
		}
		target := strings.TrimSuffix(dns.CanonicalName(d.Target), ".") + "."
		if target == "." {
			target = ""
		}
		if dns.CanonicalName(c.Target) == prefix+target {
			return true
		}
	}
	return false
}

// checkDenial wants the proof that target does not exist, or has no such type.
func (w *weighing) checkDenial(ctx context.Context, target string, typ uint16, rcode int) error {
	var last error
	deepest := ""
	for name := range w.proofs {
		if dns.IsSubDomain(name, target) && (deepest == "" || above(deepest, name)) {
			deepest = name
		}
	}
	if deepest != "" {
		d, err := deny(&w.run.budget, deepest, target, typ, w.proofs[deepest])
		if err != nil {
			return err
		}
		if last = judgeDenial(deepest, target, typ, rcode, d); last == nil {
			w.verdict.Zone, w.verdict.Proofs = deepest, w.proofs[deepest]
			return nil
		} else if asFailure(last).security == Insecure {
			return last
		}
	}
	z, err := w.run.zoneOf(ctx, target, typ)
	w.vouched(z)
	switch {
	case err != nil:
		return err
	case last != nil:
		return last
	case rcode == dns.RcodeNameError:
		return bogus(dns.ExtendedErrorCodeNSECMissing, "nothing proves that %s does not exist, but %s is a signed zone", target, z.name)
	}
	return bogus(dns.ExtendedErrorCodeNSECMissing, "nothing proves that %s has no %s records, but %s is a signed zone", target, dns.Type(typ), z.name)
}

// judgeDenial compares what is proven with what the message says.
func judgeDenial(zone, target string, typ uint16, rcode int, d Denial) error {
	switch {
	case d.Iterations > 0:
		return tooManyIterations(zone, d.Iterations)
	case d.OptOut && (rcode == dns.RcodeNameError) == (d.Existence == NoName):
		return insecure(0, "the proof about %s has opt-out: an unsigned delegation may be there", target)
	case d.OptOut && rcode == dns.RcodeSuccess: // RFC 5155 section 8.6, and section 8.5 with erratum 3441
		return insecure(0, "the proof about %s has opt-out: an unsigned delegation may be there", target)
	case rcode == dns.RcodeNameError && d.Existence == NoName, rcode == dns.RcodeSuccess && d.Existence == NoData:
		return nil
	case rcode == dns.RcodeNameError:
		return bogus(dns.ExtendedErrorCodeNSECMissing, "the denial records of %s do not prove that %s does not exist", zone, target)
	}
	return bogus(dns.ExtendedErrorCodeNSECMissing, "the denial records of %s do not prove that %s has no %s records", zone, target, dns.Type(typ))
}

func tooManyIterations(zone string, n uint16) error {
	if n > refuseIterations {
		return bogus(dns.ExtendedErrorCodeUnsupportedNSEC3IterValue, "the NSEC3 records of %s want %d iterations; more than %d are refused", zone, n, refuseIterations)
	}
	return insecure(dns.ExtendedErrorCodeUnsupportedNSEC3IterValue, "the NSEC3 records of %s want %d iterations; more than %d are not computed", zone, n, maxIterations)
}

// finish completes the verdict.
func (w *weighing) finish() Verdict {
	v := w.verdict
	if w.zone != nil {
		v.Chain = w.zone.chain
	}
	if v.Security != Secure {
		v.Proofs, v.Zone, v.Wildcards = nil, "", nil
		return v
	}
	v.Lifetime = w.lifetime
	if v.Text == "" && w.zone != nil {
		v.Text = "signed by " + w.zone.name
	}
	return v
}
