package page

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/miekg/dns"

	"postrider/lab"
)

const (
	// maxCollected is how many letters the mail program fetches at once.
	maxCollected = 20
	// maxCollectedSize bounds what it reads of them, in octets.
	maxCollectedSize = 64 << 20
)

// Collect implements Lab: a mail program of the account's site fetches the
// newest letters and leaves them on the server.
func (w *world) Collect(ctx context.Context, account, protocol string) error {
	lw := w.World()
	a, ok := lw.Account(account)
	if !ok {
		return fmt.Errorf("there is no account %q in the lab", account)
	}
	h, _ := lw.Host(a.Host)
	if h.Kind != lab.KindMail {
		return fmt.Errorf("%s serves neither POP3 nor IMAP", h.Name)
	}
	port, collect := 110, collectPOP3
	if protocol == "imap" {
		port, collect = 143, collectIMAP
	}
	conn, err := w.dial(ctx, laptop(lw, h.Site), h.Name, port)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	return collect(conn, a)
}

// laptop is somebody's computer at a site; "" = none.
func laptop(lw *lab.World, site string) string {
	for i := range lw.Hosts {
		if lw.Hosts[i].Kind == lab.KindClient && lw.Hosts[i].Site == site {
			return lw.Hosts[i].Name
		}
	}
	return ""
}

// collectPOP3 is a session by RFC 1939 that deletes nothing.
func collectPOP3(conn net.Conn, a *lab.Account) error {
	c := textproto.NewConn(limited{conn, &io.LimitedReader{R: conn, N: maxCollectedSize}})
	say := func(command string) (string, error) {
		if command != "" {
			if err := c.PrintfLine("%s", command); err != nil {
				return "", err
			}
		}
		answer, err := c.ReadLine()
		if err == nil && !strings.HasPrefix(answer, "+OK") {
			err = fmt.Errorf("the server said %s", answer)
		}
		return answer, err
	}
	for _, command := range []string{"", "USER " + a.Address, "PASS " + a.Password} {
		if _, err := say(command); err != nil {
			return err
		}
	}
	answer, err := say("STAT")
	if err != nil {
		return err
	}
	n := 0
	if _, err := fmt.Sscanf(answer, "+OK %d", &n); err != nil {
		return fmt.Errorf("the server said %s", answer)
	}
	for i := max(1, n-maxCollected+1); i <= n; i++ {
		if _, err := say(fmt.Sprintf("RETR %d", i)); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, c.DotReader()); err != nil {
			return err
		}
	}
	_, err = say("QUIT")
	return err
}

// limited reads no more than its bound from a connection.
type limited struct {
	net.Conn
	r io.Reader
}

func (l limited) Read(b []byte) (int, error) { return l.r.Read(b) }

// collectIMAP reads the newest letters of INBOX, which marks them as seen.
func collectIMAP(conn net.Conn, a *lab.Account) error {
	c := imapclient.New(limited{conn, &io.LimitedReader{R: conn, N: maxCollectedSize}}, nil)
	defer c.Close()
	if err := c.Login(a.Address, a.Password).Wait(); err != nil {
		return err
	}
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		return err
	}
	if n := box.NumMessages; n > 0 {
		first := uint32(1)
		if n > maxCollected {
			first = n - maxCollected + 1
		}
		var set imap.SeqSet
		set.AddRange(first, n)
		fetch := c.Fetch(set, &imap.FetchOptions{Flags: true, BodySection: []*imap.FetchItemBodySection{{}}})
		for m := fetch.Next(); m != nil; m = fetch.Next() {
			for item := m.Next(); item != nil; item = m.Next() {
				if body, ok := item.(imapclient.FetchItemDataBodySection); ok && body.Literal != nil {
					if _, err := io.Copy(io.Discard, body.Literal); err != nil {
						return errors.Join(err, fetch.Close())
					}
				}
			}
		}
		if err := fetch.Close(); err != nil {
			return err
		}
	}
	return c.Logout().Wait()
}

// Ask implements Lab: a recursive question over TCP, from the resolver's site.
func (w *world) Ask(ctx context.Context, resolver, name, typ string) (string, error) {
	t, ok := dns.StringToType[strings.ToUpper(typ)]
	if !ok {
		return "", fmt.Errorf("%q is no type of record", typ)
	}
	name = dns.Fqdn(strings.TrimSpace(name))
	if _, ok := dns.IsDomainName(name); !ok {
		return "", fmt.Errorf("%q is no name: labels have 1 to 63 octets, a name 255 at most", name)
	}
	lw := w.World()
	h, ok := lw.Host(resolver)
	if !ok || h.Kind != lab.KindResolver {
		return "", fmt.Errorf("%q is no resolver of the lab", resolver)
	}
	conn, err := w.dial(ctx, laptop(lw, h.Site), h.Name, 53)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c := dns.Conn{Conn: conn}
	q := new(dns.Msg).SetQuestion(name, t)
	if err := c.WriteMsg(q); err != nil {
		return "", err
	}
	m, err := c.ReadMsg()
	if err != nil {
		return "", err
	}
	if m.Id != q.Id || len(m.Question) != 1 || m.Question[0] != q.Question[0] {
		return "", errors.New("the resolver answered another question")
	}
	label, say := outcome(m)
	if !m.Authoritative {
		say = "A non-authoritative answer."
	}
	return label + ". " + say, nil
}
