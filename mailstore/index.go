package mailstore

import (
	"container/list"
	"errors"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
)

// boxIndex is a mailbox's messages at one mod-sequence: its blocks in order. It
// never changes once others may see it. Large blocks have no Data here; the
// engine has it.
type boxIndex struct {
	modseq ModSeq
	blocks []*BlockRow

	mu   sync.Mutex
	uids []UID    // of all; made when somebody asks
	sums *summary // likewise

	last atomic.Pointer[opened] // the block that a single message was read of

	// tail belongs to the writer: what it has read of the last block, which it
	// adds to. Another change may have added to it since, which its block tells.
	tail *opened
}

// opened is a block with its columns read.
type opened struct {
	block *BlockRow
	marks *marks
	facts *facts
}

// from finds the first block with a message of that UID or a higher one.
func (x *boxIndex) from(uid UID) int {
	return sort.Search(len(x.blocks), func(i int) bool { return x.blocks[i].Last >= uid })
}

// messages is how many there are.
func (x *boxIndex) messages() int {
	n := 0
	for _, b := range x.blocks {
		n += b.Count
	}
	return n
}

// size is about how much memory it takes.
func (x *boxIndex) size() int {
	n := 256
	for _, b := range x.blocks {
		n += 160 + len(b.Head) + len(b.Data) + 4*b.Count
	}
	if x.tail != nil && len(x.blocks) > 0 {
		n += 4 * len(x.blocks[len(x.blocks)-1].Data)
	}
	return n
}

// UIDs lists all UIDs. The list is shared and must not be changed.
func (x *boxIndex) list() ([]UID, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.uids != nil || len(x.blocks) == 0 {
		return x.uids, nil
	}
	uids := make([]UID, 0, x.messages())
	for _, b := range x.blocks {
		var err error
		if uids, err = b.appendUIDs(uids); err != nil {
			return nil, err
		}
	}
	x.uids = uids
	return uids, nil
}

// MaxListedKeywords is how many keywords Select tells of a mailbox.
const MaxListedKeywords = 1000

// summary is what SELECT is told of messages together. It is never changed.
type summary struct {
	unseen   uint32   // the number of the first message without \\Seen; 0 for none
	keywords []string // that messages have
}

// summary makes it, once.
func (x *boxIndex) summary() (*summary, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.sums == nil {
		unseen, keywords, err := x.sumUp()
		if err != nil {
			return nil, err
		}
		x.sums = &summary{unseen, slices.Clip(keywords)}
	}
	return x.sums, nil
}

func (x *boxIndex) sumUp() (unseen uint32, keywords []string, err error) {
	number := 0
	var c Scanned
	var known map[string]bool // keywords in lower case
	for _, b := range x.blocks {
		words := len(keywords) < MaxListedKeywords && b.hasKeywords()
		if unseen > 0 && !words || b.Unseen == 0 && !words {
			number += b.Count
			continue
		}
		if err := c.head(b, ColumnFlags); err != nil {
			return 0, nil, err
		}
		if i := slices.IndexFunc(c.System, func(f SystemFlags) bool { return f&Seen == 0 }); i >= 0 && unseen == 0 {
			unseen = uint32(number + i + 1)
		}
		for _, set := range c.Sets {
			for _, word := range set {
				if low := strings.ToLower(word); !known[low] && len(keywords) < MaxListedKeywords {
					if known == nil {
						known = make(map[string]bool)
					}
					known[low] = true
					keywords = append(keywords, word)
				}
			}
		}
		number += b.Count
	}
	return unseen, keywords, nil
}

// inherit takes over the list of UIDs of an earlier state where only messages
// were added since. The lists share memory: each sees its own length, and there
// is one latest state at a time.
func (x *boxIndex) inherit(old *boxIndex) {
	old.mu.Lock()
	uids := old.uids
	old.mu.Unlock()
	if uids == nil {
		return
	}
	// Blocks that both have are the same; behind them the old state must be the
	// beginning of the new one.
	same := 0
	for same < len(old.blocks) && same < len(x.blocks) && old.blocks[same] == x.blocks[same] {
		same++
	}
	at := 0
	for _, b := range old.blocks[:same] {
		at += b.Count
	}
	var tail []UID
	for _, b := range x.blocks[same:] {
		var err error
		if tail, err = b.appendUIDs(tail); err != nil || len(tail) > 2*MaxBlock {
			return
		}
	}
	rest := uids[at:]
	if len(tail) < len(rest) || !slices.Equal(tail[:len(rest)], rest) {
		return
	}
	x.uids = append(uids, tail[len(rest):]...)
}

// data gives the wide columns of a block, in memory or of the engine.
func data(r Reader, b *BlockRow) ([]byte, error) {
	if b.Data != nil {
		return b.Data, nil
	}
	p, err := r.BlockData(b.Mailbox, b.First)
	switch {
	case errors.Is(err, ErrNotFound): // its other half is there
		err = b.damaged(errBlock)
	case errors.Is(err, ErrDamaged):
		err = b.damaged(err)
	}
	return p, err
}

// open reads the columns of a block.
func open(r Reader, b *BlockRow) (*opened, error) {
	k, err := b.marks()
	if err != nil {
		return nil, err
	}
	p, err := data(r, b)
	if err != nil {
		return nil, err
	}
	f, err := b.facts(p)
	if err != nil {
		return nil, err
	}
	return &opened{b, k, f}, nil
}

func (o *opened) row(i int) MessageRow { return o.marks.message(o.block.Mailbox, i, o.facts) }

// open reads the columns of a block of which a few messages are asked for, or has
// them from the last time.
func (x *boxIndex) open(r Reader, b *BlockRow) (*opened, error) {
	if o := x.last.Load(); o != nil && o.block == b {
		return o, nil
	}
	o, err := open(r, b)
	if err == nil {
		x.last.Store(o)
	}
	return o, err
}

// message reads one message.
func (x *boxIndex) message(r Reader, uid UID) (MessageRow, error) {
	i := x.from(uid)
	if i == len(x.blocks) || x.blocks[i].First > uid {
		return MessageRow{}, ErrNotFound
	}
	o, err := x.open(r, x.blocks[i])
	if err != nil {
		return MessageRow{}, err
	}
	at, ok := slices.BinarySearch(o.marks.uids, uid)
	if !ok {
		return MessageRow{}, ErrNotFound
	}
	return o.row(at), nil
}

// between calls fn for each message with from <= UID <= to until it returns
// false. The row is used again for the next.
func (x *boxIndex) between(r Reader, from, to UID, fn func(*MessageRow) bool) error {
	var row MessageRow
	for _, b := range x.blocks[x.from(from):] {
		if b.First > to {
			return nil
		}
		read := x.open
		if to > b.Last || from < b.First { // of a list this is read once
			read = open
		}
		o, err := read(r, b)
		if err != nil {
			return err
		}
		first, _ := slices.BinarySearch(o.marks.uids, from)
		for i := first; i < b.Count && o.marks.uids[i] <= to; i++ {
			row = o.row(i)
			if !fn(&row) {
				return nil
			}
		}
	}
	return nil
}

// since calls fn for each message with ModSeq > since, by UID. Blocks that were
// not written since are not looked at, and of the others only the heads: fn learns
// no more than these have.
func (x *boxIndex) since(since ModSeq, fn func(m *Message, created ModSeq)) error {
	var c Scanned
	for _, b := range x.blocks {
		if b.Stamp <= since {
			continue
		}
		const want = ColumnModSeq | ColumnFlags
		if err := c.head(b, want); err != nil {
			return err
		}
		for i, m := range c.ModSeqs {
			if m > since {
				one := Message{Mailbox: b.Mailbox}
				c.Message(i, want, &one)
				fn(&one, c.created[i])
			}
		}
	}
	return nil
}

// boxChange is a mailbox's index on its way to a commit. Its list of blocks is
// its own, the blocks are not.
type boxChange struct {
	mailbox MailboxID
	sizes   BlockSizes
	base    *boxIndex // what the engine has
	boxIndex
}

// clone makes a change that can go on alone.
func (c *boxChange) clone() *boxChange {
	return &boxChange{mailbox: c.mailbox, sizes: c.sizes, base: c.base, boxIndex: boxIndex{blocks: slices.Clone(c.blocks), tail: c.tail}}
}

// splice puts blocks in the place of those from i to j.
func (c *boxChange) splice(i, j int, blocks ...*BlockRow) {
	c.blocks = slices.Replace(c.blocks, i, j, blocks...)
}

// openTail is the last block where messages can be added to it, else nil. One that
// is damaged stays as it is, and does not keep others from arriving.
func (c *boxChange) openTail(r Reader) (*opened, error) {
	n := len(c.blocks)
	if n == 0 || c.blocks[n-1].Count >= c.sizes.Open {
		return nil, nil
	}
	if b := c.blocks[n-1]; c.tail == nil || c.tail.block != b {
		o, err := open(r, b)
		if errors.Is(err, errBlock) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		c.tail = o
	}
	return c.tail, nil
}

// append adds messages at the end.
func (c *boxChange) append(r Reader, rows []MessageRow, stamp ModSeq) error {
	o, err := c.openTail(r)
	if err != nil {
		return err
	}
	if o != nil {
		n := len(c.blocks)
		take := min(c.sizes.Open-o.block.Count, len(rows))
		o.block = nil // until the columns are whole again
		for i := range rows[:take] {
			o.marks.add(&rows[i])
			o.facts.add(&rows[i])
		}
		o.block = o.pack(c.mailbox, stamp)
		c.splice(n-1, n, o.block)
		rows = rows[take:]
	}
	for len(rows) > 0 {
		take := min(c.sizes.Open, len(rows))
		if len(rows) >= c.sizes.Full/2 {
			take = min(c.sizes.Full, len(rows))
		}
		c.blocks = append(c.blocks, Pack(c.mailbox, rows[:take], stamp))
		rows = rows[take:]
		if err := c.mergeTail(r, stamp); err != nil && !errors.Is(err, errBlock) {
			return err
		}
	}
	return nil
}

// pack makes the row of columns that were changed.
func (o *opened) pack(m MailboxID, stamp ModSeq) *BlockRow {
	b := o.marks.block(m, stamp)
	b.Data = o.facts.encode()
	for _, size := range o.facts.sizes {
		b.Size += size
	}
	return b
}

// mergeTail joins the small blocks at the end when there are enough of them.
func (c *boxChange) mergeTail(r Reader, stamp ModSeq) error {
	first, n := len(c.blocks), c.sizes.Full/c.sizes.Open
	for first > 0 && len(c.blocks)-first < n && c.blocks[first-1].Count <= c.sizes.Open {
		first--
	}
	if len(c.blocks)-first < n {
		return nil
	}
	return c.merge(r, first, len(c.blocks), stamp)
}

// merge joins the blocks from i to j, which together have no more messages than
// a full one.
func (c *boxChange) merge(r Reader, i, j int, stamp ModSeq) error {
	var rows []MessageRow
	for _, b := range c.blocks[i:j] {
		o, err := open(r, b)
		if err != nil {
			return err
		}
		for n := range b.Count {
			rows = append(rows, o.row(n))
		}
	}
	c.splice(i, j, Pack(c.mailbox, rows, stamp))
	return nil
}

// update calls fn for each message in runs, with its columns and its place in
// them; fn tells whether it changed flags or mod-sequence there.
func (c *boxChange) update(r Reader, runs []run, stamp ModSeq, fn func(o *opened, i int) (bool, error)) error {
	return c.visit(runs, func(at int, in finder) (int, error) {
		b := c.blocks[at]
		o, err := open(r, b)
		if err != nil {
			return 0, err
		}
		changed := false
		err = in(o.marks.uids, func(i int) error {
			did, err := fn(o, i)
			changed = changed || did
			return err
		})
		if err != nil || !changed {
			return 1, err
		}
		fresh := o.marks.block(c.mailbox, stamp)
		fresh.Size, fresh.Data = b.Size, b.Data
		c.blocks[at] = fresh
		return 1, nil
	})
}

// take removes the messages in runs and returns them, packed.
func (c *boxChange) take(r Reader, runs []run, stamp ModSeq) (taken []*BlockRow, err error) {
	err = c.visit(runs, func(at int, in finder) (int, error) {
		b := c.blocks[at]
		k, err := b.marks()
		if err != nil {
			return 0, err
		}
		gone := make([]bool, b.Count)
		n := 0
		err = in(k.uids, func(i int) error {
			gone[i] = true
			n++
			return nil
		})
		if err != nil || n == 0 {
			return 1, err
		}
		p, err := data(r, b)
		if err != nil {
			return 0, err
		}
		if n == b.Count {
			whole := *b
			whole.Data = p
			taken = append(taken, &whole)
			c.splice(at, at+1)
			return 0, nil
		}
		f, err := b.facts(p)
		if err != nil {
			return 0, err
		}
		var out, rest []MessageRow
		for i, g := range gone {
			if row := k.message(c.mailbox, i, f); g {
				out = append(out, row)
			} else {
				rest = append(rest, row)
			}
		}
		taken = append(taken, Pack(c.mailbox, out, stamp))
		c.blocks[at] = Pack(c.mailbox, rest, stamp)
		return 1, c.mergeNear(r, at, stamp)
	})
	return taken, err
}

// mergeNear joins a block that became small with the one before it, so that a
// mailbox of which most is expunged does not stay in many small blocks.
func (c *boxChange) mergeNear(r Reader, at int, stamp ModSeq) error {
	if at == 0 || at == len(c.blocks)-1 || c.blocks[at].Count+c.blocks[at-1].Count > c.sizes.Full/2 {
		return nil
	}
	return c.merge(r, at-1, at+1, stamp)
}

// finder calls fn for each of a block's UIDs that is wanted, with its place.
type finder func(uids []UID, fn func(i int) error) error

// visit calls fn for each block that runs may have messages of. fn returns by
// how much to move on in the list of blocks: 1, or 0 where it took the block out.
func (c *boxChange) visit(runs []run, fn func(at int, in finder) (int, error)) error {
	for at := 0; len(runs) > 0; {
		at += sort.Search(len(c.blocks)-at, func(i int) bool { return c.blocks[at+i].Last >= runs[0].first })
		if at == len(c.blocks) {
			return nil
		}
		last, n := c.blocks[at].Last, len(c.blocks)
		step, err := fn(at, within(runs, last))
		if err != nil {
			return err
		}
		if at += step; step == 1 {
			at -= n - len(c.blocks) // it was merged with the one before
		}
		for len(runs) > 0 && runs[0].last <= last {
			runs = runs[1:]
		}
	}
	return nil
}

// within finds the UIDs of runs, up to last, in a block.
func within(runs []run, last UID) finder {
	return func(uids []UID, fn func(i int) error) error {
		for _, r := range runs {
			if r.first > last {
				return nil
			}
			i, _ := slices.BinarySearch(uids, r.first)
			for ; i < len(uids) && uids[i] <= r.last; i++ {
				if err := fn(i); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// write brings the engine's blocks to this state.
func (c *boxChange) write(w Writer) error {
	old := c.base.blocks
	for _, b := range c.blocks {
		for len(old) > 0 && old[0].First < b.First {
			if err := w.DeleteBlock(c.mailbox, old[0].First); err != nil {
				return err
			}
			old = old[1:]
		}
		if len(old) > 0 && old[0].First == b.First {
			same := old[0] == b
			old = old[1:]
			if same {
				continue
			}
		}
		if err := w.PutBlock(b); err != nil {
			return err
		}
	}
	for _, b := range old {
		if err := w.DeleteBlock(c.mailbox, b.First); err != nil {
			return err
		}
	}
	return nil
}

// done makes the state that others see after the commit.
func (c *boxChange) done(modseq ModSeq) *boxIndex {
	x := &boxIndex{modseq: modseq, blocks: c.blocks, tail: c.tail}
	for _, b := range x.blocks {
		if b.Count > c.sizes.Open && b.Data != nil { // others may read it where it is nil
			b.Data = nil
		}
	}
	x.inherit(c.base)
	x.last.Store(c.base.last.Load())
	return x
}

// maxIndexes is how much memory the indexes of mailboxes take that were used
// last, in octets, about.
const maxIndexes = 64 << 20

// indexCache has the indexes of mailboxes as they were last committed.
type indexCache struct {
	mu    sync.Mutex
	boxes map[MailboxID]*list.Element
	used  list.List // of *cachedIndex, the last used first
	size  int
}

type cachedIndex struct {
	mailbox MailboxID
	index   *boxIndex
	size    int
}

// get finds a mailbox's index at a mod-sequence; nil when it is not there.
func (c *indexCache) get(m MailboxID, at ModSeq) *boxIndex {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.boxes[m]
	if e == nil {
		return nil
	}
	x := e.Value.(*cachedIndex).index
	if x.modseq != at {
		return nil
	}
	c.used.MoveToFront(e)
	return x
}

// put keeps an index, unless a later one is there.
func (c *indexCache) put(m MailboxID, x *boxIndex) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.boxes == nil {
		c.boxes = make(map[MailboxID]*list.Element)
	}
	if e := c.boxes[m]; e != nil {
		if e.Value.(*cachedIndex).index.modseq > x.modseq {
			return
		}
		c.removeLocked(e)
	}
	one := &cachedIndex{m, x, x.size()}
	c.boxes[m] = c.used.PushFront(one)
	c.size += one.size
	for c.size > maxIndexes && c.used.Len() > 1 {
		c.removeLocked(c.used.Back())
	}
}

// drop forgets a mailbox.
func (c *indexCache) drop(m MailboxID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.boxes[m]; e != nil {
		c.removeLocked(e)
	}
}

func (c *indexCache) removeLocked(e *list.Element) {
	one := c.used.Remove(e).(*cachedIndex)
	delete(c.boxes, one.mailbox)
	c.size -= one.size
}

// load reads a mailbox's index, from memory where it is there.
func (s *Store) load(r Reader, m MailboxID, at ModSeq) (*boxIndex, error) {
	if x := s.indexes.get(m, at); x != nil {
		return x, nil
	}
	x := &boxIndex{modseq: at}
	err := r.Blocks(m, func(b *BlockRow) bool {
		x.blocks = append(x.blocks, b)
		return true
	})
	if err != nil {
		return nil, err
	}
	s.indexes.put(m, x)
	return x, nil
}
