package lab

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"errors"
)

// maxFilterLine bounds a line that the filter looks at; a longer one goes by.
const maxFilterLine = 4096

// filter stands before a mail server and does what the faults of its host say:
// it sees the dialogue as somebody on the way does, as long as it is not under
// TLS. Commands go through one at a time, so that its own replies come in order:
// PIPELINING is taken out of what the server offers.
type filter struct {
	*guest
	conn     net.Conn // the guest, or what it is to one from outside
	network  *network
	from, to *Host
	client   string // the network of the client, for greylisting

	// Of the side that reads, in which the server's goroutine is.
	in      []byte // from the client, not looked at yet
	out     []byte // for the server
	state   filterState
	sender  string
	mark    int // how much of CRLF . CRLF came last
	pending error

	// Of the side that writes.
	hello   bool   // the reply that comes is that to EHLO
	partial []byte // a line of it that is not whole
	dot     bool   // the reply that comes is that to the final dot
}

type filterState int

const (
	filterCommands filterState = iota
	filterContent
	filterOpaque // TLS, or BDAT: not looked at any more
)

// newFilter returns nil where there is nothing to do. A connection that is one
// too many is told so here.
func newFilter(n *network, from, to *Host, c *guest, conn net.Conn) net.Conn {
	n.mu.Lock()
	wanted := false
	for i := range n.faults {
		switch f := &n.faults[i]; f.Kind {
		case FaultGreylist, FaultBusy, FaultStripTLS, FaultLostReply:
			wanted = wanted || f.covers(from, to)
		}
	}
	n.mu.Unlock()
	if !wanted {
		return nil
	}
	f := &filter{guest: c, conn: conn, network: n, from: from, to: to, client: addrPort(c.remote).Addr().String()}
	if f.busy() {
		f.pending = net.ErrClosed
		_, _ = fmt.Fprintf(c.Conn, "421 4.7.0 %s has too many connections, try again later\r\n", to.Name)
	}
	return f
}

// busy tells whether the minute has had all its connections.
func (f *filter) busy() bool {
	n := f.network
	n.mu.Lock()
	rate, limited := 0, false
	for i := range n.faults {
		if b := &n.faults[i]; b.Kind == FaultBusy && b.covers(f.from, f.to) {
			rate, limited = b.Rate, true
		}
	}
	if !limited {
		n.mu.Unlock()
		return false
	}
	now := n.clock.Now()
	var recent []time.Time
	for _, t := range n.calls[f.to.Name] {
		if now.Sub(t) < time.Minute {
			recent = append(recent, t)
		}
	}
	over := len(recent) >= rate
	if !over {
		recent = append(recent, now)
	}
	n.calls[f.to.Name] = recent
	n.mu.Unlock()
	if over {
		_, over = n.strike(FaultBusy, f.from, f.to)
	}
	return over
}

// SyscallConn would let the server see what the filter has not passed.
func (f *filter) SyscallConn() (syscall.RawConn, error) { return nil, errors.ErrUnsupported }

// Close closes it.
func (f *filter) Close() error { return f.conn.Close() }

func (f *filter) Read(p []byte) (int, error) {
	for len(f.out) == 0 {
		if f.pending != nil {
			return 0, f.pending
		}
		if f.state == filterOpaque && len(f.in) == 0 {
			return f.conn.Read(p)
		}
		if f.pass() {
			continue
		}
		buf := make([]byte, maxFilterLine)
		n, err := f.conn.Read(buf)
		f.in = append(f.in, buf[:n]...)
		if err != nil {
			f.out, f.in = append(f.out, f.in...), nil
			f.pending = err
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				f.pending = nil // the server may read again
				if len(f.out) == 0 {
					return 0, err
				}
			}
		}
	}
	n := copy(p, f.out)
	f.out = f.out[n:]
	return n, nil
}

// pass moves input on to the server, as far as it is decided; false when more is
// needed.
func (f *filter) pass() bool {
	switch {
	case len(f.in) == 0:
		return false
	case f.state == filterOpaque:
		f.out, f.in = f.in, nil
		return true
	case f.state == filterContent:
		f.content()
		return true
	}
	end := bytes.IndexByte(f.in, '\n')
	if end < 0 {
		if len(f.in) >= maxFilterLine {
			f.state = filterOpaque
			return true
		}
		return false
	}
	line := f.in[:end+1]
	f.in = f.in[end+1:]
	f.command(line)
	return true
}

// content passes content on up to its end, CRLF . CRLF; the dot at once after
// DATA counts, too (RFC 5321 section 4.1.1.4).
func (f *filter) content() {
	const end = "\r\n.\r\n"
	for i, b := range f.in {
		switch {
		case b == end[f.mark]:
			f.mark++
		case b == '\r':
			f.mark = 1
		default:
			f.mark = 0
		}
		if f.mark < len(end) {
			continue
		}
		f.out, f.in = append(f.out, f.in[:i+1]...), f.in[i+1:]
		f.state = filterCommands
		if _, ok := f.network.strike(FaultLostReply, f.from, f.to); ok {
			f.dot = true
		}
		return
	}
	f.out, f.in = append(f.out, f.in...), nil
}

// command decides about one line.
func (f *filter) command(line []byte) {
	text := strings.TrimRight(string(line), "\r\n")
	verb, rest, _ := strings.Cut(strings.ToUpper(text), " ")
	switch verb {
	case "EHLO":
		f.hello = true
	case "MAIL":
		f.sender = rest
	case "RCPT":
		if f.greylisted(rest) {
			_, _ = fmt.Fprintf(f.conn, "450 4.2.0 Greylisted, try again in %v\r\n", f.left(rest))
			return
		}
	case "DATA":
		f.state, f.mark = filterContent, 2 // as after a CRLF
	case "BDAT":
		f.state = filterOpaque
	case "STARTTLS":
		if f.stripping() {
			f.network.strike(FaultStripTLS, f.from, f.to)
			_, _ = fmt.Fprint(f.conn, "502 5.5.1 Command not known\r\n")
			return
		}
		f.state = filterOpaque
	}
	f.out = append(f.out, line...)
}

// stripping tells whether STARTTLS is taken out: where a fault says so, and where
// one wants to see the final dot.
func (f *filter) stripping() bool {
	n := f.network
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.faults {
		switch b := &n.faults[i]; b.Kind {
		case FaultStripTLS, FaultLostReply, FaultGreylist:
			if b.covers(f.from, f.to) {
				return true
			}
		}
	}
	return false
}

func (f *filter) triple(rcpt string) string {
	prefix := netip.PrefixFrom(addrPort(f.remote).Addr(), 24).Masked()
	return strings.Join([]string{f.to.Name, prefix.String(), f.sender, rcpt}, "\n")
}

// maxGreeted bounds the triples that are remembered.
const maxGreeted = 10000

// greylisted tells whether a recipient has to wait, by the network of the
// client, the sender and the recipient.
func (f *filter) greylisted(rcpt string) bool {
	n := f.network
	n.mu.Lock()
	var by *Fault
	for i := range n.faults {
		if b := n.faults[i]; b.Kind == FaultGreylist && b.covers(f.from, f.to) {
			by = &b
		}
	}
	if by == nil {
		n.mu.Unlock()
		return false
	}
	key, now := f.triple(rcpt), n.clock.Now()
	first, known := n.greeted[key]
	if !known && len(n.greeted) < maxGreeted {
		n.greeted[key] = now
		first = now
	}
	early := now.Sub(first) < time.Duration(by.Wait)
	n.mu.Unlock()
	if early {
		n.strike(FaultGreylist, f.from, f.to)
	}
	return early
}

// left is how long a recipient still has to wait.
func (f *filter) left(rcpt string) time.Duration {
	n := f.network
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.faults {
		if b := &n.faults[i]; b.Kind == FaultGreylist && b.covers(f.from, f.to) {
			return max(0, time.Duration(b.Wait)-n.clock.Now().Sub(n.greeted[f.triple(rcpt)])).Round(time.Second)
		}
	}
	return 0
}

// Write passes the server's replies on. Of the reply to EHLO it leaves out what
// would let the dialogue pass by unseen; in place of the reply to the final dot
// it ends the connection.
func (f *filter) Write(p []byte) (int, error) {
	if f.dot {
		if tcp, ok := f.guest.Conn.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		f.conn.Close()
		return 0, net.ErrClosed
	}
	if !f.hello {
		return f.conn.Write(p)
	}
	f.partial = append(f.partial, p...)
	var pass []byte
	for f.hello {
		end := bytes.IndexByte(f.partial, '\n')
		if end < 0 {
			break
		}
		line := f.partial[:end+1]
		f.partial = f.partial[end+1:]
		pass = append(pass, f.offer(line)...)
	}
	if !f.hello {
		pass, f.partial = append(pass, f.partial...), nil
	}
	if _, err := f.conn.Write(pass); err != nil {
		return 0, err
	}
	return len(p), nil
}

// offer is what becomes of a line of the reply to EHLO. As such boxes do, it
// overwrites a keyword rather than to take the line out.
func (f *filter) offer(line []byte) []byte {
	text := strings.TrimRight(string(line), "\r\n")
	if len(text) < 4 || text[3] != '-' {
		f.hello = false
	}
	if len(text) < 4 {
		return line
	}
	keyword, _, _ := strings.Cut(strings.ToUpper(text[4:]), " ")
	if keyword == "PIPELINING" || keyword == "CHUNKING" || keyword == "STARTTLS" && f.stripping() {
		return fmt.Appendf(nil, "%s%s\r\n", text[:4], strings.Repeat("X", len(keyword)))
	}
	return line
}
