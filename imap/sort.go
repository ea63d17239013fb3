package imap

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"postrider/imap/syntax"
	"postrider/mailstore"
	"postrider/mailstore/message"
	"postrider/mailstore/search"
)

// cmdSort is SORT (RFC 5256, RFC 5957, RFC 5267 section 3).
func (s *session) cmdSort(ctx context.Context, c *call) error {
	keys, q := c.p.Sort()
	if err := c.p.End(); err != nil {
		return err
	}
	if err := checkCharset(q.Charset); err != nil {
		return err
	}
	r := newResult(&q, c, q.Extended)
	if r.save {
		s.box.saved = nil // what stays if this fails
	}
	byScore := slices.ContainsFunc(keys, func(k syntax.SortKey) bool { return k.Name == "RELEVANCY" })
	f, err := s.find(ctx, c, s.box, &q.Key, r.relevancy || byScore)
	if err != nil {
		return err
	}
	if f.lowest != 0 {
		return s.refuseMany(0) // no index knows the order of all (RFC 9738 section 3.3)
	}
	if f.modseq {
		s.wantModSeq()
	}
	var scores []int
	if byScore {
		if scores, err = f.scores(ctx, f.found); err != nil {
			return err
		}
	}
	if f.found, err = s.sort(ctx, f.found, keys, scores); err != nil {
		return err
	}
	if err := s.tellResult(ctx, r, f); err != nil {
		return err
	}
	if r.update {
		s.refuseUpdate(r.tag, "Sorted results are not kept up to date")
	}
	if r.save {
		s.box.save(f.found, r)
	}
	return nil
}

// column has what one criterion compares, of each message: numbers or texts.
type column struct {
	numbers []int64
	texts   []string
	reverse bool
}

func (c *column) compare(a, b int) int {
	order := 0
	if c.texts != nil {
		order = strings.Compare(c.texts[a], c.texts[b])
	} else if x, y := c.numbers[a], c.numbers[b]; x < y {
		order = -1
	} else if x > y {
		order = 1
	}
	if c.reverse {
		return -order
	}
	return order
}

// facts is what SORT and THREAD read of a message.
type facts struct {
	row      *mailstore.Message
	record   *message.Stored // nil where it is not that of the message
	envelope *imap.Envelope  // nil where nobody needs it
	title    string          // the Subject field, decoded, where it is needed
	subject  []byte          // as threads compare it, before it is folded
	sent     int64           // of the Date field, else INTERNALDATE (RFC 5256 section 2.2)
}

// sort sorts messages by criteria; those that are equal stay in their order.
// scores are those of found, where a criterion is RELEVANCY (RFC 6203 section 6).
func (s *session) sort(ctx context.Context, found []int, keys []syntax.SortKey, scores []int) ([]int, error) {
	columns := make([]column, len(keys))
	needs := false
	for i, k := range keys {
		columns[i].reverse = k.Reverse
		switch k.Name {
		case "ARRIVAL", "DATE", "SIZE":
			columns[i].numbers = make([]int64, len(found))
		case "RELEVANCY":
			for _, score := range scores {
				columns[i].numbers = append(columns[i].numbers, -int64(score)) // the best comes first
			}
		default:
			columns[i].texts = make([]string, len(found))
			needs = needs || k.Name != "SUBJECT"
		}
	}
	has := func(names ...string) bool {
		return slices.ContainsFunc(keys, func(k syntax.SortKey) bool { return slices.Contains(names, k.Name) })
	}
	plain := !has("CC", "FROM", "TO", "DISPLAYFROM", "DISPLAYTO", "SUBJECT")
	if !plain || has("ARRIVAL", "SIZE") {
		err := s.study(ctx, found, study{envelopes: needs, rows: plain}, func(at int, f *facts) {
			for i := range columns {
				columns[i].set(at, keys[i].Name, f)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	if plain && has("DATE") {
		dates, err := learn(ctx, s, &s.srv.sent, found, study{}, func(f *facts) int64 { return f.sent })
		if err != nil {
			return nil, err
		}
		for i := range columns {
			if keys[i].Name == "DATE" {
				columns[i].numbers = dates
			}
		}
	}
	order := make([]int, len(found))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		for i := range columns {
			if n := columns[i].compare(a, b); n != 0 {
				return n
			}
		}
		return a - b
	})
	for i, at := range order {
		order[i] = found[at]
	}
	return order, nil
}

func (c *column) set(at int, name string, f *facts) {
	switch name {
	case "ARRIVAL":
		c.numbers[at] = f.row.Internal.Unix()
	case "DATE":
		c.numbers[at] = f.sent
	case "SIZE":
		c.numbers[at] = f.row.Size
	case "SUBJECT":
		c.texts[at] = search.Fold(string(f.subject))
	case "CC":
		c.texts[at] = firstMailbox(f.envelope.Cc)
	case "FROM":
		c.texts[at] = firstMailbox(f.envelope.From)
	case "TO":
		c.texts[at] = firstMailbox(f.envelope.To)
	case "DISPLAYFROM":
		c.texts[at] = firstName(f.envelope.From)
	case "DISPLAYTO":
		c.texts[at] = firstName(f.envelope.To)
	}
}

// firstMailbox is the addr-mailbox of the first address.
func firstMailbox(list []imap.Address) string {
	if len(list) == 0 {
		return ""
	}
	return search.Fold(list[0].Mailbox)
}

// firstName is what is shown of the first address (RFC 5957 section 3).
func firstName(list []imap.Address) string {
	if len(list) == 0 {
		return ""
	}
	a := &list[0]
	switch name := message.DecodeWords(a.Name); {
	case name != "":
		return search.Fold(name)
	case a.Mailbox != "" && a.Host != "":
		return search.Fold(a.Mailbox + "@" + a.Host)
	}
	return search.Fold(a.Mailbox)
}

// study says what is to be found out of messages.
type study struct {
	envelopes bool
	titles    bool
	rows      bool // nothing but INTERNALDATE and size is needed
}

// study reads messages by their rows and records, and calls fn for each with its
// place in found, which is in order. Messages whose record is not enough are
// read; those that are gone are left out.
func (s *session) study(ctx context.Context, found []int, what study, fn func(at int, f *facts)) error {
	at := 0
	var unread []numbered
	var places []int
	for spans := spansAt(found); len(spans) > 0; {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var now []span
		now, spans = split(spans, 16*batch)
		err := s.view(ctx, "sort", func(v *mailstore.View) error {
			read := described(v, s.box.id)
			if what.rows {
				read = s.box.narrow(v, mailstore.ColumnInternal|mailstore.ColumnSize)
			}
			return s.box.scan(read, now, func(i int, d *mailstore.Described) bool {
				for found[at] < i {
					at++
				}
				f := facts{row: &d.Message}
				if what.rows || f.recall(d, what) {
					fn(at, &f)
				} else {
					unread, places = append(unread, numbered{i, d.Message}), append(places, at)
				}
				return true
			})
		})
		if err != nil {
			return err
		}
	}
	for i := range unread {
		f := facts{row: &unread[i].Message}
		ok, err := s.readFacts(ctx, &f)
		if err != nil {
			return err
		}
		if ok {
			fn(places[i], &f)
		}
	}
	return nil
}

// recall takes from a record what is needed, and tells whether it has that.
func (f *facts) recall(d *mailstore.Described, what study) bool {
	if d.Prefix != "" && !d.Record.Headed {
		return false
	}
	f.take(&d.Record)
	if !what.envelopes && !what.titles {
		return true
	}
	if d.Record.Envelope == nil {
		return false
	}
	var err error
	if what.titles {
		f.title, err = message.ReadSubject(d.Record.Envelope)
	} else {
		f.envelope, err = message.ReadEnvelope(d.Record.Envelope)
	}
	return err == nil
}

// take notes what a record tells, and by the row what it does not.
func (f *facts) take(record *message.Stored) {
	f.record, f.subject, f.sent = record, record.BaseSubject, f.row.Internal.Unix()
	if t := record.Sent(); !t.IsZero() {
		f.sent = t.Unix()
	}
}

// readFacts reads the message itself, as if its record were that of all of it.
func (s *session) readFacts(ctx context.Context, f *facts) (bool, error) {
	content, err := s.srv.o.Store.OpenMessage(ctx, *f.row)
	if errors.Is(err, mailstore.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, s.fault(ctx, "open message", err)
	}
	defer content.Close()
	var d message.Describer
	record, err := d.Describe(content, content.Size())
	if err != nil {
		return false, s.fault(ctx, "read message", err)
	}
	f.take(record)
	h, err := message.ReadHeader(content, content.Size())
	if err != nil {
		return false, s.fault(ctx, "read message", err)
	}
	f.envelope = h.Envelope()
	f.title = f.envelope.Subject
	return true, nil
}
