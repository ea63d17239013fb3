package imap

import (
	"context"
	"slices"
	"strings"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

// cmdSearch is SEARCH (RFC 9051 section 6.4.4, RFC 4731, RFC 5182, RFC 9394).
func (s *session) cmdSearch(ctx context.Context, c *call) error {
	q := c.p.Search()
	if err := c.p.End(); err != nil {
		return err
	}
	b := s.box
	r := newResult(&q, c, s.enabled.rev2 || q.Extended)
	if r.save {
		b.saved = nil // what stays if this fails
	}
	if err := checkCharset(q.Charset); err != nil {
		return err
	}
	if r.update && b.context(r.tag) >= 0 {
		return bad("A search with UPDATE has that tag already") // RFC 5267 section 4.3
	}
	f, err := s.find(ctx, c, b, &q.Key, r.relevancy)
	if err != nil {
		return err
	}
	if f.modseq {
		s.wantModSeq()
	}
	s.partly(c, f.lowest)
	if err := s.tellResult(ctx, r, f); err != nil {
		return err
	}
	if r.save {
		b.save(f.found, r)
	}
	if r.update {
		s.follow(r, &q, f)
	}
	return nil
}

func checkCharset(name string) error {
	switch strings.ToUpper(name) {
	case "", "UTF-8", "US-ASCII":
		return nil
	}
	return refuse("BADCHARSET (US-ASCII UTF-8)", "Search texts are in US-ASCII or UTF-8 here")
}

// result says what of a result is told, and how.
type result struct {
	name     string // of the response that is not extended: SEARCH, SORT
	tag      string
	mailbox  string // of ESEARCH; "" of the others
	uid      bool
	extended bool // ESEARCH
	min, max bool
	all      bool
	count    bool
	save     bool
	// relevancy tells the score of each message (RFC 6203 section 4).
	relevancy bool
	update    bool // it is kept up to date (RFC 5267 section 4.3)
	partial   *syntax.PartialRange
}

func newResult(q *syntax.Search, c *call, extended bool) *result {
	has := func(option string) bool { return slices.Contains(q.Return, option) }
	r := &result{
		name: c.Name, tag: c.Tag, uid: c.UID, extended: extended,
		min: has("MIN"), max: has("MAX"), all: has("ALL"), count: has("COUNT"), save: has("SAVE"), partial: q.Partial,
		relevancy: has("RELEVANCY"), update: has("UPDATE"),
	}
	// RFC 4731 section 3.1; SAVE alone asks for nothing else (RFC 5182 section 2.1).
	if len(q.Return) == 0 {
		r.all = true
	}
	return r
}

// tellResult writes SEARCH or ESEARCH.
func (s *session) tellResult(ctx context.Context, r *result, f *finding) error {
	b, found := f.b, f.found
	number := func(i int) uint32 { return uint32(i + 1) }
	if r.uid {
		number = func(i int) uint32 { return uint32(b.uids[i]) }
	}
	var highest mailstore.ModSeq
	if f.modseq && len(found) > 0 {
		var err error
		if highest, err = s.highest(ctx, b, r, found); err != nil {
			return err
		}
	}
	var scores []int
	if r.relevancy {
		var err error
		if scores, err = f.scores(ctx, r.told(found)); err != nil {
			return err
		}
	}
	out := s.out.beginLarge()
	if !r.extended {
		out = append(out, "* "...)
		out = append(out, r.name...)
		out = appendSpaced(out, found, number)
		if highest > 0 {
			out = append(out, " (MODSEQ "...)
			out = syntax.AppendNumber(out, highest)
			out = append(out, ')')
		}
		s.out.end(append(out, '\r', '\n'))
		return s.out.err
	}
	if r.save && !r.min && !r.max && r.onlyEnds() {
		s.out.keep(out)
		return nil // RFC 5182 section 2.1: no ESEARCH
	}
	out = append(out, "* ESEARCH (TAG "...)
	out = syntax.AppendString(out, r.tag)
	if r.mailbox != "" { // RFC 7377 section 2.1
		out = append(out, " MAILBOX "...)
		out = syntax.AppendMailbox(out, r.mailbox, s.enabled.wide())
		out = append(out, " UIDVALIDITY "...)
		out = syntax.AppendNumber(out, b.validity)
	}
	out = append(out, ')')
	if r.uid {
		out = append(out, " UID"...)
	}
	out = r.appendItems(out, found, number)
	if r.relevancy {
		out = appendScores(out, scores)
	}
	if highest > 0 {
		out = append(out, " MODSEQ "...)
		out = syntax.AppendNumber(out, highest)
	}
	s.out.end(append(out, '\r', '\n'))
	return s.out.err
}

// appendItems appends what was asked for.
func (r *result) appendItems(out []byte, found []int, number func(int) uint32) []byte {
	if n := len(found); n > 0 {
		if r.min {
			out = append(out, " MIN "...)
			out = syntax.AppendNumber(out, number(found[0]))
		}
		if r.max {
			out = append(out, " MAX "...)
			out = syntax.AppendNumber(out, number(found[n-1]))
		}
		if r.all {
			out = append(out, " ALL "...)
			out = appendFound(out, found, number)
		}
	}
	if r.count {
		out = append(out, " COUNT "...)
		out = syntax.AppendNumber(out, len(found))
	}
	if r.partial != nil { // RFC 9394 section 3.1
		out = append(out, " PARTIAL ("...)
		out = syntax.AppendPartial(out, *r.partial)
		out = append(out, ' ')
		if page := page(found, *r.partial); len(page) > 0 {
			out = appendFound(out, page, number)
		} else {
			out = append(out, "NIL"...)
		}
		out = append(out, ')')
	}
	return out
}

// page is the range of PARTIAL of a result.
func page(found []int, r syntax.PartialRange) []int {
	lo, hi := r.Of(len(found))
	return found[lo:hi]
}

// ends are those of a result that MIN and MAX tell, each once. found is not
// empty.
func (r *result) ends(found []int) []int {
	var ends []int
	if r.min {
		ends = append(ends, found[0])
	}
	if last := found[len(found)-1]; r.max && (len(ends) == 0 || last != ends[0]) {
		ends = append(ends, last)
	}
	return ends
}

// onlyEnds tells whether nothing of a result is asked for but MIN, MAX and what
// names no messages.
func (r *result) onlyEnds() bool { return !r.all && !r.count && r.partial == nil }

// appendSpaced appends the number of each message, a space before it. Most have all digits
// but the last two from the number before.
func appendSpaced(out []byte, found []int, number func(int) uint32) []byte {
	var room [16]byte
	text, hundreds := room[:0], uint32(0) // of the number before
	for _, i := range found {
		n := number(i)
		if h := n / 100; h == 0 || h != hundreds {
			text, hundreds = syntax.AppendNumber(append(text[:0], ' '), n), h
		} else {
			last := n - h*100
			text[len(text)-2], text[len(text)-1] = byte('0'+last/10), byte('0'+last%10)
		}
		out = append(out, text...)
	}
	return out
}

// appendFound appends a set of messages.
func appendFound(out []byte, found []int, number func(int) uint32) []byte {
	for i := 0; i < len(found); {
		j := i + 1
		for j < len(found) && number(found[j]) == number(found[j-1])+1 {
			j++
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = syntax.AppendRange(out, number(found[i]), number(found[j-1]))
		i = j
	}
	return out
}

// highest is the highest mod-sequence of what is told of a result (RFC 7162
// sections 3.1.5 and 3.1.10).
func (s *session) highest(ctx context.Context, b *selection, r *result, found []int) (mailstore.ModSeq, error) {
	if r.extended && r.onlyEnds() {
		found = r.ends(found)
	}
	if !slices.IsSorted(found) {
		found = slices.Sorted(slices.Values(found))
	}
	var highest mailstore.ModSeq
	err := s.view(ctx, "search", func(v *mailstore.View) error {
		return b.columns(v, spansAt(found), mailstore.ColumnModSeq, func(_ []int, c *mailstore.Scanned) bool {
			highest = max(highest, slices.Max(c.ModSeqs))
			return true
		})
	})
	return highest, err
}

// spansAt are the spans of sorted indexes.
func spansAt(found []int) []span {
	var spans []span
	for _, i := range found {
		if n := len(spans); n > 0 && spans[n-1].hi == i {
			spans[n-1].hi++
			continue
		}
		spans = append(spans, span{i, i + 1})
	}
	return spans
}

// save keeps the result; with MIN or MAX, and neither ALL nor COUNT, only these
// (RFC 5182 section 2.1).
func (b *selection) save(found []int, r *result) {
	if (r.min || r.max) && r.onlyEnds() && len(found) > 0 {
		found = r.ends(found)
	} else if r.partial != nil && !r.all && !r.count {
		found = page(found, *r.partial) // RFC 9394 section 3.2
	}
	for _, i := range found {
		b.saved = append(b.saved, b.uids[i])
	}
	slices.Sort(b.saved)
}
