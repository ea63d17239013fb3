package smtpd

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postrider/internal/journey"
	"postrider/internal/wire"
	"postrider/internal/wire/wiretest"
	"postrider/mta"
)

// TestTranscripts runs the dialogues in testdata. In them
//
//	server KEY=VALUE...   configures the server; it stands first
//	C: line               the client sends the line; neighbouring ones in one write
//	C> "a" + 3*"b"        the client sends these octets and nothing after them
//	S: line               the server answers with exactly this
//	ehlo NAME             EHLO and a reply that is not looked at
//	wait 5m               time passes
//	nothing               the server has sent nothing more
//	closed                the server has closed the connection
//	hangup                the client closes its side
//	tls                   the client does a TLS handshake
//	reconnect             a new connection
//	drain                 the server is told to stop
//	refuse 451 4.3.0 text the queue refuses the next message like this
//	accepted A -> B,C     the next message that the queue took
//	| line                a line of its content; all of them or none
//
// The name of an envelope is written ID. A message that the queue took and no
// line names is a failure.
func TestTranscripts(t *testing.T) {
	wiretest.EachFile(t, "testdata/*.txt", func(t *testing.T, file, text string) {
		synctest.Test(t, func(t *testing.T) {
			p := newPlayer(t)
			defer p.stop()
			listener := p.events.Follow(journey.Filter{Sessions: true})
			defer listener.Close()
			p.run(file, text)
			p.checkJourney(text)
		})
	})
}

// player plays the client of one transcript.
type player struct {
	t        *testing.T
	at       string // file and line
	w        *world
	server   *wire.Server
	events   *journey.Recorder
	listener *wiretest.Listener
	crowded  atomic.Bool
	implicit bool
	conn     net.Conn
	r        *bufio.Reader
	pending  strings.Builder // what C: lines gather
	content  []string        // lines that | lines are yet to name
	named    bool            // whether a | line followed the last accepted
}

func newPlayer(t *testing.T) *player {
	return &player{t: t, w: newWorld(t), server: wire.NewServer(wire.ServerOptions{}), listener: wiretest.Listen(),
		events: journey.New(journey.Options{Memory: 20_000})}
}

func (p *player) run(file, text string) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	started := false
	for i, line := range lines {
		p.at = fmt.Sprintf("%s:%d", file, i+1)
		word, arg, _ := strings.Cut(line, " ")
		switch {
		case line == "", strings.HasPrefix(line, "#"):
			continue
		case word == "server":
			p.start(arg)
			started = true
			continue
		case !started:
			p.start("")
			started = true
		}
		p.play(word, arg)
	}
	p.flush()
	p.contentNamed()
	select {
	case m := <-p.w.taken:
		p.t.Errorf("%s: a message was accepted that is not named:\n%s", p.at, m.content)
	default:
	}
}

// stop ends the server, whatever became of the dialogue.
func (p *player) stop() {
	if p.conn != nil {
		p.conn.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := p.server.Shutdown(ctx); err != nil {
		p.t.Errorf("%s: shutdown: %v", p.at, err)
	}
	if n := p.server.Panics(); n > 0 {
		p.t.Errorf("%s: %d panics", p.at, n)
	}
}

// start makes the server with the given configuration and connects.
func (p *player) start(config string) {
	p.t.Helper()
	o := p.w.options()
	o.Crowded = p.crowded.Load
	o.Journey = p.events
	for setting := range strings.FieldsSeq(config) {
		key, value, _ := strings.Cut(setting, "=")
		n, numeric := strconv.Atoi(value)
		switch key {
		case "mode":
			o.Mode = map[string]Mode{"mx": MX, "submission": Submission, "lmtp": LMTP}[value]
		case "require_auth":
			o.RequireAuth = value == "on"
		case "ours":
			o.Ours = value == "on"
		case "bare_helo":
			o.BareHelo = value == "on"
		case "bare_newline":
			o.BareNewline = value
		case "tls":
			o.TLS = testTLS(p.t)
			p.implicit = value == "implicit"
		case "crowded":
			p.crowded.Store(value == "on")
		case "size":
			o.MaxSize = int64(n)
		case "recipients":
			o.MaxRecipients = n
		case "per_minute":
			o.MessagesPerMinute = n
		default:
			p.t.Fatalf("%s: unknown setting %s", p.at, key)
		}
		if numeric == nil && n == 0 {
			p.t.Fatalf("%s: %s=%s", p.at, key, value)
		}
	}
	p.server.Serve(p.listener, New(o).Protocol("smtp", p.implicit))
	p.connect()
}

func (p *player) connect() {
	p.t.Helper()
	conn, err := p.listener.Dial(p.t.Context())
	if err != nil {
		p.t.Fatalf("%s: %v", p.at, err)
	}
	p.conn, p.r = conn, bufio.NewReader(conn)
	if p.implicit {
		p.handshake()
	}
}

func (p *player) handshake() {
	p.t.Helper()
	c := tls.Client(p.conn, &tls.Config{InsecureSkipVerify: true})
	if err := c.HandshakeContext(p.t.Context()); err != nil {
		p.t.Fatalf("%s: handshake: %v", p.at, err)
	}
	p.conn, p.r = c, bufio.NewReader(c)
}

func (p *player) play(word, arg string) {
	p.t.Helper()
	if word != "C:" && word != "C>" {
		p.flush()
	}
	if word != "|" {
		p.contentNamed()
	}
	switch word {
	case "C:":
		p.pending.WriteString(arg + "\r\n")
	case "C>":
		p.pending.WriteString(p.octets(arg))
	case "S:":
		p.expect(arg)
	case "ehlo":
		p.ehlo(arg)
	case "wait":
		d, err := time.ParseDuration(arg)
		if err != nil {
			p.t.Fatalf("%s: %v", p.at, err)
		}
		time.Sleep(d)
		synctest.Wait()
	case "nothing":
		p.nothing()
	case "closed":
		if line, err := p.line(); !errors.Is(err, io.EOF) {
			p.t.Fatalf("%s: got %q, %v; want a closed connection", p.at, line, err)
		}
	case "hangup":
		if err := p.conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			p.t.Fatalf("%s: %v", p.at, err)
		}
	case "tls":
		p.handshake()
	case "reconnect":
		p.conn.Close()
		p.connect()
	case "crowded":
		p.crowded.Store(true)
	case "drain":
		go p.server.Shutdown(context.Background())
		synctest.Wait()
	case "refuse":
		code, rest, _ := strings.Cut(arg, " ")
		status, text, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(code)
		if err != nil {
			p.t.Fatalf("%s: %v", p.at, err)
		}
		p.w.refusal = mta.Errorf(n, status, "%s", text)
	case "accepted":
		p.accepted(arg)
	case "|":
		p.contentLine(arg)
	default:
		p.t.Fatalf("%s: unknown directive %q", p.at, word)
	}
}

// flush sends what C lines have gathered, in one write.
func (p *player) flush() {
	p.t.Helper()
	if p.pending.Len() == 0 {
		return
	}
	if _, err := io.WriteString(p.conn, p.pending.String()); err != nil {
		p.t.Fatalf("%s: write: %v", p.at, err)
	}
	p.pending.Reset()
	synctest.Wait()
}

// octets evaluates "a" + 3*"b".
func (p *player) octets(expr string) string {
	p.t.Helper()
	var b strings.Builder
	for term := range strings.SplitSeq(expr, " + ") {
		times := 1
		if n, quoted, ok := strings.Cut(term, `*"`); ok {
			var err error
			if times, err = strconv.Atoi(n); err != nil {
				p.t.Fatalf("%s: %v", p.at, err)
			}
			term = `"` + quoted
		}
		s, err := strconv.Unquote(term)
		if err != nil {
			p.t.Fatalf("%s: %s: %v", p.at, term, err)
		}
		b.WriteString(strings.Repeat(s, times))
	}
	return b.String()
}

func (p *player) line() (string, error) {
	if err := p.conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	line, err := p.r.ReadString('\n')
	return hideID(line), err
}

// hideID writes ID for the name of an envelope.
func hideID(s string) string { return envelopeID.ReplaceAllString(s, "${1}ID") }

var envelopeID = regexp.MustCompile(`(id |Message-ID: <)[0-9a-z]{18}\b`)

func (p *player) expect(want string) {
	p.t.Helper()
	got, err := p.line()
	if got != want+"\r\n" {
		p.t.Fatalf("%s: got  %q, %v\nwant %q", p.at, got, err, want)
	}
}

func (p *player) nothing() {
	p.t.Helper()
	synctest.Wait()
	if err := p.conn.SetReadDeadline(time.Now().Add(time.Microsecond)); err != nil {
		p.t.Fatalf("%s: %v", p.at, err)
	}
	if b, err := p.r.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatalf("%s: got %q, %v; want nothing", p.at, b, err)
	}
}

func (p *player) ehlo(name string) {
	p.t.Helper()
	p.pending.WriteString("EHLO " + name + "\r\n")
	p.flush()
	for {
		line, err := p.line()
		if err != nil || !strings.HasPrefix(line, "250") {
			p.t.Fatalf("%s: EHLO: %q, %v", p.at, line, err)
		}
		if line[3] == ' ' {
			return
		}
	}
}

func (p *player) accepted(want string) {
	p.t.Helper()
	synctest.Wait()
	var m taken
	select {
	case m = <-p.w.taken:
	default:
		p.t.Fatalf("%s: no message was accepted", p.at)
	}
	var to []string
	for _, r := range m.env.To {
		to = append(to, "<"+r.Address.String()+">")
	}
	if got := "<" + m.env.From.String() + "> -> " + strings.Join(to, ","); got != want {
		p.t.Fatalf("%s: accepted %s, want %s", p.at, got, want)
	}
	p.content, p.named = strings.Split(strings.TrimSuffix(hideID(m.content), "\r\n"), "\r\n"), false
}

func (p *player) contentLine(want string) {
	p.t.Helper()
	if len(p.content) == 0 {
		p.t.Fatalf("%s: the content has no more lines", p.at)
	}
	if got := p.content[0]; got != strings.ReplaceAll(want, `\t`, "\t") {
		p.t.Fatalf("%s: content line %q, want %q", p.at, got, want)
	}
	p.content, p.named = p.content[1:], true
}

// contentNamed checks that | lines named all of the content.
func (p *player) contentNamed() {
	p.t.Helper()
	if p.named && len(p.content) > 0 {
		p.t.Fatalf("%s: the content has more: %q", p.at, p.content)
	}
	p.content, p.named = nil, false
}
