package zone

import (
	"slices"

	miekg "github.com/miekg/dns"

	"postrider/dns/names"
)

// SerialLess tells that a zone of serial a is older than one of serial b (RFC
// 1982 section 3.2). Of two that are half the circle apart neither is.
func SerialLess(a, b uint32) bool { return int32(b-a) > 0 }

// NextSerial is the serial after s, which is never 0 (RFC 2136 section 7.11).
func NextSerial(s uint32) uint32 { return max(s+1, 1) }

// Update does what an UPDATE message says (RFC 2136 section 3), all of it or
// nothing. The message must come from the wire, since empty data shows in the
// length alone. It returns the new version, which is the same where nothing
// changes, the difference to it, and the response code; with another than NOERROR
// the zone is nil. Who may update is the caller's to decide, before.
//
// If the message brings no greater serial, the serial is raised by one. In a
// signed zone the records that the signer makes (RRSIG, NSEC, NSEC3) are not for
// clients: a message that adds or deletes them is REFUSED. The signatures of a set
// go with it.
func (z *Zone) Update(m *miekg.Msg) (*Zone, Diff, int) {
	fail := func(rcode int) (*Zone, Diff, int) { return nil, Diff{}, rcode }
	// Section 3.1.1.
	if len(m.Question) != 1 || m.Question[0].Qtype != miekg.TypeSOA {
		return fail(miekg.RcodeFormatError)
	}
	if q := m.Question[0]; q.Qclass != miekg.ClassINET || names.Canonical(q.Name) != z.origin {
		return fail(miekg.RcodeNotAuth)
	}
	if rcode := z.prerequisites(m.Answer); rcode != miekg.RcodeSuccess {
		return fail(rcode)
	}
	list, rcode := z.prescan(m.Ns)
	if rcode != miekg.RcodeSuccess {
		return fail(rcode)
	}
	u := update{edit: z.edit(), signed: z.Signed()}
	for _, rr := range list {
		if err := u.one(rr); err != nil {
			return fail(miekg.RcodeRefused) // a limit
		}
	}
	for _, rr := range list {
		if n := u.node(names.Canonical(rr.Header().Name), covered(rr) == miekg.TypeNSEC3); n != nil {
			if u.check(n) != nil {
				return fail(miekg.RcodeRefused)
			}
		}
	}
	return z.close(&u)
}

// close ends an update: a zone that differs has another serial (section 3.6).
func (z *Zone) close(u *update) (*Zone, Diff, int) {
	next, err := u.finish()
	if err != nil {
		return nil, Diff{}, miekg.RcodeServerFailure
	}
	d := Between(z, next)
	if d.Empty() {
		return z, Diff{From: z.soa, To: z.soa}, miekg.RcodeSuccess
	}
	if next.soa.Serial == z.soa.Serial {
		soa := miekg.Copy(next.soa).(*miekg.SOA)
		soa.Serial = NextSerial(soa.Serial)
		u.replace(u.apex.name, soa)
		if next, err = u.finish(); err != nil {
			return nil, Diff{}, miekg.RcodeServerFailure
		}
		d.To = next.soa
	}
	return next, d, miekg.RcodeSuccess
}

// within tells that a name is in the zone.
func (z *Zone) within(name string) bool {
	var l labels
	name = names.Canonical(name)
	return name != "" && l.split(name) && l.below(z.origin, z.labels) >= 0
}

// prerequisites is section 3.2.
func (z *Zone) prerequisites(list []miekg.RR) int {
	type key struct {
		name string
		typ  uint16
	}
	wanted := map[key][]miekg.RR{}
	var order []key
	for _, rr := range list {
		h := rr.Header()
		name := names.Canonical(h.Name)
		if !z.within(h.Name) {
			return miekg.RcodeNotZone
		}
		if h.Ttl != 0 {
			return miekg.RcodeFormatError
		}
		switch h.Class {
		case miekg.ClassANY, miekg.ClassNONE:
			if rcode := z.existence(name, h); rcode != miekg.RcodeSuccess {
				return rcode
			}
		case miekg.ClassINET:
			if isMeta(h.Rrtype) || h.Rdlength == 0 && !mayBeEmpty(rr) {
				return miekg.RcodeFormatError
			}
			k := key{name, h.Rrtype}
			if wanted[k] == nil {
				order = append(order, k)
			}
			wanted[k] = append(wanted[k], rr)
		default:
			return miekg.RcodeFormatError
		}
	}
	for _, k := range order {
		if !equalSets(z.Find(k.name, k.typ), wanted[k]) {
			return miekg.RcodeNXRrset
		}
	}
	return miekg.RcodeSuccess
}

// existence is sections 3.2.1 and 3.2.2: something is (ANY), or is not (NONE), at
// a name.
func (z *Zone) existence(name string, h *miekg.RR_Header) int {
	if h.Rdlength != 0 || h.Rrtype != miekg.TypeANY && isMeta(h.Rrtype) {
		return miekg.RcodeFormatError
	}
	there := len(z.Find(name, h.Rrtype)) > 0
	switch {
	case there == (h.Class == miekg.ClassANY):
		return miekg.RcodeSuccess
	case there && h.Rrtype == miekg.TypeANY:
		return miekg.RcodeYXDomain
	case there:
		return miekg.RcodeYXRrset
	case h.Rrtype == miekg.TypeANY:
		return miekg.RcodeNameError
	}
	return miekg.RcodeNXRrset
}

// equalSets tells that two lists hold the same records, whatever their order,
// TTLs and repetitions.
func equalSets(a, b []miekg.RR) bool {
	return subset(a, b) && subset(b, a)
}

func subset(a, b []miekg.RR) bool {
	for _, x := range a {
		if !slices.ContainsFunc(b, func(y miekg.RR) bool { return miekg.IsDuplicate(x, y) }) {
			return false
		}
	}
	return true
}

// prescan is section 3.4.1. It returns the records to work with: copies, in
// which those to be deleted one by one have the class of the zone and the TTL
// deleteOne.
func (z *Zone) prescan(list []miekg.RR) ([]miekg.RR, int) {
	var c copier
	var out []miekg.RR
	for _, rr := range list {
		h := rr.Header()
		if !z.within(h.Name) {
			return nil, miekg.RcodeNotZone
		}
		if z.Signed() && (isSig(rr) || h.Rrtype == miekg.TypeNSEC || h.Rrtype == miekg.TypeNSEC3) {
			return nil, miekg.RcodeRefused
		}
		switch h.Class {
		case miekg.ClassANY:
			if h.Ttl != 0 || h.Rdlength != 0 || h.Rrtype != miekg.TypeANY && isMeta(h.Rrtype) {
				return nil, miekg.RcodeFormatError
			}
			out = append(out, rr)
			continue
		case miekg.ClassINET:
		case miekg.ClassNONE:
			if h.Ttl != 0 {
				return nil, miekg.RcodeFormatError
			}
			rr = miekg.Copy(rr)
			rr.Header().Class = miekg.ClassINET
		default:
			return nil, miekg.RcodeFormatError
		}
		if h.Rdlength == 0 && !mayBeEmpty(rr) {
			return nil, miekg.RcodeFormatError
		}
		own, err := c.copy(rr)
		if err != nil {
			return nil, miekg.RcodeFormatError
		}
		if h.Class == miekg.ClassNONE {
			own.Header().Ttl = deleteOne
		}
		out = append(out, own)
	}
	return out, miekg.RcodeSuccess
}

// deleteOne is the TTL of a record that an update deletes: none that a record of
// a zone has.
const deleteOne = 1<<32 - 1

// update is an UPDATE message being carried out.
type update struct {
	*edit
	signed bool
}

// one is section 3.4.2 for one record.
func (u *update) one(rr miekg.RR) error {
	h := rr.Header()
	name := names.Canonical(h.Name)
	n := u.node(name, covered(rr) == miekg.TypeNSEC3)
	apex := name == u.origin
	switch {
	case h.Class == miekg.ClassANY:
		if n != nil {
			u.clear(n, h.Rrtype, apex)
		}
		return nil
	case h.Ttl == deleteOne:
		last := apex && h.Rrtype == miekg.TypeNS && n.data(miekg.TypeNS).n == 1
		if n != nil && h.Rrtype != miekg.TypeSOA && !last {
			u.remove(rr)
			u.unsign(name, covered(rr))
		}
		return nil
	}
	if n != nil && u.ignored(n, rr, apex) || n == nil && h.Rrtype == miekg.TypeSOA {
		return nil
	}
	switch h.Rrtype {
	case miekg.TypeCNAME, miekg.TypeDNAME, miekg.TypeSOA:
		return u.replace(name, rr)
	}
	if err := u.add(rr); err != nil {
		return err
	}
	return u.level(name, rr)
}

// ignored tells the additions that section 3.4.2.2, and RFC 6672 section 5.2, pass
// over in silence.
func (u *update) ignored(n *node, rr miekg.RR, apex bool) bool {
	switch typ := rr.Header().Rrtype; typ {
	case miekg.TypeSOA:
		old := n.data(miekg.TypeSOA)
		return !apex || !SerialLess(old.all[0].(*miekg.SOA).Serial, rr.(*miekg.SOA).Serial)
	case miekg.TypeCNAME:
		return slices.ContainsFunc(n.sets, func(s rrset) bool { return s.n > 0 && !besideCNAME(s.typ) })
	case miekg.TypeDNAME:
		return n.has&hasCNAME != 0 || !apex && n.has&hasNS != 0
	case miekg.TypeNS:
		return n.has&hasCNAME != 0 || !apex && n.has&hasDNAME != 0
	default:
		return n.has&hasCNAME != 0 && !besideCNAME(covered(rr))
	}
}

// replace puts a record in the place of the set of its type. The zone keeps its
// other limits, so that it fails at nothing but the number of types.
func (u *update) replace(name string, rr miekg.RR) error {
	typ := rr.Header().Rrtype
	if n := u.node(name, false); n != nil {
		if s := n.data(typ); s != nil {
			if s.n == 1 && same(s.all[0], rr) {
				return nil
			}
			for _, old := range s.all {
				u.remove(old)
			}
		}
	}
	return u.add(rr)
}

// level gives the other records of a set the TTL of one that was added (RFC 2181
// section 5.2).
func (u *update) level(name string, rr miekg.RR) error {
	typ := covered(rr)
	if isSig(rr) {
		return nil
	}
	n := u.node(name, typ == miekg.TypeNSEC3)
	for _, old := range n.data(typ).records(false) {
		if old.Header().Ttl == rr.Header().Ttl {
			continue
		}
		changed := miekg.Copy(old)
		changed.Header().Ttl = rr.Header().Ttl
		if err := u.add(changed); err != nil {
			return err
		}
	}
	return nil
}

// clear deletes the sets of a type, or of all for ANY, with their signatures. The
// SOA and NS records at the origin remain (section 3.4.2.3), and, where clients
// delete everything there is in a signed zone, the signer's.
func (u *update) clear(n *node, typ uint16, apex bool) {
	for _, s := range slices.Clone(n.sets) {
		switch {
		case typ == miekg.TypeRRSIG:
			s.all = s.signatures()
		case typ != miekg.TypeANY && s.typ != typ:
			continue
		case apex && (s.typ == miekg.TypeSOA || s.typ == miekg.TypeNS):
			continue
		case apex && typ == miekg.TypeANY && u.signed && signers(s.typ):
			continue
		}
		for _, rr := range s.all {
			u.remove(rr)
		}
	}
}

// signers tells the types at the origin that keep a signed zone signed.
func signers(typ uint16) bool {
	switch typ {
	case miekg.TypeDNSKEY, miekg.TypeCDNSKEY, miekg.TypeCDS, miekg.TypeNSEC, miekg.TypeNSEC3PARAM:
		return true
	}
	return false
}

// unsign drops the signatures of a set that has no record left.
func (u *update) unsign(name string, typ uint16) {
	n := u.node(name, typ == miekg.TypeNSEC3)
	if n == nil {
		return
	}
	if s := n.set(typ); s != nil && s.n == 0 {
		for _, rr := range s.all {
			u.remove(rr)
		}
	}
}
