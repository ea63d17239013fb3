package page

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"postrider/internal/journey"
)

// fakeLab is a lab of four hosts whose events the test makes.
type fakeLab struct {
	recorder *journey.Recorder

	mu      sync.Mutex
	faults  []Fault
	letters []Letter
	jumped  time.Duration
	dialled []string
	servers sync.WaitGroup

	certificates []tls.Certificate
}

func newFake() *fakeLab {
	return &fakeLab{
		recorder: journey.New(journey.Options{}),
		faults: []Fault{
			{ID: "down mx.hamburger.edu", Host: "mx.hamburger.edu", Label: "down", About: "Nobody answers; letters wait in the sender's queue."},
			{ID: "servfail ns1.hamburger.edu", Host: "ns1.hamburger.edu", Label: "SERVFAIL", About: "Every question is answered with a failure."},
		},
	}
}

func (f *fakeLab) Scene() Scene {
	f.mu.Lock()
	defer f.mu.Unlock()
	sc := Scene{
		Title: "lab", Now: time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC).Add(f.jumped),
		Accounts: []Account{{"alice@crepes.fr", "hungry", "mx.crepes.fr"}, {"bob@hamburger.edu", "hungry", "mx.hamburger.edu"}},
		Faults:   append([]Fault(nil), f.faults...),
		Types:    []Hint{{"The letter about ketchup", "mx.crepes.fr", 25, []string{"HELO crepes.fr", "MAIL FROM: <alice@crepes.fr>", "QUIT"}}},
	}
	for _, l := range "abcdefghijklm" {
		sc.Hosts = append(sc.Hosts, Host{ID: string(l) + ".root-servers.net", Name: string(l) + ".root-servers.net", Site: "root", Role: "root", Addr: "127.0.1." + fmt.Sprint(l-'a'+1), Ports: []Port{{53, "dns"}}})
	}
	for _, l := range []string{"com", "edu", "org", "fr", "ca", "nz", "test"} {
		sc.Hosts = append(sc.Hosts, Host{ID: "ns." + l, Name: "ns." + l, Site: "top-level domains", Role: "tld", Addr: "127.0.2.1", Ports: []Port{{53, "dns"}}})
	}
	for i, d := range []string{"crepes.fr", "hamburger.edu", "umass.edu"} {
		at := func(n int) string { return fmt.Sprintf("127.0.%d.%d", 10+i, n) }
		sc.Hosts = append(sc.Hosts,
			Host{ID: "mx." + d, Name: "mx." + d, Site: d, Role: "mail", Addr: at(1), About: "The mail server of " + d + ".", Ports: []Port{{25, "smtp"}, {110, "pop3"}, {143, "imap"}}},
			Host{ID: "resolver." + d, Name: "resolver." + d, Site: d, Role: "resolver", Addr: at(2), Ports: []Port{{53, "dns"}}},
			Host{ID: "ns1." + d, Name: "ns1." + d, Site: d, Role: "names", Addr: at(3), Ports: []Port{{53, "dns"}}},
			Host{ID: "pc." + d, Name: "pc." + d, Site: d, Role: "person", Addr: at(4)})
	}
	return sc
}

func (f *fakeLab) Follow(ctx context.Context) iter.Seq[journey.Event] {
	w := f.recorder.Follow(journey.Filter{Sessions: true})
	return func(yield func(journey.Event) bool) {
		defer w.Close()
		w.All(ctx)(yield)
	}
}

func (f *fakeLab) HostOf(peer string) string {
	for _, h := range f.Scene().Hosts {
		if h.Name == strings.TrimSuffix(peer, ".") || h.Addr == peer {
			return h.ID
		}
	}
	return ""
}

func (f *fakeLab) Records(host string) bool { return strings.HasPrefix(host, "mx.") }

func (f *fakeLab) Tables(context.Context) ([]Table, error) {
	return []Table{
		{Kind: "mailbox", Host: "mx.hamburger.edu", Title: "INBOX of bob@hamburger.edu", Columns: []string{"uid", "from", "subject"}, Rows: [][]string{{"1", "alice@crepes.fr", "<b>Ketchup</b>"}}},
		{Kind: "queue", Host: "mx.crepes.fr", Title: "Queue of mx.crepes.fr", Columns: []string{"id"}},
	}, nil
}

// Dial answers as a mail server would, on a connection that stays in memory.
func (f *fakeLab) Dial(_ context.Context, host string, port int) (net.Conn, error) {
	f.mu.Lock()
	f.dialled = append(f.dialled, fmt.Sprint(host, " ", port))
	f.mu.Unlock()
	if !f.Records(host) || port != 25 {
		return nil, fmt.Errorf("%s has no port %d", host, port)
	}
	here, there := net.Pipe()
	f.servers.Go(func() {
		defer there.Close()
		fmt.Fprintf(there, "220 %s ESMTP\r\n", host)
		for lines := bufio.NewScanner(there); lines.Scan(); {
			switch verb := lines.Text(); {
			case verb == "QUIT":
				fmt.Fprint(there, "221 bye\r\n")
				return
			case strings.HasPrefix(verb, "STARTTLS"):
				more := verb[len("STARTTLS"):]
				fmt.Fprint(there, "220 go on\r\n"+more)
				secure := tls.Server(there, &tls.Config{Certificates: f.certificates})
				if host != "mx.hamburger.edu" { // it has none
					secure = tls.Server(there, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, io.EOF }})
				}
				if secure.Handshake() != nil {
					return
				}
				lines = bufio.NewScanner(secure)
				for lines.Scan() {
					fmt.Fprintf(secure, "250 encrypted %s\r\n", lines.Text())
				}
				return
			case verb == "FLOOD":
				fmt.Fprint(there, strings.Repeat("x", 3*maxConsoleLine))
				for range maxConsoleLines + 10 {
					if _, err := fmt.Fprint(there, "250 flood\r\n"); err != nil {
						return
					}
				}
			default:
				fmt.Fprint(there, "250 ok\r\n")
			}
		}
	})
	return here, nil
}

func (f *fakeLab) Send(_ context.Context, l Letter) (string, error) {
	if l.From == "" {
		return "", errors.New("the letter needs a sender")
	}
	f.mu.Lock()
	f.letters = append(f.letters, l)
	f.mu.Unlock()
	f.play()
	return "taken", nil
}

func (f *fakeLab) Break(_ context.Context, b Break) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, Fault{ID: "f1", Host: b.Host, Label: b.Kind + " to " + b.Peer, On: true})
	return nil
}

func (f *fakeLab) Collect(_ context.Context, account, protocol string) error {
	f.event("mx.hamburger.edu", journey.POP3Command, "pc.hamburger.edu", "RETR 1", "verb", "RETR")
	f.event("mx.hamburger.edu", journey.POP3Reply, "pc.hamburger.edu", "+OK 912 octets", "verb", "RETR")
	return nil
}

func (f *fakeLab) Set(_ context.Context, id string, on bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.faults {
		if f.faults[i].ID == id {
			f.faults[i].On = on
			return nil
		}
	}
	return errors.New("there is no such switch")
}

func (f *fakeLab) Jump(_ context.Context, d time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.jumped += d
	return nil
}

func (f *fakeLab) Register(_ context.Context, domain string) ([]string, error) {
	return []string{"NS and glue of " + domain + " go to the TLD's server"}, nil
}

func (f *fakeLab) Ask(_ context.Context, resolver, name, typ string) (string, error) {
	return typ + " of " + name, nil
}

func (f *fakeLab) event(node string, kind journey.Kind, peer, text string, attrs ...string) {
	e := journey.Event{Node: node, Kind: kind, Peer: peer, Text: text}
	for i := 0; i+1 < len(attrs); i += 2 {
		e.Attrs = append(e.Attrs, journey.Attr{Key: attrs[i], Value: attrs[i+1]})
	}
	f.recorder.Record(e)
}

// question is a message as it is on the wire.
func question(name string, typ uint16, change func(*dns.Msg)) []byte {
	m := new(dns.Msg).SetQuestion(name, typ)
	m.Id = 1
	if change != nil {
		m.Response = true
		change(m)
	}
	wire, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return wire
}

func rr(text string) dns.RR {
	r, err := dns.NewRR(text)
	if err != nil {
		panic(err)
	}
	return r
}

// play is the journey of a letter from Alice to Bob, in short.
func (f *fakeLab) play() {
	line := func(kind journey.Kind, text, verb string) {
		f.recorder.Record(journey.Event{Node: "mx.crepes.fr", Kind: kind, Peer: "mx.hamburger.edu", Text: text, Message: "M1", Session: "S2", Wire: []byte(text + "\r\n"),
			Attrs: []journey.Attr{{Key: "verb", Value: verb}}})
	}
	f.event("mx.crepes.fr", journey.SMTPCommand, "pc.crepes.fr", "RCPT TO:<bob@hamburger.edu>", "verb", "RCPT")
	f.event("mx.crepes.fr", journey.SMTPReply, "pc.crepes.fr", "250 2.1.5 Recipient ok", "verb", "RCPT", "code", "250")
	f.recorder.Record(journey.Event{Node: "mx.crepes.fr", Kind: journey.MessageAccepted, Message: "M1", Attrs: []journey.Attr{{Key: "from", Value: "alice@crepes.fr"}}})
	ask := func(node, server, name string, typ uint16, change func(*dns.Msg), rcode string) {
		attrs := []journey.Attr{{Key: "name", Value: name}, {Key: "type", Value: dns.TypeToString[typ]}, {Key: "server", Value: server}}
		f.recorder.Record(journey.Event{Node: node, Kind: journey.DNSQuery, Peer: server, Message: "M1", Attrs: attrs, Wire: question(name, typ, nil)})
		f.recorder.Record(journey.Event{Node: node, Kind: journey.DNSReply, Peer: server, Message: "M1", Attrs: append(attrs, journey.Attr{Key: "rcode", Value: rcode}), Wire: question(name, typ, change)})
	}
	ask("resolver.crepes.fr", "a.root-servers.net", "hamburger.edu.", dns.TypeMX, func(m *dns.Msg) {
		m.Ns = []dns.RR{rr("edu. 3600 NS ns.edu.")}
	}, "NOERROR")
	ask("resolver.crepes.fr", "ns1.hamburger.edu", "hamburger.edu.", dns.TypeMX, func(m *dns.Msg) {
		m.Authoritative = true
		m.Answer = []dns.RR{rr("hamburger.edu. 300 MX 10 mx.hamburger.edu.")}
	}, "NOERROR")
	line(journey.DeliverCommand, "MAIL FROM:<alice@crepes.fr>", "MAIL")
	line(journey.DeliverReply, "250 2.1.0 alice@crepes.fr... Sender ok", "MAIL")
	f.event("mx.hamburger.edu", journey.SMTPCommand, "mx.crepes.fr", "MAIL FROM:<alice@crepes.fr>", "verb", "MAIL") // the other side's record
	line(journey.DeliverContent, "", "")
	line(journey.DeliverReply, "250 2.0.0 accepted", "DATA")
	f.recorder.Record(journey.Event{Node: "mx.hamburger.edu", Kind: journey.MailboxDelivered, Message: "M1", Text: "into INBOX of bob@hamburger.edu <script>alert(1)</script>"})
}

// open starts a page over a fake lab.
func open(t *testing.T) (*Server, *fakeLab) {
	t.Helper()
	f := newFake()
	s, err := New(Options{Lab: f})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		f.servers.Wait()
	})
	return s, f
}
