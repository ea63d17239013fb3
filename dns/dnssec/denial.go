package dnssec

import (
	"github.com/miekg/dns"

	"postrider/dns/names"
)

// Existence is what records prove about a name and type.
type Existence uint8

const (
	Unproven Existence = iota // nothing that answers the question
	NoName                    // neither the name nor a wildcard for it (NXDOMAIN)
	NoData                    // the name, or the wildcard for it, has no such type
	Expands                   // the name is not there; a wildcard may answer for it
)

// Denial is the outcome of Deny.
type Denial struct {
	Existence Existence

	// Encloser is the closest ancestor of the name that exists, when the name
	// itself does not. A wildcard that answers for the name stands there.
	Encloser string

	// Delegation: the name is a zone cut without DS. Only for type DS.
	Delegation bool

	// OptOut: the proof leaves room for unsigned delegations (RFC 5155 section
	// 6). What it says is insecure.
	OptOut bool

	// Iterations is the count of an NSEC3 chain that asks for more work than is
	// done here (RFC 9276 section 3.2); 0 else. Nothing is proven then.
	Iterations uint16

	// Used are the records that the proof rests on.
	Used []dns.RR
}

// Deny says what NSEC or NSEC3 records prove about a question. The records must
// be validated, and signed by zone; those of other zones are ignored. All names
// are canonical. It is what negative answers are checked with, and what lets a
// resolver answer from the records of other questions (RFC 8198): NoName and
// NoData without OptOut may be answered so; Expands needs the wildcard's own
// records, which are at "*." + Encloser.
func Deny(zone, name string, typ uint16, records []dns.RR) Denial {
	d, err := deny(&budget{}, zone, name, typ, records)
	if err != nil {
		return Denial{}
	}
	return d
}

// deny is Deny within a budget of hashes.
func deny(b *budget, zone, name string, typ uint16, records []dns.RR) (Denial, error) {
	if !dns.IsSubDomain(zone, name) {
		return Denial{}, nil
	}
	var plain []*dns.NSEC
	var hashed []*dns.NSEC3
	for _, rr := range records {
		switch rr := rr.(type) {
		case *dns.NSEC:
			if dns.IsSubDomain(zone, rr.Hdr.Name) && dns.IsSubDomain(zone, rr.NextDomain) {
				plain = append(plain, rr)
			}
		case *dns.NSEC3:
			hashed = append(hashed, rr)
		}
	}
	if d := denyPlain(zone, name, typ, plain); d.Existence != Unproven {
		return d, nil
	}
	return denyHashed(b, zone, name, typ, hashed)
}

// denyPlain follows RFC 4035 section 5.4 and RFC 6840 sections 4.1 to 4.4.
func denyPlain(zone, name string, typ uint16, records []*dns.NSEC) Denial {
	if rr := matching(name, records); rr != nil {
		if !lacks(rr.TypeBitMap, zone, name, typ) {
			return Denial{}
		}
		return Denial{Existence: NoData, Delegation: typ == dns.TypeDS && has(rr.TypeBitMap, dns.TypeNS), Used: []dns.RR{rr}}
	}
	rr := covering(zone, name, records)
	if rr == nil {
		return Denial{}
	}
	next := dns.CanonicalName(rr.NextDomain)
	if above(name, next) { // an empty non-terminal: there is something below it
		return Denial{Existence: NoData, Used: []dns.RR{rr}}
	}
	encloser := commonAncestor(name, dns.CanonicalName(rr.Hdr.Name))
	if other := commonAncestor(name, next); dns.CountLabel(other) > dns.CountLabel(encloser) {
		encloser = other
	}
	d := Denial{Existence: Expands, Encloser: encloser, Used: []dns.RR{rr}}
	star := names.Wildcard(encloser)
	if w := matching(star, records); w != nil {
		if lacks(w.TypeBitMap, zone, star, typ) && !delegates(w.TypeBitMap) {
			d.Existence = NoData
			d.Used = append(d.Used, w)
		}
		return d
	}
	w := covering(zone, star, records)
	if w == nil {
		return d
	}
	d.Used = append(d.Used, w)
	d.Existence = NoName
	if above(star, dns.CanonicalName(w.NextDomain)) { // the wildcard is an empty non-terminal
		d.Existence = NoData
	}
	return d
}

// matching is the record at name, or nil.
func matching(name string, records []*dns.NSEC) *dns.NSEC {
	for _, rr := range records {
		if dns.CanonicalName(rr.Hdr.Name) == name {
			return rr
		}
	}
	return nil
}

// covering is a record whose span contains name, or nil. A record at a
// delegation or a DNAME above the name says nothing about it (RFC 6840 section
// 4.1): that is the parent's record, or the names are redirected.
func covering(zone, name string, records []*dns.NSEC) *dns.NSEC {
	for _, rr := range records {
		owner, next := dns.CanonicalName(rr.Hdr.Name), dns.CanonicalName(rr.NextDomain)
		if names.Compare(owner, name) >= 0 {
			continue
		}
		// The last record of a zone points to the apex.
		if next != zone && names.Compare(name, next) >= 0 {
			continue
		}
		if above(owner, name) && (delegates(rr.TypeBitMap) || has(rr.TypeBitMap, dns.TypeDNAME)) {
			continue
		}
		return rr
	}
	return nil
}

func has(types []uint16, typ uint16) bool {
	for _, t := range types {
		if t == typ {
			return true
		}
	}
	return false
}

// delegates says that a bitmap is the parent's at a zone cut.
func delegates(types []uint16) bool { return has(types, dns.TypeNS) && !has(types, dns.TypeSOA) }

// lacks says that a bitmap of name proves that the type is not there: neither it
// nor an alias is listed, and the bitmap is of the side of a zone cut that
// answers for the type (RFC 4035 section 5.2, RFC 6840 section 4.4).
func lacks(types []uint16, zone, name string, typ uint16) bool {
	if has(types, typ) || has(types, dns.TypeCNAME) {
		return false
	}
	if typ == dns.TypeDS {
		return name != zone || name == "."
	}
	return !delegates(types)
}
