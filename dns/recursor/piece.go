package recursor

import (
	"time"

	miekg "github.com/miekg/dns"
)

// key is a question of class IN; name is canonical.
type key struct {
	name string
	typ  uint16
}

func (k key) question() miekg.Question {
	return miekg.Question{Name: k.name, Qtype: k.typ, Qclass: miekg.ClassINET}
}

// anyType is the type under which a name that does not exist is kept, which
// holds for every type.
const anyType = uint16(miekg.TypeNone)

// kind is what a piece says.
type kind uint8

const (
	failed   kind = iota // nobody could tell: piece.err says why
	positive             // piece.answer are the records
	alias                // piece.answer has a CNAME record, to piece.target
	noData               // the name has no such record
	notExist             // the name does not exist
)

// piece is what one question to the servers of one zone brought: one set of
// records, one alias, or the proof that there is none. Pieces never change once
// they are made, nor do their records.
type piece struct {
	key    key // as asked, also where kind says that it holds for all types
	kind   kind
	target string     // of an alias
	answer []miekg.RR // one set with its signatures; for a DNAME that set and the alias made of it
	ns     []miekg.RR // the SOA record and proofs, with signatures
	zone   string     // whose servers said so
	server string     // who did
	addr   address    // where it was asked
	err    error

	ttl    time.Duration // how long it may be kept; 0 = for this question only
	stored time.Time

	checked  bool // what follows was found out
	security Security
	ede      uint16 // RFC 8914; meaningful when edeText != "" or bogus
	edeText  string
}

func (p *piece) expires() time.Time { return p.stored.Add(p.ttl) }

// left is how long the piece holds from now on; not above 0 when it is over.
func (p *piece) left(now time.Time) time.Duration { return p.expires().Sub(now) }

// slot is the key under which the cache keeps the piece.
func (p *piece) slot() key {
	switch p.kind {
	case notExist:
		return key{p.key.name, anyType}
	case alias:
		return key{p.key.name, miekg.TypeCNAME}
	}
	return p.key
}

// message is the piece as an answer that a validator reads.
func (p *piece) message() *miekg.Msg {
	m := new(miekg.Msg)
	m.Question = []miekg.Question{p.key.question()}
	m.Response = true
	m.Answer, m.Ns = p.answer, p.ns
	if p.kind == notExist {
		m.Rcode = miekg.RcodeNameError
	}
	return m
}

// cut is a delegation: a zone and the servers that its parent names, with the
// addresses that the parent gave. It says whom to ask and is no answer.
type cut struct {
	zone    string
	servers []string // names, canonical
	glue    map[string][]address
	ttl     time.Duration
	stored  time.Time
	parent  string // the zone whose server said so; "" for the root
}

func (c *cut) expires() time.Time { return c.stored.Add(c.ttl) }

// cost estimates the memory of records from above: their octets, and what Go's
// values take around them.
func cost(rrs []miekg.RR) int {
	n := 0
	for _, rr := range rrs {
		n += 192 + 2*miekg.Len(rr)
	}
	return n
}

func (p *piece) cost() int {
	return 512 + 3*len(p.key.name) + len(p.target) + len(p.zone) + len(p.edeText) + cost(p.answer) + cost(p.ns)
}

func (c *cut) cost() int {
	n := 640 + 2*len(c.zone)
	for _, s := range c.servers {
		n += 48 + len(s)
	}
	for name, list := range c.glue {
		n += 160 + len(name) + 48*len(list)
	}
	return n
}
