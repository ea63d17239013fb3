package server

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
	"postrider/dns/zone"
	"postrider/internal/wire"
	"postrider/internal/wire/wiretest"
)

// memory is a network of name servers without sockets, for synctest bubbles.
type memory struct {
	t       *testing.T
	network wiretest.Network

	mu    sync.Mutex
	hosts map[netip.Addr]*Server
}

// host starts a server at an address.
func (m *memory) host(addr string, o Options, set Settings) *Server {
	m.t.Helper()
	self := netip.MustParseAddr(addr)
	o.Dial = func(ctx context.Context, network, to string) (net.Conn, error) { return m.dial(ctx, self, network, to) }
	s, err := New(o)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := s.Configure(set); err != nil {
		m.t.Fatal(err)
	}
	l, err := m.network.Listen(addr + ":53")
	if err != nil {
		m.t.Fatal(err)
	}
	streams := wire.NewServer(wire.ServerOptions{})
	streams.Serve(l, s.Protocol("dns", nil))
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hosts == nil {
		m.hosts = map[netip.Addr]*Server{}
	}
	m.hosts[self] = s
	m.t.Cleanup(func() { m.stop(addr, streams) })
	return s
}

// stop takes a host away; more than once is once.
func (m *memory) stop(addr string, streams *wire.Server) {
	self := netip.MustParseAddr(addr)
	m.mu.Lock()
	s := m.hosts[self]
	delete(m.hosts, self)
	m.mu.Unlock()
	if streams != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := streams.Shutdown(ctx); err != nil {
			m.t.Error(err)
		}
	}
	if s != nil {
		s.Close()
	}
}

// dial connects; datagrams to nobody are lost.
func (m *memory) dial(ctx context.Context, from netip.Addr, network, to string) (net.Conn, error) {
	ap := netip.MustParseAddrPort(to)
	if network == "tcp" {
		m.mu.Lock()
		s := m.hosts[ap.Addr()]
		m.mu.Unlock()
		if s == nil {
			return nil, os.ErrDeadlineExceeded
		}
		l, err := m.network.Dial(ctx, network, to)
		return addressed{l, from}, err
	}
	return &datagrams{m: m, from: from, to: ap.Addr(), in: make(chan []byte, 10), closed: make(chan struct{})}, nil
}

type addressed struct {
	net.Conn
	from netip.Addr
}

// datagrams is a UDP socket of memory.
type datagrams struct {
	net.Conn
	m        *memory
	from, to netip.Addr
	in       chan []byte
	closed   chan struct{}
	once     sync.Once
}

func (d *datagrams) Close() error { d.once.Do(func() { close(d.closed) }); return nil }

func (d *datagrams) Read(p []byte) (int, error) {
	select {
	case b := <-d.in:
		return copy(p, b), nil
	case <-d.closed:
		return 0, net.ErrClosed
	}
}

func (d *datagrams) Write(p []byte) (int, error) {
	d.m.mu.Lock()
	s := d.m.hosts[d.to]
	d.m.mu.Unlock()
	if s == nil {
		return len(p), nil
	}
	k := worker{now: s.clock.Now(), listened: s.listened()}
	c := client{addr: d.from, transport: UDP}
	reply, pending := s.take(nil, &k, &c, p)
	if pending {
		s.begin(&c, p, func(b []byte) error { d.in <- b; return nil }, func() {})
	} else if reply != nil {
		d.in <- reply
	}
	return len(p), nil
}

const shortZone = `$TTL 60
@ IN SOA ns1 hostmaster SERIAL 600 60 3600 30
@ NS ns1
ns1 A 192.0.2.1
www A 192.0.2.80
`

func version(t testing.TB, serial string, more string) *zone.Zone {
	t.Helper()
	return parse(t, "example.test.", strings.ReplaceAll(shortZone, "SERIAL", serial)+more)
}

var anybody = ACL{Networks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}

func serial(s *Server) uint32 {
	z, err := s.Zone("example.test.")
	if err != nil {
		return 0
	}
	return z.Serial()
}

// TestSecondary: a zone is transferred at once, then by its differences when the
// primary notifies or the time of refresh has come; it outlives its primary
// until it expires, and a restart of its own.
func TestSecondary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := key(t, "k", "hmac-sha256", secret)
		m := &memory{t: t}
		primary := m.host("192.0.2.1", Options{}, Settings{Keys: []*Key{k}, Zones: []ZoneConfig{{Name: "example.test.",
			Notify: []Remote{{"192.0.2.2:53", "k"}}, AllowTransfer: ACL{Keys: []string{"k"}}}}})
		if err := primary.Publish(version(t, "1", "")); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		conf := Settings{Keys: []*Key{k}, Zones: []ZoneConfig{{Name: "example.test.", Primaries: []Remote{{"192.0.2.1:53", "k"}}}}}
		second := m.host("192.0.2.2", Options{Dir: dir}, conf)
		time.Sleep(time.Second)
		synctest.Wait()
		if serial(second) != 1 {
			t.Fatalf("after the start: serial %d, %+v", serial(second), second.Zones())
		}
		// NOTIFY, and IXFR.
		if err := primary.Publish(version(t, "2", "new A 192.0.2.90\n")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		z, err := second.Zone("example.test.")
		if err != nil || z.Serial() != 2 || len(z.Find("new.example.test.", miekg.TypeA)) != 1 {
			t.Fatalf("after the notification: %v, %v", z, err)
		}
		if st := primary.Stats(); st.Transfers != 2 {
			t.Errorf("%d transfers", st.Transfers)
		}
		if diffs := second.setup.Load().zones["example.test."].files.since(1, 2); len(diffs) != 1 || len(diffs[0].Added) != 1 {
			t.Errorf("the secondary's journal has %v", diffs)
		}
		// Without its primary it answers until the time of expiry, an hour.
		m.stop("192.0.2.1", nil)
		time.Sleep(50 * time.Minute)
		rcode := func() int {
			k := worker{now: time.Now()}
			b, _ := second.take(nil, &k, &client{addr: netip.MustParseAddr("198.51.100.1"), transport: UDP}, packed(t, question("www.example.test.", miekg.TypeA)))
			return unpacked(t, b).Rcode
		}
		if got := rcode(); got != miekg.RcodeSuccess {
			t.Errorf("after 50 minutes: rcode %d", got)
		}
		time.Sleep(12 * time.Minute)
		synctest.Wait()
		if got := rcode(); got != miekg.RcodeServerFailure || !second.Zones()[0].Expired {
			t.Errorf("after 62 minutes: rcode %d, %+v", got, second.Zones())
		}
		// A restart finds the copy, and how old it is.
		m.stop("192.0.2.2", nil)
		again := m.host("192.0.2.3", Options{Dir: dir}, conf)
		if serial(again) != 2 {
			t.Errorf("after a restart: serial %d", serial(again))
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if !again.Zones()[0].Expired {
			t.Error("a copy that nobody has confirmed for an hour is given out")
		}
	})
}

// TestSecondarySerial: serial numbers are compared around the circle (RFC 1982),
// and an older version is not taken.
func TestSecondarySerial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{t: t}
		primary := m.host("192.0.2.1", Options{}, Settings{Zones: []ZoneConfig{{Name: "example.test.", AllowTransfer: anybody}}})
		if err := primary.Publish(version(t, "4294967290", "")); err != nil {
			t.Fatal(err)
		}
		second := m.host("192.0.2.2", Options{}, Settings{Zones: []ZoneConfig{{Name: "example.test.", Primaries: []Remote{{Addr: "192.0.2.1:53"}}}}})
		time.Sleep(time.Second)
		for _, c := range []struct {
			publish string
			err     bool
			want    uint32
		}{{"5", false, 5}, {"4294967295", true, 5}, {"2147483652", false, 2147483652}, {"3", false, 3}} {
			if err := primary.Publish(version(t, c.publish, "")); (err != nil) != c.err {
				t.Errorf("publish %s: %v", c.publish, err)
			}
			time.Sleep(11 * time.Minute) // the time of refresh
			synctest.Wait()
			if got := serial(second); got != c.want {
				t.Errorf("after %s: serial %d, want %d", c.publish, got, c.want)
			}
		}
	})
}

// TestNotifyRefused: a notification from another than the primaries starts
// nothing.
func TestNotifyRefused(t *testing.T) {
	w := newTown(t, Options{}, Settings{Zones: []ZoneConfig{{Name: "second.test.", Primaries: []Remote{{Addr: "192.0.2.1:53"}}}}},
		parse(t, "example.test.", exampleZone))
	m := new(miekg.Msg)
	for name, want := range map[string]int{"second.test.": miekg.RcodeRefused, "example.test.": miekg.RcodeRefused, "other.test.": miekg.RcodeNotAuth} {
		if r := w.ask(m.SetNotify(name)); r.Rcode != want || r.Opcode != miekg.OpcodeNotify {
			t.Errorf("%s: %v", name, r)
		}
	}
	r := unpacked(t, w.direct("192.0.2.1", UDP, packed(t, m.SetNotify("second.test."))))
	if r.Rcode != miekg.RcodeSuccess || !r.Authoritative || len(r.Question) != 1 {
		t.Errorf("from the primary: %v", r)
	}
}

// TestUpdate: who may change a zone, what comes of it, and that it is on disk;
// a secondary passes it on with the sender's signature.
func TestUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := key(t, "k", "hmac-sha256", secret)
		m := &memory{t: t}
		dir := t.TempDir()
		acl := ACL{Keys: []string{"k"}}
		conf := Settings{Keys: []*Key{k}, Zones: []ZoneConfig{{Name: "example.test.", AllowTransfer: anybody, AllowUpdate: acl, Notify: []Remote{{Addr: "192.0.2.2:53"}}}}}
		primary := m.host("192.0.2.1", Options{Dir: dir}, conf)
		if err := primary.Publish(version(t, "1", "")); err != nil {
			t.Fatal(err)
		}
		second := m.host("192.0.2.2", Options{}, Settings{Keys: []*Key{k}, Zones: []ZoneConfig{{Name: "example.test.", AllowUpdate: acl, Primaries: []Remote{{Addr: "192.0.2.1:53"}}}}})
		time.Sleep(time.Second)
		send := func(to string, with *Key, text string, conditions ...string) int {
			u := new(miekg.Msg)
			u.SetUpdate("example.test.")
			for _, c := range conditions {
				rr, err := miekg.NewRR(c)
				if err != nil {
					t.Fatal(err)
				}
				u.NameUsed([]miekg.RR{rr})
			}
			rr, err := miekg.NewRR(text)
			if err != nil {
				t.Fatal(err)
			}
			u.Insert([]miekg.RR{rr})
			r, err := primary.askOnce(t.Context(), "tcp", to, u, with)
			if err != nil {
				t.Fatalf("update by %s: %v", to, err)
			}
			return r.Rcode
		}
		for _, c := range []struct {
			to, text, condition string
			key                 *Key
			want                int
		}{
			{"192.0.2.1:53", "a.example.test. 60 IN A 192.0.2.1", "www.example.test. 0 IN A 0.0.0.0", k, miekg.RcodeSuccess},
			{"192.0.2.1:53", "b.example.test. 60 IN A 192.0.2.1", "none.example.test. 0 IN A 0.0.0.0", k, miekg.RcodeNameError},
			{"192.0.2.1:53", "c.example.test. 60 IN A 192.0.2.1", "www.example.test. 0 IN A 0.0.0.0", nil, miekg.RcodeRefused},
			{"192.0.2.2:53", "d.example.test. 60 IN A 192.0.2.1", "www.example.test. 0 IN A 0.0.0.0", k, miekg.RcodeSuccess},
			{"192.0.2.2:53", "e.example.test. 60 IN A 192.0.2.1", "www.example.test. 0 IN A 0.0.0.0", nil, miekg.RcodeRefused},
			{"192.0.2.1:53", "f.example.org. 60 IN A 192.0.2.1", "www.example.test. 0 IN A 0.0.0.0", k, miekg.RcodeNotZone},
		} {
			if got := send(c.to, c.key, c.text, c.condition); got != c.want {
				t.Errorf("%s to %s: %s, want %s", c.text, c.to, miekg.RcodeToString[got], miekg.RcodeToString[c.want])
			}
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if serial(primary) != 3 || serial(second) != 3 {
			t.Errorf("serials %d and %d, want 3", serial(primary), serial(second))
		}
		m.stop("192.0.2.1", nil)
		again := m.host("192.0.2.4", Options{Dir: dir}, conf)
		z, err := again.Zone("example.test.")
		if err != nil || z.Serial() != 3 || len(z.Find("a.example.test.", miekg.TypeA)) != 1 || len(z.Find("d.example.test.", miekg.TypeA)) != 1 {
			t.Errorf("after a restart: %v, %v", z, err)
		}
	})
}

// TestSigned: a zone that is signed here answers with signatures, signs what an
// update changes, and signs again in time.
func TestSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "zone")
		write := func(text string) {
			if err := os.WriteFile(file, []byte(strings.ReplaceAll(shortZone, "SERIAL", "1")+text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("")
		m := &memory{t: t}
		conf := Settings{Zones: []ZoneConfig{{Name: "example.test.", File: file, Sign: &dnssec.Policy{SingleKey: true}}}}
		s := m.host("192.0.2.1", Options{Dir: dir}, conf)
		expiry := func() uint32 {
			z, err := s.Zone("example.test.")
			if err != nil {
				t.Fatal(err)
			}
			if !z.Signed() {
				t.Fatal("the zone is not signed")
			}
			first := ^uint32(0)
			for rr := range z.All() {
				if sig, ok := rr.(*miekg.RRSIG); ok {
					first = min(first, sig.Expiration)
				}
			}
			return first
		}
		before, had := expiry(), serial(s)
		write("new A 192.0.2.9\n")
		if err := s.Configure(conf); err != nil {
			t.Fatal(err)
		}
		z, _ := s.Zone("example.test.")
		if serial(s) == had || len(z.Find("new.example.test.", miekg.TypeRRSIG))+len(z.Find("new.example.test.", miekg.TypeA)) < 1 {
			t.Errorf("after the file changed: serial %d, %v", serial(s), z.Find("new.example.test.", miekg.TypeA))
		}
		had = serial(s)
		if err := s.Configure(conf); err != nil || serial(s) != had {
			t.Errorf("after a reload of the same: serial %d, want %d, %v", serial(s), had, err)
		}
		time.Sleep(20 * 24 * time.Hour)
		synctest.Wait()
		if after := expiry(); after <= before || int64(after) < time.Now().Unix() {
			t.Errorf("20 days later signatures end at %d, now is %d", after, time.Now().Unix())
		}
	})
}

// TestZoneFiles: each zone has files of its own, whatever its name.
func TestZoneFiles(t *testing.T) {
	names := []string{".", "root.", "a/b.root.", "a%2fb.root.", `a\.b.root.`, "a.b.root.", "xn--bcher-kva."}
	dir := t.TempDir()
	var set Settings
	for _, name := range names {
		set.Zones = append(set.Zones, ZoneConfig{Name: name})
	}
	for restart := range 2 {
		s, err := New(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Configure(set); err != nil {
			t.Fatal(err)
		}
		for i, name := range names {
			if restart == 0 {
				text := strings.ReplaceAll("@ 60 SOA a. b. SERIAL 1 1 1 1\n@ 60 NS a.\n", "SERIAL", fmt.Sprint(i+1))
				if err := s.Publish(parse(t, name, text)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			} else if z, err := s.Zone(name); err != nil || z.Serial() != uint32(i+1) {
				t.Errorf("%s after a restart: %v, %v", name, z, err)
			}
		}
		s.Close()
	}
}
