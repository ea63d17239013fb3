package mailstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strings"
	"time"
)

// Sizes of blocks.
const (
	// MaxBlock is the most messages that a block has.
	MaxBlock  = 1024
	openBlock = 64 // see BlockSizes.Open
)

// BlockSizes is how many messages blocks have; zero values mean the defaults.
type BlockSizes struct {
	// Full is the most: 1 to MaxBlock, and a multiple of Open.
	Full int
	// Open is how many a block takes from arrivals one by one: the last block of
	// a mailbox is written anew for each commit that adds to it. When such blocks
	// are enough for a full one they are joined.
	Open int
}

// normal replaces zero values.
func (z BlockSizes) normal() BlockSizes {
	if z.Full <= 0 || z.Full > MaxBlock {
		z.Full = MaxBlock
	}
	if z.Open <= 0 || z.Open > z.Full {
		z.Open = min(openBlock, z.Full)
	}
	return z
}

// BlockRow is a run of a mailbox's messages in order of UID, packed; blocks of a
// mailbox do not overlap. Pack makes one, Unpack reads it.
//
// Head has what changes and what a session needs of every message: UIDs, flags
// and mod-sequences. Data has the rest, which stays as it is until messages come
// or go. Both begin with the version of their format and end with a CRC-32C, big
// endian, of what stands before it. Numbers are varints (encoding/binary), signed ones
// zigzag. A column of runs is a list of (difference to the previous run's
// value, length); a plain column has one difference for each message.
//
//	Head  version 1 · runs: UID less its number in the block · runs: Created ·
//	      runs: ModSeq less Created · runs: system flags ·
//	      sets: how many, each the number of its keywords and they with a length ·
//	      where there are sets, runs: which one, 0 for no keywords
//	Data  version 1 · plain: Internal · plain: Saved less Internal · plain: Body ·
//	      plain: Size · runs: Thread less Body · runs: Unended ·
//	      prefixes: how many, each with its length · where there are any, runs:
//	      which one, 0 for none
type BlockRow struct {
	Mailbox     MailboxID
	First, Last UID // of messages in it
	Count       int
	Unseen      int
	Size        int64  // sum of the messages' sizes
	Stamp       ModSeq // the mailbox's when the block was last written; no ModSeq in it is above
	Head        []byte
	Data        []byte
}

const blockVersion = 1

// marks are the columns of a Head.
type marks struct {
	uids    []UID
	created []ModSeq
	modseqs []ModSeq
	flags   []SystemFlags
	sets    [][]string     // keyword sets; the first is the empty one
	keys    []int          // of sets; nil when all are empty
	known   map[string]int // the place of each set, while they are many
}

// facts are the columns of a Data.
type facts struct {
	internal, saved []int64
	bodies          []BodyID
	sizes           []int64
	threads         []ThreadID
	unended         []bool
	prefixes        []string // the first is the empty one
	prefix          []int    // of prefixes; nil when all are empty
}

func (k *marks) flagsOf(i int) Flags {
	f := Flags{System: k.flags[i]}
	if k.keys != nil {
		f.Keywords = k.sets[k.keys[i]]
	}
	return f
}

// message puts the columns of message i together.
func (k *marks) message(m MailboxID, i int, f *facts) MessageRow {
	row := MessageRow{
		Message: Message{Mailbox: m, UID: k.uids[i], ModSeq: k.modseqs[i], Flags: k.flagsOf(i)},
		Created: k.created[i],
	}
	row.Internal, row.Saved = time.Unix(f.internal[i], 0).UTC(), time.Unix(f.saved[i], 0).UTC()
	row.Body, row.Size, row.Thread, row.Unended = f.bodies[i], f.sizes[i], f.threads[i], f.unended[i]
	if f.prefix != nil {
		row.Prefix = f.prefixes[f.prefix[i]]
	}
	return row
}

// Pack packs 1 to MaxBlock messages of one mailbox, which are in order of UID.
func Pack(m MailboxID, rows []MessageRow, stamp ModSeq) *BlockRow {
	var k marks
	var f facts
	k.grow(len(rows))
	f.grow(len(rows))
	for i := range rows {
		k.add(&rows[i])
		f.add(&rows[i])
	}
	return (&opened{marks: &k, facts: &f}).pack(m, stamp)
}

// Unpack reads a block. ErrDamaged means that its bytes are not what Pack made.
func Unpack(b *BlockRow) ([]MessageRow, error) {
	k, err := b.marks()
	if err != nil {
		return nil, err
	}
	f, err := b.facts(b.Data)
	if err != nil {
		return nil, err
	}
	rows := make([]MessageRow, len(k.uids))
	for i := range rows {
		rows[i] = k.message(b.Mailbox, i, f)
	}
	return rows, nil
}

func (k *marks) grow(n int) {
	k.uids = slices.Grow(k.uids, n)
	k.created = slices.Grow(k.created, n)
	k.modseqs = slices.Grow(k.modseqs, n)
	k.flags = slices.Grow(k.flags, n)
}

func (k *marks) add(row *MessageRow) {
	k.uids = append(k.uids, row.UID)
	k.created = append(k.created, row.Created)
	k.modseqs = append(k.modseqs, row.ModSeq)
	k.flags = append(k.flags, row.Flags.System)
	k.setKeys(len(k.uids)-1, row.Flags.Keywords)
}

// setKeys gives message i its keywords. keys must be k's own where they are not nil.
func (k *marks) setKeys(i int, keywords []string) {
	if len(keywords) == 0 && k.keys == nil {
		return
	}
	set := k.find(keywords)
	if set < 0 {
		if len(k.sets) == 0 {
			k.sets = append(k.sets, nil)
		}
		if set = len(k.sets); len(keywords) == 0 {
			set = 0
		} else {
			k.sets = append(k.sets, keywords)
			if k.known != nil {
				k.known[strings.Join(keywords, " ")] = set
			}
		}
	}
	for len(k.keys) < len(k.uids) {
		k.keys = append(k.keys, 0)
	}
	k.keys[i] = set
}

// find is the place of a keyword set, -1 where it is new.
func (k *marks) find(keywords []string) int {
	const few = 16 // are looked through faster than a map is made
	if len(k.sets) <= few {
		return slices.IndexFunc(k.sets, func(s []string) bool { return slices.Equal(s, keywords) })
	}
	if k.known == nil {
		k.known = make(map[string]int, len(k.sets))
		for i, s := range k.sets {
			k.known[strings.Join(s, " ")] = i
		}
	}
	if i, ok := k.known[strings.Join(keywords, " ")]; ok {
		return i
	}
	return -1
}

func (f *facts) grow(n int) {
	f.internal = slices.Grow(f.internal, n)
	f.saved = slices.Grow(f.saved, n)
	f.bodies = slices.Grow(f.bodies, n)
	f.sizes = slices.Grow(f.sizes, n)
	f.threads = slices.Grow(f.threads, n)
	f.unended = slices.Grow(f.unended, n)
}

func (f *facts) add(row *MessageRow) {
	f.internal = append(f.internal, row.Internal.Unix())
	f.saved = append(f.saved, row.Saved.Unix())
	f.bodies = append(f.bodies, row.Body)
	f.sizes = append(f.sizes, row.Size)
	f.threads = append(f.threads, row.Thread)
	f.unended = append(f.unended, row.Unended)
	if row.Prefix == "" && f.prefix == nil {
		return
	}
	if len(f.prefixes) == 0 {
		f.prefixes = append(f.prefixes, "")
	}
	at := f.prefixIndex(row.Prefix)
	for len(f.prefix) < len(f.sizes) {
		f.prefix = append(f.prefix, 0)
	}
	f.prefix[len(f.sizes)-1] = at
}

// prefixIndex finds a prefix among the empty one and the last, or adds it: that
// of a delivery has its id and time, so that only neighbours have the same.
func (f *facts) prefixIndex(prefix string) int {
	last := len(f.prefixes) - 1
	switch prefix {
	case "":
		return 0
	case f.prefixes[last]:
		return last
	}
	f.prefixes = append(f.prefixes, prefix)
	return last + 1
}

// tidy forgets the keyword sets that no message has any more: changes to flags
// only add to them, and a Head has no room for more of them than messages.
func (k *marks) tidy() {
	k.known = nil
	place := make([]int, len(k.sets)) // of each set; 0 for one that is gone
	for _, key := range k.keys {
		place[key] = key
	}
	sets := make([][]string, 1, len(k.sets))
	for i, at := range place {
		if at > 0 {
			place[i] = len(sets)
			sets = append(sets, k.sets[i])
		}
	}
	if len(sets) == 1 {
		k.sets, k.keys = nil, nil
		return
	}
	for i, key := range k.keys {
		k.keys[i] = place[key]
	}
	k.sets = sets
}

// block makes the row of a block, without Size and Data.
func (k *marks) block(m MailboxID, stamp ModSeq) *BlockRow {
	if k.keys != nil {
		k.tidy()
	}
	n := len(k.uids)
	b := &BlockRow{Mailbox: m, First: k.uids[0], Last: k.uids[n-1], Count: n, Stamp: stamp, Head: k.encode()}
	for _, f := range k.flags {
		if f&Seen == 0 {
			b.Unseen++
		}
	}
	return b
}

func (k *marks) encode() []byte {
	n := len(k.uids)
	p := append(make([]byte, 0, 64), blockVersion)
	p = appendRuns(p, n, func(i int) int64 { return int64(k.uids[i]) - int64(i) })
	// Created grows by one with each arrival: what it grows by is in runs.
	p = appendRuns(p, n, func(i int) int64 {
		if i == 0 {
			return int64(k.created[0])
		}
		return int64(k.created[i] - k.created[i-1])
	})
	p = appendRuns(p, n, func(i int) int64 { return int64(k.modseqs[i] - k.created[i]) })
	p = appendRuns(p, n, func(i int) int64 { return int64(k.flags[i]) })
	if k.keys == nil {
		return seal(binary.AppendUvarint(p, 0))
	}
	p = binary.AppendUvarint(p, uint64(len(k.sets)-1))
	for _, set := range k.sets[1:] {
		p = binary.AppendUvarint(p, uint64(len(set)))
		for _, word := range set {
			p = appendString(p, word)
		}
	}
	return seal(appendRuns(p, n, func(i int) int64 { return int64(k.keys[i]) }))
}

func (f *facts) encode() []byte {
	n := len(f.sizes)
	p := append(make([]byte, 0, 32+12*n), blockVersion)
	p = appendPlain(p, f.internal)
	last := int64(0)
	for i, v := range f.saved {
		v -= f.internal[i]
		p = binary.AppendVarint(p, v-last)
		last = v
	}
	p = appendPlain(p, f.bodies)
	p = appendPlain(p, f.sizes)
	p = appendRuns(p, n, func(i int) int64 { return int64(f.threads[i]) - int64(f.bodies[i]) })
	p = appendRuns(p, n, func(i int) int64 {
		if f.unended[i] {
			return 1
		}
		return 0
	})
	if f.prefix == nil {
		return seal(binary.AppendUvarint(p, 0))
	}
	p = binary.AppendUvarint(p, uint64(len(f.prefixes)-1))
	for _, s := range f.prefixes[1:] {
		p = appendString(p, s)
	}
	return seal(appendRuns(p, n, func(i int) int64 { return int64(f.prefix[i]) }))
}

// appendRuns writes a column of runs.
func appendRuns(p []byte, n int, value func(i int) int64) []byte {
	last := int64(0)
	for i := 0; i < n; {
		v := value(i)
		j := i + 1
		for j < n && value(j) == v {
			j++
		}
		p = binary.AppendVarint(p, v-last)
		p = binary.AppendUvarint(p, uint64(j-i))
		last, i = v, j
	}
	return p
}

// appendPlain writes a plain column.
func appendPlain[T ~int64](p []byte, values []T) []byte {
	last := T(0)
	for _, v := range values {
		p = binary.AppendVarint(p, int64(v-last))
		last = v
	}
	return p
}

func appendString(p []byte, s string) []byte {
	return append(binary.AppendUvarint(p, uint64(len(s))), s...)
}

// seal ends a part of a block.
func seal(p []byte) []byte {
	return binary.BigEndian.AppendUint32(p, crc32.Checksum(p, castagnoli))
}

// DamagedRange is ErrDamaged of neighbours in a mailbox: none of them can be read,
// and those before and behind them may be.
type DamagedRange struct {
	Mailbox     MailboxID
	First, Last UID
	err         error
}

func (d *DamagedRange) Error() string {
	return fmt.Sprintf("messages %d to %d of mailbox %d: %v", d.First, d.Last, d.Mailbox, d.err)
}

func (d *DamagedRange) Unwrap() error { return d.err }

// errBlock: a block is not what was written.
var errBlock = fmt.Errorf("%w: a packed block is not what was written", ErrDamaged)

// unpacker reads a part of a block. After a mistake it reads nothing more.
type unpacker struct {
	p   []byte
	at  int
	n   int // messages
	bad bool
}

// open begins the reading of a part.
func (b *BlockRow) open(p []byte) *unpacker {
	u := &unpacker{n: b.Count}
	end := len(p) - 4
	if end < 1 || b.Count < 1 || b.Count > MaxBlock || p[0] != blockVersion ||
		crc32.Checksum(p[:end], castagnoli) != binary.BigEndian.Uint32(p[end:]) {
		u.bad = true
		return u
	}
	u.p = p[1:end]
	return u
}

// close ends it.
func (b *BlockRow) close(u *unpacker) error {
	if u.bad || u.at < len(u.p) {
		return b.damaged(errBlock)
	}
	return nil
}

func (b *BlockRow) damaged(err error) error { return &DamagedRange{b.Mailbox, b.First, b.Last, err} }

// fail ends the reading.
func (u *unpacker) fail() int {
	u.bad, u.at = true, len(u.p)
	return 0
}

func (u *unpacker) int() int64 {
	if u.at < len(u.p) {
		if c := u.p[u.at]; c < 0x80 {
			u.at++
			return int64(c>>1) ^ -int64(c&1)
		}
	}
	v, n := binary.Varint(u.p[u.at:])
	if n <= 0 {
		return int64(u.fail())
	}
	u.at += n
	return v
}

// uint reads a number of at most limit.
func (u *unpacker) uint(limit int) int {
	v, n := binary.Uvarint(u.p[u.at:])
	if n <= 0 || v > uint64(limit) {
		return u.fail()
	}
	u.at += n
	return int(v)
}

func (u *unpacker) string(limit int) string {
	n := u.uint(limit)
	if n > len(u.p)-u.at {
		u.fail()
		return ""
	}
	s := string(u.p[u.at : u.at+n])
	u.at += n
	return s
}

// run reads the next run of a column: by how much its value differs from that of
// the one before, and its length, which is 1 to left; 0 where it is damaged.
func (u *unpacker) run(left int) (delta int64, n int) {
	if p := u.p[u.at:]; len(p) >= 2 && p[0] < 0x80 && p[1] < 0x80 && p[1] != 0 && int(p[1]) <= left {
		u.at += 2
		return int64(p[0]>>1) ^ -int64(p[0]&1), int(p[1])
	}
	delta = u.int()
	if n = u.uint(left); n == 0 {
		u.fail()
	}
	return delta, n
}

// runs reads a column of runs.
func (u *unpacker) runs(run func(from, to int, v int64)) {
	v := int64(0)
	for at := 0; at < u.n; {
		delta, n := u.run(u.n - at)
		if n == 0 {
			return
		}
		v += delta
		run(at, at+n, v)
		at += n
	}
}

// plainColumn reads a plain column.
func plainColumn[T ~int64](u *unpacker) []T {
	values := make([]T, u.n)
	last := T(0)
	for i := range values {
		last += T(u.int())
		values[i] = last
	}
	return values
}

// choices reads a column of runs that are each below n.
func (u *unpacker) choices(n int) []int {
	list := make([]int, u.n)
	u.runs(func(from, to int, v int64) {
		if v < 0 || v >= int64(n) {
			u.bad, v = true, 0
		}
		for i := from; i < to; i++ {
			list[i] = int(v)
		}
	})
	return list
}

// uidColumn reads the first column of a Head into uids.
func (u *unpacker) uidColumn(uids []UID) []UID {
	last := int64(-1)
	uids = slices.Grow(uids, u.n)
	u.runs(func(from, to int, v int64) {
		if v+int64(from) <= last || v < 0 || v+int64(to) > math.MaxUint32 {
			u.bad = true
			return
		}
		last = v + int64(to) - 1
		at := len(uids)
		uids = uids[:at+to-from]
		for i := range uids[at:] {
			uids[at+i] = UID(v + int64(from+i))
		}
	})
	return uids
}

// appendUIDs adds the UIDs of a block to a list.
func (b *BlockRow) appendUIDs(uids []UID) ([]UID, error) {
	u := b.open(b.Head)
	if u.bad {
		return uids, b.close(u)
	}
	uids = u.uidColumn(uids)
	if u.bad {
		return uids, b.close(u)
	}
	return uids, nil
}

// marks reads a block's Head.
func (b *BlockRow) marks() (*marks, error) {
	u := b.open(b.Head)
	if u.bad {
		return nil, b.close(u)
	}
	n := u.n
	k := &marks{
		uids:    u.uidColumn(make([]UID, 0, n)),
		created: make([]ModSeq, n), modseqs: make([]ModSeq, n), flags: make([]SystemFlags, n),
	}
	seq := ModSeq(0)
	u.runs(func(from, to int, v int64) {
		for i := from; i < to; i++ {
			seq += ModSeq(v)
			k.created[i] = seq
		}
	})
	u.runs(func(from, to int, v int64) {
		for i := from; i < to; i++ {
			k.modseqs[i] = k.created[i] + ModSeq(v)
		}
	})
	u.runs(func(from, to int, v int64) {
		for i := from; i < to; i++ {
			k.flags[i] = SystemFlags(v)
		}
	})
	k.sets, k.keys = u.keywords()
	return k, b.close(u)
}

// keywords reads the sets of keywords at the end of a Head, and the column that
// tells which one.
func (u *unpacker) keywords() (list [][]string, keys []int) {
	// Before marks were tidied, one change could leave that many.
	sets := u.uint(2 * MaxBlock)
	if sets == 0 {
		return nil, nil
	}
	list = make([][]string, 1, sets+1)
	for range sets {
		words := make([]string, 0, 4)
		for range u.uint(MaxKeywords) {
			words = append(words, u.string(MaxKeywordLength))
		}
		list = append(list, words)
	}
	return list, u.choices(sets + 1)
}

// hasKeywords tells whether a message of the block may have keywords: a Head
// without any ends in a 0 before its checksum.
func (b *BlockRow) hasKeywords() bool {
	n := len(b.Head)
	return n < 5 || b.Head[n-5] != 0
}

// facts reads a block's Data.
func (b *BlockRow) facts(data []byte) (*facts, error) {
	u := b.open(data)
	if u.bad {
		return nil, b.close(u)
	}
	f := &facts{internal: plainColumn[int64](u), saved: plainColumn[int64](u)}
	for i := range f.saved {
		f.saved[i] += f.internal[i]
	}
	f.bodies, f.sizes = plainColumn[BodyID](u), plainColumn[int64](u)
	f.threads, f.unended = make([]ThreadID, u.n), make([]bool, u.n)
	u.runs(func(from, to int, v int64) {
		for i := from; i < to; i++ {
			f.threads[i] = ThreadID(int64(f.bodies[i]) + v)
		}
	})
	u.runs(func(from, to int, v int64) {
		for i := from; i < to; i++ {
			f.unended[i] = v != 0
		}
	})
	f.prefixes, f.prefix = u.prefixes()
	return f, b.close(u)
}

// prefixes reads the prefixes at the end of a Data, and the column that tells
// which one.
func (u *unpacker) prefixes() (list []string, which []int) {
	n := u.uint(MaxBlock)
	if n == 0 {
		return nil, nil
	}
	list = make([]string, 1, n+1)
	for range n {
		list = append(list, u.string(MaxPrefix))
	}
	return list, u.choices(n + 1)
}
