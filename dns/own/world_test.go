package own

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/zone"
)

// world is the DNS and the mail servers that a check meets, all in memory.
type world struct {
	t       *testing.T
	servers map[netip.Addr][]*zone.Zone
	// security is what the resolver says of all answers.
	security, why string
	// unsigned is a name of which it says insecure all the same.
	unsigned string
	// stale zones are what the resolver knows in place of the servers' own.
	stale map[string]*zone.Zone
	mail  map[string]*mailServer // by address and port
	fail  func(name string, typ uint16) error
}

// mailServer is how one answers; nil fields: nothing of it.
type mailServer struct {
	banner string
	lines  []string // of EHLO
	cert   *tls.Certificate
	silent bool // accepts the connection and says nothing
	stops  bool // says nothing after EHLO
}

// zonesOf reads "@ ADDR... ORIGIN" lines, each followed by a zone.
func (w *world) add(text string, addrs ...string) {
	w.t.Helper()
	origin := strings.Fields(text)[0]
	z, err := zone.Read(strings.NewReader(text), zone.Options{Origin: origin})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, a := range addrs {
		at := netip.MustParseAddr(a)
		w.servers[at] = append(w.servers[at], z)
	}
}

// deepest is the zone of these that a name is in; for DS, the one above.
func deepest(zones []*zone.Zone, name string) (best *zone.Zone) {
	for _, z := range zones {
		if miekg.IsSubDomain(z.Origin(), name) && (best == nil || len(z.Origin()) > len(best.Origin())) {
			best = z
		}
	}
	return best
}

func (w *world) Ask(ctx context.Context, server netip.Addr, name string, typ uint16) (*miekg.Msg, error) {
	zones, ok := w.servers[server]
	if !ok {
		return nil, errors.New("it did not answer in time")
	}
	return respond(zones, name, typ), nil
}

func respond(zones []*zone.Zone, name string, typ uint16) *miekg.Msg {
	q := miekg.Question{Name: name, Qtype: typ, Qclass: miekg.ClassINET}
	m := &miekg.Msg{Question: []miekg.Question{q}}
	m.Response = true
	z := deepest(zones, name)
	if z == nil {
		m.Rcode = miekg.RcodeRefused
		return m
	}
	r := z.Answer(q, zone.AnswerOptions{})
	m.Rcode, m.Authoritative, m.Answer, m.Ns, m.Extra = r.Rcode, r.Authoritative, r.Answer, r.Ns, r.Extra
	return m
}

// Resolve knows all zones.
func (w *world) Resolve(ctx context.Context, name string, typ uint16) (Answer, error) {
	if w.fail != nil {
		if err := w.fail(name, typ); err != nil {
			return Answer{}, err
		}
	}
	var zones []*zone.Zone
	known := map[string]bool{}
	for o, z := range w.stale {
		known[o] = true
		zones = append(zones, z)
	}
	for _, list := range w.servers {
		for _, z := range list {
			if !known[z.Origin()] {
				known[z.Origin()] = true
				zones = append(zones, z)
			}
		}
	}
	m := respond(zones, name, typ)
	for range 5 { // aliases into other zones
		_, alias, err := pick(m, name, typ)
		if alias == "" || err == nil {
			break
		}
		next := respond(zones, alias, typ)
		m.Answer = append(m.Answer, next.Answer...)
		m.Rcode, m.Ns = next.Rcode, next.Ns
	}
	if name == w.unsigned {
		return Answer{Msg: m, Security: "insecure"}, nil
	}
	return Answer{Msg: m, Security: w.security, Why: w.why}, nil
}

// dial reaches the mail servers.
func (w *world) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	s := w.mail[addr]
	if s == nil {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	go s.serve(theirs)
	return ours, nil
}

func (s *mailServer) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	if s.silent {
		r.ReadByte()
		return
	}
	fmt.Fprintf(c, "220 %s\r\n", s.banner)
	for {
		line, err := r.ReadString('\n')
		switch {
		case err != nil:
			return
		case s.stops:
			r.ReadByte()
			return
		case strings.HasPrefix(line, "EHLO") && s.lines == nil:
			fmt.Fprint(c, "502 no\r\n")
		case strings.HasPrefix(line, "EHLO"):
			fmt.Fprint(c, "250-hello\r\n")
			for i, l := range s.lines {
				sep := "-"
				if i == len(s.lines)-1 {
					sep = " "
				}
				fmt.Fprintf(c, "250%s%s\r\n", sep, l)
			}
		case strings.HasPrefix(line, "STARTTLS"):
			fmt.Fprint(c, "220 go\r\n")
			t := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*s.cert}})
			if t.Handshake() != nil {
				return
			}
			c, r = t, bufio.NewReader(t)
		default:
			fmt.Fprint(c, "221 bye\r\n")
			return
		}
	}
}

// certificate is one of a name that ends at a time.
func certificate(t *testing.T, name string, ends time.Time) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: ends.Add(-10000 * time.Hour), NotAfter: ends}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
