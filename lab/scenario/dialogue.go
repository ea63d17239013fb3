package scenario

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// talk is a connection that a scenario types into.
type talk struct {
	conn    net.Conn
	in      *bufio.Reader
	host    string
	service string
	last    []string // lines of the last reply
}

// maxReply bounds the lines of one reply that are read.
const maxReply = 20000

// ports has the ports of the services that can be typed to.
var ports = map[string]uint16{"smtp": 25, "submission": 587, "pop3": 110, "imap": 143, "http": 80, "dns": 53}

// connect HOST SERVICE [from HOST] [as NAME]
func (p *player) connect(ctx context.Context, c Command) error {
	f, err := want(c, 2, "HOST SERVICE [from HOST] [as NAME]")
	if err != nil {
		return err
	}
	f, from := option(f, "from")
	f, name := option(f, "as")
	port, ok := ports[f[1]]
	if !ok {
		n, err := strconv.ParseUint(f[1], 10, 16)
		if err != nil {
			return fmt.Errorf("%q is no service", f[1])
		}
		port = uint16(n)
	}
	conn, err := p.lab.Dial(context.WithoutCancel(ctx), from, f[0], port)
	if len(f) > 2 && f[2] == "fails" {
		if err == nil {
			conn.Close()
			return errors.New("the connection was taken")
		}
		return nil
	}
	if err != nil {
		return err
	}
	if old := p.conns[name]; old != nil {
		old.conn.Close()
	}
	p.current = &talk{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), host: f[0], service: f[1]}
	p.conns[name] = p.current
	return nil
}

// use NAME
func (p *player) use(_ context.Context, c Command) error {
	t, ok := p.conns[c.Args]
	if !ok {
		return fmt.Errorf("there is no connection %q", c.Args)
	}
	p.current = t
	return nil
}

var errNoConnection = errors.New("there is no connection: connect HOST SERVICE")

// close
func (p *player) hangUp(context.Context, Command) error {
	if p.current == nil {
		return errNoConnection
	}
	return p.current.conn.Close()
}

// tls: the handshake, after STARTTLS or STLS.
func (p *player) tls(ctx context.Context, _ Command) error {
	if p.current == nil {
		return errNoConnection
	}
	conn := tls.Client(p.current.conn, p.lab.PeerTLS(p.current.host))
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	p.current.conn, p.current.in = conn, bufio.NewReaderSize(conn, 64<<10)
	return nil
}

// expand replaces {base64 TEXT}, in which \0 is NUL, and {NAME} of a let.
func (p *player) expand(s string) string {
	for {
		i := strings.Index(s, "{base64 ")
		if i < 0 {
			break
		}
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			break
		}
		text := strings.ReplaceAll(s[i+len("{base64 "):i+end], `\0`, "\x00")
		s = s[:i] + base64.StdEncoding.EncodeToString([]byte(text)) + s[i+end+1:]
	}
	for name, text := range p.texts {
		s = strings.ReplaceAll(s, "{"+name+"}", text)
	}
	for name, v := range p.values {
		s = strings.ReplaceAll(s, "{"+name+"}", strconv.FormatFloat(v, 'f', -1, 64))
	}
	return s
}

// C: a line, to which CRLF is added.
func (p *player) say(ctx context.Context, c Command) error {
	return p.write(ctx, p.expand(c.Args)+"\r\n")
}

// Craw: octets as a quoted Go string, to which nothing is added.
func (p *player) sayRaw(ctx context.Context, c Command) error {
	s, err := strconv.Unquote(strings.TrimSpace(c.Args))
	if err != nil {
		return fmt.Errorf(`the form is Craw: "octets\r\n"`)
	}
	return p.write(ctx, s)
}

// text: the lines of the block, as they are, for content.
func (p *player) text(ctx context.Context, c Command) error {
	return p.write(ctx, p.expand(strings.Join(c.Block, "\r\n"))+"\r\n")
}

func (p *player) write(ctx context.Context, s string) error {
	if p.current == nil {
		return errNoConnection
	}
	if err := p.deadline(ctx); err != nil {
		return err
	}
	_, err := io.WriteString(p.current.conn, s)
	return err
}

func (p *player) deadline(ctx context.Context) error {
	at, ok := ctx.Deadline()
	if !ok {
		at = time.Now().Add(commandPatience)
	}
	return p.current.conn.SetDeadline(at)
}

// S: what is expected next. Of SMTP the whole reply is read: the code must be
// the one given, and any further words must be in one of its lines. Else one line
// is read, which must begin as given; "S: ..." skips lines until the next S: fits.
func (p *player) hear(ctx context.Context, c Command) error {
	t := p.current
	if t == nil {
		return errNoConnection
	}
	if err := p.deadline(ctx); err != nil {
		return err
	}
	wanted := p.expand(strings.TrimSpace(c.Args))
	if t.service == "smtp" || t.service == "submission" {
		return t.smtpReply(wanted)
	}
	if rest, ok := strings.CutPrefix(wanted, "... "); ok {
		return t.until(rest)
	}
	line, err := t.line()
	if err != nil {
		return err
	}
	t.last = []string{line}
	if !strings.HasPrefix(line, wanted) {
		return fmt.Errorf("the server said %q", line)
	}
	return nil
}

func (t *talk) line() (string, error) {
	line, err := t.in.ReadString('\n')
	if err != nil {
		if line != "" {
			return "", fmt.Errorf("the server said %q, and then: %w", line, err)
		}
		return "", fmt.Errorf("the server said nothing: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// until reads lines until one begins as wanted.
func (t *talk) until(wanted string) error {
	t.last = nil
	for range maxReply {
		line, err := t.line()
		if err != nil {
			return err
		}
		t.last = append(t.last, line)
		if strings.HasPrefix(line, wanted) {
			return nil
		}
	}
	return fmt.Errorf("not in %d lines", maxReply)
}

// smtpReply reads one reply, of several lines perhaps (RFC 5321 section 4.2.1).
func (t *talk) smtpReply(wanted string) error {
	t.last = nil
	for range maxReply {
		line, err := t.line()
		if err != nil {
			return err
		}
		t.last = append(t.last, line)
		if len(line) < 4 || line[3] != '-' {
			break
		}
	}
	said := strings.Join(t.last, "\n")
	code, words, _ := strings.Cut(wanted, " ")
	if !strings.HasPrefix(t.last[len(t.last)-1], code) {
		return fmt.Errorf("the server said %q", said)
	}
	words, absent := strings.CutPrefix(words, "without ")
	if words != "" && strings.Contains(said, words) == absent {
		return fmt.Errorf("the server said %q", said)
	}
	return nil
}

// closed: the server ends the connection.
func (p *player) closed(ctx context.Context, _ Command) error {
	if p.current == nil {
		return errNoConnection
	}
	if err := p.deadline(ctx); err != nil {
		return err
	}
	line, err := p.current.in.ReadString('\n')
	var timeout net.Error
	switch {
	case err == nil || line != "":
		return fmt.Errorf("the server said %q", line)
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("it is still open")
	}
	return nil
}
