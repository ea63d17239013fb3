package server

import (
	"sync/atomic"

	miekg "github.com/miekg/dns"
)

// Transport is how a message came.
type Transport int

// The transports.
const (
	UDP Transport = iota
	TCP
	TLS
	transports
)

func (t Transport) String() string {
	return [...]string{"udp", "tcp", "tls", ""}[t]
}

// maxRcode is the last rcode that is counted on its own.
const maxRcode = 24

// stats counts what a server does.
type stats struct {
	queries   [transports]atomic.Uint64
	rcodes    [maxRcode + 1]atomic.Uint64
	Hot       atomic.Uint64
	Dropped   atomic.Uint64
	Withheld  atomic.Uint64
	Slipped   atomic.Uint64
	Busy      atomic.Uint64
	Panics    atomic.Uint64
	Transfers atomic.Uint64
}

func (s *stats) query(t Transport) { s.queries[t].Add(1) }

func (s *stats) answer(rcode int) { s.rcodes[min(max(rcode, 0), maxRcode)].Add(1) }

// Stats is what a server has done since its start.
type Stats struct {
	Queries  map[string]uint64 // messages by transport: "udp", "tcp", "tls"
	Answers  map[string]uint64 // replies by rcode: "NOERROR"
	Hot      uint64            // answered from octets that were ready
	Dropped  uint64            // messages that are no queries
	Withheld uint64            // no answer, for its rate
	Slipped  uint64            // TC in place of an answer, for its rate
	Busy     uint64            // no answer, since too much is in hand
	Panics   uint64            // faults of the program in answers that take time

	Transfers uint64 // zones sent
}

// Stats returns the present figures.
func (s *Server) Stats() Stats {
	out := Stats{
		Queries: map[string]uint64{}, Answers: map[string]uint64{}, Hot: s.stats.Hot.Load(), Dropped: s.stats.Dropped.Load(),
		Withheld: s.stats.Withheld.Load(), Slipped: s.stats.Slipped.Load(), Busy: s.stats.Busy.Load(),
		Panics: s.stats.Panics.Load(), Transfers: s.stats.Transfers.Load(),
	}
	for t := range transports {
		out.Queries[t.String()] = s.stats.queries[t].Load()
	}
	for i := range s.stats.rcodes {
		if n := s.stats.rcodes[i].Load(); n > 0 {
			name := miekg.RcodeToString[i]
			switch {
			case i == miekg.RcodeBadVers:
				name = "BADVERS" // to the library 16 is BADSIG
			case i == maxRcode, name == "":
				name = "other"
			}
			out.Answers[name] += n
		}
	}
	return out
}
