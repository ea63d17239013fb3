package recursor

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	miekg "github.com/miekg/dns"
)

// Row is one entry of the cache, for people.
type Row struct {
	Name string // without the final dot; "." for the root
	Type string // "A", "NS"; "any" for a name that does not exist
	// Rank says where it comes from and so what it may be used for (RFC 2181
	// section 5.4.1): "answer" for clients; "referral" and "glue" only to know
	// whom to ask; "proof" to deny neighbours; "failure".
	Rank     string
	Data     []string // what the records hold, or "does not exist", "no such record", or the reason of a failure
	TTL      time.Duration
	Left     time.Duration // below 0: over, kept for an outage
	Security string        // "" where nobody looked
	Zone     string        // whose servers said so
	Server   string        // which of them did
	Hits     int
}

// Snapshot lists the cache, what was used last first, at most n rows.
func (r *Resolver) Snapshot(n int) []Row {
	now := r.o.Clock.Now()
	var rows []Row
	for _, e := range r.cache.since(n) {
		switch {
		case e.cut != nil:
			rows = append(rows, e.cut.rows(now, e.hits)...)
		case e.span != nil:
			rows = append(rows, e.span.row(now, e.hits))
		case e.piece != nil:
			if row, ok := e.piece.row(now, e.hits); ok {
				rows = append(rows, row)
			}
		}
	}
	return rows[:min(n, len(rows))]
}

func (p *piece) row(now time.Time, hits int) (Row, bool) {
	s := p.slot()
	row := Row{
		Name: undotted(s.name), Type: miekg.Type(s.typ).String(), Rank: "answer", TTL: p.ttl, Left: p.left(now),
		Zone: undotted(p.zone), Server: undotted(p.server), Hits: hits,
	}
	if p.checked {
		row.Security = p.security.String()
	}
	switch p.kind {
	case failed:
		row.Rank, row.Data = "failure", []string{p.err.Error()}
		return row, row.Left > 0
	case noData:
		row.Data = []string{"no such record"}
	case notExist:
		row.Type, row.Data = "any", []string{"does not exist"}
	}
	for _, rr := range p.answer {
		if rr.Header().Rrtype != miekg.TypeRRSIG {
			row.Data = append(row.Data, strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
	}
	return row, true
}

func (c *cut) rows(now time.Time, hits int) []Row {
	row := Row{Name: undotted(c.zone), Type: "NS", Rank: "referral", TTL: c.ttl, Left: c.expires().Sub(now), Zone: undotted(c.parent), Hits: hits}
	row.Data = append(row.Data, c.servers...)
	list := []Row{row}
	for _, s := range c.servers {
		byType := map[string][]string{}
		for _, a := range c.glue[s] {
			typ := familyType(a)
			byType[typ] = append(byType[typ], a.String())
		}
		for _, typ := range []string{"A", "AAAA"} {
			if len(byType[typ]) > 0 {
				g := row
				g.Name, g.Type, g.Rank, g.Data = undotted(s), typ, "glue", byType[typ]
				list = append(list, g)
			}
		}
	}
	return list
}

func (s *span) row(now time.Time, hits int) Row {
	return Row{
		Name: undotted(miekg.CanonicalName(s.rr.Header().Name)), Type: miekg.Type(s.rr.Header().Rrtype).String(), Rank: "proof",
		Data: []string{strings.TrimPrefix(s.rr.String(), s.rr.Header().String())}, Left: s.expires.Sub(now),
		Security: Secure.String(), Zone: undotted(s.zone), Hits: hits,
	}
}

func familyType(a netip.Addr) string {
	if a.Is4() {
		return "A"
	}
	return "AAAA"
}

func undotted(name string) string {
	if name == "." {
		return name
	}
	return strings.TrimSuffix(name, ".")
}

// ServerRow is what is known of one name server, for people.
type ServerRow struct {
	Addr      netip.Addr
	RoundTrip time.Duration // smoothed; 0 = never measured
	Timeouts  int           // in a row
	Dead      time.Duration // for how long it is still asked last
	EDNS      bool
	Cookie    bool // it sent one
	Lame      []string
}

// Servers lists the name servers that were asked most recently, at most n.
func (r *Resolver) Servers(n int) []ServerRow {
	r.servers.mu.Lock()
	defer r.servers.mu.Unlock()
	now := r.o.Clock.Now()
	var rows []ServerRow
	for el := r.servers.recent.Front(); el != nil && len(rows) < n; el = el.Next() {
		st := el.Value.(*server)
		row := ServerRow{
			Addr: st.addr, RoundTrip: st.srtt, Timeouts: st.timeouts, Dead: max(0, st.dead.Sub(now)),
			EDNS: !now.Before(st.noEDNS), Cookie: st.cookie != nil,
		}
		for zone, until := range st.lame {
			if now.Before(until) {
				row.Lame = append(row.Lame, undotted(zone))
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// String is the row as one line.
func (r Row) String() string {
	return fmt.Sprintf("%s %d %s %s %s", r.Name, r.Left/time.Second, r.Type, r.Rank, strings.Join(r.Data, ", "))
}
