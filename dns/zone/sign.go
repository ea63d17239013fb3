package zone

import (
	"errors"
	"fmt"
	"slices"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
)

// SignOptions say how Sign is to sign.
type SignOptions struct {
	Signing dnssec.Signing

	// Old is the signed version that this one was made from, by Update or Apply;
	// what did not change keeps its signatures. nil: all is signed anew. The
	// outcome has a later serial than Old, unless it is equal to it.
	Old *Zone

	// Scan looks at every signature, and makes those anew that end soon or whose
	// key is no longer in use. Without it only what differs from Old is signed.
	Scan bool
}

// Sign makes a signed version of the zone (RFC 4035 section 2, RFC 5155 section
// 7.1). DNSSEC records that the zone has and that are not as they should be are
// replaced: those of keys, denials and signatures belong to Sign. The time is
// when Sign is to be called again, with Scan, since signatures near their end;
// of several such times the earliest counts.
func (z *Zone) Sign(o SignOptions) (*Zone, time.Time, error) {
	if o.Signing.Zone != z.origin || len(o.Signing.Keys) == 0 && !o.Signing.Remove {
		return nil, time.Time{}, fmt.Errorf("sign %s: the keys are of %q", z.origin, o.Signing.Zone)
	}
	s := &signer{Signing: o.Signing, e: z.edit(), z: z, old: o.Old, now: o.Signing.Now}
	s.ttl = min(z.soa.Hdr.Ttl, z.soa.Minttl) // RFC 9077
	var err error
	switch {
	case s.Remove:
		err = s.strip()
	case s.mustRebuild():
		err = s.rebuild()
	default:
		err = s.follow(o.Scan)
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("sign %s: %w", z.origin, err)
	}
	return s.finish()
}

// signer is a signing of one version under way.
type signer struct {
	dnssec.Signing
	e    *edit
	z    *Zone // what is signed
	old  *Zone // nil: none
	now  time.Time
	ttl  uint32 // of denials
	jobs []job
	due  time.Time
}

// job is a set whose signatures are to be made.
type job struct {
	name   string
	hashes bool
	typ    uint16
}

// view is the zone as the edit has it now, for searching.
func (s *signer) view() *Zone {
	return &Zone{origin: s.e.origin, labels: s.e.labels, apex: s.e.apex, hashes: s.e.hashes, nsec3: param3}
}

// param3 is the one set of NSEC3 parameters that is made: no salt, no iterations
// (RFC 9276 section 3.1).
var param3 = &miekg.NSEC3PARAM{Hash: miekg.SHA1}

// put replaces a set, signatures and all; without records it goes.
func (e *edit) put(name string, hashes bool, typ uint16, all []miekg.RR) error {
	return e.change(name, hashes, func(n *node) error {
		i, found := slices.BinarySearchFunc(n.sets, typ, func(s rrset, t uint16) int { return int(s.typ) - int(t) })
		if found {
			e.count -= len(n.sets[i].all)
			n.sets = slices.Delete(n.sets, i, i+1)
		}
		if len(all) == 0 {
			return nil
		}
		records := slices.IndexFunc(all, isSig)
		if records < 0 {
			records = len(all)
		}
		e.count += len(all)
		n.sets = slices.Insert(n.sets, i, rrset{typ: typ, n: records, all: slices.Clip(all)})
		return nil
	})
}

// mustRebuild tells that nothing of the old version's denials can be kept.
func (s *signer) mustRebuild() bool {
	if s.old == nil || s.NSEC3 != (s.old.nsec3 != nil) || !s.NSEC3 && !s.old.nsec {
		return true
	}
	if !s.NSEC3 {
		set := s.old.apex.data(miekg.TypeNSEC)
		return set.all[0].Header().Ttl != s.ttl
	}
	if s.old.nsec3.Iterations != 0 || s.old.nsec3.Salt != "" || s.old.hashes == nil || len(s.old.hashes.chunks) == 0 {
		return true
	}
	set := s.old.hashes.chunks[0].nodes[0].data(miekg.TypeNSEC3)
	return set == nil || set.all[0].Header().Ttl != s.ttl || (set.all[0].(*miekg.NSEC3).Flags&1 != 0) != s.OptOut
}

// strip takes all signatures and denials out, and the records at the apex that
// speak of keys.
func (s *signer) strip() error {
	s.e.hashes = nil
	type place struct {
		name string
		set  rrset
	}
	var places []place
	s.e.count = 0
	s.z.visit(func(n *node, _ position) bool {
		for _, set := range n.sets {
			s.e.count += len(set.all)
			if len(set.all) > set.n || set.typ == miekg.TypeNSEC {
				places = append(places, place{n.name, set})
			}
		}
		return true
	})
	for _, p := range places {
		records := p.set.records(false)
		if p.set.typ == miekg.TypeNSEC {
			records = nil
		}
		if err := s.e.put(p.name, false, p.set.typ, records); err != nil {
			return err
		}
	}
	for _, typ := range []uint16{miekg.TypeDNSKEY, miekg.TypeCDS, miekg.TypeCDNSKEY, miekg.TypeNSEC3PARAM} {
		if err := s.e.put(s.z.origin, false, typ, nil); err != nil {
			return err
		}
	}
	return nil
}

// rebuild signs everything.
func (s *signer) rebuild() error {
	if err := s.strip(); err != nil {
		return err
	}
	if err := s.apex(); err != nil {
		return err
	}
	build := s.chain
	if s.NSEC3 {
		build = s.chain3
	}
	if err := build(); err != nil {
		return err
	}
	v := s.view()
	v.visit(func(n *node, p position) bool {
		for _, set := range n.sets {
			if signs(p, set.typ) && set.n > 0 {
				s.jobs = append(s.jobs, job{n.name, false, set.typ})
			}
		}
		return true
	})
	v.hashes.each(func(n *node) bool {
		s.jobs = append(s.jobs, job{n.name, true, miekg.TypeNSEC3})
		return true
	})
	return nil
}

// signs tells whether a set at that place is signed: authoritative data, and of a
// delegation DS and NSEC (RFC 4035 section 2.2).
func signs(p position, typ uint16) bool {
	return p == inside || p == delegation && (typ == miekg.TypeDS || typ == miekg.TypeNSEC)
}

// apex puts the records there that the keys and the chain ask for, where they
// differ.
func (s *signer) apex() error {
	param := *param3
	param.Hdr = s.header(s.z.origin, miekg.TypeNSEC3PARAM, 0)
	keys := make([]miekg.RR, 0, len(s.Keys))
	for _, k := range s.Keys {
		keys = append(keys, k.Record())
	}
	params := []miekg.RR{&param}
	if !s.NSEC3 {
		params = nil
	}
	for _, w := range []struct {
		typ  uint16
		ttl  uint32
		want []miekg.RR
	}{
		{miekg.TypeDNSKEY, s.KeyTTL, keys},
		{miekg.TypeCDS, s.KeyTTL, s.CDS},
		{miekg.TypeCDNSKEY, s.KeyTTL, s.CDNSKEY},
		{miekg.TypeNSEC3PARAM, 0, params},
	} {
		want := make([]miekg.RR, 0, len(w.want))
		for _, rr := range w.want {
			rr = miekg.Copy(rr)
			*rr.Header() = s.header(s.z.origin, w.typ, w.ttl)
			want = append(want, rr)
		}
		if sameSet(s.e.apex.data(w.typ).records(false), want) {
			continue
		}
		if err := s.e.put(s.z.origin, false, w.typ, want); err != nil {
			return err
		}
	}
	return nil
}

func (s *signer) header(name string, typ uint16, ttl uint32) miekg.RR_Header {
	return miekg.RR_Header{Name: name, Rrtype: typ, Class: miekg.ClassINET, Ttl: ttl}
}

// sameSet tells that two sets hold the same records, in whatever order.
func sameSet(a, b []miekg.RR) bool {
	if len(a) != len(b) {
		return false
	}
	for _, rr := range a {
		if !slices.ContainsFunc(b, func(o miekg.RR) bool { return same(rr, o) }) {
			return false
		}
	}
	return true
}

// finish gives the outcome its serial, and makes the signatures.
func (s *signer) finish() (*Zone, time.Time, error) {
	if s.old != nil {
		if len(s.jobs) == 0 && s.e.apex == s.old.apex && s.e.hashes == s.old.hashes {
			return s.old, s.due, nil
		}
		if !SerialLess(s.old.soa.Serial, s.z.soa.Serial) {
			soa := miekg.Copy(s.z.soa).(*miekg.SOA)
			soa.Serial = NextSerial(s.old.soa.Serial)
			if err := s.e.put(s.z.origin, false, miekg.TypeSOA, []miekg.RR{soa}); err != nil {
				return nil, time.Time{}, err
			}
		}
		if !s.Remove {
			s.jobs = append(s.jobs, job{s.z.origin, false, miekg.TypeSOA})
		}
	}
	if err := s.work(); err != nil {
		return nil, time.Time{}, fmt.Errorf("sign %s: %w", s.z.origin, err)
	}
	out, err := s.e.finish()
	if err != nil {
		return nil, time.Time{}, err
	}
	return out, s.due, nil
}

// note remembers the earliest time at which a signature is to be made anew.
func (s *signer) note(due time.Time) {
	if !due.IsZero() && (s.due.IsZero() || due.Before(s.due)) {
		s.due = due
	}
}

var errVanished = errors.New("a set to be signed has vanished")
