package catch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"postrider/mailstore"
	"postrider/mailstore/message"
)

// Bounds of one answer.
const (
	maxList     = 500     // messages
	defaultList = 50      // messages
	maxText     = 1 << 20 // octets of a text
	maxParts    = 500
)

// Summary is a message in a list.
type Summary struct {
	ID       uint32    `json:"id"`
	Received time.Time `json:"received"`
	Sender   string    `json:"sender"`     // of the envelope
	To       []string  `json:"recipients"` // of the envelope, Bcc included
	From     string    `json:"from"`       // of the header
	Subject  string    `json:"subject"`
	Size     int64     `json:"size"`
}

// Message is a whole one, parsed.
type Message struct {
	Summary
	MessageID string      `json:"message_id"`
	Header    [][2]string `json:"header"` // all fields in order, decoded
	Text      string      `json:"text"`
	HTML      string      `json:"html"`
	Parts     []Part      `json:"parts"`
}

// Part is a leaf of a message's structure; its content is at
// /api/messages/ID/parts/NUMBER.
type Part struct {
	Number   string `json:"number"` // as IMAP counts them, such as 2.1 (RFC 9051 section 6.4.5.1)
	Type     string `json:"type"`
	Filename string `json:"filename"`
	Size     int64  `json:"size"` // encoded
}

// query says which messages are meant; what is empty matches all.
type query struct {
	to, from, subject string // a part of it, without regard to case
	after             uint32 // messages with a higher id
	limit             int
}

func (q *query) matches(s *Summary) bool {
	has := func(text, part string) bool {
		return part == "" || strings.Contains(strings.ToLower(text), strings.ToLower(part))
	}
	if !has(s.Subject, q.subject) || !has(s.From, q.from) && !has(s.Sender, q.from) {
		return false
	}
	return q.to == "" || slices.ContainsFunc(s.To, func(to string) bool { return has(to, q.to) })
}

// list returns the newest matching messages first.
func (c *Catcher) list(ctx context.Context, q query) ([]Summary, error) {
	all, err := c.since(ctx, q.after)
	if err != nil {
		return nil, err
	}
	slices.Reverse(all)
	return c.match(ctx, q, all)
}

// since lists the messages with a higher id, the oldest first.
func (c *Catcher) since(ctx context.Context, after uint32) (all []mailstore.Message, err error) {
	if after == math.MaxUint32 {
		return nil, nil
	}
	err = c.node.Store.View(ctx, func(v *mailstore.View) error {
		return v.Messages(c.inbox, mailstore.UID(after)+1, math.MaxUint32, func(m mailstore.Message) bool {
			all = append(all, m)
			return true
		})
	})
	return all, err
}

// match returns the first q.limit of a list that match, in its order.
func (c *Catcher) match(ctx context.Context, q query, all []mailstore.Message) ([]Summary, error) {
	out := []Summary{}
	for _, m := range all {
		if len(out) == q.limit {
			break
		}
		s, err := c.summary(ctx, m)
		if errors.Is(err, mailstore.ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		if q.matches(&s) {
			out = append(out, s)
		}
	}
	return out, nil
}

func (c *Catcher) summary(ctx context.Context, m mailstore.Message) (Summary, error) {
	content, err := c.node.Store.OpenMessage(ctx, m)
	if err != nil {
		return Summary{}, err
	}
	defer content.Close()
	h, err := message.ReadHeader(content, content.Size())
	if err != nil {
		return Summary{}, err
	}
	return summarise(m, h), nil
}

func summarise(m mailstore.Message, h message.Header) Summary {
	s := Summary{ID: uint32(m.UID), Received: m.Internal, Size: m.Size, To: []string{}}
	e := h.Envelope()
	s.Subject = message.DecodeWords(e.Subject)
	if len(e.From) > 0 {
		s.From = address(e.From[0])
	}
	if v, ok := h.Get("Return-Path"); ok {
		s.Sender = strings.Trim(strings.TrimSpace(v), "<>")
	}
	if v, ok := h.Get("X-Envelope-To"); ok {
		for _, to := range strings.Split(v, ",\t") {
			s.To = append(s.To, strings.TrimSpace(to))
		}
	}
	return s
}

func address(a imap.Address) string {
	if a.Name == "" {
		return a.Addr()
	}
	return message.DecodeWords(a.Name) + " <" + a.Addr() + ">"
}

// open finds a message and opens it; the caller closes it.
func (c *Catcher) open(ctx context.Context, id uint32) (m mailstore.Message, content mailstore.Content, err error) {
	err = c.node.Store.View(ctx, func(v *mailstore.View) error {
		m, err = v.Message(c.inbox, mailstore.UID(id))
		return err
	})
	if err == nil {
		content, err = c.node.Store.OpenMessage(ctx, m)
	}
	return m, content, err
}

// parse reads a whole message.
func (c *Catcher) parse(ctx context.Context, id uint32) (*Message, error) {
	m, content, err := c.open(ctx, id)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	x := message.Parse(content, content.Size())
	h, err := x.Header(x.Root)
	if err != nil {
		return nil, err
	}
	out := &Message{Summary: summarise(m, h), Header: [][2]string{}, Parts: []Part{}, MessageID: h.Envelope().MessageID}
	for f := range h.Fields() {
		out.Header = append(out.Header, [2]string{f.Name, message.DecodeWords(f.Value())})
	}
	for _, l := range leaves(x.Root, nil) {
		p := l.part
		ph, err := x.Header(p)
		if err != nil {
			return nil, err
		}
		name := ph.Filename()
		out.Parts = append(out.Parts, Part{l.number, p.Type + "/" + p.Subtype, name, p.Body.Len()})
		if p.Type != "text" || name != "" {
			continue
		}
		into := &out.Text
		if p.Subtype == "html" {
			into = &out.HTML
		}
		if *into == "" {
			*into = textOf(x, p)
		}
	}
	return out, nil
}

// textOf is the beginning of a text part in UTF-8.
func textOf(x *message.Index, p *message.Part) string {
	var b bytes.Buffer
	_, _ = io.Copy(&b, io.LimitReader(x.Text(p), maxText)) // what can be read of it is shown
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// leaf is a part that has no parts.
type leaf struct {
	part   *message.Part
	path   []int
	number string
}

// leaves are the parts below p, in order; at most maxParts.
func leaves(p *message.Part, path []int) []leaf {
	if len(p.Children) == 0 {
		if len(path) == 0 {
			path = []int{1}
		}
		var words []string
		for _, n := range path {
			words = append(words, strconv.Itoa(n))
		}
		return []leaf{{p, path, strings.Join(words, ".")}}
	}
	var out []leaf
	for i, child := range p.Children {
		if out = append(out, leaves(child, append(slices.Clone(path), i+1))...); len(out) > maxParts {
			return out[:maxParts]
		}
	}
	return out
}

// remove deletes messages.
func (c *Catcher) remove(ctx context.Context, ids ...uint32) (int, error) {
	var uids []mailstore.UID
	for _, id := range ids {
		uids = append(uids, mailstore.UID(id))
	}
	n := 0
	err := c.node.Store.Update(ctx, func(tx *mailstore.Tx) error {
		gone, err := tx.Expunge(c.inbox, uids)
		n = len(gone)
		return err
	})
	return n, err
}

// removeMatching deletes the messages that match.
func (c *Catcher) removeMatching(ctx context.Context, q query) (int, error) {
	all, err := c.since(ctx, 0)
	if err != nil {
		return 0, err
	}
	var ids []uint32
	if q.to+q.from+q.subject == "" { // even those that cannot be read
		for _, m := range all {
			ids = append(ids, uint32(m.UID))
		}
	} else {
		q.limit = len(all)
		found, err := c.match(ctx, q, all)
		if err != nil {
			return 0, err
		}
		for _, s := range found {
			ids = append(ids, s.ID)
		}
	}
	if len(ids) == 0 {
		return 0, nil
	}
	return c.remove(ctx, ids...)
}

// prune removes the oldest messages whenever there are too many.
func (c *Catcher) prune(ctx context.Context) error {
	w := c.node.Store.Watch(c.account, c.inbox)
	defer w.Close()
	for {
		old, err := c.surplus(ctx)
		if err != nil {
			return err
		}
		if len(old) > 0 {
			if _, err := c.remove(ctx, old...); err != nil {
				return err
			}
		}
		select {
		case <-w.C():
		case <-ctx.Done():
			return nil
		}
	}
}

// surplus lists the oldest messages beyond the bounds.
func (c *Catcher) surplus(ctx context.Context) (old []uint32, err error) {
	err = c.node.Store.View(ctx, func(v *mailstore.View) error {
		box, err := v.Mailbox(c.inbox)
		if err != nil || int(box.Messages) <= c.o.Messages && box.Size <= c.o.Octets {
			return err
		}
		n, size := int(box.Messages), box.Size
		return v.Messages(c.inbox, 1, math.MaxUint32, func(m mailstore.Message) bool {
			if n <= c.o.Messages && size <= c.o.Octets {
				return false
			}
			old = append(old, uint32(m.UID))
			n, size = n-1, size-m.Size
			return true
		})
	})
	return old, err
}

// wait returns the first message after q.after that matches, as soon as it is
// there.
func (c *Catcher) wait(ctx context.Context, q query) (Summary, error) {
	w := c.node.Store.Watch(c.account, c.inbox)
	defer w.Close()
	q.limit = 1
	for {
		all, err := c.since(ctx, q.after)
		if err != nil {
			return Summary{}, err
		}
		found, err := c.match(ctx, q, all)
		if err != nil {
			return Summary{}, err
		}
		if len(found) > 0 {
			return found[0], nil
		}
		if len(all) > 0 {
			q.after = uint32(all[len(all)-1].UID) // the others were looked at
		}
		select {
		case <-w.C():
		case <-ctx.Done():
			return Summary{}, ctx.Err()
		}
	}
}
