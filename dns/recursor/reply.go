package recursor

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/exchange"
)

// result is what a server's answer to one question says: exactly one of piece
// and cut is set. With a cut there may be what the parent says of the child's
// keys.
type result struct {
	piece *piece
	cut   *cut
	ds    *piece
	root  *cut // beside a piece that holds the NS records of the root
}

// The ways in which an answer is of no use.
var (
	errLame   = errors.New("it does not serve the zone")
	errServer = errors.New("it failed")
	errEmpty  = errors.New("a record in its answer is empty")
)

// read judges an answer to the question q from a server of zone. Nothing of it
// is used but records of the question's own name, an alias above it (DNAME),
// the SOA record and proofs of zone, and a delegation between zone and the name
// with addresses of its servers that are in zone too. In chained mode servers
// answer on behalf of others.
func read(zone string, q key, m *miekg.Msg, chained bool) (*result, error) {
	switch m.Rcode {
	case miekg.RcodeSuccess, miekg.RcodeNameError:
	case miekg.RcodeRefused, miekg.RcodeNotAuth:
		return nil, fmt.Errorf("%w: %s", errLame, exchange.RcodeText(m.Rcode))
	default:
		return nil, fmt.Errorf("%w: %s", errServer, exchange.RcodeText(m.Rcode))
	}
	p := &piece{key: q, zone: zone}
	if err := readAnswer(zone, p, m); err != nil {
		return nil, err
	}
	// A server that recurses and is not authoritative answers from somebody
	// else's words.
	if !m.Authoritative && m.RecursionAvailable && !chained {
		return nil, fmt.Errorf("%w: it only knows it from others", errLame)
	}
	// Some servers answer with the glue that they have of a zone below.
	if p.kind != failed && !m.Authoritative && !chained {
		if c, err := readCut(zone, q.name, m); err == nil && c != nil {
			return &result{cut: c, ds: readDS(zone, c, m)}, nil
		}
	}
	if p.kind != failed {
		if expanded(p.answer) {
			p.ns = proofs(zone, m.Ns, false)
		}
		p.ttl = min(p.ttl, maxTTL)
		return &result{piece: p}, nil
	}
	soa := soaOf(zone, q.name, m.Ns)
	if soa == nil && m.Rcode == miekg.RcodeSuccess && !chained {
		if c, err := readCut(zone, q.name, m); c != nil || err != nil {
			return &result{cut: c, ds: readDS(zone, c, m)}, err
		}
	}
	if soa == nil && !m.Authoritative {
		return nil, fmt.Errorf("%w: neither an answer nor a delegation", errLame)
	}
	p.kind = noData
	if m.Rcode == miekg.RcodeNameError {
		p.kind = notExist
	}
	if soa != nil { // without one it is not to be kept: RFC 2308 section 5
		p.ttl = min(seconds(soa.Hdr.Ttl), seconds(soa.Minttl), maxNegativeTTL)
	}
	p.ns = proofs(zone, m.Ns, true)
	return &result{piece: p}, nil
}

// expanded tells that records were made from a wildcard, by the labels that
// were signed (RFC 4035 section 5.3.4): then the proof goes with them that no
// closer name exists.
func expanded(rrs []miekg.RR) bool {
	for _, rr := range rrs {
		if sig, ok := rr.(*miekg.RRSIG); ok && int(sig.Labels) < miekg.CountLabel(strings.TrimPrefix(sig.Hdr.Name, "*.")) {
			return true
		}
	}
	return false
}

// readAnswer fills in the records of the question from the answer section:
// those of the type asked for, else an alias.
func readAnswer(zone string, p *piece, m *miekg.Msg) error {
	var cname, dname *set
	own := &set{}
	for _, rr := range m.Answer {
		h := rr.Header()
		name := miekg.CanonicalName(h.Name)
		if h.Class != miekg.ClassINET || !miekg.IsSubDomain(zone, name) {
			continue
		}
		if h.Rdlength == 0 && h.Rrtype != miekg.TypeNULL && h.Rrtype != miekg.TypeAPL {
			return errEmpty // the library makes zero values of it
		}
		covered := h.Rrtype
		if sig, ok := rr.(*miekg.RRSIG); ok && p.key.typ != miekg.TypeRRSIG {
			covered = sig.TypeCovered
		}
		switch {
		case name == p.key.name && (covered == p.key.typ || p.key.typ == miekg.TypeANY):
			own.add(rr, covered)
		case name == p.key.name && covered == miekg.TypeCNAME:
			cname = cname.add(rr, covered)
		case covered == miekg.TypeDNAME && name != p.key.name && miekg.IsSubDomain(name, p.key.name):
			dname = dname.add(rr, covered)
		}
	}
	// Below a DNAME record nothing is but what it makes.
	made := p.key.typ == miekg.TypeCNAME || p.key.typ == miekg.TypeANY
	switch {
	case own.data > 0 && (dname == nil || !made):
		p.kind, p.answer, p.ttl = positive, own.rrs, own.ttl
		if c, ok := own.rrs[0].(*miekg.CNAME); ok && p.key.typ == miekg.TypeCNAME {
			p.kind, p.target = alias, miekg.CanonicalName(c.Target)
		}
	case dname != nil && dname.data == 1:
		return p.redirect(dname)
	case cname != nil && cname.data == 1:
		c, ok := cname.first.(*miekg.CNAME)
		if !ok {
			return errEmpty
		}
		p.kind, p.answer, p.ttl = alias, cname.rrs, cname.ttl
		p.target = miekg.CanonicalName(c.Target)
	case cname != nil || dname != nil:
		return fmt.Errorf("%w: several aliases of one name", errServer)
	}
	return nil
}

// redirect makes the alias that a DNAME record means (RFC 6672 section 3.4);
// the server's own is not used.
func (p *piece) redirect(s *set) error {
	d, ok := s.first.(*miekg.DNAME)
	if !ok {
		return errEmpty
	}
	owner := miekg.CanonicalName(d.Hdr.Name)
	target := miekg.CanonicalName(d.Target)
	name := p.key.name[:len(p.key.name)-len(owner)]
	if owner == "." {
		name = p.key.name
	}
	if target != "." {
		name += target
	}
	if _, ok := miekg.IsDomainName(name); !ok {
		return fmt.Errorf("%w: the name is too long behind a DNAME record", errServer)
	}
	p.kind, p.target, p.ttl = alias, name, s.ttl
	p.answer = append(s.rrs, &miekg.CNAME{
		Hdr:    miekg.RR_Header{Name: p.key.name, Rrtype: miekg.TypeCNAME, Class: miekg.ClassINET, Ttl: d.Hdr.Ttl},
		Target: name,
	})
	return nil
}

// set is a set of records with its signatures.
type set struct {
	rrs   []miekg.RR
	first miekg.RR // the first that is not a signature
	data  int      // records that are not signatures
	ttl   time.Duration
}

// add adds a record and gives the set its least TTL (RFC 2181 section 5.2). A
// nil set is an empty one.
func (s *set) add(rr miekg.RR, covered uint16) *set {
	if s == nil {
		s = &set{}
	}
	if len(s.rrs) >= maxRecords {
		return s
	}
	for _, have := range s.rrs {
		if miekg.IsDuplicate(have, rr) && have.Header().Rrtype == rr.Header().Rrtype {
			return s
		}
		if len(s.rrs) > 64 {
			break // doubles do no harm, and looking for them costs the square
		}
	}
	ttl := seconds(rr.Header().Ttl)
	if len(s.rrs) == 0 || ttl < s.ttl {
		s.ttl = ttl
	}
	s.rrs = append(s.rrs, rr)
	if rr.Header().Rrtype == covered {
		if s.data == 0 {
			s.first = rr
		}
		s.data++
	}
	return s
}

// soaOf is the SOA record of a negative answer: of the zone, or of one between
// it and the name that the same server has.
func soaOf(zone, name string, rrs []miekg.RR) *miekg.SOA {
	for _, rr := range rrs {
		soa, ok := rr.(*miekg.SOA)
		if !ok || soa.Hdr.Class != miekg.ClassINET || soa.Hdr.Rdlength == 0 {
			continue
		}
		owner := miekg.CanonicalName(soa.Hdr.Name)
		if miekg.IsSubDomain(zone, owner) && miekg.IsSubDomain(owner, name) {
			return soa
		}
	}
	return nil
}

// proofs are the records of an authority section that prove something, of
// names in the zone: NSEC and NSEC3 with signatures, and the SOA record.
func proofs(zone string, rrs []miekg.RR, soa bool) []miekg.RR {
	var list []miekg.RR
	for _, rr := range rrs {
		typ := rr.Header().Rrtype
		if sig, ok := rr.(*miekg.RRSIG); ok {
			typ = sig.TypeCovered
		}
		switch {
		case rr.Header().Class != miekg.ClassINET || rr.Header().Rdlength == 0:
		case typ != miekg.TypeNSEC && typ != miekg.TypeNSEC3 && (!soa || typ != miekg.TypeSOA):
		case !miekg.IsSubDomain(zone, miekg.CanonicalName(rr.Header().Name)):
		case len(list) >= maxProofs:
		default:
			list = append(list, rr)
		}
	}
	return list
}

// readCut reads a delegation; nil if there is none. One that is not below zone
// leads nowhere.
func readCut(zone, name string, m *miekg.Msg) (*cut, error) {
	c := &cut{parent: zone, ttl: maxTTL}
	for _, rr := range m.Ns {
		ns, ok := rr.(*miekg.NS)
		if !ok || ns.Hdr.Class != miekg.ClassINET || ns.Hdr.Rdlength == 0 {
			continue
		}
		owner := miekg.CanonicalName(ns.Hdr.Name)
		if !miekg.IsSubDomain(owner, name) || c.zone != "" && c.zone != owner {
			continue
		}
		if owner == zone || !miekg.IsSubDomain(zone, owner) {
			if m.Authoritative {
				continue // the NS records of the zone itself beside an empty answer
			}
			return nil, fmt.Errorf("%w: it refers to %s", errLame, owner)
		}
		c.zone = owner
		c.ttl = min(c.ttl, seconds(ns.Hdr.Ttl))
		if server := miekg.CanonicalName(ns.Ns); len(c.servers) < maxServers && !slices.Contains(c.servers, server) {
			c.servers = append(c.servers, server)
		}
	}
	if c.zone == "" {
		return nil, nil
	}
	c.readGlue(zone, m.Extra)
	return c, nil
}

// readRoot makes of the root's own answer to a priming query the delegation
// that the root has nowhere else, with the addresses beside it (RFC 8109
// section 3.3).
func readRoot(p *piece, m *miekg.Msg) *cut {
	c := &cut{zone: ".", ttl: p.ttl}
	for _, rr := range p.answer {
		if ns, ok := rr.(*miekg.NS); ok && len(c.servers) < maxServers {
			c.servers = append(c.servers, miekg.CanonicalName(ns.Ns))
		}
	}
	c.readGlue(".", m.Extra)
	return c
}

// readGlue takes the addresses of the delegation's servers that are in zone,
// that of the server that says so.
func (c *cut) readGlue(zone string, rrs []miekg.RR) {
	c.glue = map[string][]address{}
	for _, rr := range rrs {
		server := miekg.CanonicalName(rr.Header().Name)
		a := addressOf(rr)
		if rr.Header().Class != miekg.ClassINET || !a.IsValid() || len(c.glue[server]) >= maxGlue {
			continue
		}
		if miekg.IsSubDomain(zone, server) && slices.Contains(c.servers, server) {
			c.glue[server] = append(c.glue[server], a)
		}
	}
}

// readDS takes from a referral what the parent says of the child's keys: DS
// records, or the proof that there are none (RFC 4035 section 3.1.4).
func readDS(zone string, c *cut, m *miekg.Msg) *piece {
	if c == nil {
		return nil
	}
	ds := &set{}
	for _, rr := range m.Ns {
		covered := rr.Header().Rrtype
		if sig, ok := rr.(*miekg.RRSIG); ok {
			covered = sig.TypeCovered
		}
		if covered == miekg.TypeDS && rr.Header().Class == miekg.ClassINET && rr.Header().Rdlength > 0 &&
			miekg.CanonicalName(rr.Header().Name) == c.zone {
			ds.add(rr, covered)
		}
	}
	p := &piece{key: key{c.zone, miekg.TypeDS}, zone: zone}
	if ds.data > 0 {
		p.kind, p.answer, p.ttl = positive, ds.rrs, min(ds.ttl, maxTTL)
		return p
	}
	p.ns = proofs(zone, m.Ns, false)
	if len(p.ns) == 0 {
		return nil
	}
	p.kind, p.ttl = noData, maxNegativeTTL
	for _, rr := range p.ns {
		p.ttl = min(p.ttl, seconds(rr.Header().Ttl))
	}
	return p
}

// seconds is a TTL; one with the highest bit set counts as 0 (RFC 2181
// section 8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}
