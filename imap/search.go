package imap

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"postrider/mailstore"
	"postrider/mailstore/message"
)

// Search is SEARCH (RFC 9051 section 6.4.4, RFC 5182).
func (s *session) Search(kind imapserver.NumKind, criteria *imap.SearchCriteria, options *imap.SearchOptions) (*imap.SearchData, error) {
	defer s.begin()()
	b := s.box
	if options.ReturnSave {
		b.saved = nil // what stays if this fails
	}
	q, err := b.compile(criteria, new(int))
	if err != nil {
		return nil, err
	}
	found, err := s.find(q)
	if err != nil {
		return nil, err
	}
	return b.result(kind, found, options), nil
}

// find returns the indexes of the messages that match.
func (s *session) find(q *query) ([]int, error) {
	b := s.box
	scope := []span{{0, len(b.uids)}}
	for _, set := range q.sets {
		scope = intersect(scope, set)
	}
	var found []int
	if !q.reads() {
		for _, sp := range merge(scope) {
			for i := sp.lo; i < sp.hi; i++ {
				if q.match(&candidate{index: i}) == yes {
					found = append(found, i)
				}
			}
		}
		return found, nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, searchTimeout)
	defer cancel()
	_, err := s.each(merge(scope), func(list []numbered) error {
		for i := range list {
			ok, err := s.matches(ctx, q, &list[i])
			if err != nil {
				return err
			}
			if ok {
				found = append(found, int(list[i].seq)-1)
			}
		}
		return nil
	})
	return found, err
}

// matches looks at the row first and opens the message only where that does not
// decide.
func (s *session) matches(ctx context.Context, q *query, m *numbered) (bool, error) {
	if ctx.Err() != nil {
		return false, refuse(imap.ResponseCodeLimit, "The search takes too long, search fewer messages")
	}
	c := &candidate{index: int(m.seq) - 1, row: &m.Message}
	if t := q.match(c); t != maybe {
		return t == yes, nil
	}
	content, err := s.srv.o.Store.OpenMessage(ctx, m.Message)
	if errors.Is(err, mailstore.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, s.fault("open message", err)
	}
	defer content.Close()
	c.content = content
	t := q.match(c)
	return t == yes, s.fault("read message", c.err)
}

// result makes the answer; where "$" is to be kept, it keeps it.
func (b *selection) result(kind imapserver.NumKind, found []int, options *imap.SearchOptions) *imap.SearchData {
	data := &imap.SearchData{Count: uint32(len(found))}
	number := func(i int) uint32 { return uint32(i + 1) }
	if kind == imapserver.NumKindUID {
		number = func(i int) uint32 { return uint32(b.uids[i]) }
	}
	var seqs imap.SeqSet
	for _, i := range found {
		n := number(i)
		if last := len(seqs) - 1; last >= 0 && seqs[last].Stop+1 == n {
			seqs[last].Stop = n
			continue
		}
		seqs = append(seqs, imap.SeqRange{Start: n, Stop: n})
	}
	data.All = seqs
	if kind == imapserver.NumKindUID {
		uids := make(imap.UIDSet, len(seqs))
		for i, r := range seqs {
			uids[i] = imap.UIDRange{Start: imap.UID(r.Start), Stop: imap.UID(r.Stop)}
		}
		data.All = uids
	}
	if len(found) > 0 {
		data.Min, data.Max = number(found[0]), number(found[len(found)-1])
	}
	if options.ReturnSave {
		b.save(found, options)
	}
	return data
}

// save keeps the result; with MIN or MAX alone only these (RFC 5182 section
// 2.1). The engine adds ALL where no other item is asked for, which is right
// for SAVE alone.
func (b *selection) save(found []int, options *imap.SearchOptions) {
	if !options.ReturnAll && !options.ReturnCount && len(found) > 0 {
		var ends []int
		if options.ReturnMin {
			ends = append(ends, found[0])
		}
		if options.ReturnMax && (len(found) > 1 || len(ends) == 0) {
			ends = append(ends, found[len(found)-1])
		}
		found = ends
	}
	for _, i := range found {
		b.saved = append(b.saved, b.uids[i])
	}
}

// truth is the answer to a question that may need the message's octets.
type truth int

const (
	no    truth = -1
	maybe truth = 0
	yes   truth = 1
)

func is(b bool) truth {
	if b {
		return yes
	}
	return no
}

// query is a compiled SearchCriteria.
type query struct {
	sets           [][]span
	since, before  time.Time
	sentSince      time.Time
	sentBefore     time.Time
	larger         int64
	smaller        int64
	flags, without []flagKey
	header         []headerKey
	body, text     []string // folded
	not            []*query
	or             [][2]*query
}

type flagKey struct {
	bit     mailstore.SystemFlags
	keyword string
	never   bool // \Recent and flags that there are not
}

type headerKey struct{ name, value string } // value folded

// candidate is a message that is looked at.
type candidate struct {
	index   int
	row     *mailstore.Message // nil where the query needs none
	content mailstore.Content  // nil in the first round
	idx     *message.Index
	whole   bool  // idx has the structure of the body
	err     error // of reading content
}

// compile resolves sets and folds texts.
func (b *selection) compile(c *imap.SearchCriteria, keys *int) (*query, error) {
	*keys += 1 + len(c.SeqNum) + len(c.UID) + len(c.Header) + len(c.Body) + len(c.Text) + len(c.Flag) + len(c.NotFlag)
	if *keys > maxSearchKeys {
		return nil, refuse(imap.ResponseCodeLimit, "Too many search keys")
	}
	q := &query{
		since: c.Since, before: c.Before, sentSince: c.SentSince, sentBefore: c.SentBefore,
		larger: c.Larger, smaller: c.Smaller,
	}
	for _, set := range c.SeqNum {
		sp, err := b.spans(set)
		if err != nil {
			return nil, err
		}
		q.sets = append(q.sets, sp)
	}
	for _, set := range c.UID {
		sp, err := b.spans(set)
		if err != nil {
			return nil, err
		}
		q.sets = append(q.sets, sp)
	}
	q.flags, q.without = flagKeys(c.Flag), flagKeys(c.NotFlag)
	for _, h := range c.Header {
		q.header = append(q.header, headerKey{h.Key, fold(h.Value)})
	}
	for _, t := range c.Body {
		q.body = append(q.body, fold(t))
	}
	for _, t := range c.Text {
		q.text = append(q.text, fold(t))
	}
	for i := range c.Not {
		n, err := b.compile(&c.Not[i], keys)
		if err != nil {
			return nil, err
		}
		q.not = append(q.not, n)
	}
	for i := range c.Or {
		var pair [2]*query
		for k := range pair {
			var err error
			if pair[k], err = b.compile(&c.Or[i][k], keys); err != nil {
				return nil, err
			}
		}
		q.or = append(q.or, pair)
	}
	return q, nil
}

func flagKeys(flags []imap.Flag) []flagKey {
	var keys []flagKey
	for _, f := range flags {
		bit := systemFlag(f)
		switch {
		case bit != 0:
			keys = append(keys, flagKey{bit: bit})
		case strings.HasPrefix(string(f), "\\"):
			keys = append(keys, flagKey{never: true})
		default:
			keys = append(keys, flagKey{keyword: string(f)})
		}
	}
	return keys
}

func (k flagKey) in(f mailstore.Flags) bool { return !k.never && f.Has(k.bit, k.keyword) }

// reads tells whether the query needs more than numbers.
func (q *query) reads() bool {
	if !q.since.IsZero() || !q.before.IsZero() || q.larger != 0 || q.smaller != 0 || len(q.flags)+len(q.without) > 0 || q.opens() {
		return true
	}
	for _, n := range q.not {
		if n.reads() {
			return true
		}
	}
	for _, pair := range q.or {
		if pair[0].reads() || pair[1].reads() {
			return true
		}
	}
	return false
}

// opens tells whether the query itself, without those in it, needs the
// message's octets.
func (q *query) opens() bool {
	return !q.sentSince.IsZero() || !q.sentBefore.IsZero() || len(q.header)+len(q.body)+len(q.text) > 0
}

// match answers for one candidate: with "maybe" where it lacks the content.
func (q *query) match(c *candidate) truth {
	result := is(q.matchNumbers(c) && (c.row == nil || q.matchRow(c.row)))
	for i := 0; result != no && i < len(q.not); i++ {
		result = min(result, -q.not[i].match(c))
	}
	for i := 0; result != no && i < len(q.or); i++ {
		either := q.or[i][0].match(c)
		if either != yes {
			either = max(either, q.or[i][1].match(c))
		}
		result = min(result, either)
	}
	if result != no && q.opens() {
		result = min(result, q.matchContent(c))
	}
	return result
}

func (q *query) matchNumbers(c *candidate) bool {
	for _, set := range q.sets {
		if !contains(set, c.index) {
			return false
		}
	}
	return true
}

func (q *query) matchRow(m *mailstore.Message) bool {
	switch {
	case !within(m.Internal, q.since, q.before):
		return false
	case q.larger != 0 && m.Size <= q.larger:
		return false
	case q.smaller != 0 && m.Size >= q.smaller:
		return false
	}
	for _, k := range q.flags {
		if !k.in(m.Flags) {
			return false
		}
	}
	for _, k := range q.without {
		if k.in(m.Flags) {
			return false
		}
	}
	return true
}

// within compares dates, without time and zone.
func within(t, since, before time.Time) bool {
	y, m, d := t.Date()
	day := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	return (since.IsZero() || !day.Before(since)) && (before.IsZero() || day.Before(before))
}

func (q *query) matchContent(c *candidate) truth {
	if c.content == nil {
		return maybe
	}
	x := c.parse(len(q.body)+len(q.text) > 0)
	h, err := x.Header(x.Root)
	if err != nil {
		c.err = errors.Join(c.err, err)
		return no
	}
	if !q.sentSince.IsZero() || !q.sentBefore.IsZero() {
		v, _ := h.Get("Date")
		sent, err := message.ParseDate(v)
		if err != nil || sent.IsZero() || !within(sent, q.sentSince, q.sentBefore) {
			return no
		}
	}
	for _, key := range q.header {
		if !inHeader(h, key) {
			return no
		}
	}
	for _, t := range q.body {
		if !c.inText(x.Root, t) {
			return no
		}
	}
	for _, t := range q.text {
		if !inAnyField(h, t) && !c.inText(x.Root, t) {
			return no
		}
	}
	return yes
}

// parse makes the index, once, as far as needed.
func (c *candidate) parse(whole bool) *message.Index {
	if whole && !c.whole {
		c.idx, c.whole = message.Parse(c.content, c.content.Size()), true
	} else if c.idx == nil {
		c.idx = message.ParseTop(c.content, c.content.Size())
	}
	return c.idx
}

func inHeader(h message.Header, key headerKey) bool {
	for f := range h.Fields() {
		if strings.EqualFold(f.Name, key.name) && strings.Contains(fold(message.DecodeWords(f.Value())), key.value) {
			return true
		}
	}
	return false
}

func inAnyField(h message.Header, text string) bool {
	for f := range h.Fields() {
		if strings.Contains(fold(f.Name+": "+message.DecodeWords(f.Value())), text) {
			return true
		}
	}
	return false
}

// inText looks into the text parts below p, embedded headers included.
func (c *candidate) inText(p *message.Part, text string) bool {
	switch {
	case p.Type == "text":
		found, err := containsText(io.LimitReader(c.idx.Text(p), maxSearchText), text)
		c.err = errors.Join(c.err, err)
		return found
	case p.Message != nil:
		h, err := c.idx.Header(p.Message)
		c.err = errors.Join(c.err, err)
		return err == nil && inAnyField(h, text) || c.inText(p.Message, text)
	}
	for _, child := range p.Children {
		if c.inText(child, text) {
			return true
		}
	}
	return false
}
