package deliver

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"

	"postrider/internal/journey"
	"postrider/internal/wire/wiretest"
	"postrider/mta"
)

// A transcript in testdata is one or more messages and the dialogue they lead
// to, the peer's side played from the file:
//
//	message                  begins a message; what follows up to the dialogue is its setting
//	from ADDR | <>           default a@crepes.test
//	to ADDR [NOTIFY=.. ORCPT=..]
//	body 8BITMIME | utf8 | ret HDRS | envid X
//	content "..."            a Go string; default a short message; "@N" about N octets
//	hop HOST ADDR... [tls=required|implicit|never] [login=U:P]
//	partial                  Delivery.Partial is set
//	after 10s                waits before it delivers
//	want ADDR CODE STATUS [at HOST] [TLS1.3] [dsn] [text...]   the outcome; text is a part of it
//	took 5m                  how long the attempt took
//	failed                   Deliver returned an error and did not record
//	cancel 3s                ends the context then
//
//	on ADDR                  the client connects
//	refuse ADDR              nobody listens there (the default)
//	C: line                  the client says so; "C: *" is any line
//	S: line                  the peer says so
//	raw "..."                the peer sends these octets
//	partial ADDR=CODE ...    as an event: Partial was called with these known
//	tls | tls-fail           the peer does its part of the handshake
//	wait 5m                  the peer waits
//	close | reset            the peer ends the connection
//	eof                      the client has closed
type transcript struct {
	messages []*testMessage
	events   []event
}

type testMessage struct {
	d       mta.Delivery
	content string
	partial bool
	after   time.Duration
	cancel  time.Duration
	took    time.Duration
	timed   bool
	failed  bool
	wants   []string
}

type event struct {
	line      int
	verb, arg string
}

func TestTranscripts(t *testing.T) {
	wiretest.EachFile(t, "testdata/*.txt", func(t *testing.T, _, text string) {
		tr, err := parseTranscript(text)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) { tr.play(t) })
	})
}

func parseTranscript(text string) (*transcript, error) {
	tr := new(transcript)
	var m *testMessage
	for n, line := range strings.Split(text, "\n") {
		verb, arg, _ := strings.Cut(line, " ")
		if verb == "" || verb[0] == '#' {
			continue
		}
		if verb == "message" {
			m = &testMessage{content: "Subject: crepes\r\n\r\nHello.\r\n"}
			m.d.ID = strconv.Itoa(len(tr.messages) + 1)
			m.d.From = mta.Address{Local: "a", Domain: "crepes.test"}
			tr.messages = append(tr.messages, m)
			continue
		}
		if m == nil {
			return nil, fmt.Errorf("line %d: no message yet", n+1)
		}
		known, err := m.setting(verb, arg)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		if !known {
			tr.events = append(tr.events, event{n + 1, verb, arg})
		}
	}
	return tr, nil
}

func (m *testMessage) setting(verb, arg string) (known bool, err error) {
	switch verb {
	case "from":
		m.d.From, _, err = mta.ParsePath(arg)
	case "to":
		err = m.addRecipient(arg)
	case "body":
		m.d.Options.Body = smtp.BodyType(arg)
	case "utf8":
		m.d.Options.UTF8 = true
	case "ret":
		m.d.Options.Return = smtp.DSNReturn(arg)
	case "envid":
		m.d.Options.EnvelopeID = arg
	case "content":
		m.content, err = strconv.Unquote(arg)
		if n, ok := strings.CutPrefix(m.content, "@"); ok {
			var size int
			size, err = strconv.Atoi(n)
			m.content = strings.Repeat("0123456789abcdef\r\n", size/18)
		}
	case "hop":
		err = m.addHop(strings.Fields(arg))
	case "after":
		m.after, err = time.ParseDuration(arg)
	case "cancel":
		m.cancel, err = time.ParseDuration(arg)
	case "took":
		m.timed = true
		m.took, err = time.ParseDuration(arg)
	case "failed":
		m.failed = true
	case "want":
		m.wants = append(m.wants, arg)
	case "partial":
		m.partial = true
		return arg == "", nil
	default:
		return false, nil
	}
	return true, err
}

func (m *testMessage) addRecipient(arg string) error {
	a, rest, err := mta.ParsePath(arg)
	if err != nil {
		return err
	}
	to := mta.DeliveryRecipient{Address: a}
	for _, p := range strings.Fields(rest) {
		name, value, _ := strings.Cut(p, "=")
		switch name {
		case "NOTIFY":
			for n := range strings.SplitSeq(value, ",") {
				to.Options.Notify = append(to.Options.Notify, smtp.DSNNotify(n))
			}
		case "ORCPT":
			to.Options.OriginalRecipientType, to.Options.OriginalRecipient, err = mta.ParseORCPT(value)
		default:
			err = fmt.Errorf("unknown parameter %s", name)
		}
	}
	m.d.To = append(m.d.To, to)
	return err
}

func (m *testMessage) addHop(words []string) error {
	h := mta.Hop{Host: words[0]}
	for _, w := range words[1:] {
		if name, value, ok := strings.Cut(w, "="); ok {
			switch {
			case name == "login":
				h.Login, h.Password, _ = strings.Cut(value, ":")
			case value == "required":
				h.TLS = mta.TLSRequired
			case value == "implicit":
				h.TLS = mta.TLSImplicit
			case value == "never":
				h.TLS = mta.TLSNever
			}
			continue
		}
		addr, err := netip.ParseAddrPort(w)
		if err != nil {
			return err
		}
		h.Addrs = append(h.Addrs, addr)
	}
	m.d.Hops = append(m.d.Hops, h)
	return nil
}

// play delivers the messages while the peer's side runs.
func (tr *transcript) play(t *testing.T) {
	ca := newAuthority(t)
	p := &peer{t: t, tls: ca.serverConfig(t, "mx.hamburger.test"), listeners: map[string]*wiretest.Listener{}}
	for _, e := range tr.events {
		if e.verb == "on" && p.listeners[e.arg] == nil {
			l, err := p.net.Listen(e.arg)
			if err != nil {
				t.Fatal(err)
			}
			p.listeners[e.arg] = l
		}
	}
	events := journey.New(journey.Options{Memory: 10_000})
	c := New(Options{Hostname: "crepes.test", Dial: p.net.Dial, TLS: &tls.Config{RootCAs: ca.pool}, Journey: events})
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.run(tr.events)
	}()
	for _, m := range tr.messages {
		m.run(t, c, p)
	}
	c.Close()
	synctest.Wait()
	for _, l := range p.listeners {
		l.Close() // a peer that still waits for a connection fails
	}
	<-done
	tr.checkJourney(t, events.Recent(journey.Filter{}))
}

// checkJourney: what the client said is in the journey, line by line, and no
// password of the transcripts is.
func (tr *transcript) checkJourney(t *testing.T, events []journey.Event) {
	said := map[string]int{}
	for _, e := range events {
		if e.Kind == journey.DeliverCommand {
			said[e.Text]++
		}
		all := fmt.Sprintf("%s %q %v", e.Text, e.Wire, e.Attrs)
		for _, secret := range []string{"secret", "wrong", "c2VjcmV0", "AHdyb25n", "AHNlY3JldA"} {
			if strings.Contains(all, secret) {
				t.Errorf("the journey has a password: %s", all)
			}
		}
		if e.Peer == "" || e.Text == "" {
			t.Errorf("an event without peer or text: %+v", e)
		}
	}
	for _, e := range tr.events {
		if want := journey.MaskCommand(e.arg); e.verb == "C:" && want != journey.MaskedLine && !strings.Contains(e.arg, ": ") {
			if said[want]--; said[want] < 0 {
				t.Errorf("line %d: the journey does not have %q", e.line, want)
			}
		}
	}
}

func (m *testMessage) run(t *testing.T, c *Client, p *peer) {
	time.Sleep(m.after)
	d := m.d
	d.Open = func() (mta.Content, error) { return memory(m.content), nil }
	records := 0
	d.Record = func(out []mta.Outcome) error {
		records++
		m.check(t, out)
		return nil
	}
	if m.partial {
		d.Partial = func(out []mta.Outcome) error {
			var known []string
			for i, o := range out {
				if o.Reply != nil {
					known = append(known, fmt.Sprintf("%s=%d", d.To[i].Address, o.Reply.Code))
				}
			}
			p.partials <- strings.Join(known, " ")
			return nil
		}
		p.partials = make(chan string, 10)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if m.cancel > 0 {
		ctx, cancel = context.WithTimeout(context.Background(), m.cancel)
	}
	defer cancel()
	begin := time.Now()
	err := c.Deliver(ctx, &d)
	if took := time.Since(begin); m.timed && took != m.took {
		t.Errorf("message %s: took %v, want %v", d.ID, took, m.took)
	}
	if (err != nil) != m.failed {
		t.Errorf("message %s: Deliver: %v", d.ID, err)
	}
	if want := map[bool]int{false: 1, true: 0}[m.failed]; records != want {
		t.Errorf("message %s: Record was called %d times, want %d", d.ID, records, want)
	}
}

// check holds the outcomes against the wants.
func (m *testMessage) check(t *testing.T, out []mta.Outcome) {
	t.Helper()
	if len(out) != len(m.d.To) || len(m.wants) != len(m.d.To) {
		t.Fatalf("message %s: %d outcomes, %d wants, %d recipients", m.d.ID, len(out), len(m.wants), len(m.d.To))
	}
	for i, o := range out {
		got := fmt.Sprintf("%s %d %s", m.d.To[i].Address, o.Reply.Code, o.Reply.Status)
		if o.Reply.Status == "" {
			got += "-"
		}
		if o.Host != "" {
			got += " at " + o.Host
		}
		if o.TLS != "" {
			got += " " + o.TLS
		}
		if o.DSN {
			got += " dsn"
		}
		rest, ok := strings.CutPrefix(m.wants[i], got)
		if !ok || !strings.Contains(strings.ReplaceAll(o.Reply.Text, "\n", "|"), strings.TrimSpace(rest)) {
			t.Errorf("message %s:\n got %s %q\nwant %s", m.d.ID, got, o.Reply.Text, m.wants[i])
		}
		if o.Host != "" && !o.Addr.IsValid() {
			t.Errorf("message %s: %s has a host and no address", m.d.ID, m.d.To[i].Address)
		}
	}
}

// peer plays the other side.
type peer struct {
	t         *testing.T
	net       wiretest.Network
	tls       *tls.Config
	listeners map[string]*wiretest.Listener
	partials  chan string

	conn net.Conn
	r    *bufio.Reader
}

func (p *peer) run(events []event) {
	for _, e := range events {
		if err := p.step(e); err != nil {
			p.t.Errorf("line %d: %s %s: %v", e.line, e.verb, e.arg, err)
			break
		}
	}
	p.close()
}

func (p *peer) close() {
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
}

func (p *peer) step(e event) error {
	switch e.verb {
	case "on":
		p.close()
		return p.accept(e.arg)
	case "partial":
		if got := <-p.partials; got != e.arg {
			return fmt.Errorf("Partial got %s", got)
		}
		return nil
	case "wait":
		d, err := time.ParseDuration(e.arg)
		time.Sleep(d)
		return err
	}
	if p.conn == nil {
		return fmt.Errorf("no connection")
	}
	switch e.verb {
	case "S:":
		_, err := p.conn.Write([]byte(e.arg + "\r\n"))
		return err
	case "raw":
		s, err := strconv.Unquote(e.arg)
		if err == nil {
			_, err = p.conn.Write([]byte(s))
		}
		return err
	case "C:":
		line, err := p.r.ReadString('\n')
		if err == nil && line != e.arg+"\r\n" && e.arg != "*" {
			err = fmt.Errorf("the client said %q", line)
		}
		return err
	case "close":
		p.close()
	case "reset":
		wiretest.Break(p.conn)
	case "eof":
		if rest, err := p.r.ReadString('\n'); err == nil || rest != "" {
			return fmt.Errorf("the client said %q", rest)
		}
	case "tls", "tls-fail":
		return p.startTLS(e.verb == "tls-fail")
	default:
		return fmt.Errorf("unknown event")
	}
	return nil
}

func (p *peer) accept(addr string) error {
	conn, err := p.listeners[addr].Accept()
	if err != nil {
		return err
	}
	p.conn, p.r = conn, bufio.NewReader(conn)
	return nil
}

func (p *peer) startTLS(fail bool) error {
	if fail {
		if _, err := p.r.ReadByte(); err != nil {
			return err
		}
		_, err := p.conn.Write([]byte("this is no TLS\r\n"))
		return err
	}
	conn := tls.Server(p.conn, p.tls)
	// A client that does not like the certificate ends the handshake: what
	// follows in the transcript tells.
	_ = conn.Handshake()
	p.conn, p.r = conn, bufio.NewReader(conn)
	return nil
}
