package dns

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/exchange"
	"postrider/internal/clock"
)

// datagrams is a socket on which the same datagram arrives again and again,
// or once followed by the end.
type datagrams struct {
	net.Conn
	b     []byte
	left  int
	reads int
}

func (d *datagrams) Write(b []byte) (int, error) { return len(b), nil }

func (d *datagrams) Read(b []byte) (int, error) {
	d.reads++
	if d.left--; d.left < 0 {
		return 0, io.EOF
	}
	return copy(b, d.b), nil
}

// stream is a TCP connection on which the peer sent b.
type stream struct {
	net.Conn
	io.Reader
}

func (stream) Write(b []byte) (int, error)  { return len(b), nil }
func (s stream) Read(b []byte) (int, error) { return s.Reader.Read(b) }

// Whatever a server or somebody in between sends: an answer is taken only when
// identifier and question are those of the query, it says something about no
// other name, and all this ends soon.
func FuzzAnswer(f *testing.F) {
	want := &exchange.Query{ID: 0x1234, Name: "example.com.", Type: miekg.TypeMX, EDNS: true}
	add := func(edit func(*miekg.Msg), records ...string) {
		m := new(miekg.Msg).SetQuestion("eXample.com.", miekg.TypeMX)
		m.Id, m.Response, m.RecursionAvailable, m.Compress = want.ID, true, true, true
		for _, s := range records {
			rr, err := miekg.NewRR(s)
			if err != nil {
				f.Fatal(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		m.SetEdns0(1232, false)
		if edit != nil {
			edit(m)
		}
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)-5])
	}
	add(nil, "example.com. 300 IN MX 10 mx.example.com.", "example.com. 300 IN MX 20 mx.example.net.")
	add(nil, "example.com. 300 IN CNAME example.net.", "example.net. 300 IN MX 0 .")
	add(nil, "example.com. 300 IN CNAME example.com.")
	add(func(m *miekg.Msg) { m.Id++ })
	add(func(m *miekg.Msg) { m.Question[0].Qtype = miekg.TypeA })
	add(func(m *miekg.Msg) { m.Question[0].Name = "example.net." })
	add(func(m *miekg.Msg) { m.Question, m.Rcode = nil, miekg.RcodeFormatError })
	add(func(m *miekg.Msg) { m.Truncated = true })
	add(func(m *miekg.Msg) { m.Response = false })
	add(func(m *miekg.Msg) { m.Rcode = miekg.RcodeBadVers })
	add(func(m *miekg.Msg) {
		m.Rcode = miekg.RcodeNameError
		soa, err := miekg.NewRR("com. 900 IN SOA a. b. 1 2 3 4 900")
		if err != nil {
			f.Fatal(err)
		}
		m.Ns = []miekg.RR{soa}
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > miekg.MaxMsgSize {
			return
		}
		began := clock.Processor()
		conn := &datagrams{b: b, left: 2 * exchange.MaxForged}
		r, err := want.UDP(conn)
		if conn.reads > exchange.MaxForged {
			t.Errorf("read %d datagrams", conn.reads)
		}
		check(t, want, b, r, err)
		framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
		r, err = want.TCP(stream{nil, strings.NewReader(string(framed))})
		check(t, want, b, r, err)
		if took := clock.Processor() - began; took > time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// check holds what was made of the octets b against them, independently of
// judge.
func check(t *testing.T, want *exchange.Query, b []byte, r *exchange.Reply, err error) {
	t.Helper()
	if (r == nil) == (err == nil) {
		t.Fatalf("%v and %v", r, err)
	}
	var raw miekg.Msg
	matches := raw.Unpack(b) == nil && len(raw.Question) == 1 && raw.Id == want.ID && raw.Response &&
		strings.EqualFold(raw.Question[0].Name, want.Name) && raw.Question[0].Qtype == want.Type && raw.Question[0].Qclass == miekg.ClassINET
	if r == nil {
		// Nothing but the end of the socket, or many of its kind, comes of a
		// datagram with another identifier, or of a query.
		ours := len(b) >= 12 && binary.BigEndian.Uint16(b) == want.ID && b[2]&0x80 != 0
		if !ours && !errors.Is(err, exchange.ErrForged) && !errors.Is(err, exchange.ErrMalformed) && !errors.Is(err, exchange.ErrClosed) {
			t.Errorf("a datagram that answers something else leads to %v", err)
		}
		return
	}
	if !matches {
		t.Fatalf("accepted %v", r.Msg)
	}
	q := question{want.Name, Type(want.Type)}
	m := &message{Msg: r.Msg, network: r.Network, size: len(r.Wire)}
	s := interpret(q, m)
	if s.aliases > maxAliases || s.ttl < 0 || s.ttl > maxTTL {
		t.Errorf("%+v", s)
	}
	if (s.outcome == found) != (len(s.records) > 0) || (s.outcome == failed) != (s.err != nil) {
		t.Errorf("%+v", s)
	}
	if s.err != nil && !errors.Is(s.err, ErrTemporary) {
		t.Errorf("%v is not temporary", s.err)
	}
	for _, rr := range s.records {
		if !strings.EqualFold(rr.Header().Name, s.name) || rr.Header().Rrtype != want.Type {
			t.Errorf("%v for %v", rr, s.name)
		}
	}
	var out strings.Builder
	if err := Format(&out, newAnswer(q, m)); err != nil {
		t.Error(err)
	}
	for _, c := range []byte(out.String()) {
		if (c < ' ' || c > '~') && c != '\t' && c != '\n' && !strings.Contains(m.took.String(), string(rune(c))) {
			t.Fatalf("prints %q", out.String())
		}
	}
}
