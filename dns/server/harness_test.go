package server

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/recursor"
	"postrider/dns/zone"
	"postrider/internal/wire"
)

const exampleZone = `$TTL 3600
@ IN SOA ns1 hostmaster 10 7200 900 1209600 300
@ NS ns1
@ NS ns2
@ MX 10 mail
ns1 A 192.0.2.1
ns2 A 192.0.2.2
mail A 192.0.2.25
mail AAAA 2001:db8::25
www A 192.0.2.80
www A 192.0.2.81
www A 192.0.2.82
alias CNAME www
away CNAME host.example.net.
*.wild TXT "any"
sub NS ns.sub
ns.sub A 192.0.2.53
big TXT "` + long + `"
big TXT "2` + long + `"
big TXT "3` + long + `"
big TXT "4` + long + `"
big TXT "5` + long + `"
big TXT "6` + long + `"
`

const long = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"

// town is a server with sockets on loopback.
type town struct {
	t   testing.TB
	s   *Server
	udp string
	tcp string
}

func parse(t testing.TB, origin, text string) *zone.Zone {
	t.Helper()
	z, err := zone.Read(strings.NewReader(text), zone.Options{Origin: origin})
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// newTown starts a server with the zones of text, by their names, and settings.
func newTown(t testing.TB, o Options, set Settings, zones ...*zone.Zone) *town {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	for _, z := range zones {
		set.Zones = append(set.Zones, ZoneConfig{Name: z.Origin()})
	}
	if err := s.Configure(set); err != nil {
		t.Fatal(err)
	}
	for _, z := range zones {
		if err := s.Publish(z); err != nil {
			t.Fatal(err)
		}
	}
	return &town{t: t, s: s}
}

// listen opens the sockets.
func (w *town) listen() *town {
	w.t.Helper()
	for range 10 { // a port that is free for TCP may be taken for UDP
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			w.t.Fatal(err)
		}
		c, err := net.ListenPacket("udp", l.Addr().String())
		if err != nil {
			l.Close()
			continue
		}
		if err := w.s.ServePacket(c); err != nil {
			w.t.Fatal(err)
		}
		streams := wire.NewServer(wire.ServerOptions{})
		streams.Serve(l, w.s.Protocol("dns", nil))
		w.t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			if err := streams.Shutdown(ctx); err != nil {
				w.t.Error(err)
			}
			if n := streams.Panics(); n > 0 {
				w.t.Errorf("%d panics", n)
			}
		})
		w.udp, w.tcp = c.LocalAddr().String(), l.Addr().String()
		return w
	}
	w.t.Fatal("no port is free for UDP and TCP")
	return nil
}

// direct asks without a socket, from an address.
func (w *town) direct(from string, transport Transport, msg []byte) []byte {
	w.t.Helper()
	var k worker
	k.now, k.listened = w.s.clock.Now(), w.s.listened()
	c := client{addr: netip.MustParseAddr(from), transport: transport}
	reply, pending := w.s.take(nil, &k, &c, msg)
	if !pending {
		return reply
	}
	replies := make(chan []byte, 1)
	if !w.s.begin(&c, msg, func(b []byte) error { replies <- b; return nil }, func() { close(replies) }) {
		return nil
	}
	return <-replies
}

func packed(t testing.TB, m *miekg.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unpacked(t testing.TB, b []byte) *miekg.Msg {
	t.Helper()
	m := new(miekg.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("reply %x: %v", b, err)
	}
	return m
}

// ask asks without a socket, as a stranger over UDP.
func (w *town) ask(m *miekg.Msg) *miekg.Msg {
	w.t.Helper()
	b := w.direct("198.51.100.7", UDP, packed(w.t, m))
	if b == nil {
		w.t.Fatalf("no reply to %v", m)
	}
	return unpacked(w.t, b)
}

func question(name string, typ uint16) *miekg.Msg {
	m := new(miekg.Msg)
	return m.SetQuestion(name, typ)
}

// overNet asks over a socket.
func overNet(t testing.TB, network, addr string, m *miekg.Msg) *miekg.Msg {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := packed(t, m)
	if network == "tcp" {
		b = append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	if network == "tcp" {
		b, err := readMessage(c)
		if err != nil {
			t.Fatal(err)
		}
		return unpacked(t, b)
	}
	buf := make([]byte, 65535)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return unpacked(t, buf[:n])
}

// data has the records of a section without owner and TTL, in order.
func data(rrs []miekg.RR) string {
	var out []string
	for _, rr := range rrs {
		out = append(out, miekg.TypeToString[rr.Header().Rrtype]+" "+strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(out, ", ")
}

// fixed is a recursor with given answers.
type fixed map[string]string

func (f fixed) Resolve(_ context.Context, q miekg.Question, _ recursor.Ask) recursor.Answer {
	text, ok := f[q.Name+" "+miekg.TypeToString[q.Qtype]]
	if !ok {
		return recursor.Answer{Rcode: miekg.RcodeNameError}
	}
	r := recursor.Answer{FreshUntil: time.Now().Add(time.Hour)}
	for line := range strings.SplitSeq(text, "\n") {
		rr, err := miekg.NewRR(line)
		if err != nil {
			panic(err)
		}
		r.Answer = append(r.Answer, rr)
	}
	return r
}

func (f fixed) Generation() uint64 { return 0 }

// zeros is a source that is not random.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

var _ io.Reader = zeros{}
