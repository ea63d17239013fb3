package integration

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// talk is one raw connection.
type talk struct {
	net.Conn
	r   *bufio.Reader
	tag int
}

func dial(addr string) (*talk, error) {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	return newTalk(c), nil
}

func newTalk(c net.Conn) *talk { return &talk{Conn: c, r: bufio.NewReader(c)} }

func mustDial(t testing.TB, addr string) *talk {
	t.Helper()
	c, err := dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// startTLS does a handshake that trusts the server's own CA.
func (c *talk) startTLS(s *server) error {
	secure := tls.Client(c.Conn, s.tlsConfig())
	if err := secure.Handshake(); err != nil {
		return err
	}
	c.Conn, c.r = secure, bufio.NewReader(secure)
	return nil
}

func (s *server) tlsConfig() *tls.Config {
	s.t.Helper()
	pem, err := os.ReadFile(s.caFile())
	if err != nil {
		s.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		s.t.Fatal("the CA file has no certificate")
	}
	return &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

// line reads one line without its CRLF.
func (c *talk) line() (string, error) {
	c.SetReadDeadline(time.Now().Add(patience))
	line, err := c.r.ReadString('\n')
	if err != nil {
		return line, err
	}
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		return line, fmt.Errorf("line without CRLF: %q", line)
	}
	return text, nil
}

// reply reads an SMTP reply of any number of lines, joined by "\n".
func (c *talk) reply() (string, error) {
	var all []string
	for {
		line, err := c.line()
		if err != nil {
			return strings.Join(all, "\n"), err
		}
		all = append(all, line)
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(all, "\n"), nil
		}
	}
}

// say sends one line.
func (c *talk) say(line string) error {
	c.SetWriteDeadline(time.Now().Add(patience))
	_, err := io.WriteString(c, line+"\r\n")
	return err
}

// ask sends an SMTP command and wants a reply that begins with want.
func (c *talk) ask(command, want string) (string, error) {
	if err := c.say(command); err != nil {
		return "", err
	}
	return c.want(want)
}

func (c *talk) want(want string) (string, error) {
	reply, err := c.reply()
	if err == nil && !strings.HasPrefix(reply, want) {
		err = fmt.Errorf("got %q, want %s", reply, want)
	}
	return reply, err
}

// smtp opens an SMTP session and says EHLO.
func smtp(addr string) (*talk, error) {
	c, err := dial(addr)
	if err != nil {
		return nil, err
	}
	if _, err = c.want("220"); err == nil {
		_, err = c.ask("EHLO crepes.fr", "250")
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// mail sends one message and returns the final reply; an error means that
// there was none, or one that is not 250.
func (c *talk) mail(from string, to []string, text string) (string, error) {
	if _, err := c.ask("MAIL FROM:<"+from+">", "250"); err != nil {
		return "", err
	}
	for _, r := range to {
		if _, err := c.ask("RCPT TO:<"+r+">", "250"); err != nil {
			return "", err
		}
	}
	if _, err := c.ask("DATA", "354"); err != nil {
		return "", err
	}
	stuffed := strings.ReplaceAll("\r\n"+text, "\r\n.", "\r\n..")[2:]
	return c.ask(stuffed+".", "250")
}

// authPlain is the argument of AUTH PLAIN.
func authPlain(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
}

// pop opens a POP3 session and logs in.
func pop(addr, user string) (*talk, error) {
	c, err := dial(addr)
	if err != nil {
		return nil, err
	}
	for _, command := range []string{"", "USER " + user, "PASS " + password} {
		if _, err = c.popAsk(command); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// popAsk sends a POP3 command ("" for none) and wants +OK.
func (c *talk) popAsk(command string) (string, error) {
	if command != "" {
		if err := c.say(command); err != nil {
			return "", err
		}
	}
	line, err := c.line()
	if err == nil && !strings.HasPrefix(line, "+OK") {
		err = fmt.Errorf("%s: %s", command, line)
	}
	return line, err
}

// popLines is popAsk with the lines of a multi-line reply, dots taken away.
func (c *talk) popLines(command string) ([]string, error) {
	if _, err := c.popAsk(command); err != nil {
		return nil, err
	}
	var lines []string
	for {
		line, err := c.line()
		if err != nil {
			return nil, err
		}
		if line == "." {
			return lines, nil
		}
		lines = append(lines, strings.TrimPrefix(line, "."))
	}
}

// imap opens an IMAP session and logs in.
func imap(addr, user string) (*talk, error) {
	c, err := dial(addr)
	if err != nil {
		return nil, err
	}
	if _, err = c.line(); err == nil {
		_, err = c.imapAsk("LOGIN " + user + " " + password)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// imapNo is a tagged NO or BAD.
type imapNo string

func (e imapNo) Error() string { return string(e) }

// imapAsk sends a command and returns the untagged responses, literals
// included, and last the text of the tagged OK.
func (c *talk) imapAsk(command string) ([]string, error) {
	c.tag++
	tag := "t" + strconv.Itoa(c.tag)
	if err := c.say(tag + " " + command); err != nil {
		return nil, err
	}
	return c.imapAnswer(tag)
}

// imapAnswer reads what the server says up to the tagged response.
func (c *talk) imapAnswer(tag string) ([]string, error) {
	var all []string
	for {
		response, err := c.imapResponse()
		if err != nil {
			return all, err
		}
		rest, tagged := strings.CutPrefix(response, tag+" ")
		switch {
		case !tagged:
			all = append(all, response)
		case strings.HasPrefix(rest, "OK"):
			return append(all, rest), nil
		default:
			return all, imapNo(rest)
		}
	}
}

// imapResponse reads one response with its literals.
func (c *talk) imapResponse() (string, error) {
	var b strings.Builder
	for {
		line, err := c.line()
		if err != nil {
			return b.String(), err
		}
		b.WriteString(line)
		i := strings.LastIndexByte(line, '{')
		if i < 0 || !strings.HasSuffix(line, "}") {
			return b.String(), nil
		}
		n, err := strconv.Atoi(line[i+1 : len(line)-1])
		if err != nil {
			return b.String(), nil
		}
		b.WriteString("\r\n")
		if _, err := io.CopyN(&b, c.r, int64(n)); err != nil {
			return b.String(), err
		}
	}
}

// imapAppend appends a message and returns the text of the tagged OK.
func (c *talk) imapAppend(mailbox, flags, text string) (string, error) {
	c.tag++
	tag := "t" + strconv.Itoa(c.tag)
	if err := c.say(fmt.Sprintf("%s APPEND %s (%s) {%d}", tag, mailbox, flags, len(text))); err != nil {
		return "", err
	}
	line, err := c.line()
	for err == nil && strings.HasPrefix(line, "* ") {
		line, err = c.line()
	}
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(line, "+") {
		return "", imapNo(line)
	}
	if err := c.say(text); err != nil {
		return "", err
	}
	all, err := c.imapAnswer(tag)
	if err != nil {
		return "", err
	}
	return all[len(all)-1], nil
}

// converse plays a dialogue: lines "C: ..." are sent, "S: ..." must be what the
// server's next line begins with.
func (c *talk) converse(t testing.TB, dialogue string) {
	t.Helper()
	for i, line := range strings.Split(strings.Trim(dialogue, "\n"), "\n") {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "C:"); ok {
			if err := c.say(strings.TrimPrefix(text, " ")); err != nil {
				t.Fatalf("line %d, %s: %v", i+1, line, err)
			}
			continue
		}
		want, ok := strings.CutPrefix(line, "S: ")
		if !ok {
			t.Fatalf("line %d of the dialogue: %q", i+1, line)
		}
		got, err := c.line()
		if err != nil || !strings.HasPrefix(got, want) {
			t.Fatalf("line %d: the server said %q (%v), want %q", i+1, got, err, want)
		}
	}
}
