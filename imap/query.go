package imap

import (
	"slices"
	"strings"
	"time"

	"postrider/imap/syntax"
	"postrider/mailstore"
	"postrider/mailstore/message"
	"postrider/mailstore/search"
)

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

// node is a compiled search key. match answers for one candidate: with "maybe"
// where what is known of it does not decide.
type node interface {
	match(c *candidate) truth
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

// all matches what matches all of its nodes, the cheap ones first.
type all []node

func (q all) match(c *candidate) truth {
	result := yes
	for _, n := range q {
		if t := n.match(c); t < result {
			if result = t; result == no {
				break
			}
		}
	}
	return result
}

type either [2]node

func (q either) match(c *candidate) truth {
	t := q[0].match(c)
	if t != yes {
		t = max(t, q[1].match(c))
	}
	return t
}

type not struct{ node }

func (q not) match(c *candidate) truth { return -q.node.match(c) }

// inSet is a set of messages.
type inSet []span

func (q inSet) match(c *candidate) truth { return is(contains(q, c.index)) }

// ofRow asks the row of a message.
type ofRow func(m *mailstore.Message) bool

func (q ofRow) match(c *candidate) truth {
	if c.row == nil {
		return maybe
	}
	return is(q(c.row))
}

// constant is ALL, and what no message of ours has.
type constant truth

func (q constant) match(*candidate) truth { return truth(q) }

// withText is a key that looks for a text: its index in candidate.keys.
type withText int

func (q withText) match(c *candidate) truth { return c.text(int(q)) }

// sentOn compares the Date field.
type sentOn struct{ since, before time.Time }

func (q sentOn) match(c *candidate) truth {
	if !c.dated {
		return maybe
	}
	return is(!c.sent.IsZero() && onDays(c.sent, q.since, q.before))
}

// onDays compares dates, without time and zone; a zero bound is none.
func onDays(t, since, before time.Time) bool {
	y, m, d := t.Date()
	day := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	return (since.IsZero() || !day.Before(since)) && (before.IsZero() || day.Before(before))
}

// compiler makes nodes.
type compiler struct {
	s      *session
	b      *selection
	now    time.Time
	keys   []search.Key // those that look for a text
	dates  bool         // some look for a date in the header
	modseq bool         // some ask for a mod-sequence
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
	case ofRow:
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
		spans, err := cc.b.spans(k.Set, k.Name == "UID")
		return inSet(spans), err
	case "FUZZY":
		return nil, bad("FUZZY is not offered here")
	case "MODSEQ":
		cc.modseq = true
		least := mailstore.ModSeq(k.Number)
		return ofRow(func(m *mailstore.Message) bool { return m.ModSeq >= least }), nil
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
		return ofRow(func(m *mailstore.Message) bool { return m.Flags.Has(bit, keyword) == positive })
	case "ANSWERED", "DELETED", "DRAFT", "FLAGGED", "SEEN":
		bit := systemFlag("\\" + name)
		return ofRow(func(m *mailstore.Message) bool { return (m.Flags.System&bit != 0) == positive })
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
		return ofRow(func(m *mailstore.Message) bool { return onDays(m.Saved, since, before) })
	}
	return ofRow(func(m *mailstore.Message) bool { return onDays(m.Internal, since, before) })
}

// text compiles keys that look for a text.
func (cc *compiler) text(k *syntax.Key) node {
	var key search.Key
	switch k.Name {
	case "BCC", "CC", "FROM", "SUBJECT", "TO":
		key = search.NewKey(search.Header, k.Name, k.Text)
	case "HEADER":
		key = search.NewKey(search.Header, k.Field, k.Text)
	case "BODY":
		key = search.NewKey(search.Body, "", k.Text)
	case "TEXT":
		key = search.NewKey(search.Text, "", k.Text)
	default:
		return nil
	}
	cc.keys = append(cc.keys, key)
	return withText(len(cc.keys) - 1)
}

// fact compiles the rest.
func (cc *compiler) fact(k *syntax.Key) node {
	number := int64(k.Number)
	age := cc.now.Add(-time.Duration(k.Number) * time.Second)
	switch k.Name {
	case "LARGER":
		return ofRow(func(m *mailstore.Message) bool { return m.Size > number })
	case "SMALLER":
		return ofRow(func(m *mailstore.Message) bool { return m.Size < number })
	case "OLDER": // RFC 5032
		return ofRow(func(m *mailstore.Message) bool { return !m.Internal.After(age) })
	case "YOUNGER":
		return ofRow(func(m *mailstore.Message) bool { return !m.Internal.Before(age) })
	case "EMAILID": // RFC 8474
		return ofRow(func(m *mailstore.Message) bool { return emailID(m) == k.Text })
	case "THREADID":
		return ofRow(func(m *mailstore.Message) bool { return m.Thread != 0 && threadID(m) == k.Text })
	case "SAVEDATESUPPORTED": // RFC 8514
		return constant(yes)
	}
	return constant(no)
}
