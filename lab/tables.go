package lab

import (
	"context"
	"fmt"
	"io"
	"math"
	"mime"
	"net/mail"
	"strings"
	"time"

	"postrider/internal/journey"
	"postrider/internal/node"
	"postrider/mailstore"
	"postrider/mta/queue"
)

// MailboxTable is a mailbox with its newest letters.
type MailboxTable struct {
	Host     string   `json:"host"`
	Account  string   `json:"account"`
	Name     string   `json:"name"` // INBOX
	Messages int      `json:"messages"`
	Unseen   int      `json:"unseen"`
	Size     int64    `json:"size"`
	Letters  []Stored `json:"letters"` // the oldest first
}

// Stored is a letter in a mailbox.
type Stored struct {
	UID     uint32    `json:"uid"`
	From    string    `json:"from"`
	To      string    `json:"to"`
	Subject string    `json:"subject"`
	Size    int64     `json:"size"`
	Flags   []string  `json:"flags"`
	Arrived time.Time `json:"arrived"`
}

// maxTable bounds the letters of a MailboxTable and the rows of a queue.
const maxTable = 500

// Mailboxes lists the mailboxes of a mail host; "" = of all that have started.
// A server that was not needed yet has none.
func (l *Lab) Mailboxes(ctx context.Context, host string) ([]MailboxTable, error) {
	list, err := l.mailHosts(host)
	if err != nil {
		return nil, err
	}
	out := []MailboxTable{}
	for _, m := range list {
		more, err := m.mailboxes(ctx)
		if err != nil {
			return nil, fmt.Errorf("mailboxes of %s: %w", m.host.Name, err)
		}
		out = append(out, more...)
	}
	return out, nil
}

// mailHosts has one mail host, or all.
func (l *Lab) mailHosts(host string) ([]*machine, error) {
	if host != "" {
		m, err := l.machine(host)
		return []*machine{m}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.machines, nil
}

func (m *machine) mailboxes(ctx context.Context) ([]MailboxTable, error) {
	m.mu.Lock()
	n, old := m.node, m.old
	m.mu.Unlock()
	switch {
	case old != nil:
		return m.oldMailboxes(old), nil
	case n == nil:
		return nil, nil
	}
	var out []MailboxTable
	var messages [][]mailstore.Message
	err := n.Store.View(ctx, func(v *mailstore.View) error {
		accounts, err := v.Accounts()
		if err != nil {
			return err
		}
		for _, a := range accounts {
			boxes, err := v.Mailboxes(a.ID)
			if err != nil {
				return err
			}
			for _, b := range boxes {
				t := MailboxTable{Host: m.host.Name, Account: a.Address, Name: b.Name, Messages: int(b.Messages), Unseen: int(b.Unseen), Size: b.Size, Letters: []Stored{}}
				var list []mailstore.Message
				err := v.Messages(b.ID, 0, math.MaxUint32, func(msg mailstore.Message) bool {
					list = append(list, msg)
					return len(list) < maxTable
				})
				if err != nil {
					return err
				}
				out, messages = append(out, t), append(messages, list)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, list := range messages {
		for _, msg := range list {
			s := Stored{UID: uint32(msg.UID), Size: msg.Size, Arrived: msg.Internal, Flags: flags(msg.Flags)}
			if c, err := n.Store.OpenMessage(ctx, msg); err == nil { // else it was removed meanwhile
				s.describe(io.NewSectionReader(c, 0, c.Size()))
				c.Close()
			}
			out[i].Letters = append(out[i].Letters, s)
		}
	}
	return out, nil
}

func flags(f mailstore.Flags) []string {
	out := []string{}
	for _, s := range []struct {
		flag mailstore.SystemFlags
		name string
	}{{mailstore.Seen, `\Seen`}, {mailstore.Answered, `\Answered`}, {mailstore.Flagged, `\Flagged`}, {mailstore.Deleted, `\Deleted`}, {mailstore.Draft, `\Draft`}} {
		if f.System&s.flag != 0 {
			out = append(out, s.name)
		}
	}
	return append(out, f.Keywords...)
}

// describe fills in what the header says.
func (s *Stored) describe(r io.Reader) {
	m, err := mail.ReadMessage(io.LimitReader(r, 64<<10))
	if err != nil {
		return
	}
	var d mime.WordDecoder
	field := func(key string) string {
		text := m.Header.Get(key)
		if decoded, err := d.DecodeHeader(text); err == nil {
			text = decoded
		}
		return oneLine(text)
	}
	s.From, s.To, s.Subject = field("From"), field("To"), field("Subject")
}

func (m *machine) oldMailboxes(o *oldServer) []MailboxTable {
	var out []MailboxTable
	for _, address := range o.users {
		t := MailboxTable{Host: m.host.Name, Account: address, Name: "INBOX", Letters: []Stored{}}
		for i, letter := range o.received(address) {
			s := Stored{UID: uint32(i + 1), Size: int64(len(letter.text))}
			s.describe(strings.NewReader(string(letter.text)))
			t.Letters = append(t.Letters, s)
			t.Messages++
			t.Size += s.Size
		}
		t.Unseen = t.Messages
		out = append(out, t)
	}
	return out
}

// QueueTable is what waits at a mail host for delivery to others.
type QueueTable struct {
	Host  string       `json:"host"`
	Items []queue.Item `json:"items"`
}

// Queues lists what waits at a mail host; "" = at all that have started.
func (l *Lab) Queues(ctx context.Context, host string) ([]QueueTable, error) {
	list, err := l.mailHosts(host)
	if err != nil {
		return nil, err
	}
	out := []QueueTable{}
	for _, m := range list {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m.mu.Lock()
		running := m.node != nil
		m.mu.Unlock()
		if !running {
			continue
		}
		var reply node.QueueListing
		if err := m.admin(ctx, "QueueList", node.QueuePage{}, &reply); err != nil {
			return nil, fmt.Errorf("queue of %s: %w", m.host.Name, err)
		}
		if reply.Items == nil {
			reply.Items = []queue.Item{}
		}
		out = append(out, QueueTable{m.host.Name, reply.Items[:min(len(reply.Items), maxTable)]})
	}
	return out, nil
}

// admin gives a command to the running server, as the command line does.
func (m *machine) admin(ctx context.Context, method string, args, reply any) error {
	a, err := node.OpenAdmin(ctx, m.options())
	if err != nil {
		return err
	}
	defer a.Close()
	return a.Call(method, args, reply)
}

// CacheTable is what a resolver remembers.
type CacheTable struct {
	Host    string       `json:"host"`
	Entries []CacheEntry `json:"entries"`
}

// CacheEntry is a row of a resolver's cache.
type CacheEntry struct {
	Name string `json:"name"` // without the final dot; "." for the root
	Type string `json:"type"` // "any" for a name that does not exist
	// Rank says what it may be used for: "answer" for clients; "referral" and
	// "glue" only to know whom to ask (RFC 2181 section 5.4.1).
	Rank     string   `json:"rank"`
	Data     []string `json:"data"` // what the records hold, or "does not exist", "no such record"
	TTL      Duration `json:"ttl"`
	Left     Duration `json:"left"`
	Security string   `json:"security,omitempty"` // secure, insecure, bogus, indeterminate
	Zone     string   `json:"zone"`               // whose servers said so
	Server   string   `json:"server"`             // which of them did
	Hits     int      `json:"hits"`
}

// Caches lists what the resolvers remember; host "" = all of them.
func (l *Lab) Caches(ctx context.Context, host string) ([]CacheTable, error) {
	out := []CacheTable{}
	for _, h := range l.World().Hosts {
		if h.Kind != KindResolver || host != "" && h.Name != host {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m, err := l.machine(h.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, CacheTable{h.Name, m.cache()})
	}
	if host != "" && len(out) == 0 {
		return nil, fmt.Errorf("%q is no resolver", host)
	}
	return out, nil
}

// FlushCache empties a resolver's cache.
func (l *Lab) FlushCache(ctx context.Context, host string) error {
	m, err := l.machine(host)
	if err != nil || ctx.Err() != nil {
		return err
	}
	return m.flushCache()
}

// Arrives waits until the INBOX of an account has n letters, or ctx ends, and
// returns what it has then.
func (l *Lab) Arrives(ctx context.Context, account string, n int) ([]Stored, error) {
	a, ok := l.World().Account(account)
	if !ok {
		return nil, fmt.Errorf("there is no account %q", account)
	}
	f := l.journey.Follow(journey.Filter{})
	defer f.Close()
	for {
		boxes, err := l.Mailboxes(ctx, a.Host)
		if err != nil {
			return nil, err
		}
		var have []Stored
		for _, b := range boxes {
			if b.Account == account && b.Name == "INBOX" {
				have = b.Letters
			}
		}
		if len(have) >= n {
			return have, nil
		}
		if err := l.moment(ctx, f); err != nil {
			return have, fmt.Errorf("%d letters for %s: %w", len(have), account, err)
		}
	}
}

// moment waits until something happens, or a little while.
func (l *Lab) moment(ctx context.Context, f *journey.Follower) error {
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	_, err := f.Next(short)
	if ctx.Err() == nil && l.ctx.Err() == nil {
		return nil
	}
	return err
}
