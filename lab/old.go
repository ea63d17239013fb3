package lab

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/emersion/go-smtp"

	"postrider/internal/journey"
)

// Bounds of the old server: it keeps letters in memory, as many as fit.
const (
	maxOldLetters = 1000
	maxOldSize    = 1 << 20
)

// oldServer is a mail server as RFC 821 has it: HELO, and no extension. It is
// go-smtp's server, on connections that hide EHLO from it.
type oldServer struct {
	server  *smtp.Server
	host    *Host
	journey *journey.Recorder
	users   []string

	mu      sync.Mutex
	letters []oldLetter
}

type oldLetter struct {
	to, from string
	text     []byte
}

func newOldServer(h *Host, users []string, j *journey.Recorder) *oldServer {
	o := &oldServer{host: h, users: users, journey: j}
	o.server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &oldSession{o: o, peer: c.Conn().RemoteAddr().String()}, nil
	}))
	o.server.Domain = h.Name
	o.server.MaxMessageBytes = maxOldSize
	o.server.MaxRecipients = 100
	o.server.ErrorLog = discardLog{}
	return o
}

type discardLog struct{}

func (discardLog) Printf(string, ...any) {}
func (discardLog) Println(...any)        {}

// serve serves until the listener is closed.
func (o *oldServer) serve(l net.Listener) { _ = o.server.Serve(oldDoor{l}) }

func (o *oldServer) close() { o.server.Close() }

// received lists the letters of an address, the oldest first.
func (o *oldServer) received(address string) []oldLetter {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []oldLetter
	for _, l := range o.letters {
		if strings.EqualFold(l.to, address) {
			out = append(out, l)
		}
	}
	return out
}

type oldSession struct {
	o    *oldServer
	peer string
	from string
	to   []string
}

func (s *oldSession) Reset()        { s.from, s.to = "", nil }
func (s *oldSession) Logout() error { return nil }
func (s *oldSession) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return nil
}

func (s *oldSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if !slices.ContainsFunc(s.o.users, func(u string) bool { return strings.EqualFold(u, to) }) {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.NoEnhancedCode, Message: "no such user here"}
	}
	s.to = append(s.to, to)
	return nil
}

func (s *oldSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(text, func(b byte) bool { return b >= 0x80 }) {
		// Seven bits were all there was (RFC 821 section 4.1.2).
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.NoEnhancedCode, Message: "this server takes 7-bit text only"}
	}
	s.o.mu.Lock()
	defer s.o.mu.Unlock()
	id := rand.Text()
	for _, to := range s.to {
		if len(s.o.letters) == maxOldLetters {
			return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.NoEnhancedCode, Message: "no room for more"}
		}
		s.o.letters = append(s.o.letters, oldLetter{to: to, from: s.from, text: text})
		s.o.journey.Record(journey.Event{Node: s.o.host.Name, Kind: journey.MailboxDelivered, Message: id, Peer: s.peer,
			Text:  fmt.Sprintf("put a letter of %d octets into the mailbox of %s", len(text), to),
			Attrs: []journey.Attr{{Key: "account", Value: to}, {Key: "from", Value: s.from}, {Key: "to", Value: to}}})
	}
	// The library sends what is no error in the way of one.
	return &smtp.SMTPError{Code: 250, EnhancedCode: smtp.NoEnhancedCode, Message: "taken, id " + id}
}

// oldDoor lets the server hear of no EHLO.
type oldDoor struct{ net.Listener }

func (d oldDoor) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &oldConn{Conn: c}, nil
}

// oldConn gives EHLO the name of a command that did not exist. Content passes
// as it is.
type oldConn struct {
	net.Conn
	in      []byte
	out     []byte
	content bool
	err     error
}

func (c *oldConn) Read(p []byte) (int, error) {
	for len(c.out) == 0 {
		if c.line() {
			continue
		}
		if c.err != nil {
			return 0, c.err
		}
		buf := make([]byte, maxFilterLine)
		n, err := c.Conn.Read(buf)
		c.in = append(c.in, buf[:n]...)
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			return 0, err
		case err != nil:
			c.out, c.in, c.err = append(c.out, c.in...), nil, err
		}
	}
	n := copy(p, c.out)
	c.out = c.out[n:]
	return n, nil
}

// line moves one line from in to out; false when there is none.
func (c *oldConn) line() bool {
	end := bytes.IndexByte(c.in, '\n') + 1
	if end == 0 {
		if len(c.in) < maxFilterLine {
			return false
		}
		end = len(c.in)
	}
	line := c.in[:end]
	c.in = c.in[end:]
	verb := strings.ToUpper(strings.TrimRight(string(line), "\r\n"))
	switch {
	case c.content:
		c.content = verb != "."
	case verb == "DATA":
		c.content = true
	case strings.HasPrefix(verb, "EHLO"):
		line = append([]byte("XHLO"), line[4:]...)
	}
	c.out = append(c.out, line...)
	return true
}
