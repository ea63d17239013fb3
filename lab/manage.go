package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"crypto/tls"

	miekg "github.com/miekg/dns"

	"postrider/internal/node"
	"postrider/mailstore"
)

// Dialer returns how a host connects to others; "" is somebody outside. Addresses
// are the lab's.
func (l *Lab) Dialer(from string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	h, _ := l.World().Host(from)
	return l.network.dialer(h)
}

// PeerTLS is how a client verifies a host of the lab.
func (l *Lab) PeerTLS(host string) *tls.Config {
	c := l.peers()
	c.ServerName = host
	return c
}

// ResolvConf is what a host knows of name servers: those that it asks, and the
// suffixes that it tries.
func (l *Lab) ResolvConf(host string) (servers, search []string, err error) {
	w := l.World()
	h, ok := w.Host(host)
	if !ok {
		return nil, nil, fmt.Errorf("there is no host %q", host)
	}
	if s, ok := w.Site(h.Site); ok {
		search = s.Search
	}
	return []string{l.resolver(h)}, search, nil
}

// Restore ends all faults but those with which the lab began, and empties the
// caches of the resolvers.
func (l *Lab) Restore(ctx context.Context) error {
	if err := l.ClearFaults(ctx, "", ""); err != nil {
		return err
	}
	n := l.network
	n.mu.Lock()
	clear(n.greeted)
	clear(n.calls)
	n.mu.Unlock()
	for _, h := range l.World().Hosts {
		if h.Offline {
			if _, err := l.SetFault(ctx, Fault{Kind: FaultDown, Host: h.Name}); err != nil {
				return err
			}
		}
		if h.Kind == KindResolver {
			if err := l.FlushCache(ctx, h.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Restart stops the server of a mail host and starts it on the same data.
func (l *Lab) Restart(ctx context.Context, host string) error {
	m, err := l.machine(host)
	if err != nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	m.mu.Lock()
	m.stopLocked()
	m.mu.Unlock()
	return m.ensure()
}

// Configure changes a key of a mail host's configuration, as an administrator
// does, and restarts the server. It returns what it was before, for SetMail.
func (l *Lab) Configure(ctx context.Context, host, key string, values []string) (before Mail, err error) {
	h, ok := l.World().Host(host)
	if !ok || h.Kind != KindMail {
		return Mail{}, fmt.Errorf("%q is no mail host", host)
	}
	mail := h.Mail
	first := ""
	if len(values) > 0 {
		first = values[0]
	}
	switch key {
	case "relay_networks":
		mail.RelayNetworks = nil
		for _, v := range values {
			p, err := netip.ParsePrefix(v)
			if err != nil {
				return h.Mail, err
			}
			mail.RelayNetworks = append(mail.RelayNetworks, p)
		}
	case "relay_domains":
		mail.RelayDomains = slices.Clone(values)
	case "require_auth":
		mail.RequireAuth, err = strconv.ParseBool(first)
	case "bare_helo":
		mail.BareHelo, err = strconv.ParseBool(first)
	case "max_size":
		mail.MaxSize, err = strconv.ParseInt(first, 10, 64)
	case "smarthost":
		mail.Smarthost = first
	case "resolver":
		mail.Resolver = first
		if r, ok := l.World().Host(first); first != "" && (!ok || r.Kind != KindResolver) {
			err = fmt.Errorf("%q is no resolver", first)
		}
	case "smarthost_user":
		mail.SmarthostUser = first
	case "retry":
		mail.Retry = nil
		for _, v := range values {
			d, err := ParseDuration(v)
			if err != nil {
				return h.Mail, err
			}
			mail.Retry = append(mail.Retry, Duration(d))
		}
	case "expire":
		d, derr := ParseDuration(first)
		mail.Expire, err = Duration(d), derr
	default:
		err = fmt.Errorf("%q is not one of relay_networks, relay_domains, require_auth, bare_helo, max_size, smarthost, smarthost_user, resolver, retry, expire", key)
	}
	if err != nil {
		return h.Mail, err
	}
	return h.Mail, l.SetMail(ctx, host, mail)
}

// SetMail replaces the configuration of a mail host and restarts it if it runs.
func (l *Lab) SetMail(ctx context.Context, host string, mail Mail) error {
	m, err := l.machine(host)
	if err != nil {
		return err
	}
	m.mu.Lock()
	ran := m.served != nil
	m.stopLocked()
	l.mu.Lock()
	l.world.Hosts = slices.Clone(l.world.Hosts)
	for i := range l.world.Hosts {
		if l.world.Hosts[i].Name == host {
			l.world.Hosts[i].Mail = mail
			m.mail = mail
		}
	}
	l.mu.Unlock()
	m.mu.Unlock()
	if !ran {
		return nil
	}
	return m.ensure()
}

// adminPatience bounds a command to a mail host.
const adminPatience = 10 * time.Second

// Admin gives a command to a mail host, as its administrator does: user add
// ADDRESS PASSWORD, user remove ADDRESS, alias add ADDRESS TARGET, alias remove
// ADDRESS TARGET, quota ADDRESS MESSAGES.
func (l *Lab) Admin(ctx context.Context, host string, words []string) error {
	ctx, cancel := context.WithTimeout(ctx, adminPatience)
	defer cancel()
	m, err := l.machine(host)
	if err != nil {
		return err
	}
	if err := m.ensure(); err != nil {
		return err
	}
	w := append(slices.Clone(words), "", "", "", "")
	command := strings.Join(w[:2], " ")
	if w[0] == "quota" {
		n, err := strconv.ParseInt(w[2], 10, 64)
		if err != nil {
			return err
		}
		return m.admin(ctx, "QuotaSet", node.QuotaArgs{Name: w[1], Messages: &n}, &node.None{})
	}
	switch command {
	case "user add":
		return m.admin(ctx, "UserAdd", node.UserArgs{Address: w[2], Password: w[3]}, &node.None{})
	case "user remove":
		return m.admin(ctx, "UserRemove", w[2], &node.None{})
	case "alias add":
		return m.admin(ctx, "AliasAdd", node.AliasArgs{Address: w[2], Targets: []string{w[3]}}, &node.None{})
	case "alias remove":
		return m.admin(ctx, "AliasRemove", node.AliasArgs{Address: w[2], Targets: []string{w[3]}}, &node.None{})
	}
	return fmt.Errorf("%q is not one of user add, user remove, alias add, alias remove, quota", command)
}

// maxShown bounds the text that Message gives.
const maxShown = 16 << 20

// Message is the text of a letter in a mailbox; ErrNoMessage when it is not there.
func (l *Lab) Message(ctx context.Context, address, mailbox string, uid uint32) ([]byte, error) {
	a, ok := l.World().Account(address)
	if !ok {
		return nil, fmt.Errorf("there is no account %q", address)
	}
	m, err := l.machine(a.Host)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	n, old := m.node, m.old
	m.mu.Unlock()
	if old != nil {
		if list := old.received(address); uid >= 1 && int(uid) <= len(list) {
			return list[uid-1].text, nil
		}
		return nil, ErrNoMessage
	}
	if n == nil {
		return nil, ErrNoMessage
	}
	var id mailstore.MailboxID
	err = n.Store.View(ctx, func(v *mailstore.View) error {
		account, err := v.AccountByAddress(address)
		if err != nil {
			return err
		}
		box, err := v.MailboxByName(account.ID, mailbox)
		id = box.ID
		return err
	})
	if err != nil {
		return nil, err
	}
	c, err := n.Store.OpenUID(ctx, id, mailstore.UID(uid))
	if errors.Is(err, mailstore.ErrNotFound) {
		return nil, ErrNoMessage
	}
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return io.ReadAll(io.LimitReader(io.NewSectionReader(c, 0, math.MaxInt64), maxShown))
}

// ErrNoMessage is that of Message where there is none.
var ErrNoMessage = errors.New("there is no such message")

// updatePatience bounds an update.
const updatePatience = 10 * time.Second

// Update sends a dynamic update (RFC 2136), signed with the lab's key, to the
// primary server of its zone, or to another host, and returns the reply.
func (l *Lab) Update(ctx context.Context, at string, m *miekg.Msg) (*miekg.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, updatePatience)
	defer cancel()
	w := l.World()
	if len(m.Question) != 1 {
		return nil, errors.New("an update is of one zone")
	}
	if at == "" {
		for _, z := range w.Zones {
			if miekg.CanonicalName(z.Name) == miekg.CanonicalName(m.Question[0].Name) {
				at = z.Primary
			}
		}
	}
	h, ok := w.Host(at)
	if !ok {
		return nil, fmt.Errorf("nobody serves %s", m.Question[0].Name)
	}
	conn, err := l.network.dialer(l.registrarHost())(ctx, "tcp", netip.AddrPortFrom(h.Address, 53).String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	m.SetTsig(UpdateKeyName, UpdateKeyAlgorithm+".", 300, l.clock.Now().Unix())
	c := &miekg.Conn{Conn: conn, TsigSecret: map[string]string{UpdateKeyName: UpdateKey()}}
	if err := c.WriteMsg(m); err != nil {
		return nil, err
	}
	// The library checks the time of a signature by the system's clock, which the
	// lab's leaves behind: what the server says is read as it is.
	c.TsigSecret = nil
	raw, err := c.ReadMsgHeader(nil)
	if err != nil {
		return nil, err
	}
	reply := new(miekg.Msg)
	if err := reply.Unpack(raw); err != nil {
		return nil, err
	}
	if reply.Id != m.Id || !reply.Response {
		return nil, errors.New("it is not the answer")
	}
	return reply, nil
}
