package zone

import (
	"fmt"

	miekg "github.com/miekg/dns"

	"postrider/dns/names"
)

// check tells what records must not stand together at a name.
func (e *edit) check(n *node) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s %s", ErrInvalid, n.name, fmt.Sprintf(format, args...))
	}
	for i := range n.sets {
		s := &n.sets[i]
		switch {
		case s.n == 0:
		case n != e.apex && (s.typ == miekg.TypeSOA || s.typ == miekg.TypeNSEC3PARAM):
			return bad("has a record of type %s, which belongs to the origin", miekg.Type(s.typ))
		case n == e.apex && s.typ == miekg.TypeDS:
			return bad("has a DS record, which belongs to the zone above (RFC 4035 section 2.4)")
		case s.n > 1 && (s.typ == miekg.TypeCNAME || s.typ == miekg.TypeDNAME):
			return bad("has %d records of type %s; one is the most (RFC 2181 section 10.1, RFC 6672 section 2.4)", s.n, miekg.Type(s.typ))
		case n.has&hasCNAME != 0 && !besideCNAME(s.typ):
			return bad("is an alias (CNAME) and has a record of type %s besides (RFC 1034 section 3.6.2)", miekg.Type(s.typ))
		case s.typ == miekg.TypeDNAME && n != e.apex && n.has&hasNS != 0:
			return bad("has DNAME and NS records together (RFC 6672 section 2.3)")
		}
	}
	return nil
}

// besideCNAME tells the types that may stand with a CNAME record (RFC 4034
// section 3, section 4, RFC 2535 for KEY).
func besideCNAME(typ uint16) bool {
	switch typ {
	case miekg.TypeCNAME, miekg.TypeNSEC, miekg.TypeRRSIG, miekg.TypeKEY:
		return true
	}
	return false
}

// Problems tells what is probably wrong with a zone that can be served all the
// same, one line each, at most limit of them (0: all).
func (z *Zone) Problems(limit int) []string {
	var list []string
	say := func(format string, args ...any) {
		if limit == 0 || len(list) < limit {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	z.visit(func(n *node, p position) bool {
		for i := range n.sets {
			z.doubts(n, p, &n.sets[i], say)
		}
		return limit == 0 || len(list) < limit
	})
	return list
}

// doubts says what is doubtful about one set.
func (z *Zone) doubts(n *node, p position, s *rrset, say func(string, ...any)) {
	if p == occluded && s.typ != miekg.TypeA && s.typ != miekg.TypeAAAA && s.n > 0 {
		say("%s %s is below a delegation or DNAME and is never seen", n.name, miekg.Type(s.typ))
		return
	}
	if n.key == "*" && s.n > 0 && (s.typ == miekg.TypeNS || s.typ == miekg.TypeDNAME) {
		say("%s %s: its meaning at a wildcard is undefined (RFC 4592 sections 4.2 and 4.4)", n.name, miekg.Type(s.typ))
	}
	for _, rr := range s.records(false) {
		t := target(rr, n.name)
		if t == "" || t == "." {
			continue
		}
		t = names.Canonical(t)
		var l labels
		if !l.split(t) || l.below(z.origin, z.labels) < 0 {
			continue
		}
		found, where := z.raw(&l)
		switch {
		case where == missing && s.typ == miekg.TypeNS:
			say("%s NS %s has no address here (RFC 1034 section 4.2.1)", n.name, t)
		case where == missing:
			say("%s %s %s does not exist", n.name, miekg.Type(s.typ), t)
		case found.has&hasCNAME != 0:
			say("%s %s %s is an alias (RFC 2181 section 10.3)", n.name, miekg.Type(s.typ), t)
		case s.typ == miekg.TypeNS && found.data(miekg.TypeA) == nil && found.data(miekg.TypeAAAA) == nil &&
			(where == occluded || p != delegation || miekg.IsSubDomain(n.name, t)):
			say("%s NS %s has no address here (RFC 1034 section 4.2.1)", n.name, t)
		}
	}
}
