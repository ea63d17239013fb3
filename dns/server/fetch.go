package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/zone"
)

const (
	// maxFetchOctets and maxFetchRecords bound a zone that a primary sends.
	maxFetchOctets  = 256 << 20
	maxFetchRecords = 4_000_000
)

// fetched is what a transfer brought: the changes, or a whole zone in place of
// them; neither where nothing is newer.
type fetched struct {
	diffs []zone.Diff
	whole *zone.Zone
}

// fetch transfers a zone from a primary. With have it asks for what has changed
// since (RFC 1995), else for all (RFC 5936).
func (s *Server) fetch(ctx context.Context, r Remote, key *Key, name string, have *zone.Zone) (*fetched, error) {
	m := new(miekg.Msg)
	m.SetAxfr(name)
	if have != nil {
		m.Question[0].Qtype = miekg.TypeIXFR
		m.Ns = []miekg.RR{have.SOA()}
	}
	wire, sig, err := s.pack(m, key)
	if err != nil {
		return nil, err
	}
	asking := s.asking("tcp", r.Addr, m, wire)
	in := &incoming{origin: name, have: have}
	got, err := s.receive(ctx, r.Addr, wire, m, sig, in)
	if asking != nil {
		asking.brought(in, err)
	}
	return got, err
}

// receive sends the request for a transfer and takes what comes.
func (s *Server) receive(ctx context.Context, addr string, wire []byte, m *miekg.Msg, sig *signature, in *incoming) (*fetched, error) {
	ctx, cancel := withTimeout(ctx, s.clock, transferTime)
	defer cancel()
	conn, err := s.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, ended(ctx, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	idle := s.clock.AfterFunc(transferIdle, func() { conn.Close() })
	defer idle.Stop()
	if err := writeMessage(conn, wire); err != nil {
		return nil, ended(ctx, err)
	}
	octets := 0
	for !in.done {
		wire, err := readMessage(conn)
		if err != nil {
			return nil, fmt.Errorf("the transfer broke off: %w", ended(ctx, err))
		}
		idle.Reset(transferIdle)
		if octets += len(wire); octets > maxFetchOctets {
			return nil, fmt.Errorf("the zone has more than %d octets", maxFetchOctets)
		}
		reply, err := s.unpack(wire, m.Id, sig)
		if err != nil {
			return nil, err
		}
		if err := in.message(reply, m.Question[0]); err != nil {
			return nil, err
		}
	}
	if sig != nil && len(sig.between) > 0 {
		return nil, errors.New("the end of the transfer is not signed") // RFC 8945 section 5.3.1
	}
	return in.result()
}

// rcodeError is a refusal by another server.
type rcodeError int

func (e rcodeError) Error() string {
	return "the server says " + miekg.RcodeToString[int(e)]
}

// incoming reads the records of a transfer.
type incoming struct {
	origin string
	have   *zone.Zone
	first  *miekg.SOA // of the new version
	count  int
	done   bool
	steps  bool // differences follow, as RFC 1995 section 4 has them
	adding bool
	all    []miekg.RR
	diffs  []zone.Diff
}

// message takes the records of one message.
func (in *incoming) message(m *miekg.Msg, q miekg.Question) error {
	switch {
	case m.Rcode != miekg.RcodeSuccess:
		return rcodeError(m.Rcode)
	case len(m.Question) > 1, len(m.Question) == 1 && (m.Question[0].Qtype != q.Qtype || miekg.CanonicalName(m.Question[0].Name) != in.origin):
		return errors.New("the reply is to another question")
	case len(m.Answer) == 0:
		return errors.New("a message of the transfer is empty")
	}
	for i, rr := range m.Answer {
		if in.done {
			return errors.New("records follow the end of the transfer")
		}
		if in.count++; in.count > maxFetchRecords {
			return fmt.Errorf("the zone has more than %d records", maxFetchRecords)
		}
		h := rr.Header()
		if h.Class != miekg.ClassINET || !miekg.IsSubDomain(in.origin, miekg.CanonicalName(h.Name)) {
			return fmt.Errorf("%s does not belong to the zone", h.Name)
		}
		soa, isSOA := rr.(*miekg.SOA)
		if isSOA && miekg.CanonicalName(h.Name) != in.origin {
			return fmt.Errorf("a SOA record at %s", h.Name)
		}
		if err := in.record(rr, soa, i == len(m.Answer)-1); err != nil {
			return err
		}
	}
	return nil
}

// record takes one record; soa is not nil for the type SOA. last tells that its
// message has no other.
func (in *incoming) record(rr miekg.RR, soa *miekg.SOA, last bool) error {
	switch {
	case in.first == nil:
		if soa == nil {
			return errors.New("the transfer does not begin with a SOA record")
		}
		in.first = soa
		// RFC 1995 section 4: the SOA alone says that nothing is newer.
		if in.have != nil && !newer(soa.Serial, in.have.Serial()) {
			in.done = true
			if !last {
				return errors.New("the primary's version is older than ours")
			}
		}
	case in.count == 2 && in.have != nil && soa != nil && soa.Serial == in.have.Serial():
		in.steps = true
		in.diffs = append(in.diffs, zone.Diff{From: soa})
	case in.steps:
		return in.step(rr, soa)
	case soa != nil:
		if in.done = soa.Serial == in.first.Serial; !in.done {
			return errors.New("the zone changed during the transfer")
		}
	default:
		in.all = append(in.all, rr)
	}
	return nil
}

// step takes one record of the differences: each begins with the old SOA and what
// goes, then the new SOA and what comes; the newest SOA ends all.
func (in *incoming) step(rr miekg.RR, soa *miekg.SOA) error {
	d := &in.diffs[len(in.diffs)-1]
	switch {
	case soa == nil && in.adding:
		d.Added = append(d.Added, rr)
	case soa == nil:
		d.Deleted = append(d.Deleted, rr)
	case !in.adding:
		d.To, in.adding = soa, true
	case soa.Serial == in.first.Serial && d.To.Serial == soa.Serial:
		in.done = true
	case soa.Serial != d.To.Serial:
		return errors.New("the differences do not follow each other")
	default:
		in.diffs, in.adding = append(in.diffs, zone.Diff{From: soa}), false
	}
	return nil
}

func (in *incoming) result() (*fetched, error) {
	switch {
	case in.first == nil:
		return nil, errors.New("the transfer is empty")
	case in.steps:
		return &fetched{diffs: in.diffs}, nil
	case in.have != nil && !newer(in.first.Serial, in.have.Serial()):
		return &fetched{}, nil
	}
	whole, err := zone.New(in.origin, append(in.all, in.first))
	if err != nil {
		return nil, err
	}
	return &fetched{whole: whole}, nil
}

// jitter takes up to a tenth off a wait, so that many zones of one primary do
// not come at once.
func (s *Server) jitter(d time.Duration) time.Duration {
	var b [1]byte
	if _, err := s.rand.Read(b[:]); err != nil {
		return d
	}
	return d - d/10*time.Duration(b[0])/255
}
