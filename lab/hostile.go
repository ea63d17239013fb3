package lab

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Bounds of the hostile server: it harms its peers, not this machine.
const (
	hostileConns    = 50
	hostileLines    = 100_000 // of an endless reply
	hostilePatience = time.Minute
)

// hostile is a mail server that breaks the rules. The local part of a recipient
// says how; what it accepts is gone.
type hostile struct {
	host *Host

	mu    sync.Mutex
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

// startHostileLocked runs it.
func (m *machine) startHostileLocked() {
	h := &hostile{host: m.host, conns: map[net.Conn]bool{}}
	m.serveLocked("smtp", h.serve, h.close)
}

func (h *hostile) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		if h.conns == nil || len(h.conns) >= hostileConns {
			h.mu.Unlock()
			c.Close()
			continue
		}
		h.conns[c] = true
		h.wg.Go(func() {
			h.talk(c)
			c.Close()
			h.mu.Lock()
			delete(h.conns, c)
			h.mu.Unlock()
		})
		h.mu.Unlock()
	}
}

func (h *hostile) close() {
	h.mu.Lock()
	for c := range h.conns {
		c.Close()
	}
	h.mu.Unlock()
	h.wg.Wait()
}

// talk answers as a server would, but for the recipients that ask for a trick.
func (h *hostile) talk(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(hostilePatience))
	say := func(s string) bool { _, err := c.Write([]byte(s)); return err == nil }
	in := bufio.NewScanner(c)
	if !say("220 " + h.host.Name + " ESMTP at your service\r\n") {
		return
	}
	content := false
	for in.Scan() {
		line := strings.TrimRight(in.Text(), "\r")
		if content {
			if line != "." {
				continue
			}
			content = false
			if !say("250 taken, and thrown away\r\n") {
				return
			}
			continue
		}
		verb, rest, _ := strings.Cut(line, " ")
		reply := "250 fine\r\n"
		switch strings.ToUpper(verb) {
		case "DATA":
			reply, content = "354 go on\r\n", true
		case "QUIT":
			say("221 bye\r\n")
			return
		case "RCPT":
			if reply = h.trick(rest); reply == "" {
				return
			}
		}
		if !say(reply) {
			return
		}
	}
}

// trick is the reply to a recipient; "" closes the connection.
func (h *hostile) trick(rcpt string) string {
	_, path, _ := strings.Cut(rcpt, "<")
	local, _, _ := strings.Cut(path, "@")
	switch strings.ToLower(local) {
	case "endless":
		return strings.Repeat("250-and one more\r\n", hostileLines)
	case "garbage":
		return "\x00\xff<html>\r\n"
	case "longline":
		return "250 " + strings.Repeat("x", 64<<10) + "\r\n"
	case "early":
		return "250 fine\r\n354 go on\r\n250 taken already\r\n"
	case "drop":
		return ""
	case "code":
		return "999 more than all codes\r\n"
	case "later":
		return "451 4.3.0 perhaps tomorrow\r\n"
	case "never":
		return "550 5.1.1 nobody of that name\r\n"
	}
	return fmt.Sprintf("250 %s is welcome\r\n", local)
}
