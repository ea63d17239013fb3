package imap

import (
	"cmp"
	"context"
	"hash/maphash"
	"slices"
	"strings"

	"postrider/imap/syntax"
	"postrider/mailstore/message"
	"postrider/mailstore/search"
)

// cmdThread is THREAD (RFC 5256 section 3), with REFS (draft-ietf-morg-inthread-01
// section 4) beside the algorithms of the RFC.
func (s *session) cmdThread(ctx context.Context, c *call) error {
	algorithm, q := c.p.Thread()
	if err := c.p.End(); err != nil {
		return err
	}
	if algorithm != "ORDEREDSUBJECT" && algorithm != "REFERENCES" && algorithm != "REFS" {
		return bad("ORDEREDSUBJECT, REFERENCES and REFS are the threading algorithms here")
	}
	if err := checkCharset(q.Charset); err != nil {
		return err
	}
	result, err := s.find(ctx, c, s.box, &q.Key, false)
	if err != nil {
		return err
	}
	if result.lowest != 0 {
		return s.refuseMany(0) // RFC 9738 section 3.3
	}
	if result.modseq {
		s.wantModSeq()
	}
	found := result.found
	members, err := learn(ctx, s, &s.srv.members, found, study{titles: true}, s.srv.member)
	if err != nil {
		return err
	}
	f := newForest(members)
	out := append(s.out.beginLarge(), "* THREAD"...)
	if len(found) > 0 {
		out = append(out, ' ')
	}
	number := func(at int32) uint32 { return uint32(found[at] + 1) }
	if c.UID {
		number = func(at int32) uint32 { return uint32(s.box.uids[found[at]]) }
	}
	for _, n := range f.threads(algorithm) {
		out = f.appendThread(out, n, number)
	}
	s.out.end(append(out, '\r', '\n'))
	return s.out.err
}

// member is what threads are made of: a message.
type member struct {
	there   bool // it was found still
	reply   bool // or a forward, by its Subject
	date    int64
	arrival int64
	id      uint64   // the hash of its message id; 0 for none
	subject uint64   // of its base subject; 0 for none
	refs    []uint64 // of the ids that it refers to, oldest first
}

// octets is about what a member takes.
func (m member) octets() int { return 64 + 8*len(m.refs) }

// member makes one of a message.
func (s *Server) member(m *facts) member {
	one := member{
		there: true, reply: m.title != string(m.subject) && message.IsReply(m.title),
		date: m.sent, arrival: m.row.Internal.Unix(),
		id:      s.hash(bareID(m.record.MessageID)),
		subject: s.hash(strings.TrimSpace(search.Fold(string(m.subject)))),
	}
	var room [message.MaxReferences]uint64
	refs := room[:0]
	for id := range m.record.References() {
		refs = append(refs, s.hash(bareID(id)))
	}
	one.refs = slices.Clone(refs)
	return one
}

// bareID is an id without quotes around its local part, which make no difference (RFC
// 5256 section 3).
func bareID(id []byte) string {
	if len(id) > 1 && id[0] == '"' {
		return strings.Replace(string(id[1:]), `"@`, "@", 1)
	}
	return string(id)
}

// hash names an id or a subject; 0 is that of none.
func (s *Server) hash(text string) uint64 {
	if text == "" {
		return 0
	}
	return max(maphash.String(s.seed, text), 1)
}

// forest is messages on their way to threads. Nodes below messages are messages,
// by their place in the result; those behind are dummies.
type forest struct {
	messages []member
	parent   []int32 // of each node; -1 for none
	children [][]int32
	left     int // steps that looking for loops may still take
}

// Looking for loops takes so many steps at most; beyond, messages are taken for
// roots. No usual mailbox comes near.
const (
	loopSteps        = 10_000_000
	loopStepsMessage = 100
)

func newForest(messages []member) *forest {
	return &forest{messages: messages, left: loopSteps + len(messages)*loopStepsMessage}
}

// node makes one.
func (f *forest) node() int32 {
	f.parent = append(f.parent, -1)
	return int32(len(f.parent) - 1)
}

// threads makes the threads, and returns their roots in order.
func (f *forest) threads(algorithm string) []int32 {
	switch algorithm {
	case "REFERENCES":
		return f.byReferences()
	case "REFS":
		return f.byArrival()
	}
	return f.orderedSubject()
}

// orderedSubject is the poor man's threading.
func (f *forest) orderedSubject() []int32 {
	order := f.all()
	slices.SortFunc(order, func(a, b int32) int {
		if n := cmp.Compare(f.messages[a].subject, f.messages[b].subject); n != 0 {
			return n
		}
		return f.byDate(a, b)
	})
	f.children = make([][]int32, len(f.messages))
	var roots []int32
	for i := 0; i < len(order); {
		j := i + 1
		for j < len(order) && f.messages[order[j]].subject == f.messages[order[i]].subject {
			j++
		}
		roots = append(roots, order[i])
		f.children[order[i]] = order[i+1 : j]
		i = j
	}
	slices.SortFunc(roots, f.byDate)
	return roots
}

// all are the messages.
func (f *forest) all() []int32 {
	var list []int32
	for i := range f.messages {
		if f.messages[i].there {
			list = append(list, int32(i))
		}
	}
	return list
}

// byDate compares messages by date and then by their order.
func (f *forest) byDate(a, b int32) int {
	a, b = f.face(a), f.face(b)
	return cmp.Or(cmp.Compare(f.messages[a].date, f.messages[b].date), cmp.Compare(a, b))
}

// face is the message that stands for a node: of a dummy, its first child.
func (f *forest) face(n int32) int32 {
	if f.dummy(n) {
		return f.children[n][0]
	}
	return n
}

func (f *forest) dummy(n int32) bool { return int(n) >= len(f.messages) }

// byReferences makes threads of replies; the steps are those of the RFC.
func (f *forest) byReferences() []int32 {
	f.link()                         // (1)
	roots := f.prune()               // (2) and (3)
	f.sortSiblings(roots)            // so that the first child of a dummy is known
	slices.SortFunc(roots, f.byDate) // (4)
	roots = f.mergeSubjects(roots)   // (5)
	f.sortSiblings(roots)            // (6)
	slices.SortFunc(roots, f.byDate)
	return roots
}

// byArrival makes threads of replies without regard to subjects; the one in which
// a message arrived last is the last (draft-ietf-morg-inthread-01 section 4).
func (f *forest) byArrival() []int32 {
	f.link()
	roots := f.prune()
	f.sortSiblings(roots)
	latest := make(map[int32]int64, len(roots))
	for _, root := range roots {
		for below := []int32{root}; len(below) > 0; {
			n := below[len(below)-1]
			below = append(below[:len(below)-1], f.children[n]...)
			if !f.dummy(n) {
				latest[root] = max(latest[root], f.messages[n].arrival)
			}
		}
	}
	slices.SortFunc(roots, func(a, b int32) int {
		return cmp.Or(cmp.Compare(latest[a], latest[b]), cmp.Compare(f.face(a), f.face(b)))
	})
	return roots
}

// link makes parents of what messages refer to.
func (f *forest) link() {
	ids := make(map[uint64]int32, len(f.messages)) // the first message that has it, or a dummy
	for at := range f.messages {
		n := f.node()
		if id := f.messages[at].id; id != 0 {
			if _, ok := ids[id]; !ok {
				ids[id] = n
			}
		}
	}
	for at := range f.messages {
		last := int32(-1)
		for _, id := range f.messages[at].refs {
			n, ok := ids[id]
			if !ok {
				n = f.node()
				ids[id] = n
			}
			if last >= 0 && f.parent[n] < 0 && !f.above(n, last) {
				f.parent[n] = last
			}
			last = n
		}
		if last >= 0 && f.above(int32(at), last) {
			continue // a loop
		}
		f.parent[at] = last
	}
}

// above tells whether a is b or an ancestor of b.
func (f *forest) above(a, b int32) bool {
	for ; b >= 0; b = f.parent[b] {
		if a == b {
			return true
		}
		if f.left--; f.left < 0 {
			return true
		}
	}
	return false
}

// prune takes out the dummies: the messages below one take its place, but at the
// root only where there is one.
func (f *forest) prune() []int32 {
	f.children = make([][]int32, len(f.parent))
	var roots []int32
	for n := range int32(len(f.parent)) {
		switch p := f.parent[n]; {
		case !f.dummy(n) && !f.messages[n].there:
		case p < 0:
			roots = append(roots, n)
		default:
			f.children[p] = append(f.children[p], n)
		}
	}
	// From the leaves on, each node's children are final before it is looked at.
	order := slices.Clone(roots)
	for i := 0; i < len(order); i++ {
		order = append(order, f.children[order[i]]...)
	}
	for _, n := range slices.Backward(order) {
		if slices.ContainsFunc(f.children[n], f.dummy) {
			f.children[n] = f.splice(f.children[n], false)
		}
	}
	return f.splice(roots, true)
}

func (f *forest) splice(list []int32, root bool) []int32 {
	out := make([]int32, 0, len(list))
	for _, n := range list {
		switch {
		case !f.dummy(n), root && len(f.children[n]) > 1:
			out = append(out, n)
		default:
			out = append(out, f.children[n]...)
		}
	}
	return out
}

// sortSiblings sorts the children of all nodes below roots.
func (f *forest) sortSiblings(roots []int32) {
	order := slices.Clone(roots)
	for i := 0; i < len(order); i++ {
		n := order[i]
		slices.SortFunc(f.children[n], f.byDate)
		order = append(order, f.children[n]...)
	}
}

// mergeSubjects joins threads of the same subject.
func (f *forest) mergeSubjects(roots []int32) []int32 {
	table := make(map[uint64]int32)
	for _, n := range roots {
		subject := f.messages[f.face(n)].subject
		if subject == 0 {
			continue
		}
		have, ok := table[subject]
		if !ok || !f.dummy(have) && (f.dummy(n) || f.reply(have) && !f.reply(n)) {
			table[subject] = n
		}
	}
	gone := make(map[int32]bool)
	var fresh []int32
	for _, n := range roots {
		subject := f.messages[f.face(n)].subject
		have, ok := table[subject]
		if subject == 0 || !ok || have == n || gone[n] {
			continue
		}
		gone[n] = true
		switch {
		case f.dummy(have) && f.dummy(n):
			f.children[have] = append(f.children[have], f.children[n]...)
		case f.dummy(have), f.reply(n) && !f.reply(have):
			f.children[have] = append(f.children[have], n)
		default:
			d := f.node()
			f.children = append(f.children, []int32{have, n})
			gone[have] = true
			table[subject] = d
			fresh = append(fresh, d)
		}
	}
	roots = append(roots, fresh...)
	return slices.DeleteFunc(roots, func(n int32) bool { return gone[n] })
}

func (f *forest) reply(n int32) bool { return !f.dummy(n) && f.messages[n].reply }

// appendThread appends a thread: a message with its only child behind it, and so
// on; several children in parentheses each (RFC 5256 section 4).
func (f *forest) appendThread(out []byte, n int32, number func(int32) uint32) []byte {
	out = append(out, '(')
	for {
		if !f.dummy(n) {
			out = syntax.AppendNumber(out, number(n))
		}
		if len(f.children[n]) != 1 {
			break
		}
		if !f.dummy(n) {
			out = append(out, ' ')
		}
		n = f.children[n][0]
	}
	if len(f.children[n]) > 1 && !f.dummy(n) {
		out = append(out, ' ')
	}
	for _, c := range f.children[n] {
		out = f.appendThread(out, c, number)
	}
	return append(out, ')')
}
