package dnstest

import (
	"strings"
	"time"

	miekg "github.com/miekg/dns"
)

// Fault is how the server mistreats the queries that it matches.
type Fault struct {
	// What it matches; empty fields match everything.
	Name    string // such as "example.com"
	Type    string // such as "MX"
	Network string // "udp" or "tcp"
	EDNS    bool   // only queries with an OPT record
	Times   int    // how often; 0 = until Heal

	// What it does, in this order.
	Delay         time.Duration // waits before anything else
	WrongID       int           // so many answers with another identifier go first
	WrongQuestion int           // so many answers to another question go first
	NotAnswer     bool          // an answer without the QR bit goes first
	Drop          bool          // no answer; over TCP the connection closes
	Rcode         int           // an answer with this rcode and no records
	NoQuestion    bool          // the question is left out, and EDNS
	Truncate      bool          // TC is set and the records are left out
	CutShort      int           // so many octets of the answer are missing at its end
	Edit          func(*miekg.Msg)
}

// Break adds a fault; the first that matches a query applies.
func (s *Server) Break(f Fault) {
	f.Name = canonical(f.Name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// Heal removes all faults.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

func canonical(name string) string {
	if name == "" {
		return ""
	}
	return miekg.CanonicalName(name)
}

func (s *Server) faultLocked(q Query) Fault {
	for i, f := range s.faults {
		if f.Name != "" && f.Name != q.Name || f.Type != "" && !strings.EqualFold(f.Type, q.Type) ||
			f.Network != "" && f.Network != q.Network || f.EDNS && !q.EDNS {
			continue
		}
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
			}
		}
		return *f
	}
	return Fault{}
}

// pause waits, unless the server closes meanwhile.
func (s *Server) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := s.clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.Chan():
		return true
	case <-s.closed:
		return false
	}
}

// apply makes the messages to send instead of the true answer m; size is what
// a datagram may have.
func (f Fault) apply(m *miekg.Msg, size int) [][]byte {
	var out [][]byte
	send := func(m *miekg.Msg) {
		if b, err := m.Pack(); err == nil {
			out = append(out, b)
		}
	}
	for i := range f.WrongID {
		forged := m.Copy()
		forged.Id += uint16(i + 1)
		send(forged)
	}
	for range f.WrongQuestion {
		forged := m.Copy()
		forged.Question[0].Name = "forged." + forged.Question[0].Name
		send(forged)
	}
	if f.NotAnswer {
		forged := m.Copy()
		forged.Response = false
		send(forged)
	}
	if f.Drop {
		return out
	}
	if f.Rcode != 0 {
		m.Rcode, m.Answer, m.Ns = f.Rcode, nil, nil
	}
	if f.NoQuestion {
		m.Question, m.Extra = nil, nil
	}
	if f.Edit != nil {
		f.Edit(m)
	}
	m.Truncate(size)
	if f.Truncate {
		m.Truncated, m.Answer, m.Ns = true, nil, nil
	}
	send(m)
	if n := len(out); f.CutShort > 0 && n > 0 {
		last := out[n-1]
		out[n-1] = last[:max(0, len(last)-f.CutShort)]
	}
	return out
}
