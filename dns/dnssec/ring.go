package dnssec

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"postrider/dns/durable"
	"postrider/internal/clock"
)

// Ring is the keys of one zone and where each is in its life. It makes keys when
// they are needed, rolls them over when their time has come, and keeps what it
// decided in a file beside the keys before it lets anybody act on it.
//
// A ZSK is rolled by publishing the next one before it signs (RFC 6781 section
// 4.1.1.1):
//
//	published ─ KeyTTL + Propagation → signs ─ next one signs → stopped
//	stopped ─ Validity + MaxTTL + Propagation → removed
//
// A KSK by signing the keys with both (section 4.1.2); the new DS is asked for
// with CDS and CDNSKEY records:
//
//	published, signs the keys ─ KeyTTL + Propagation → ready: CDS names it
//	ready ─ the parent's DS names it, and no other for ParentTTL → the old one is removed
//
// A CSK goes both ways at once: from ready on it signs the zone too. Only the
// algorithm of a zone is never changed here (section 4.1.4).
//
// All methods may be called concurrently.
type Ring struct {
	dir, zone string
	policy    Policy
	clock     clock.Clock

	mu    sync.Mutex
	state ringState
	keys  map[string]*Key // by file
	due   time.Time       // when Step has something to do, found by passed
}

// ringVersion is that of the state file.
const ringVersion = 1

// ringState is what is kept in the file.
type ringState struct {
	Version int
	Zone    string
	Unsign  bool      // the zone is to become unsigned
	NoDS    time.Time // since when the parent is known to have no DS; zero if it has, or nobody looked
	Keys    []*ringKey
}

// ringKey is one key; a zero time has not come.
type ringKey struct {
	File      string // base name without ending
	Role      Role
	Tag       uint16
	Algorithm uint8
	Roll      bool      // to be replaced though its lifetime is not over
	Published time.Time // in the zone since
	Signs     time.Time // signs the zone's data since (ZSK, CSK)
	Stopped   time.Time // no longer does since
	Ready     time.Time // may be named by the parent's DS since (KSK, CSK)
	Seen      time.Time // the parent's DS names it since
	Gone      time.Time // the parent's DS no longer names it since
	Removed   time.Time // out of the zone since
}

// RingOptions are of OpenRing.
type RingOptions struct {
	Clock clock.Clock // nil means the system's
}

// OpenRing reads the keys of a zone from a directory, which is made for the owner
// alone if it is not there. A zone without a state file begins with new keys.
func OpenRing(dir, zone string, p Policy, o RingOptions) (*Ring, error) {
	p, err := p.withDefaults()
	if err != nil {
		return nil, err
	}
	if zone, err = canonical(zone); err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	r := &Ring{dir: dir, zone: zone, policy: p, clock: o.Clock, keys: make(map[string]*Key)}
	if err := r.load(); err != nil {
		return nil, err
	}
	return r, nil
}

// HasKeys tells whether a directory has keys with which a zone is signed, and which
// no Ring has taken out of it again.
func HasKeys(dir, zone string) (bool, error) {
	zone, err := canonical(zone)
	if err != nil {
		return false, err
	}
	r := &Ring{dir: dir, zone: zone}
	err = r.loadState()
	return len(r.live("")) > 0, err
}

func (r *Ring) file() string {
	return filepath.Join(r.dir, "K"+strings.ReplaceAll(r.zone, "/", "%2f")+"rollover.json")
}

func (r *Ring) loadState() error {
	name := r.file()
	text, _, err := readKeyFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		r.state = ringState{Version: ringVersion, Zone: r.zone}
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &r.state); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if r.state.Version != ringVersion || r.state.Zone != r.zone {
		return fmt.Errorf("%s: version %d for zone %q is not known here", name, r.state.Version, r.state.Zone)
	}
	return nil
}

func (r *Ring) load() error {
	if err := r.loadState(); err != nil {
		return err
	}
	name := r.file()
	for _, k := range r.state.Keys {
		if !k.Removed.IsZero() {
			continue
		}
		if filepath.Base(k.File) != k.File || k.Role != KSK && k.Role != ZSK && k.Role != CSK {
			return fmt.Errorf("%s: key %q with role %q is not known here", name, k.File, k.Role)
		}
		key, err := ReadKey(filepath.Join(r.dir, k.File))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if key.record.Hdr.Name != r.zone {
			return fmt.Errorf("%s: %s is not a key of %s", name, key, r.zone)
		}
		r.keys[k.File] = key
	}
	return r.checkRoles()
}

// checkRoles refuses a policy that would need a change that is not made here.
func (r *Ring) checkRoles() error {
	for _, k := range r.live("") {
		switch {
		case (k.Role == CSK) != r.policy.SingleKey:
			return fmt.Errorf("%s: is signed with a %s: the number of keys of a signed zone is not changed here; unsign it first", r.zone, strings.ToUpper(string(k.Role)))
		case k.Algorithm != r.policy.Algorithm:
			return fmt.Errorf("%s: is signed with %s: the algorithm of a signed zone is not changed here; unsign it first", r.zone, algorithmName(k.Algorithm))
		}
	}
	return nil
}

// saveLocked makes the state durable. Keys removed long ago are forgotten.
func (r *Ring) saveLocked() error {
	const remembered = 20
	var gone int
	for i := len(r.state.Keys) - 1; i >= 0; i-- {
		if r.state.Keys[i].Removed.IsZero() {
			continue
		}
		if gone++; gone > remembered {
			r.state.Keys = slices.Delete(r.state.Keys, i, i+1)
		}
	}
	text, err := json.MarshalIndent(r.state, "", "\t")
	if err != nil {
		return err
	}
	return durable.Write(r.file(), 0o600, append(text, '\n'))
}

// live are the keys in the zone that have a role, "" for any, oldest first.
func (r *Ring) live(role Role) []*ringKey {
	var list []*ringKey
	for _, k := range r.state.Keys {
		if k.Removed.IsZero() && (role == "" || k.Role == role) {
			list = append(list, k)
		}
	}
	return list
}

// passed tells whether a time has come; if not, it is noted for the return of
// Step.
func (r *Ring) passed(now, t time.Time) bool {
	if !now.Before(t) {
		return true
	}
	if r.due.IsZero() || t.Before(r.due) {
		r.due = t
	}
	return false
}

// Step does what is due now: makes keys, lets them sign, retires them. It returns
// how the zone is to be signed from now on, and when to call again; the zero time
// if that depends on the parent alone. What it returns is on disk before.
func (r *Ring) Step() (Signing, time.Time, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	before, err := json.Marshal(r.state)
	if err != nil {
		return Signing{}, time.Time{}, err
	}
	if err := r.stepLocked(now); err != nil {
		return Signing{}, time.Time{}, err
	}
	after, err := json.Marshal(r.state)
	if err != nil {
		return Signing{}, time.Time{}, err
	}
	if string(before) != string(after) {
		if err := r.saveLocked(); err != nil {
			return Signing{}, time.Time{}, err
		}
	}
	return r.signingLocked(now), r.due, nil
}

func (r *Ring) stepLocked(now time.Time) error {
	for again := true; again; {
		again = false
		r.due = time.Time{}
		roles := []Role{KSK, ZSK}
		if r.policy.SingleKey {
			roles = []Role{CSK}
		}
		for _, role := range roles {
			changed, err := r.stepRole(now, role)
			if err != nil {
				return err
			}
			again = again || changed
		}
	}
	return nil
}

// stepRole does one thing that is due for the keys of a role, if there is one.
func (r *Ring) stepRole(now time.Time, role Role) (changed bool, err error) {
	keys := r.live(role)
	if len(keys) == 0 {
		if r.state.Unsign {
			return false, nil
		}
		return true, r.make(now, role, true)
	}
	if r.state.Unsign && r.parentFree(now) {
		for _, k := range keys {
			k.Removed = now
		}
		return true, nil
	}
	newest := keys[len(keys)-1]
	if role != ZSK && newest.Ready.IsZero() && r.passed(now, newest.Published.Add(r.wait(newest))) {
		newest.Ready = now
		return true, nil
	}
	if role != KSK && newest.Signs.IsZero() && r.passed(now, newest.Published.Add(r.policy.KeyTTL+r.policy.Propagation)) {
		newest.Signs = now
		for _, old := range keys[:len(keys)-1] {
			if old.Stopped.IsZero() {
				old.Stopped = now
			}
		}
		return true, nil
	}
	for _, old := range keys[:len(keys)-1] {
		if r.removable(now, old, newest) {
			old.Removed = now
			return true, nil
		}
	}
	if len(keys) == 1 && !r.state.Unsign && r.old(now, newest) {
		return true, r.make(now, role, false)
	}
	return false, nil
}

// wait is how long after its publication a key may be named by the parent: all
// must have the new set of keys, and of a zone that was not signed before, its
// signatures.
func (r *Ring) wait(k *ringKey) time.Duration {
	d := r.policy.KeyTTL
	if k == r.state.Keys[0] || k.Role == KSK && k == r.live(KSK)[0] {
		d = max(d, r.policy.MaxTTL)
	}
	return d + r.policy.Propagation
}

// old tells that the only key of a role is to be replaced now, early enough for
// the next one to be known when this one's lifetime ends.
func (r *Ring) old(now time.Time, k *ringKey) bool {
	lifetime := r.policy.KSKLifetime
	if k.Role == ZSK {
		lifetime = r.policy.ZSKLifetime
	}
	if k.Roll {
		return k.Role == ZSK || !k.Ready.IsZero()
	}
	return lifetime > 0 && r.passed(now, k.Published.Add(lifetime-r.policy.KeyTTL-r.policy.Propagation)) && (k.Role == ZSK || !k.Ready.IsZero())
}

// removable tells that nobody needs the old key any more.
func (r *Ring) removable(now time.Time, old, next *ringKey) bool {
	if old.Role != KSK {
		if old.Stopped.IsZero() || !r.passed(now, old.Stopped.Add(r.policy.Validity+r.policy.MaxTTL+r.policy.Propagation)) {
			return false
		}
	}
	if old.Role == ZSK {
		return true
	}
	if next.Ready.IsZero() {
		return false
	}
	if old.Seen.IsZero() { // no DS ever named it, if somebody looked
		return r.parentFree(now)
	}
	return !next.Seen.IsZero() && next.Gone.IsZero() && !old.Gone.IsZero() && r.passed(now, old.Gone.Add(r.policy.ParentTTL))
}

// make makes a key; the first of its role signs at once.
func (r *Ring) make(now time.Time, role Role, first bool) error {
	var key *Key
	for key == nil || r.tagTaken(key) {
		var err error
		if key, err = GenerateKey(r.zone, role, r.policy.Algorithm, uint32(r.policy.KeyTTL/time.Second)); err != nil {
			return err
		}
	}
	path, err := key.Write(r.dir)
	if err != nil {
		return err
	}
	k := &ringKey{File: filepath.Base(path), Role: role, Tag: key.tag, Algorithm: r.policy.Algorithm, Published: now}
	if first && role != KSK {
		k.Signs = now
	}
	r.state.Keys = append(r.state.Keys, k)
	r.keys[k.File] = key
	return nil
}

// tagTaken tells that another key of the zone has the tag, or would if it were
// revoked: tags should tell keys apart.
func (r *Ring) tagTaken(key *Key) bool {
	for _, k := range r.state.Keys {
		if k.Tag == key.tag || k.Tag == key.tag+dns.REVOKE || k.Tag+dns.REVOKE == key.tag {
			return true
		}
	}
	return false
}

// signingLocked is what the state says about the zone.
func (r *Ring) signingLocked(now time.Time) Signing {
	s := r.policy.signing(r.zone, now)
	for _, k := range r.live("") {
		key := r.keys[k.File]
		s.Keys = append(s.Keys, key)
		if k.Role != ZSK {
			s.KeySigs = append(s.KeySigs, key)
		}
		if k.Role != KSK && !k.Signs.IsZero() && k.Stopped.IsZero() {
			s.Sigs = append(s.Sigs, key)
		}
	}
	if len(s.Keys) == 0 {
		return Signing{Zone: r.zone, Now: now, Remove: true}
	}
	s.CDS, s.CDNSKEY = r.childRecords()
	return s
}

// parentFree tells that no cache holds a DS for the zone any more. That nobody
// has looked is no proof.
func (r *Ring) parentFree(now time.Time) bool {
	return !r.state.NoDS.IsZero() && r.passed(now, r.state.NoDS.Add(r.policy.ParentTTL))
}

// wanted is the key that the parent's DS is to name, or nil.
func (r *Ring) wanted() *ringKey {
	var want *ringKey
	for _, k := range r.live("") {
		if k.Role != ZSK && !k.Ready.IsZero() {
			want = k
		}
	}
	return want
}

// childRecords are the CDS and CDNSKEY records: of the key that is wanted at the
// parent (RFC 7344 section 4), or those that ask for the DS to be deleted (RFC
// 8078 section 4).
func (r *Ring) childRecords() (cds, cdnskey []dns.RR) {
	ttl := uint32(r.policy.KeyTTL / time.Second)
	if r.state.Unsign {
		h := dns.RR_Header{Name: r.zone, Class: dns.ClassINET, Ttl: ttl}
		ds := &dns.CDS{DS: dns.DS{Hdr: h, Digest: "00"}}
		key := &dns.CDNSKEY{DNSKEY: dns.DNSKEY{Hdr: h, Protocol: 3, PublicKey: "AA=="}}
		ds.Hdr.Rrtype, key.Hdr.Rrtype = dns.TypeCDS, dns.TypeCDNSKEY
		return []dns.RR{ds}, []dns.RR{key}
	}
	k := r.wanted()
	if k == nil {
		return nil, nil
	}
	key := r.keys[k.File]
	return []dns.RR{key.DS().ToCDS()}, []dns.RR{key.record.ToCDNSKEY()}
}

// Roll begins to replace the key of a role, whatever its age. A rollover of that
// role that is under way is an error.
func (r *Ring) Roll(role Role) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := r.live(role)
	switch {
	case len(keys) == 0:
		if r.policy.SingleKey {
			return fmt.Errorf("%s has no %s: its one key is the %s", r.zone, role, CSK)
		}
		return fmt.Errorf("%s has no %s: its keys are the %s and the %s", r.zone, role, KSK, ZSK)
	case len(keys) > 1:
		return fmt.Errorf("%s: the last rollover of its %s is not over", r.zone, role)
	}
	keys[0].Roll = true
	return r.saveLocked()
}

// Unsign begins to make the zone unsigned, or ends that: the parent is asked to
// delete its DS, and once that is gone everywhere Step says to remove all
// signatures. To remove them before would make the zone bogus.
func (r *Ring) Unsign(want bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Unsign = want
	return r.saveLocked()
}

// ParentDS tells the ring which DS records all servers of the parent have for the
// zone; none is an empty list. Nothing is removed that a DS may still rest on
// before that is known.
func (r *Ring) ParentDS(seen []*dns.DS) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	changed := (len(seen) == 0) != !r.state.NoDS.IsZero()
	switch {
	case len(seen) > 0:
		r.state.NoDS = time.Time{}
	case changed:
		r.state.NoDS = now
	}
	for _, k := range r.live("") {
		if k.Role == ZSK {
			continue
		}
		key := key{r.keys[k.File].record, k.Tag}
		there := slices.ContainsFunc(seen, func(ds *dns.DS) bool { return trusts(ds, key) })
		switch {
		case there && (k.Seen.IsZero() || !k.Gone.IsZero()):
			k.Seen, k.Gone, changed = now, time.Time{}, true
		case !there && !k.Seen.IsZero() && k.Gone.IsZero():
			k.Gone, changed = now, true
		}
	}
	if !changed {
		return nil
	}
	return r.saveLocked()
}

// DS are the records that the parent is to have; none while the zone is not yet
// ready for them, or is to become unsigned.
func (r *Ring) DS() []*dns.DS {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.wanted(); k != nil && !r.state.Unsign {
		return []*dns.DS{r.keys[k.File].DS()}
	}
	return nil
}

// Advice says in sentences where the keys are and what a person has to do next,
// if anything.
func (r *Ring) Advice() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	for _, k := range r.live("") {
		list = append(list, fmt.Sprintf("%s %d (%s): %s", strings.ToUpper(string(k.Role)), k.Tag, algorithmName(k.Algorithm), r.describe(k)))
	}
	want := r.wanted()
	switch {
	case len(list) == 0 && r.state.Unsign:
		list = append(list, "The zone is not signed.")
	case r.state.Unsign:
		list = append(list, "Ask the parent to delete the DS records of "+r.zone+" (the zone's CDS record asks for it too); the signatures stay until that is done and forgotten.")
	case want == nil:
	case want.Seen.IsZero() || !want.Gone.IsZero():
		list = append(list, "Publish this record at the parent, in place of all other DS records of "+r.zone+":", r.keys[want.File].DS().String())
	default:
		for _, k := range r.live("") {
			if k != want && !k.Seen.IsZero() && k.Gone.IsZero() {
				list = append(list, fmt.Sprintf("Remove the DS record with key tag %d from the parent.", k.Tag))
			}
		}
	}
	return list
}

func (r *Ring) describe(k *ringKey) string {
	at := func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
	var parts []string
	switch {
	case !k.Stopped.IsZero():
		parts = append(parts, "signs nothing new since "+at(k.Stopped)+", is removed from "+at(k.Stopped.Add(r.policy.Validity+r.policy.MaxTTL+r.policy.Propagation))+" on")
	case k.Role != KSK && k.Signs.IsZero():
		parts = append(parts, "published, signs from "+at(k.Published.Add(r.policy.KeyTTL+r.policy.Propagation))+" on")
	case k.Role != KSK:
		parts = append(parts, "signs since "+at(k.Signs))
	}
	if k.Role == ZSK {
		return parts[0]
	}
	switch {
	case k.Ready.IsZero():
		parts = append(parts, "may be named by a DS record from "+at(k.Published.Add(r.wait(k)))+" on")
		if k.Roll {
			parts = append(parts, "is replaced then")
		}
	case k.Seen.IsZero():
		parts = append(parts, "waits for a DS record that names it")
	case k.Gone.IsZero():
		parts = append(parts, "named by a DS record since "+at(k.Seen))
	default:
		parts = append(parts, "no longer named by a DS record since "+at(k.Gone))
	}
	return strings.Join(parts, "; ")
}
