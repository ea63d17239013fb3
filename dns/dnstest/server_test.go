package dnstest

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
)

const zone = `
$ORIGIN crepes.fr.
$TTL 300
@      SOA ns hostmaster 1 1h 10m 5d 60
@      MX 10 mx
mx     A 192.0.2.1
www    CNAME mx
out    CNAME elsewhere.example.
a.b.c  TXT "deep"
*.w    A 192.0.2.2
sub.w  TXT "no wildcard beside this"
`

// ask sends one question over a connection that Dial made.
func ask(t *testing.T, s *Server, network, name string, typ uint16) (*miekg.Msg, error) {
	t.Helper()
	c, err := s.Dial(t.Context(), network, "")
	if err != nil {
		t.Fatal(err)
	}
	conn := &miekg.Conn{Conn: c, UDPSize: 1232}
	defer conn.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	m := new(miekg.Msg).SetQuestion(name, typ)
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if network == "tcp" {
		b = append([]byte{byte(len(b) >> 8), byte(len(b))}, b...)
	}
	if _, err := c.Write(b); err != nil {
		return nil, err
	}
	buf := make([]byte, 64<<10)
	if network == "tcp" {
		if _, err := io.ReadFull(c, buf[:2]); err != nil {
			return nil, err
		}
	}
	n, err := c.Read(buf)
	if err != nil {
		return nil, err
	}
	r := new(miekg.Msg)
	if err := r.Unpack(buf[:n]); err != nil {
		t.Fatal(err)
	}
	if r.Id != m.Id || !r.Response || len(r.Question) != 1 || r.Question[0] != m.Question[0] {
		t.Errorf("the answer to %v is %v", m, r)
	}
	return r, nil
}

func TestZone(t *testing.T) {
	z, err := Parse(zone)
	if err != nil {
		t.Fatal(err)
	}
	s := New(z)
	defer s.Close()
	for _, tt := range []struct {
		name   string
		typ    uint16
		rcode  int
		answer string // data of the answer section
		soa    string // owner in the authority section
	}{
		{"crepes.fr.", miekg.TypeMX, 0, "10 mx.crepes.fr.", ""},
		{"CREPES.fr.", miekg.TypeMX, 0, "10 mx.crepes.fr.", ""},
		{"www.crepes.fr.", miekg.TypeA, 0, "mx.crepes.fr. 192.0.2.1", ""},
		{"www.crepes.fr.", miekg.TypeCNAME, 0, "mx.crepes.fr.", ""},
		{"www.crepes.fr.", miekg.TypeMX, 0, "mx.crepes.fr.", "crepes.fr."},
		{"out.crepes.fr.", miekg.TypeA, miekg.RcodeNameError, "elsewhere.example.", "."},
		{"mx.crepes.fr.", miekg.TypeMX, 0, "", "crepes.fr."},
		{"none.crepes.fr.", miekg.TypeMX, miekg.RcodeNameError, "", "crepes.fr."},
		{"b.c.crepes.fr.", miekg.TypeTXT, 0, "", "crepes.fr."},
		{"x.b.c.crepes.fr.", miekg.TypeTXT, miekg.RcodeNameError, "", "crepes.fr."},
		{"x.w.crepes.fr.", miekg.TypeA, 0, "192.0.2.2", ""},
		{"x.y.w.crepes.fr.", miekg.TypeA, 0, "192.0.2.2", ""},
		{"x.w.crepes.fr.", miekg.TypeMX, 0, "", "crepes.fr."},
		{"w.crepes.fr.", miekg.TypeA, 0, "", "crepes.fr."},
		{"sub.w.crepes.fr.", miekg.TypeA, 0, "", "crepes.fr."},
		{"x.sub.w.crepes.fr.", miekg.TypeA, miekg.RcodeNameError, "", "crepes.fr."},
		{"example.", miekg.TypeA, miekg.RcodeNameError, "", "."},
		{".", miekg.TypeA, 0, "", "."},
	} {
		for _, network := range []string{"udp", "tcp"} {
			m, err := ask(t, s, network, tt.name, tt.typ)
			if err != nil {
				t.Fatal(err)
			}
			var data []string
			for _, rr := range m.Answer {
				data = append(data, strings.TrimPrefix(rr.String(), rr.Header().String()))
			}
			soa := ""
			if len(m.Ns) > 0 {
				soa = m.Ns[0].Header().Name
			}
			if got := strings.Join(data, " "); m.Rcode != tt.rcode || got != tt.answer || soa != tt.soa {
				t.Errorf("%s %s: rcode %d, answer %q, SOA of %q", miekg.Type(tt.typ), tt.name, m.Rcode, got, soa)
			}
		}
	}
}

func TestZoneErrors(t *testing.T) {
	for _, text := range []string{"example.com. MX ten mx.\n", "example.com. A 192.0.2.256\n", "$INCLUDE other\n", "example.com. NOSUCHTYPE x\n"} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), "line: 1") {
			t.Errorf("Parse(%q): %v", text, err)
		}
	}
	path := filepath.Join(t.TempDir(), "zone")
	if _, err := Load(path); err == nil {
		t.Error("a file that does not exist was read")
	}
	if err := os.WriteFile(path, []byte(zone), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err != nil {
		t.Error(err)
	}
}

// It listens on loopback only, and everything ends with Close.
func TestListen(t *testing.T) {
	z, err := Parse(zone)
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"0.0.0.0:0", "192.0.2.1:53", "localhost:53", ""} {
		if s, err := Listen(addr, z); err == nil {
			s.Close()
			t.Errorf("listens on %q", addr)
		}
	}
	s, err := Listen("127.0.0.1:0", z)
	if err != nil {
		t.Fatal(err)
	}
	if other, err := Listen(s.Addr, z); err == nil {
		other.Close()
		t.Error("two servers on one port")
	}
	idle, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	s.Break(Fault{Delay: time.Hour})
	waiting, err := net.Dial("udp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	b, err := new(miekg.Msg).SetQuestion("crepes.fr.", miekg.TypeMX).Pack()
	if err != nil {
		t.Fatal(err)
	}
	arrived := make(chan Query, 1)
	s.Watch(func(q Query, answer string) { arrived <- q })
	if _, err := waiting.Write(b); err != nil {
		t.Fatal(err)
	}
	if q := <-arrived; q != (Query{Name: "crepes.fr.", Type: "MX", Network: "udp"}) {
		t.Errorf("%+v", q)
	}
	s.Close()
	s.Close()
	if _, err := s.Dial(context.Background(), "udp", ""); err == nil {
		t.Error("a closed server takes connections")
	}
}

func TestFaultsAndSetZone(t *testing.T) {
	z, err := Parse(zone)
	if err != nil {
		t.Fatal(err)
	}
	s := New(z)
	defer s.Close()
	s.Break(Fault{Name: "Crepes.FR", Type: "mx", Rcode: miekg.RcodeServerFailure, Times: 1})
	s.Break(Fault{Network: "tcp", Drop: true})
	rcode := func(name string, want int) {
		t.Helper()
		m, err := ask(t, s, "udp", name, miekg.TypeMX)
		if err != nil || m.Rcode != want {
			t.Errorf("%v, %v", m, err)
		}
	}
	rcode("mx.crepes.fr.", 0)
	rcode("crepes.fr.", miekg.RcodeServerFailure)
	rcode("crepes.fr.", 0)
	if _, err := ask(t, s, "tcp", "crepes.fr.", miekg.TypeMX); err != io.EOF {
		t.Errorf("a dropped query over TCP: %v", err)
	}
	s.Heal()
	if _, err := ask(t, s, "tcp", "crepes.fr.", miekg.TypeMX); err != nil {
		t.Error(err)
	}
	if err := s.SetZone("example.com. MX 10 mx.example.com."); err != nil {
		t.Error(err)
	}
	rcode("crepes.fr.", miekg.RcodeNameError)
	rcode("example.com.", 0)
	if err := s.SetZone("example.com. MX ten mx."); err == nil {
		t.Error("a bad zone was taken")
	}
}
