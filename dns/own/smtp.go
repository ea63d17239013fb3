package own

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	miekg "github.com/miekg/dns"
)

const (
	// smtpTime bounds one session with a mail server, its slow greeting included.
	smtpTime = 15 * time.Second
	// maxReplyLines and maxReplyLine bound what a mail server says to one command
	// (RFC 5321 section 4.5.3.1.5 has 512 octets a line).
	maxReplyLines = 100
	maxReplyLine  = 2048
	// endsSoon is when a certificate's end is worth a warning.
	endsSoon = 14 * 24 * time.Hour
)

// visit is one address of one mail exchanger, and what was found there.
type visit struct {
	host   string
	addr   netip.Addr
	banner string
	tls    bool // STARTTLS is offered
	cert   *x509.Certificate
	err    error
}

// checkSMTP speaks with each mail exchanger at each of its addresses.
func (c *checker) checkSMTP(ctx context.Context) {
	var visits []*visit
	for _, mx := range c.mx {
		host := miekg.CanonicalName(mx.Mx)
		addrs, _, _ := c.addressesOf(ctx, host) // an error is a finding already
		for _, a := range addrs {
			visits = append(visits, &visit{host: host, addr: a})
		}
	}
	if len(visits) > maxSessions {
		c.add(Note, "smtp", c.o.Domain, "", "only the first %d of %d addresses are connected to", maxSessions, len(visits))
		visits = visits[:maxSessions]
	}
	var wg sync.WaitGroup
	for _, v := range visits {
		wg.Go(func() { c.visit(ctx, v) })
	}
	wg.Wait()
	for _, v := range visits {
		c.judgeVisit(ctx, v)
	}
}

// visit greets a mail server and takes TLS with it; nothing is sent.
func (c *checker) visit(ctx context.Context, v *visit) {
	ctx, cancel := context.WithTimeout(ctx, smtpTime)
	defer cancel()
	conn, err := c.o.Dial(ctx, "tcp", netip.AddrPortFrom(v.addr, c.o.Port).String())
	if err != nil {
		v.err = err
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	v.err = c.greet(ctx, conn, v)
	if v.err != nil && ctx.Err() != nil {
		v.err = errors.New("it is too slow")
	}
}

func (c *checker) greet(ctx context.Context, conn net.Conn, v *visit) error {
	r := bufio.NewReaderSize(conn, maxReplyLine)
	banner, err := reply(r, 220)
	if err != nil {
		return err
	}
	v.banner = banner[0]
	if _, err := fmt.Fprintf(conn, "EHLO %s\r\n", c.o.Hello); err != nil {
		return err
	}
	lines, err := reply(r, 250)
	if errors.Is(err, errRefused) { // it knows HELO alone, and has no TLS
		lines = []string{""}
	} else if err != nil {
		return err
	}
	v.tls = slices.ContainsFunc(lines[1:], func(s string) bool { return strings.EqualFold(strings.TrimSpace(s), "STARTTLS") })
	if v.tls {
		if err := c.startTLS(ctx, conn, r, v); err != nil {
			return fmt.Errorf("STARTTLS: %w", err)
		}
		return nil
	}
	fmt.Fprint(conn, "QUIT\r\n") // politeness: an error changes nothing
	return nil
}

// startTLS takes the certificate. Who signed it does not matter to mail servers,
// which cannot know what name to expect (RFC 7435).
func (c *checker) startTLS(ctx context.Context, conn net.Conn, r *bufio.Reader, v *visit) error {
	if _, err := fmt.Fprint(conn, "STARTTLS\r\n"); err != nil {
		return err
	}
	if _, err := reply(r, 220); err != nil {
		return err
	}
	if r.Buffered() > 0 {
		return errors.New("it says more before TLS begins")
	}
	t := tls.Client(conn, &tls.Config{ServerName: bare(v.host), InsecureSkipVerify: true, MinVersion: tls.VersionTLS10})
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	v.cert = t.ConnectionState().PeerCertificates[0]
	fmt.Fprint(t, "QUIT\r\n")
	return nil
}

// errRefused is wrapped where a reply has another code.
var errRefused = errors.New("it says")

// reply reads a reply of the wanted code, and returns its lines without it.
func reply(r *bufio.Reader, code int) (lines []string, err error) {
	for range maxReplyLines {
		b, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("it says a line of more than %d octets", maxReplyLine)
		case err != nil:
			return nil, err
		}
		line := strings.TrimRight(string(b), "\r\n")
		if len(line) < 3 {
			return nil, fmt.Errorf("it says %q, which is no reply of SMTP", line)
		}
		if n, err := strconv.Atoi(line[:3]); err != nil || n != code {
			return nil, fmt.Errorf("%w %q", errRefused, line)
		}
		text, more := strings.CutPrefix(line[3:], "-")
		if !more {
			return append(lines, strings.TrimPrefix(text, " ")), nil
		}
		lines = append(lines, text)
	}
	return nil, errors.New("its reply does not end")
}

// judgeVisit says what a session showed.
func (c *checker) judgeVisit(ctx context.Context, v *visit) {
	at := netip.AddrPortFrom(v.addr, c.o.Port).String()
	if v.err != nil {
		c.unreachable(v, at)
		return
	}
	said, _, _ := strings.Cut(v.banner, " ")
	well := true
	if !strings.EqualFold(strings.TrimSuffix(said, "."), bare(v.host)) {
		severity, mend := Note, ""
		if c.isOurs(v.host) {
			severity, mend, well = Warning, "let the address lead to this server, or see [listen] smtp", false
		}
		c.add(severity, "smtp", v.host, mend, "at %s answers as %s", at, strconv.Quote(v.banner))
	}
	if !v.tls {
		c.add(Warning, "smtp", v.host, "let that server offer STARTTLS", "at %s offers no TLS: mail to it can be read on its way", at)
		return
	}
	if c.judgeCertificate(ctx, v, at) && well {
		c.add(OK, "smtp", v.host, "", "answers at %s and offers TLS, certificate until %s", at, v.cert.NotAfter.Format(time.DateOnly))
	}
}

func (c *checker) unreachable(v *visit, at string) {
	if !c.isOurs(v.host) {
		c.add(Warning, "smtp", v.host, "", "at %s: %v", at, v.err)
		return
	}
	port, on := c.o.Ours.Ports["smtp"]
	mend := fmt.Sprintf("let the firewall, and the provider, pass port %d to this server", c.o.Port)
	switch {
	case !on:
		mend = fmt.Sprintf("set in [listen]: smtp = [\":%d\"]", c.o.Port)
	case port != c.o.Port:
		mend = fmt.Sprintf("this server listens on port %d: set [listen] smtp = [\":%d\"], or forward the port", port, c.o.Port)
	}
	c.add(Error, "smtp", v.host, mend, "mail cannot come in at %s: %v", at, v.err)
}

// judgeCertificate compares what a mail server shows with our own certificate,
// with the TLSA records, and with its name.
func (c *checker) judgeCertificate(ctx context.Context, v *visit, at string) (well bool) {
	key := sha256.Sum256(v.cert.RawSubjectPublicKeyInfo)
	well = true
	if c.isOurs(v.host) && len(c.o.Ours.Keys) > 0 && !slices.ContainsFunc(c.o.Ours.Keys, func(k Key) bool { return k.SHA256 == key }) {
		c.add(Error, "smtp", v.host, "let the address lead to this server, or give the other one the same certificate", "another certificate than this server's is shown at %s", at)
		well = false
	}
	if tlsa := c.dane(ctx, v.host); len(tlsa) > 0 {
		if !matches(tlsa, v.cert) {
			c.add(Error, "smtp", v.host, fmt.Sprintf("publish: _25._tcp.%s %d IN TLSA 3 1 1 %s", v.host, TTL, hex.EncodeToString(key[:])),
				"the certificate at %s is not one that its TLSA records name: servers that know DANE do not deliver (RFC 7672)", at)
			return false
		}
		return well // DANE looks at neither name nor date (RFC 7672 section 3.1.1)
	}
	now := c.o.Clock.Now()
	switch {
	case now.Before(v.cert.NotBefore):
		c.add(Warning, "smtp", v.host, "look at the clock of that server", "the certificate at %s begins on %s", at, v.cert.NotBefore.Format(time.DateOnly))
		return false
	case now.After(v.cert.NotAfter):
		c.add(Warning, "smtp", v.host, "renew it", "the certificate at %s ended on %s", at, v.cert.NotAfter.Format(time.DateOnly))
		return false
	case v.cert.NotAfter.Sub(now) < endsSoon:
		c.add(Warning, "smtp", v.host, "renew it", "the certificate at %s ends on %s", at, v.cert.NotAfter.Format(time.DateOnly))
		well = false
	}
	if v.cert.VerifyHostname(bare(v.host)) != nil {
		c.add(Warning, "smtp", v.host, "get a certificate for "+bare(v.host), "the certificate at %s is for %s", at, strings.Join(v.cert.DNSNames, ", "))
		well = false
	}
	return well
}

// dane are the TLSA records of a mail server that count: from a signed zone, for a
// domain whose MX records are signed (RFC 7672 section 2.2).
func (c *checker) dane(ctx context.Context, host string) []miekg.RR {
	if !c.secure {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	name := "_25._tcp." + host
	a, err := c.o.Asker.Resolve(ctx, name, miekg.TypeTLSA)
	if err != nil || a.Security != "secure" {
		return nil
	}
	rrs, _, _ := pick(a.Msg, name, miekg.TypeTLSA) // without any, none count
	return rrs
}

// matches tells whether one of the records is for the certificate. What only a
// chain could show (DANE-TA) is taken for a match: the chain is not looked at.
func matches(rrs []miekg.RR, cert *x509.Certificate) bool {
	usable := false
	for _, rr := range rrs {
		tlsa, ok := rr.(*miekg.TLSA)
		if !ok || tlsa.Usage != 2 && tlsa.Usage != 3 {
			continue
		}
		usable = true
		if tlsa.Usage == 2 || tlsa.Verify(cert) == nil {
			return true
		}
	}
	return !usable
}
