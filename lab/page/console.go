package page

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"postrider/internal/clock"
)

// Bounds of the telnet console.
const (
	maxConsoles     = 32
	maxConsoleLines = 2000 // kept of one connection; a longer one ends
	maxConsoleLine  = 4096 // octets of the server's line; a longer one is cut in two
	maxTyped        = 2000 // octets of one line that is typed
	consoleIdle     = 15 * time.Minute
	dialPatience    = 10 * time.Second
)

// line is one line of a console, with its explanation.
type line struct {
	Seq  uint64 `json:"seq"`
	From string `json:"from"` // you, server, page
	Text string `json:"text"`
	Say  string `json:"say,omitempty"`
	RFC  string `json:"rfc,omitempty"`
}

// consoles are the open connections of all browsers.
type consoles struct {
	server *Server
	owned  sync.WaitGroup

	mu     sync.Mutex
	byID   map[string]*console
	closed bool
}

// console is one connection that somebody types into.
type console struct {
	host string
	idle clock.Timer
	out  sync.Mutex // held to write, and while TLS begins

	mu    sync.Mutex
	conn  net.Conn
	d     dialogue
	lines []line
	ended bool
	more  chan struct{} // closed by the next line
}

func newConsoles(s *Server) *consoles {
	return &consoles{server: s, byID: make(map[string]*console)}
}

// add appends a line, explained; a console that is full ends.
func (c *console) add(from, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var n note
	switch from {
	case "you":
		n = c.d.typed(text)
	case "server":
		n = c.d.said(text)
	}
	c.addLocked(line{From: from, Text: text, Say: n.say, RFC: n.rfc})
	if len(c.lines) >= maxConsoleLines && !c.ended {
		c.endLocked("The console has room for no more lines.")
	}
}

func (c *console) addLocked(l line) {
	l.Seq = uint64(len(c.lines) + 1)
	c.lines = append(c.lines, l)
	close(c.more)
	c.more = make(chan struct{})
}

// end closes the connection and says why.
func (c *console) end(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.endLocked(why)
	}
}

func (c *console) endLocked(why string) {
	c.ended = true
	c.conn.Close()
	c.idle.Stop()
	c.addLocked(line{From: "page", Text: why})
}

// after returns the lines after seq, whether there can be more, and what closes
// with the next.
func (c *console) after(seq uint64) (lines []line, ended bool, more <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if seq > uint64(len(c.lines)) {
		seq = uint64(len(c.lines))
	}
	return append([]line(nil), c.lines[seq:]...), c.ended, c.more
}

// open is POST /api/console: a connection to a host and port of the lab.
func (cs *consoles) open(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Host string
		Port int
	}
	if !read(w, r, &in) {
		return
	}
	if in.Port < 1 || in.Port > 65535 {
		refuse(w, http.StatusBadRequest, "A port is a number from 1 to 65535.")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), dialPatience)
	defer cancel()
	conn, err := cs.server.lab.Dial(ctx, in.Host, in.Port)
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, "%v", err)
		return
	}
	id, err := cs.keep(conn, in.Host, cs.service(in.Host, in.Port))
	if err != nil {
		conn.Close()
		refuse(w, http.StatusServiceUnavailable, "%v", err)
		return
	}
	reply(w, map[string]string{"id": id})
}

// service is what a host offers on a port.
func (cs *consoles) service(host string, port int) string {
	for _, h := range cs.server.lab.Scene().Hosts {
		if h.ID != host {
			continue
		}
		for _, p := range h.Ports {
			if p.Number == port {
				return p.Service
			}
		}
	}
	return "other"
}

// keep makes a console of a connection and reads from it.
func (cs *consoles) keep(conn net.Conn, host, service string) (string, error) {
	id, err := randomName(cs.server.rand)
	if err != nil {
		return "", err
	}
	c := &console{host: host, conn: conn, d: dialogue{service: service, due: 1}, more: make(chan struct{})}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed || len(cs.byID) >= maxConsoles {
		return "", fmt.Errorf("%d consoles are open already; close one", len(cs.byID))
	}
	c.idle = cs.server.clock.AfterFunc(consoleIdle, func() { c.end("Nothing was typed for a quarter of an hour.") })
	c.lines = []line{{Seq: 1, From: "page", Text: "Connected to " + conn.RemoteAddr().String() + "."}}
	cs.byID[id] = c
	cs.owned.Go(func() { c.hear(conn) })
	return id, nil
}

// hear takes down what the server says.
func (c *console) hear(conn net.Conn) {
	r := bufio.NewReaderSize(conn, maxConsoleLine)
	for {
		octets, err := r.ReadSlice('\n')
		text := strings.ToValidUTF8(strings.TrimRight(string(octets), "\r\n"), "\uFFFD")
		if len(octets) > 0 {
			c.add("server", text)
		}
		if err == nil && c.agreed(text) {
			if conn = c.startTLS(conn, r.Buffered()); conn == nil {
				return
			}
			r.Reset(conn)
		}
		switch {
		case err == nil, errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			c.end("The server closed the connection.")
			return
		default:
			c.end("The connection broke.")
			return
		}
	}
}

// agreed tells whether the server's line means that TLS begins.
func (c *console) agreed(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.ended && c.d.startsTLS(text)
}

// startTLS goes on under TLS, whatever the certificate, which it shows; nil when that
// fails. What has come behind the server's line anybody may have sent, so that it is
// not an answer to what is said under TLS.
func (c *console) startTLS(conn net.Conn, more int) net.Conn {
	c.out.Lock()
	defer c.out.Unlock()
	if more > 0 {
		c.end("The server said more before TLS began; the console believes none of it.")
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialPatience)
	defer cancel()
	t := tls.Client(conn, &tls.Config{ServerName: c.host, InsecureSkipVerify: true})
	if err := t.HandshakeContext(ctx); err != nil {
		c.end("TLS failed: " + err.Error())
		return nil
	}
	state := t.ConnectionState()
	certificate := state.PeerCertificates[0]
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil
	}
	c.conn = t
	c.addLocked(line{From: "page", RFC: "RFC 8446",
		Text: fmt.Sprintf("%s, %s. The certificate is of %s, by %s, until %s.", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite),
			certificate.Subject.CommonName, certificate.Issuer.CommonName, certificate.NotAfter.UTC().Format(time.DateTime)),
		Say: "From here on everything is encrypted, and the dialogue begins anew: what was said before counts no more. The console shows the certificate and does not check it."})
	return t
}

// write sends a line, which CR LF ends (RFC 854).
func (c *console) write(text string, until time.Time) {
	c.out.Lock()
	defer c.out.Unlock()
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	err := conn.SetWriteDeadline(until)
	if err == nil {
		_, err = io.WriteString(conn, text+"\r\n")
	}
	if err != nil {
		c.end("The connection is closed.")
	}
}

// find returns the console that a request names.
func (cs *consoles) find(w http.ResponseWriter, r *http.Request) *console {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c := cs.byID[r.PathValue("id")]
	if c == nil {
		refuse(w, http.StatusNotFound, "There is no such console.")
	}
	return c
}

// listen is GET /api/console/ID: its lines as events, to the end.
func (cs *consoles) listen(w http.ResponseWriter, r *http.Request) {
	c := cs.find(w, r)
	if c == nil {
		return
	}
	st, done := cs.server.openStream(w)
	if st == nil {
		return
	}
	defer done()
	seen := lastSeen(r)
	for {
		lines, ended, more := c.after(seen)
		for _, l := range lines {
			if st.send(l.Seq, "line", l) != nil {
				return
			}
			seen = l.Seq
		}
		if ended {
			st.send(0, "end", struct{}{})
			return
		}
		select {
		case <-more:
		case <-r.Context().Done():
			return
		case <-cs.server.closing:
			return
		}
	}
}

// say is POST /api/console/ID: one line.
func (cs *consoles) say(w http.ResponseWriter, r *http.Request) {
	c := cs.find(w, r)
	if c == nil {
		return
	}
	var in struct{ Text string }
	if !read(w, r, &in) {
		return
	}
	if len(in.Text) > maxTyped || strings.ContainsAny(in.Text, "\r\n") {
		refuse(w, http.StatusBadRequest, "A line has at most %d octets.", maxTyped)
		return
	}
	c.add("you", in.Text)
	c.idle.Reset(consoleIdle)
	c.write(in.Text, cs.server.clock.Now().Add(dialPatience))
	reply(w, struct{}{})
}

// hangUp is DELETE /api/console/ID.
func (cs *consoles) hangUp(w http.ResponseWriter, r *http.Request) {
	c := cs.find(w, r)
	if c == nil {
		return
	}
	c.end("You closed the connection.")
	cs.mu.Lock()
	delete(cs.byID, r.PathValue("id"))
	cs.mu.Unlock()
	reply(w, struct{}{})
}

// close ends all consoles and waits for their readers.
func (cs *consoles) close() {
	cs.mu.Lock()
	cs.closed = true
	for _, c := range cs.byID {
		c.end("The lab ends.")
	}
	cs.mu.Unlock()
	cs.owned.Wait()
}
