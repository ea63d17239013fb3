package imap

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"postrider/mailstore"
	"postrider/mailstore/message"
	"postrider/mailstore/search"
)

// Searcher knows of messages what is in them; *search.Index is one.
type Searcher interface {
	Lookup(ctx context.Context, a mailstore.AccountID, m mailstore.MailboxID, uids []mailstore.UID, keys []search.Key) []search.Hits
}

// Search is SEARCH (RFC 9051 section 6.4.4, RFC 5182).
func (s *session) Search(kind imapserver.NumKind, criteria *imap.SearchCriteria, options *imap.SearchOptions) (*imap.SearchData, error) {
	defer s.begin()()
	b := s.box
	if options.ReturnSave {
		b.saved = nil // what stays if this fails
	}
	c := compiler{b: b}
	q, err := c.compile(criteria)
	if err != nil {
		return nil, err
	}
	found, err := s.find(q, &c)
	if err != nil {
		return nil, err
	}
	return b.result(kind, found, options), nil
}

// find returns the indexes of the messages that match. It goes by the numbers
// and by what the search index knows first, then by the rows, and opens messages
// only where that does not decide.
func (s *session) find(q *query, cc *compiler) ([]int, error) {
	b := s.box
	ctx, cancel := context.WithTimeout(s.ctx, searchTimeout)
	defer cancel()
	scope := []span{{0, len(b.uids)}}
	for _, set := range q.sets {
		scope = intersect(scope, set)
	}
	c := &candidate{keys: cc.keys, dateless: !cc.dates}
	if len(cc.keys) > 0 && s.srv.o.Search != nil {
		c.hits = s.srv.o.Search.Lookup(ctx, s.account.ID, b.id, b.uids, cc.keys)
	}
	var found []int
	var open []span
	for _, sp := range merge(scope) {
		for i := sp.lo; i < sp.hi; i++ {
			if q.absent(c, i) {
				continue
			}
			c.reset(i, nil)
			switch q.match(c) {
			case yes:
				found = append(found, i)
			case maybe:
				open = append(open, span{i, i + 1})
			}
		}
	}
	if len(open) == 0 {
		return found, nil
	}
	decided := len(found)
	_, err := s.each(merge(open), func(list []numbered) error {
		for i := range list {
			c.reset(int(list[i].seq)-1, &list[i].Message)
			ok, err := s.matches(ctx, q, c)
			if err != nil {
				return err
			}
			if ok {
				found = append(found, c.index)
			}
		}
		return nil
	})
	if decided > 0 {
		slices.Sort(found)
	}
	return found, err
}

// matches opens the message only where the row does not decide.
func (s *session) matches(ctx context.Context, q *query, c *candidate) (bool, error) {
	if ctx.Err() != nil {
		return false, refuse(imap.ResponseCodeLimit, "The search takes too long, search fewer messages")
	}
	if t := q.match(c); t != maybe {
		return t == yes, nil
	}
	content, err := s.srv.o.Store.OpenMessage(ctx, *c.row)
	if errors.Is(err, mailstore.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, s.fault("open message", err)
	}
	defer content.Close()
	// The header alone decides most of them.
	for _, body := range []bool{false, true} {
		if err := c.read(content, body); err != nil {
			return false, s.fault("read message", err)
		}
		if t := q.match(c); t != maybe {
			return t == yes, nil
		}
	}
	return false, nil
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
	texts          []int // indexes of keys of the whole search
	not            []*query
	or             [][2]*query
}

type flagKey struct {
	bit     mailstore.SystemFlags
	keyword string
	never   bool // \Recent and flags that there are not
}

// candidate is a message that is looked at.
type candidate struct {
	keys     []search.Key  // of the whole search
	hits     []search.Hits // what the index knows of each; nil without one
	dateless bool          // the search does not ask for the Date field

	index int
	row   *mailstore.Message // nil in the first round
	known []truth            // of each key, from reading; nil before that
	dated bool               // sent is known
	sent  time.Time          // of the Date field; zero where there is none
}

func (c *candidate) reset(index int, row *mailstore.Message) {
	c.index, c.row, c.known, c.dated = index, row, nil, false
}

// text answers for one key.
func (c *candidate) text(key int) truth {
	switch {
	case c.hits != nil && c.hits[key].Found(c.index):
		return yes
	case c.hits != nil && c.hits[key].Absent(c.index):
		return no
	case c.known != nil:
		return c.known[key]
	}
	return maybe
}

// read reads the date and answers the keys that are open: those of the body or
// those that the header alone answers.
func (c *candidate) read(content mailstore.Content, body bool) error {
	if !c.dated && !c.dateless {
		h, err := message.ReadHeader(content, content.Size())
		if err != nil {
			return err
		}
		v, _ := h.Get("Date")
		if c.sent, err = message.ParseDate(v); err != nil {
			c.sent = time.Time{}
		}
		c.dated = true
	}
	var keys []search.Key
	var at []int
	for i, k := range c.keys {
		if k.InBody() == body && c.text(i) == maybe {
			keys, at = append(keys, k), append(at, i)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	found, err := search.Match(content, content.Size(), keys)
	if c.known == nil {
		c.known = make([]truth, len(c.keys))
	}
	for i, k := range at {
		c.known[k] = is(found[i])
	}
	return err
}

// compiler makes queries.
type compiler struct {
	b     *selection
	count int          // of search keys so far
	keys  []search.Key // those that look for a text
	dates bool         // some look for a date in the header
}

// compile resolves sets and folds texts.
func (cc *compiler) compile(c *imap.SearchCriteria) (*query, error) {
	cc.count += 1 + len(c.SeqNum) + len(c.UID) + len(c.Header) + len(c.Body) + len(c.Text) + len(c.Flag) + len(c.NotFlag)
	if cc.count > maxSearchKeys {
		return nil, refuse(imap.ResponseCodeLimit, "Too many search keys")
	}
	q := &query{
		since: c.Since, before: c.Before, sentSince: c.SentSince, sentBefore: c.SentBefore,
		larger: c.Larger, smaller: c.Smaller,
	}
	for _, set := range c.SeqNum {
		if err := q.addSet(cc.b, set); err != nil {
			return nil, err
		}
	}
	for _, set := range c.UID {
		if err := q.addSet(cc.b, set); err != nil {
			return nil, err
		}
	}
	cc.dates = cc.dates || !c.SentSince.IsZero() || !c.SentBefore.IsZero()
	q.flags, q.without = flagKeys(c.Flag), flagKeys(c.NotFlag)
	for _, h := range c.Header {
		cc.text(q, search.NewKey(search.Header, h.Key, h.Value))
	}
	for _, t := range c.Body {
		cc.text(q, search.NewKey(search.Body, "", t))
	}
	for _, t := range c.Text {
		cc.text(q, search.NewKey(search.Text, "", t))
	}
	for i := range c.Not {
		n, err := cc.compile(&c.Not[i])
		if err != nil {
			return nil, err
		}
		q.not = append(q.not, n)
	}
	for i := range c.Or {
		var pair [2]*query
		for k := range pair {
			var err error
			if pair[k], err = cc.compile(&c.Or[i][k]); err != nil {
				return nil, err
			}
		}
		q.or = append(q.or, pair)
	}
	return q, nil
}

func (q *query) addSet(b *selection, set imap.NumSet) error {
	sp, err := b.spans(set)
	q.sets = append(q.sets, sp)
	return err
}

func (cc *compiler) text(q *query, k search.Key) {
	q.texts = append(q.texts, len(cc.keys))
	cc.keys = append(cc.keys, k)
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

// absent tells that the index knows that the message at i has not all texts of
// the query itself: the short way for the many that match nothing.
func (q *query) absent(c *candidate, i int) bool {
	if c.hits != nil {
		for _, k := range q.texts {
			if c.hits[k].Absent(i) {
				return true
			}
		}
	}
	return false
}

// match answers for one candidate: with "maybe" where what is known of it does
// not decide.
func (q *query) match(c *candidate) truth {
	result := is(q.matchNumbers(c))
	if result != no {
		result = min(result, q.matchRow(c.row))
	}
	for i := 0; result != no && i < len(q.texts); i++ {
		result = min(result, c.text(q.texts[i]))
	}
	if result != no {
		result = min(result, q.matchSent(c))
	}
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

func (q *query) matchRow(m *mailstore.Message) truth {
	if m == nil {
		if q.since.IsZero() && q.before.IsZero() && q.larger == 0 && q.smaller == 0 && len(q.flags)+len(q.without) == 0 {
			return yes
		}
		return maybe
	}
	switch {
	case !within(m.Internal, q.since, q.before):
		return no
	case q.larger != 0 && m.Size <= q.larger:
		return no
	case q.smaller != 0 && m.Size >= q.smaller:
		return no
	}
	for _, k := range q.flags {
		if !k.in(m.Flags) {
			return no
		}
	}
	for _, k := range q.without {
		if k.in(m.Flags) {
			return no
		}
	}
	return yes
}

func (q *query) matchSent(c *candidate) truth {
	switch {
	case q.sentSince.IsZero() && q.sentBefore.IsZero():
		return yes
	case !c.dated:
		return maybe
	}
	return is(!c.sent.IsZero() && within(c.sent, q.sentSince, q.sentBefore))
}

// within compares dates, without time and zone.
func within(t, since, before time.Time) bool {
	y, m, d := t.Date()
	day := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	return (since.IsZero() || !day.Before(since)) && (before.IsZero() || day.Before(before))
}
