package deliver

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"postrider/internal/journey"
	"postrider/mta"
)

// session is one connection to a peer that has been greeted. It is used by one
// goroutine at a time.
type session struct {
	c    *Client
	key  key
	conn net.Conn
	r    replyReader
	cmd  []byte // commands that are not sent yet
	caps caps
	tls  string // "TLS1.3"; "" without
	used int    // transactions begun

	peer    string   // key, as the journey names it
	message string   // for whose sake the connection is used now; "" for none
	asked   []string // verbs whose replies are awaited, for the journey

	// dirty tells that the last transaction did not end by a dot: the peer may
	// still hold a part of it, and RSET goes before the next.
	dirty     bool
	idleSince time.Time

	// timeout is for the reply that is being read; armed tells that its
	// deadline stands.
	timeout time.Duration
	armed   bool
	stop    func() bool // ends the watch on the caller's context
}

// caps is what a peer's EHLO reply offers.
type caps struct {
	pipelining, eightBit, utf8, dsn, startTLS bool
	size                                      int64 // 0: no limit, or not offered
	sizeOffered                               bool
	auth                                      []string
	rcptMax, mailMax                          int // RFC 9422; 0 for none
}

// maxAuth bounds the mechanisms that are remembered of a peer.
const maxAuth = 32

// session returns a connection for k, ready for MAIL: one from the pool where
// reuse allows, or a new one. It is closed when ctx ends, until detach.
func (c *Client) session(ctx context.Context, k key, reuse bool) (*session, *failure) {
	if reuse {
		if s := c.pool.take(k); s != nil {
			s.attach(ctx)
			s.serves(ctx)
			s.record(journey.DeliverReuse, journey.Attr{Key: "tls", Value: s.tls})
			count(c.o.Metrics.Reused, 1)
			return s, nil
		}
	}
	s, f, broken := c.open(ctx, k, k.tls != mta.TLSNever)
	if broken && k.tls == mta.TLSOpportunistic && ctx.Err() == nil {
		c.o.Log.Info("TLS failed, sending without it", "host", k.host, "addr", k.addr, "err", f.reply.Text)
		s, f, _ = c.open(ctx, k, false)
	}
	return s, f
}

// open makes a new connection and says hello, with STARTTLS and AUTH as the
// key asks. broken tells that it failed in the TLS handshake.
func (c *Client) open(ctx context.Context, k key, withTLS bool) (s *session, f *failure, broken bool) {
	began := c.o.Clock.Now()
	dialCtx, cancel := context.WithTimeout(ctx, c.o.Timeouts.Connect)
	conn, err := c.o.Dial(dialCtx, "tcp", k.addr.String())
	cancel()
	if err != nil {
		c.recordConnect(ctx, k, began, "", err)
		return nil, &failure{reply: mta.Errorf(451, "4.4.1", "Cannot connect to %s: %s", k, plainError(err))}, false
	}
	count(c.o.Metrics.Connections, 1)
	c.recordConnect(ctx, k, began, conn.LocalAddr().String(), nil)
	s = &session{c: c, key: k, conn: conn, peer: k.String()}
	s.serves(ctx)
	s.r.src, s.r.heard = s, s.heard
	s.attach(ctx)
	if f, broken = s.hello(ctx, withTLS); f != nil {
		s.detach()
		s.discard()
		return nil, f, broken
	}
	return s, nil, false
}

func (k key) String() string {
	if k.host == "" {
		return k.addr.String()
	}
	return k.host + " (" + k.addr.String() + ")"
}

// hello brings a new connection to the point where MAIL may be sent.
func (s *session) hello(ctx context.Context, withTLS bool) (f *failure, broken bool) {
	if s.key.tls == mta.TLSImplicit {
		if f := s.handshake(ctx); f != nil {
			return f, true
		}
	}
	rep, err := s.reply(s.c.o.Timeouts.Greeting, nil)
	switch {
	case err != nil:
		return s.lost("the greeting", err), false
	case rep.Code != 220:
		return s.refused(rep, "greeting"), false
	}
	if f := s.ehlo(); f != nil {
		return f, false
	}
	if withTLS && s.tls == "" {
		if f, broken := s.startTLS(ctx); f != nil {
			return f, broken
		}
	}
	if s.key.login != "" {
		return s.login(), false
	}
	return nil, false
}

// ehlo says EHLO, and HELO to a peer that does not know it (RFC 5321 section
// 3.2).
func (s *session) ehlo() *failure {
	s.caps = caps{}
	rep, err := s.command(s.c.o.Timeouts.Command, s.caps.add, "EHLO ", s.c.o.Hostname)
	if err != nil {
		return s.lost("the reply to EHLO", err)
	}
	if rep.Code/100 == 5 {
		s.caps = caps{}
		if rep, err = s.command(s.c.o.Timeouts.Command, nil, "HELO ", s.c.o.Hostname); err != nil {
			return s.lost("the reply to HELO", err)
		}
	}
	if rep.Code != 250 {
		return s.refused(rep, "EHLO")
	}
	return nil
}

// add takes one line of an EHLO reply; the first is the peer's name.
func (c *caps) add(n int, text []byte) {
	if n == 0 {
		return
	}
	fields := strings.Fields(string(bytes.ToUpper(text)))
	if len(fields) == 0 {
		return
	}
	word, args := fields[0], fields[1:]
	switch {
	case word == "PIPELINING":
		c.pipelining = true
	case word == "8BITMIME":
		c.eightBit = true
	case word == "SMTPUTF8":
		c.utf8 = true
	case word == "DSN":
		c.dsn = true
	case word == "STARTTLS":
		c.startTLS = true
	case word == "SIZE":
		c.sizeOffered = true
		if len(args) > 0 {
			if n, err := strconv.ParseInt(args[0], 10, 64); err == nil && n > 0 {
				c.size = n
			}
		}
	case word == "AUTH":
		c.addAuth(args)
	case strings.HasPrefix(word, "AUTH="): // as servers of old wrote it
		c.addAuth(append([]string{word[len("AUTH="):]}, args...))
	case word == "LIMITS":
		c.addLimits(args)
	}
}

func (c *caps) addAuth(mechanisms []string) {
	if len(c.auth)+len(mechanisms) <= maxAuth {
		c.auth = append(c.auth, mechanisms...)
	}
}

// addLimits reads RFC 9422: RCPTMAX recipients of one transaction, MAILMAX
// transactions of one connection. Zero and nonsense are no limits.
func (c *caps) addLimits(args []string) {
	for _, a := range args {
		name, value, _ := strings.Cut(a, "=")
		n, err := strconv.Atoi(value)
		if err != nil || n <= 0 || n > 999999 {
			continue
		}
		switch name {
		case "RCPTMAX":
			c.rcptMax = n
		case "MAILMAX":
			c.mailMax = n
		}
	}
}

func (s *session) maxRcpts() int {
	if s.caps.rcptMax > 0 {
		return min(maxRcpts, s.caps.rcptMax)
	}
	return maxRcpts
}

// spent tells whether s has carried all the messages that it may.
func (s *session) spent() bool {
	most := s.c.o.MaxPerConnection
	if s.caps.mailMax > 0 {
		most = min(most, s.caps.mailMax)
	}
	return s.used >= most
}

// startTLS upgrades the connection as the policy asks (RFC 3207).
func (s *session) startTLS(ctx context.Context) (f *failure, broken bool) {
	required := s.key.tls == mta.TLSRequired
	if !s.caps.startTLS {
		if required {
			return &failure{reply: mta.Errorf(451, "4.7.10", "%s does not offer STARTTLS, which is required here", s.key)}, false
		}
		return nil, false
	}
	rep, err := s.command(s.c.o.Timeouts.Command, nil, "STARTTLS")
	switch {
	case err != nil:
		return s.lost("the reply to STARTTLS", err), true
	case rep.Code == 421:
		return s.refused(rep, "STARTTLS"), false
	case rep.Code != 220 && required:
		return &failure{reply: mta.Errorf(451, "4.7.10", "%s refused STARTTLS, which is required here: %s", s.key, rep)}, false
	case rep.Code != 220:
		return nil, false
	}
	// What came with the 220 was sent by whoever, unprotected: it must not be
	// taken for an answer to what is said under TLS.
	if s.r.buffered() > 0 {
		return &failure{reply: mta.Errorf(451, "4.7.5", "%s sent more than the reply to STARTTLS before TLS began", s.key)}, false
	}
	if f := s.handshake(ctx); f != nil {
		return f, true
	}
	return s.ehlo(), false
}

// handshake makes the connection TLS. The certificate is verified where the
// policy requires TLS, and of no interest where it is opportunistic.
func (s *session) handshake(ctx context.Context) *failure {
	config := s.c.tls.Clone()
	config.ServerName = strings.TrimSuffix(s.key.host, ".")
	if ip, ok := strings.CutPrefix(config.ServerName, "["); ok {
		ip = strings.TrimSuffix(ip, "]")
		config.ServerName = strings.TrimPrefix(ip, "IPv6:")
	}
	if config.ServerName == "" {
		config.ServerName = s.key.addr.Addr().String()
	}
	config.InsecureSkipVerify = s.key.tls == mta.TLSOpportunistic
	conn := tls.Client(s.conn, config)
	err := s.conn.SetDeadline(s.deadline(s.c.o.Timeouts.TLS))
	if err == nil {
		err = conn.HandshakeContext(ctx)
	}
	if err == nil {
		err = s.conn.SetDeadline(time.Time{})
	}
	if err != nil {
		s.record(journey.DeliverTLS, journey.Attr{Key: "error", Value: plainError(err)})
		return &failure{reply: mta.Errorf(451, "4.7.5", "TLS with %s failed: %s", s.key, plainError(err))}
	}
	s.conn = conn
	state := conn.ConnectionState()
	s.tls = strings.ReplaceAll(tls.VersionName(state.Version), " ", "")
	s.record(journey.DeliverTLS, journey.Attr{Key: "tls", Value: s.tls + " " + tls.CipherSuiteName(state.CipherSuite)},
		journey.Attr{Key: "certificate", Value: s.vouched(&state)})
	return nil
}

// vouched says what the certificate was good for.
func (s *session) vouched(state *tls.ConnectionState) string {
	if s.key.tls != mta.TLSOpportunistic {
		return "verified"
	}
	for _, c := range state.PeerCertificates[:min(len(state.PeerCertificates), 1)] {
		if s.c.o.Clock.Now().After(c.NotAfter) {
			return "not verified; it expired on " + c.NotAfter.UTC().Format(time.DateOnly)
		}
	}
	return "not verified"
}

// attach closes the connection when ctx ends.
func (s *session) attach(ctx context.Context) {
	conn := s.conn
	s.stop = context.AfterFunc(ctx, func() { conn.Close() })
}

// detach ends attach; it tells false when ctx was first.
func (s *session) detach() bool { return s.stop() }

func (s *session) deadline(d time.Duration) time.Time { return s.c.o.Clock.Now().Add(d) }

// Read is where the replyReader gets its octets: it sets the deadline of the
// reply once, when it really has to wait.
func (s *session) Read(p []byte) (int, error) {
	if !s.armed {
		if err := s.conn.SetReadDeadline(s.deadline(s.timeout)); err != nil {
			return 0, err
		}
		s.armed = true
	}
	return s.conn.Read(p)
}

// Write sends a block, within the time for one.
func (s *session) Write(p []byte) (int, error) {
	if err := s.conn.SetWriteDeadline(s.deadline(s.c.o.Timeouts.Block)); err != nil {
		return 0, err
	}
	return s.conn.Write(p)
}

// put adds one command to what is sent next.
func (s *session) put(words ...string) {
	start := len(s.cmd)
	for _, w := range words {
		s.cmd = append(s.cmd, w...)
	}
	s.saying(s.cmd[start:])
	s.cmd = append(s.cmd, crlf...)
}

func (s *session) flush() error {
	_, err := s.Write(s.cmd)
	s.cmd = s.cmd[:0]
	return err
}

// reply reads one reply within timeout.
func (s *session) reply(timeout time.Duration, each func(int, []byte)) (*mta.Reply, error) {
	s.timeout, s.armed = timeout, false
	return s.r.reply(each)
}

// command sends one command and reads the reply to it.
func (s *session) command(timeout time.Duration, each func(int, []byte), words ...string) (*mta.Reply, error) {
	s.put(words...)
	if err := s.flush(); err != nil {
		return nil, err
	}
	return s.reply(timeout, each)
}

// discard closes the connection without a word.
func (s *session) discard() {
	s.record(journey.DeliverClose)
	s.conn.Close()
}

// quit ends the session as RFC 5321 section 4.1.1.10 asks, but does not wait
// for the reply for long.
func (s *session) quit() {
	defer s.conn.Close()
	deadline := s.deadline(s.c.o.Timeouts.Quit)
	if err := s.conn.SetDeadline(deadline); err != nil {
		return
	}
	s.put("QUIT")
	if _, err := s.conn.Write(s.cmd); err != nil {
		return
	}
	s.armed = true
	_, _ = s.r.reply(nil)
}

// release ends the use of s after a transaction: it goes to the pool when
// nothing speaks against it.
func (c *Client) release(s *session, err error) {
	switch s.message = ""; {
	case err != nil || s.r.buffered() > 0:
		s.discard()
	case s.spent() || !c.pool.put(s):
		c.pool.closing.Go(s.quit)
	}
}

// refused is the failure of a connection whose peer wants no mail, now or ever.
func (s *session) refused(rep *mta.Reply, to string) *failure {
	if rep.Code/100 == 4 || rep.Code/100 == 5 {
		return &failure{reply: rep, peer: true}
	}
	return s.unexpected(rep, to)
}

// unexpected is the failure of a connection whose peer broke the protocol.
func (s *session) unexpected(rep *mta.Reply, to string) *failure {
	return &failure{reply: mta.Errorf(451, "4.5.0", "%s gave an unexpected answer to %s: %s", s.key, to, rep)}
}

// lost is the failure of a connection on which waiting for something failed.
func (s *session) lost(what string, err error) *failure {
	var r *mta.Reply
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		r = mta.Errorf(451, "4.4.2", "%s took too long over %s", s.key, what)
	case errors.Is(err, errReplyForm), errors.Is(err, errReplyLine), errors.Is(err, errReplyLines):
		r = mta.Errorf(451, "4.5.0", "%s broke the protocol: %s where %s was due", s.key, err, what)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		r = mta.Errorf(451, "4.4.2", "%s closed the connection where %s was due", s.key, what)
	default:
		r = mta.Errorf(451, "4.4.2", "The connection to %s was lost where %s was due: %s", s.key, what, plainError(err))
	}
	return &failure{reply: r}
}

// plainError is the cause of a network error in words, without addresses that
// are said beside it.
func plainError(err error) string {
	var op *net.OpError
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return "no answer in time"
	}
	if errors.As(err, &op) && op.Err != nil {
		err = op.Err
	}
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		err = sys.Err
	}
	return err.Error()
}

// local tells whether the peer is this machine.
func (s *session) local() bool { return isLoopback(s.key.addr.Addr()) }

func isLoopback(a netip.Addr) bool { return a.Unmap().IsLoopback() }
