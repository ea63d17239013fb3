package imap

import (
	"math"
	"slices"
	"strings"
	"time"

	"postrider/imap/syntax"
	"postrider/mailstore"
	"postrider/mailstore/search"
)

// truth is the answer to a question that may need the message's octets.
type truth int8

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

// node is a compiled search key. match answers for each of the candidates in
// out: with "maybe" where what is known of it does not decide.
type node interface {
	match(c *candidates, out []truth)
}

// fill gives the same answer for all.
func fill(out []truth, t truth) {
	for i := range out {
		out[i] = t
	}
}

// all matches what matches all of its nodes, the cheap ones first.
type all []node

func (q all) match(c *candidates, out []truth) {
	fill(out, yes)
	room := c.borrow()
	defer c.giveBack(room)
	for _, n := range q {
		n.match(c, room)
		best := no
		for i, t := range room {
			out[i] = min(out[i], t)
			best = max(best, out[i])
		}
		if best == no {
			return
		}
	}
}

type either [2]node

func (q either) match(c *candidates, out []truth) {
	q[0].match(c, out)
	room := c.borrow()
	defer c.giveBack(room)
	q[1].match(c, room)
	for i, t := range room {
		out[i] = max(out[i], t)
	}
}

type not struct{ node }

func (q not) match(c *candidates, out []truth) {
	q.node.match(c, out)
	for i, t := range out {
		out[i] = -t
	}
}

// inSet is a set of messages.
type inSet []span

func (q inSet) match(c *candidates, out []truth) {
	rest := []span(q)
	for i, index := range c.index {
		for len(rest) > 0 && rest[0].hi <= index {
			rest = rest[1:]
		}
		out[i] = is(len(rest) > 0 && rest[0].lo <= index)
	}
}

// hasFlag asks for a flag: a system flag, or a keyword.
type hasFlag struct {
	bit      mailstore.SystemFlags
	keyword  string // "" where bit is set
	positive bool
}

func (q hasFlag) match(c *candidates, out []truth) {
	switch {
	case c.columns == nil:
		fill(out, maybe)
	case q.bit != 0:
		want := mailstore.SystemFlags(0)
		if q.positive {
			want = q.bit
		}
		for i, f := range c.columns.System {
			out[i] = is(f&q.bit == want)
		}
	case c.columns.Keys == nil:
		fill(out, is(!q.positive))
	default:
		answers := make([]truth, len(c.columns.Sets))
		for i, set := range c.columns.Sets {
			answers[i] = is(mailstore.Flags{Keywords: set}.Has(0, q.keyword) == q.positive)
		}
		for i, key := range c.columns.Keys {
			out[i] = answers[key]
		}
	}
}

// between asks for a value of a column in a range, its ends included: seconds,
// octets, mod-sequences.
type between struct {
	column mailstore.Columns
	lo, hi int64
}

func (q between) match(c *candidates, out []truth) {
	if c.columns == nil {
		fill(out, maybe)
		return
	}
	switch q.column {
	case mailstore.ColumnInternal:
		inRange(out, c.columns.Internal, q.lo, q.hi)
	case mailstore.ColumnSaved:
		inRange(out, c.columns.Saved, q.lo, q.hi)
	case mailstore.ColumnSize:
		inRange(out, c.columns.Sizes, q.lo, q.hi)
	default:
		inRange(out, c.columns.ModSeqs, q.lo, q.hi)
	}
}

func inRange[T int64 | mailstore.ModSeq](out []truth, values []T, lo, hi int64) {
	for i, v := range values {
		out[i] = is(int64(v) >= lo && int64(v) <= hi)
	}
}

// onDays is a range of days in UTC; a zero bound is none.
func onDays(column mailstore.Columns, since, before time.Time) between {
	q := between{column, math.MinInt64, math.MaxInt64}
	if !since.IsZero() {
		q.lo = since.Unix()
	}
	if !before.IsZero() {
		q.hi = before.Unix() - 1
	}
	return q
}

// ofRow asks the rows of messages.
type ofRow struct {
	want mailstore.Columns
	ask  func(m *mailstore.Message) bool
}

func (q ofRow) match(c *candidates, out []truth) {
	if c.columns == nil {
		fill(out, maybe)
		return
	}
	var m mailstore.Message
	for i := range out {
		c.columns.Message(i, q.want, &m)
		out[i] = is(q.ask(&m))
	}
}

// constant is ALL, and what no message of ours has.
type constant truth

func (q constant) match(_ *candidates, out []truth) { fill(out, truth(q)) }

// withText is a key that looks for a text: its index in candidates.keys.
type withText int

func (q withText) match(c *candidates, out []truth) {
	if c.hits == nil && c.known == nil {
		fill(out, maybe)
		return
	}
	for i, index := range c.index {
		out[i] = c.text(int(q), index)
	}
}

// sentOn compares the Date field, without time and zone; a zero bound is none.
type sentOn struct{ since, before time.Time }

func (q sentOn) match(c *candidates, out []truth) {
	if !c.dated {
		fill(out, maybe)
		return
	}
	y, m, d := c.sent.Date()
	day := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	fill(out, is(!c.sent.IsZero() && (q.since.IsZero() || !day.Before(q.since)) && (q.before.IsZero() || day.Before(q.before))))
}

// compiler makes nodes.
type compiler struct {
	s      *session
	b      *selection
	now    time.Time
	want   mailstore.Columns
	keys   []search.Key // those that look for a text
	dates  bool         // some look for a date in the header
	modseq bool         // some ask for a mod-sequence

	inFuzzy  bool // what is compiled is within FUZZY
	anyFuzzy bool
	scored   bool // scores are wanted
	scoring  []scoring
}

// scope is where the messages can be that a query matches.
func (cc *compiler) scope(q node) []span {
	scope := cc.b.everything()
	switch q := q.(type) {
	case inSet:
		return intersect(scope, q)
	case all:
		for _, n := range q {
			if set, ok := n.(inSet); ok {
				scope = intersect(scope, set)
			}
		}
	}
	return scope
}

// cost is the order in which the nodes of "all" are asked.
func cost(n node) int {
	switch n.(type) {
	case constant, inSet:
		return 0
	case withText:
		return 1
	case hasFlag, between, ofRow:
		return 2
	case sentOn:
		return 4
	}
	return 3
}

func (cc *compiler) compile(k *syntax.Key) (node, error) {
	switch k.Name {
	case "AND":
		q := make(all, 0, len(k.Keys))
		for i := range k.Keys {
			n, err := cc.compile(&k.Keys[i])
			if err != nil {
				return nil, err
			}
			q = append(q, n)
		}
		slices.SortStableFunc(q, func(a, b node) int { return cost(a) - cost(b) })
		return q, nil
	case "OR":
		var q either
		for i := range q {
			var err error
			if q[i], err = cc.compile(&k.Keys[i]); err != nil {
				return nil, err
			}
		}
		return q, nil
	case "NOT":
		n, err := cc.compile(&k.Keys[0])
		return not{n}, err
	case "SEQ", "UID":
		if k.Name == "SEQ" && !k.Set.Saved && cc.s.enabled.uidonly {
			return nil, &refusal{bad: true, code: "UIDREQUIRED", text: "Message numbers are off: search by UID"}
		}
		return inSet(cc.b.lenient(k.Set, k.Name == "UID")), nil
	case "FUZZY":
		outer := cc.inFuzzy
		cc.inFuzzy, cc.anyFuzzy = true, true
		n, err := cc.compile(&k.Keys[0])
		cc.inFuzzy = outer
		return n, err
	case "MODSEQ":
		cc.modseq = true
		return cc.between(between{mailstore.ColumnModSeq, int64(k.Number), math.MaxInt64}), nil
	}
	if n := cc.flag(k); n != nil {
		return n, nil
	}
	if n := cc.date(k); n != nil {
		return n, nil
	}
	if n := cc.text(k); n != nil {
		return n, nil
	}
	return cc.fact(k), nil
}

// flag compiles keys about flags.
func (cc *compiler) flag(k *syntax.Key) node {
	name, positive := strings.CutPrefix(k.Name, "UN")
	positive = !positive
	switch name {
	case "NEW", "RECENT": // nothing is
		return constant(no)
	case "OLD":
		return constant(yes)
	case "KEYWORD":
		keyword := k.Text
		bit := systemFlag(keyword)
		if bit == 0 && strings.HasPrefix(keyword, "\\") {
			return constant(is(!positive))
		}
		if bit != 0 {
			keyword = ""
		}
		cc.want |= mailstore.ColumnFlags
		return hasFlag{bit, keyword, positive}
	case "ANSWERED", "DELETED", "DRAFT", "FLAGGED", "SEEN":
		cc.want |= mailstore.ColumnFlags
		return hasFlag{bit: systemFlag("\\" + name), positive: positive}
	}
	return nil
}

// date compiles keys about days.
func (cc *compiler) date(k *syntax.Key) node {
	name, sent := strings.CutPrefix(k.Name, "SENT")
	name, saved := strings.CutPrefix(name, "SAVED")
	var since, before time.Time
	switch name {
	case "BEFORE":
		before = k.Date
	case "ON":
		since, before = k.Date, k.Date.AddDate(0, 0, 1)
	case "SINCE":
		since = k.Date
	default:
		return nil
	}
	switch {
	case sent:
		cc.dates = true
		return sentOn{since, before}
	case saved:
		return cc.between(onDays(mailstore.ColumnSaved, since, before))
	}
	return cc.between(onDays(mailstore.ColumnInternal, since, before))
}

// between notes the column.
func (cc *compiler) between(q between) node {
	cc.want |= q.column
	return q
}

// text compiles keys that look for a text.
func (cc *compiler) text(k *syntax.Key) node {
	field, name := search.Header, k.Field
	switch k.Name {
	case "BCC", "CC", "FROM", "SUBJECT", "TO":
		name = k.Name
	case "HEADER":
	case "BODY":
		field = search.Body
	case "TEXT":
		field = search.Text
	default:
		return nil
	}
	if cc.inFuzzy {
		return cc.fuzzy(field, name, k.Text)
	}
	return withText(cc.key(search.NewKey(field, name, k.Text)))
}

// fact compiles the rest.
func (cc *compiler) fact(k *syntax.Key) node {
	number := int64(k.Number)
	age := cc.now.Add(-time.Duration(k.Number) * time.Second)
	switch k.Name {
	case "LARGER":
		return not{cc.between(between{mailstore.ColumnSize, math.MinInt64, number})}
	case "SMALLER":
		return cc.between(between{mailstore.ColumnSize, math.MinInt64, number - 1})
	case "OLDER": // RFC 5032
		return cc.between(between{mailstore.ColumnInternal, math.MinInt64, age.Unix()})
	case "YOUNGER":
		least := age.Unix()
		if age.Nanosecond() > 0 {
			least++
		}
		return cc.between(between{mailstore.ColumnInternal, least, math.MaxInt64})
	case "EMAILID": // RFC 8474
		cc.want |= mailstore.ColumnBody | mailstore.ColumnPrefix
		return ofRow{mailstore.ColumnBody | mailstore.ColumnPrefix, func(m *mailstore.Message) bool { return emailID(m) == k.Text }}
	case "THREADID":
		cc.want |= mailstore.ColumnThread
		return ofRow{mailstore.ColumnThread, func(m *mailstore.Message) bool { return m.Thread != 0 && threadID(m) == k.Text }}
	case "SAVEDATESUPPORTED": // RFC 8514
		return constant(yes)
	}
	return constant(no)
}
