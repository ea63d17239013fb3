package mailstore

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"postrider/internal/clock"
)

// drawRows draws messages in the order in which a mailbox has them.
func drawRows(t *rapid.T, m MailboxID, first UID, n int) []MessageRow {
	uid, created := first, ModSeq(rapid.IntRange(1, 5).Draw(t, "created"))
	rows := make([]MessageRow, n)
	for i := range rows {
		created += ModSeq(rapid.IntRange(0, 2).Draw(t, "more"))
		body := BodyID(rapid.IntRange(1, 1e9).Draw(t, "body"))
		rows[i] = MessageRow{
			Message: Message{
				Mailbox: m, UID: uid, ModSeq: created + ModSeq(rapid.IntRange(0, 3).Draw(t, "changed")),
				Flags:    Flags{System: SystemFlags(rapid.IntRange(0, 31).Draw(t, "flags"))},
				Internal: time.Unix(rapid.Int64Range(-1e9, 1e11).Draw(t, "internal"), 0).UTC(),
				Saved:    time.Unix(rapid.Int64Range(0, 1e10).Draw(t, "saved"), 0).UTC(),
				Body:     body, Thread: ThreadID(body) - ThreadID(rapid.IntRange(0, 1).Draw(t, "thread")),
				Prefix: rapid.SampledFrom([]string{"", "", "A: b\r\n", "C: d\r\n"}).Draw(t, "prefix"),
				Size:   rapid.Int64Range(0, 1<<40).Draw(t, "size"), Unended: rapid.Bool().Draw(t, "unended"),
			},
			Created: created,
		}
		if keys := rapid.SampledFrom([][]string{nil, nil, {"a"}, {"$Junk", "b"}}).Draw(t, "keywords"); keys != nil {
			rows[i].Flags.Keywords = keys
		}
		uid += UID(1 + rapid.IntRange(0, 3).Draw(t, "gap")/3)
	}
	return rows
}

func TestPack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := drawRows(t, 7, UID(rapid.Uint32Range(1, math.MaxUint32-5000).Draw(t, "first")), rapid.IntRange(1, 40).Draw(t, "n"))
		b := Pack(7, rows, 99)
		got, err := Unpack(b)
		if diff := cmp.Diff(rows, got); diff != "" || err != nil {
			t.Fatalf("%v: %s", err, diff)
		}
		uids, err := b.appendUIDs(nil)
		if err != nil || len(uids) != len(rows) || uids[0] != b.First || uids[len(uids)-1] != b.Last {
			t.Fatalf("%v, %v", uids, err)
		}
		// No octet of it can change without being noticed.
		part := &b.Head
		if rapid.Bool().Draw(t, "data") {
			part = &b.Data
		}
		(*part)[rapid.IntRange(0, len(*part)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		if _, err := Unpack(b); !errors.Is(err, ErrDamaged) {
			t.Fatalf("a damaged block: %v", err)
		}
	})
}

// A full block of a mailbox that got mail and nothing else takes little room.
func TestPackSize(t *testing.T) {
	rows := make([]MessageRow, MaxBlock)
	for i := range rows {
		at := time.Unix(1700000000+int64(i)*60, 0)
		rows[i] = MessageRow{Created: ModSeq(i + 2), Message: Message{
			UID: UID(i + 1), ModSeq: ModSeq(i + 2), Internal: at, Saved: at, Body: BodyID(i*3 + 1), Thread: ThreadID(i*3 + 1), Size: 4096 + int64(i%1000),
		}}
	}
	b := Pack(1, rows, MaxBlock+1)
	if len(b.Head) > 40 || len(b.Data) > 8*MaxBlock {
		t.Errorf("head of %d octets, data of %d", len(b.Head), len(b.Data))
	}
}

// TestManyKeywords: as many keywords as a block can have do not keep the writer
// for long, and not all of them are listed.
func TestManyKeywords(t *testing.T) {
	rows := make([]MessageRow, MaxBlock)
	for i := range rows {
		rows[i] = MessageRow{Created: 1, Message: Message{UID: UID(i + 1), ModSeq: 1}}
		keys := &rows[i].Flags.Keywords
		for j := range MaxKeywords - 2 {
			*keys = append(*keys, fmt.Sprintf("%s%02d", strings.Repeat("a", MaxKeywordLength-2), j))
		}
		*keys = append(*keys, fmt.Sprintf("z%d", i))
	}
	base := &boxIndex{blocks: []*BlockRow{Pack(1, rows, 1)}}
	c := (&boxChange{mailbox: 1, sizes: BlockSizes{}.normal(), base: base, boxIndex: boxIndex{blocks: base.blocks}}).clone()
	begin := clock.Processor()
	err := c.update(nil, everything(), 2, func(o *opened, i int) (bool, error) {
		o.marks.setKeys(i, append(slices.Clip(rows[i].Flags.Keywords), "zz"))
		return true, nil
	})
	if took := clock.Processor() - begin; err != nil || took > time.Second {
		t.Errorf("a change of %d sets of keywords took %v: %v", len(rows), took, err)
	}
	sums, err := c.summary()
	if err != nil || len(sums.keywords) != MaxListedKeywords {
		t.Errorf("the keywords that are listed: %+v, %v", sums, err)
	}
}

// blockReader is an engine that has blocks and nothing else.
type blockReader struct {
	Writer
	blocks map[UID]*BlockRow
}

func (r *blockReader) BlockData(_ MailboxID, first UID) ([]byte, error) {
	b := r.blocks[first]
	if b == nil {
		return nil, ErrNotFound
	}
	return b.Data, nil
}

func (r *blockReader) PutBlock(b *BlockRow) error {
	row := *b
	if row.Data == nil {
		row.Data = r.blocks[b.First].Data
	}
	r.blocks[b.First] = &row
	return nil
}

func (r *blockReader) DeleteBlock(_ MailboxID, first UID) error {
	if r.blocks[first] == nil {
		return errors.New("no such block")
	}
	delete(r.blocks, first)
	return nil
}

// TestBoxChange does random changes to blocks and to a plain list. Some changes
// are undone, as are some commits with all changes in them.
func TestBoxChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &boxWorld{T: t, next: 1}
		disk := &blockReader{blocks: make(map[UID]*BlockRow)}
		sizes := rapid.SampledFrom([]BlockSizes{{Full: 8, Open: 2}, {Full: 16, Open: 4}}).Draw(t, "sizes")
		base := &boxIndex{}
		for range rapid.IntRange(1, 20).Draw(t, "commits") {
			start := w.state()
			c := (&boxChange{mailbox: 1, sizes: sizes, base: base, boxIndex: boxIndex{blocks: base.blocks, tail: base.tail}}).clone()
			for range rapid.IntRange(1, 3).Draw(t, "changes") {
				before, one := w.state(), c.clone()
				w.seq++
				w.change(disk, one)
				if rapid.IntRange(0, 3).Draw(t, "undone") == 0 {
					w.back(before)
					continue
				}
				c = one
			}
			if rapid.IntRange(0, 3).Draw(t, "failed") == 0 {
				w.back(start)
				continue
			}
			check(t, c.write(disk))
			base = c.done(w.seq)
			compare(t, base, disk, w.want, sizes)
		}
	})
}

// boxWorld is a mailbox as it should be.
type boxWorld struct {
	*rapid.T
	want []MessageRow
	next UID
	seq  ModSeq
}

func (w *boxWorld) state() boxWorld {
	now := *w
	now.want = slices.Clone(w.want)
	return now
}

func (w *boxWorld) back(to boxWorld) { *w = to }

// change does one change to c and to what should come of it.
func (w *boxWorld) change(disk *blockReader, c *boxChange) {
	t := w.T
	var runs []run
	for uid := UID(1); uid < w.next; uid++ {
		if rapid.IntRange(0, 3).Draw(t, "in") == 0 {
			runs = append(runs, runsOf([]UID{uid, min(w.next, uid+UID(rapid.IntRange(0, 9).Draw(t, "length")))})...)
		}
	}
	runs = disjoint(runs)
	in := func(r MessageRow) bool {
		return slices.ContainsFunc(runs, func(run run) bool { return run.first <= r.UID && r.UID <= run.last })
	}
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0, 1:
		rows := drawRows(t, 1, w.next, rapid.IntRange(1, 11).Draw(t, "n"))
		for i := range rows {
			rows[i].Created, rows[i].ModSeq = w.seq, w.seq
		}
		w.next = rows[len(rows)-1].UID + 1
		w.want = append(w.want, rows...)
		check(t, c.append(disk, rows, w.seq))
	case 2:
		keys := rapid.SampledFrom([][]string{nil, {"k"}, {"l"}, {"k", "l"}}).Draw(t, "keywords")
		for i := range w.want {
			if in(w.want[i]) {
				w.want[i].Flags, w.want[i].ModSeq = Flags{System: Seen, Keywords: keys}, w.seq
			}
		}
		check(t, c.update(disk, runs, w.seq, func(o *opened, i int) (bool, error) {
			o.marks.flags[i], o.marks.modseqs[i] = Seen, w.seq
			o.marks.setKeys(i, keys)
			return true, nil
		}))
	case 3:
		var gone []MessageRow
		for _, r := range w.want {
			if in(r) {
				gone = append(gone, r)
			}
		}
		w.want = slices.DeleteFunc(w.want, in)
		taken, err := c.take(disk, runs, w.seq)
		check(t, err)
		var got []MessageRow
		for _, b := range taken {
			rows, err := Unpack(b)
			check(t, err)
			got = append(got, rows...)
		}
		same(t, gone, got)
	}
}

// disjoint joins runs that overlap.
func disjoint(runs []run) []run {
	slices.SortFunc(runs, func(a, b run) int { return int(int64(a.first) - int64(b.first)) })
	var out []run
	for _, r := range runs {
		if n := len(out); n > 0 && r.first <= out[n-1].last {
			out[n-1].last = max(out[n-1].last, r.last)
			continue
		}
		out = append(out, r)
	}
	return out
}

func check(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

func same(t *rapid.T, want, got []MessageRow) {
	if len(want)+len(got) == 0 {
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

// compare looks at a state in every way that there is, and at what is stored.
func compare(t *rapid.T, x *boxIndex, disk *blockReader, want []MessageRow, sizes BlockSizes) {
	var got, stored []MessageRow
	check(t, x.between(disk, 1, math.MaxUint32, func(r *MessageRow) bool {
		got = append(got, *r)
		return true
	}))
	same(t, want, got)
	uids, err := x.list()
	check(t, err)
	if len(uids) != len(want) {
		t.Fatalf("%d UIDs of %d messages", len(uids), len(want))
	}
	for i, r := range want {
		one, err := x.message(disk, r.UID)
		check(t, err)
		same(t, []MessageRow{r}, []MessageRow{one})
		if uids[i] != r.UID {
			t.Fatalf("UID %d for %d", uids[i], r.UID)
		}
	}
	for _, b := range x.blocks {
		if b.Count > sizes.Full {
			t.Fatalf("a block of %d", b.Count)
		}
		rows, err := Unpack(disk.blocks[b.First])
		check(t, err)
		stored = append(stored, rows...)
	}
	same(t, want, stored)
	if len(disk.blocks) != len(x.blocks) {
		t.Fatalf("%d blocks stored, %d known", len(disk.blocks), len(x.blocks))
	}
	since := ModSeq(0)
	if len(want) > 0 {
		since = want[len(want)/2].ModSeq
	}
	var changed, heads []MessageRow
	check(t, x.since(since, func(m *Message, created ModSeq) { changed = append(changed, MessageRow{Created: created, Message: *m}) }))
	for _, r := range want {
		if r.ModSeq > since {
			heads = append(heads, MessageRow{Created: r.Created, Message: Message{Mailbox: r.Mailbox, UID: r.UID, ModSeq: r.ModSeq, Flags: r.Flags}})
		}
	}
	same(t, heads, changed)
	for range 2 { // when it is made, and when it is kept
		sums, err := x.summary()
		check(t, err)
		if i := slices.IndexFunc(want, func(r MessageRow) bool { return r.Flags.System&Seen == 0 }); int(sums.unseen) != i+1 {
			t.Fatalf("the first unseen is %d, and should be %d", sums.unseen, i+1)
		}
	}
}

// FuzzUnpack: what can be read is what Pack makes.
func FuzzUnpack(f *testing.F) {
	b := Pack(1, []MessageRow{
		{Created: 2, Message: Message{Mailbox: 1, UID: 1, ModSeq: 3, Body: 1, Prefix: "a\r\n", Flags: Flags{Keywords: []string{"x"}}}},
		{Created: 3, Message: Message{Mailbox: 1, UID: 5, ModSeq: 3, Body: 2, Size: 9}},
	}, 3)
	f.Add(2, b.Head[:len(b.Head)-4], b.Data[:len(b.Data)-4])
	f.Fuzz(func(t *testing.T, count int, head, data []byte) {
		b := &BlockRow{Mailbox: 1, Count: count, Head: seal(slices.Clip(head)), Data: seal(slices.Clip(data))}
		rows, err := Unpack(b)
		if err != nil {
			return
		}
		again, err := Unpack(Pack(1, rows, 1))
		if diff := cmp.Diff(rows, again); diff != "" || err != nil {
			t.Errorf("%v: %s", err, diff)
		}
		if fmt.Sprint(len(rows)) != fmt.Sprint(count) {
			t.Errorf("%d of %d", len(rows), count)
		}
	})
}
