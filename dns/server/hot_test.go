package server

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/recursor"
	"postrider/internal/clock"
)

// aging is a recursor whose answers hold for a minute and say how often they
// were looked up.
type aging struct {
	clock      clock.Clock
	asked      atomic.Int32
	generation atomic.Uint64
	secure     bool
}

func (a *aging) Resolve(_ context.Context, q miekg.Question, _ recursor.Ask) recursor.Answer {
	n := a.asked.Add(1)
	rr := &miekg.A{Hdr: miekg.RR_Header{Name: q.Name, Rrtype: miekg.TypeA, Class: miekg.ClassINET, Ttl: 60}, A: netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}).AsSlice()}
	sig := &miekg.RRSIG{Hdr: miekg.RR_Header{Name: q.Name, Rrtype: miekg.TypeRRSIG, Class: miekg.ClassINET, Ttl: 60}, TypeCovered: miekg.TypeA, SignerName: ".", Signature: "AAAA"}
	return recursor.Answer{Answer: []miekg.RR{rr, sig}, FreshUntil: a.clock.Now().Add(54 * time.Second), Authenticated: a.secure,
		ExtendedErrors: []recursor.ExtendedError{{Code: 3, Text: "stale"}}}
}

func (a *aging) Generation() uint64 { return a.generation.Load() }

// TestAging: an answer that is kept counts its TTL down, is looked up again
// before it ends, and is forgotten when the recursor says so.
func TestAging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &aging{clock: clock.System(), secure: true}
		w := newTown(t, Options{Recursor: r}, Settings{Recursion: loopback})
		ask := func(do, ad bool) *miekg.Msg {
			m := question("host.example.net.", miekg.TypeA)
			m.AuthenticatedData = ad
			if do {
				m.SetEdns0(1232, true)
			}
			return unpacked(t, w.direct("127.0.0.1", UDP, packed(t, m)))
		}
		for _, c := range []struct {
			wait    time.Duration
			ttl     uint32
			address string
		}{{0, 60, "192.0.2.1"}, {0, 60, "192.0.2.1"}, {20 * time.Second, 40, "192.0.2.1"}, {33 * time.Second, 7, "192.0.2.1"}, {2 * time.Second, 60, "192.0.2.2"}} {
			time.Sleep(c.wait)
			got := ask(false, false)
			if len(got.Answer) != 1 || got.Answer[0].Header().Ttl != c.ttl || got.Answer[0].(*miekg.A).A.String() != c.address || got.AuthenticatedData {
				t.Errorf("want TTL %d of %s, got %v", c.ttl, c.address, got)
			}
		}
		r.generation.Add(1)
		if got := ask(false, true); got.Answer[0].(*miekg.A).A.String() != "192.0.2.3" || !got.AuthenticatedData {
			t.Errorf("after a flush: %v", got)
		}
		got := ask(true, false)
		if len(got.Answer) != 2 || !got.AuthenticatedData {
			t.Errorf("with DO: %v", got)
		}
		if e, ok := got.IsEdns0().Option[0].(*miekg.EDNS0_EDE); !ok || e.InfoCode != 3 || e.ExtraText != "stale" {
			t.Errorf("the extended error: %v", got.IsEdns0())
		}
	})
}

// TestHotBound: a flood of random names fills the table to its bound and no
// further, and what is asked often stays answered.
func TestHotBound(t *testing.T) {
	const bound = 1 << 20
	w := newTown(t, Options{HotOctets: bound}, Settings{Minimal: true}, parse(t, "example.test.", exampleZone))
	for i := range 20_000 {
		name := fmt.Sprintf("r%d.wild.example.test.", i)
		if i%3 == 0 {
			name = fmt.Sprintf("r%d.example.test.", i)
		}
		w.ask(question(name, miekg.TypeTXT))
		if n := w.s.hot.octets.Load(); n > bound {
			t.Fatalf("%d octets after %d names", n, i)
		}
	}
	sum := int64(0)
	for i := range w.s.hot.slots {
		if e := w.s.hot.slots[i].Load(); e != nil {
			sum += e.cost()
		}
	}
	if got := w.s.hot.octets.Load(); got != sum || sum < bound/3 {
		t.Errorf("the count is %d, the entries have %d octets", got, sum)
	}
}

// TestHotChange: an answer of a version that is served no more is not given.
func TestHotChange(t *testing.T) {
	w := newTown(t, Options{}, Settings{Minimal: true}, version(t, "1", ""))
	for i, serial := range []string{"2", "3", "4"} {
		for range 2 {
			r := w.ask(question("example.test.", miekg.TypeSOA))
			if got := r.Answer[0].(*miekg.SOA).Serial; got != uint32(i+1) {
				t.Errorf("serial %d, want %d", got, i+1)
			}
		}
		if err := w.s.Publish(version(t, serial, "")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.s.Configure(Settings{}); err != nil {
		t.Fatal(err)
	}
	if r := w.ask(question("example.test.", miekg.TypeSOA)); r.Rcode != miekg.RcodeRefused {
		t.Errorf("after the zone was taken away: %v", r)
	}
}
