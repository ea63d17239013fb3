package recursor

import (
	miekg "github.com/miekg/dns"

	"postrider/dns/names"
)

// minimiser chooses how much of a name servers get to see (RFC 9156 section
// 2.3): of a zone's servers no more is asked than whether the next label is a
// delegation.
type minimiser struct {
	full  key
	total int // labels of the name
	shown int // labels that are known to exist in the zone, or asked about
	count int
	off   bool
}

func newMinimiser(k key, zone string, off bool) *minimiser {
	return &minimiser{full: k, total: miekg.CountLabel(k.name), shown: miekg.CountLabel(zone), off: off}
}

// next is the question to ask now. Type A hides what is asked for and is what
// servers know best (section 2.1).
func (m *minimiser) next() key {
	if m.off || m.total-m.shown <= 1 || m.count >= maxMinimise {
		m.off = true
		return m.full
	}
	n := m.shown + m.step()
	if n >= m.total {
		m.off = true
		return m.full
	}
	return key{names.Tail(m.full.name, n), miekg.TypeA}
}

// step is by how many labels the question grows: one at first, then as many as
// it takes to end after maxMinimise queries.
func (m *minimiser) step() int {
	if m.count < oneLabel {
		return 1
	}
	return max(1, (m.total-m.shown)/(maxMinimise-m.count))
}

// answered moves on after an answer about a name that is no delegation. A
// server that denies it may still have names below (it is older than RFC 8020),
// so the full name is asked for.
func (m *minimiser) answered(k kind) {
	if k == notExist {
		m.giveUp()
		return
	}
	m.shown += m.step()
	m.count++
}

// enter begins with the servers of a delegated zone.
func (m *minimiser) enter(zone string) {
	m.count++
	m.shown = miekg.CountLabel(zone)
}

func (m *minimiser) giveUp() { m.off = true }
