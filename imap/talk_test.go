package imap

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// client says commands and hears lines. What a client makes of them is tested
// where all front-ends are, in internal/node.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	tag  int
	all  []string // untagged lines of the last command
}

func (w *world) client(mailbox string) *client {
	w.t.Helper()
	c := w.connect()
	c.ok("LOGIN bob hungry")
	c.ok("SELECT " + mailbox)
	return c
}

func (w *world) connect() *client {
	conn := w.dial()
	w.t.Cleanup(func() { conn.Close() })
	c := &client{t: w.t, conn: conn, r: bufio.NewReader(conn)}
	c.line()
	return c
}

// line reads a line with the literals in it.
func (c *client) line() string {
	var b strings.Builder
	for {
		s, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Errorf("read: %v (after %q)", err, b.String()+s)
			return b.String() + s
		}
		b.WriteString(s)
		m := literal.FindStringSubmatch(s)
		if m == nil {
			return strings.TrimSuffix(b.String(), "\r\n")
		}
		n, _ := strconv.Atoi(m[1])
		if _, err := io.CopyN(&b, c.r, int64(n)); err != nil {
			c.t.Errorf("literal: %v", err)
			return b.String()
		}
	}
}

var literal = regexp.MustCompile(`\{(\d+)\}\r\n$`)

// do runs a command and returns its tagged answer.
func (c *client) do(command string) string {
	c.tag++
	tag := fmt.Sprintf("t%d ", c.tag)
	if _, err := io.WriteString(c.conn, tag+command+"\r\n"); err != nil {
		c.t.Errorf("%s: %v", command, err)
		return ""
	}
	c.all = nil
	for {
		line := c.line()
		if answer, ok := strings.CutPrefix(line, tag); ok || line == "" {
			return answer
		}
		c.all = append(c.all, line)
	}
}

func (c *client) ok(command string) {
	c.t.Helper()
	if answer := c.do(command); !strings.HasPrefix(answer, "OK") {
		c.t.Errorf("%s: %s", command, answer)
	}
}
