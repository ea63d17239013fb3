package recursor

import (
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/exchange"
	"postrider/internal/clock"
)

// Whatever a server of evil.com answers: what is taken from it is of its own
// zone and of the question, delegations lead down and towards the name, and all
// is bounded.
func FuzzRead(f *testing.F) {
	const zone = "evil.com."
	questions := []key{{"www.evil.com.", miekg.TypeA}, {"evil.com.", miekg.TypeNS}, {"a.b.evil.com.", miekg.TypeCNAME}, {"b.evil.com.", miekg.TypeDS}, {"evil.com.", miekg.TypeANY}}
	for i, records := range [][3][]string{
		{{"www.evil.com. 300 IN A 9.9.9.9"}, {"evil.com. 300 IN NS ns.bank.org."}, {"ns.bank.org. 300 IN A 6.6.6.6"}},
		{{"evil.com. 300 IN NS ns.evil.com."}, nil, {"ns.evil.com. 300 IN A 9.9.9.9"}},
		{{"b.evil.com. 300 IN DNAME bank.org.", "a.b.evil.com. 300 IN CNAME www.bank.org."}, nil, nil},
		{nil, {"b.evil.com. 300 IN NS ns.b.evil.com.", "b.evil.com. 300 IN DS 1 8 2 00"}, {"ns.b.evil.com. 300 IN A 9.9.9.9"}},
		{nil, {"com. 300 IN SOA a. b. 1 2 3 4 5", "evil.com. 300 IN SOA a. b. 1 2 3 4 5"}, nil},
		{{"www.evil.com. 4294967295 IN CNAME www.evil.com."}, {"x.evil.com. 1 IN NSEC y.evil.com. A", "y.org. 1 IN NSEC z.org. A"}, nil},
	} {
		for j, q := range questions {
			m := new(miekg.Msg).SetQuestion(q.name, q.typ)
			m.Response, m.Authoritative = true, (i+j)%2 == 0
			for k, section := range []*[]miekg.RR{&m.Answer, &m.Ns, &m.Extra} {
				for _, s := range records[k] {
					*section = append(*section, rr(f, s))
				}
			}
			b, err := m.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b, byte(j))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, which byte) {
		if len(b) > miekg.MaxMsgSize {
			return
		}
		m, err := exchange.Parse(b)
		if err != nil {
			return
		}
		began := clock.Processor()
		q := questions[int(which)%len(questions)]
		res, err := read(zone, q, m, false)
		if took := clock.Processor() - began; took > time.Second {
			t.Errorf("took %v", took)
		}
		if err != nil {
			if res != nil && (res.piece != nil || res.cut != nil) {
				t.Errorf("a result beside %v", err)
			}
			return
		}
		if (res.piece == nil) == (res.cut == nil) {
			t.Fatalf("%+v", res)
		}
		if res.cut != nil {
			checkCut(t, zone, q, res.cut)
		}
		for _, p := range []*piece{res.piece, res.ds} {
			if p != nil {
				checkPiece(t, zone, q, p)
			}
		}
	})
}

func checkCut(t *testing.T, zone string, q key, c *cut) {
	t.Helper()
	if c.zone == zone || !miekg.IsSubDomain(zone, c.zone) || !miekg.IsSubDomain(c.zone, q.name) {
		t.Errorf("a server of %s refers to %s for %s", zone, c.zone, q.name)
	}
	if len(c.servers) == 0 || len(c.servers) > maxServers || c.ttl < 0 || c.ttl > maxTTL {
		t.Errorf("%d servers, %v", len(c.servers), c.ttl)
	}
	for name, list := range c.glue {
		if !miekg.IsSubDomain(zone, name) || len(list) == 0 || len(list) > maxGlue {
			t.Errorf("glue of %s: %v", name, list)
		}
	}
}

func checkPiece(t *testing.T, zone string, q key, p *piece) {
	t.Helper()
	if p.kind == failed || p.ttl < 0 || p.ttl > maxTTL || len(p.answer) > maxRecords+1 || len(p.ns) > maxProofs || !miekg.IsSubDomain(zone, p.key.name) {
		t.Errorf("%+v", p)
	}
	if p.key != q && p.key.typ != miekg.TypeDS {
		t.Errorf("%v is kept for the question %v", p.key, q)
	}
	for _, rr := range p.answer {
		name := miekg.CanonicalName(rr.Header().Name)
		redirect := miekg.IsSubDomain(name, p.key.name) && p.kind == alias
		if name != p.key.name && !redirect || !miekg.IsSubDomain(zone, name) {
			t.Errorf("%v is kept for %v", rr, p.key)
		}
	}
	for _, rr := range p.ns {
		if !miekg.IsSubDomain(zone, miekg.CanonicalName(rr.Header().Name)) {
			t.Errorf("%v is kept beside %v", rr, p.key)
		}
	}
	if (p.kind == positive || p.kind == alias) != (len(p.answer) > 0) || (p.kind == alias) != (p.target != "") {
		t.Errorf("%+v", p)
	}
}
