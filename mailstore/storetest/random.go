package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"postrider/mailstore"
)

// reference is the store as the random test expects it, written down as simply
// as can be.
type reference struct {
	boxes map[string]*refBox
	queue map[mailstore.QueueID]map[int]string // recipients' addresses by index
	quota mailstore.Quota
	notes map[string]string // the account's own annotations
}

// usage is what the account holds.
func (r *reference) usage() mailstore.Usage {
	var u mailstore.Usage
	for _, box := range r.boxes {
		for _, m := range box.messages {
			u.Storage += int64(len(m.text))
			u.Messages++
		}
	}
	return u
}

// admits tells whether these may be added.
func (r *reference) admits(texts ...string) bool {
	u := r.usage()
	for _, text := range texts {
		u.Storage += int64(len(text))
		u.Messages++
	}
	return len(texts) == 0 || (r.quota.Storage == 0 || u.Storage <= r.quota.Storage) && (r.quota.Messages == 0 || u.Messages <= r.quota.Messages)
}

type refBox struct {
	id       mailstore.MailboxID
	validity uint32
	next     mailstore.UID
	messages map[mailstore.UID]refMessage
	version  int // counts changes
	past     []refMoment
	notes    map[string]string           // annotations
	rights   map[string]mailstore.Rights // of others
	key      string                      // of URLs
}

type refMessage struct {
	text    string
	flags   string
	seen    bool
	changed int // refBox.version of its last change
}

// refMoment is the mailbox as a client once saw it.
type refMoment struct {
	modSeq   mailstore.ModSeq
	next     mailstore.UID
	version  int
	messages map[mailstore.UID]refMessage
}

func (r *reference) clone() *reference {
	c := &reference{boxes: make(map[string]*refBox), queue: make(map[mailstore.QueueID]map[int]string), quota: r.quota, notes: maps.Clone(r.notes)}
	for name, box := range r.boxes {
		b := *box
		b.messages = maps.Clone(box.messages)
		b.past = slices.Clone(box.past)
		b.notes = maps.Clone(box.notes)
		b.rights = maps.Clone(box.rights)
		c.boxes[name] = &b
	}
	for id, to := range r.queue {
		c.queue[id] = maps.Clone(to)
	}
	return c
}

// random is one run of random operations.
type random struct {
	*suite
	t       *rapid.T
	account mailstore.AccountID
	want    *reference

	last  uint32 // UIDVALIDITY
	texts int
}

// runRandom compares the store with the reference after random operations.
func runRandom(t *testing.T, open func(t *testing.T, dir string) mailstore.Engine) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		r := &random{
			suite: &suite{T: t, dir: filepath.Join(dir, fmt.Sprint(n)), engine: open,
				options: mailstore.Options{Blocks: mailstore.BlockSizes{Full: 8, Open: 2}, Keep: time.Hour, Compress: n%2 == 0}}, t: rt,
			want: &reference{
				boxes: make(map[string]*refBox), queue: make(map[mailstore.QueueID]map[int]string),
				notes: make(map[string]string),
			},
		}
		r.open()
		defer r.close()
		r.update(func(tx *mailstore.Tx) (err error) {
			if r.account, err = tx.CreateAccount(mailstore.Account{Address: "bob@example.org"}); err != nil {
				return err
			}
			return r.create(tx, r.want, "INBOX")
		})
		rt.Repeat(map[string]func(*rapid.T){
			"":       r.check,
			"update": r.change,
			"look": func(t *rapid.T) {
				r.look()
				if rapid.IntRange(0, 7).Draw(t, "reopen") == 0 {
					r.reopened()
				}
			},
		})
		r.close()
		r.verify()
	})
}

// change runs an Update of a few operations, which sometimes fails at its end.
func (r *random) change(t *rapid.T) {
	r.t = t
	want := r.want.clone()
	fails := rapid.IntRange(0, 4).Draw(t, "fails") == 0
	var bodies []*mailstore.Body
	for range 2 {
		size := rapid.SampledFrom([]int{0, 10, 100, 100, 100, 100, 2000, 66000}).Draw(t, "size")
		r.texts++
		text := strings.Repeat("x", size)
		if rapid.Bool().Draw(t, "noise") {
			text = noise(size)
		}
		bodies = append(bodies, r.body(fmt.Sprint(r.texts, text)))
	}
	defer func() {
		for _, b := range bodies {
			b.Release()
		}
	}()
	err := r.store.Update(context.Background(), func(tx *mailstore.Tx) error {
		for range rapid.IntRange(1, 3).Draw(t, "operations") {
			if err := r.operate(tx, want, rapid.SampledFrom(bodies).Draw(t, "body")); err != nil {
				return err
			}
		}
		if fails {
			return errNo
		}
		return nil
	})
	switch {
	case fails && errors.Is(err, errNo):
	case err != nil || fails:
		t.Fatalf("update: %v", err)
	default:
		r.want = want
	}
}

// operate does one operation to both.
func (r *random) operate(tx *mailstore.Tx, want *reference, b *mailstore.Body) error {
	name := rapid.SampledFrom([]string{"INBOX", "a", "a/b", "c"}).Draw(r.t, "name")
	box := want.boxes[name]
	kind := rapid.IntRange(-2, 14).Draw(r.t, "operation")
	switch {
	case kind < -1:
		return r.annotate(tx, want)
	case kind < 0:
		return r.setQuota(tx, want)
	case kind == 0:
		return r.enqueue(tx, want, b)
	case kind == 1:
		return r.dequeue(tx, want)
	case box == nil:
		return r.create(tx, want, name)
	case kind == 2:
		return r.rename(tx, want, name)
	case kind == 3 && name != "INBOX":
		delete(want.boxes, name)
		return tx.DeleteMailbox(box.id)
	case kind <= 5:
		return r.append(tx, want, box, b)
	case kind <= 8:
		return r.setFlags(tx, box)
	case kind <= 10:
		return r.transfer(tx, want, box)
	case kind == 11:
		return r.setRights(tx, box)
	case kind == 12:
		return r.setKey(tx, box)
	default:
		uids := r.uids(box)
		gone, err := tx.Expunge(box.id, uids)
		r.equalUIDs(gone, box.remove(uids))
		return err
	}
}

func (r *random) equalUIDs(got, want []mailstore.UID) {
	if !slices.Equal(got, want) {
		r.t.Fatalf("UIDs %v, want %v", got, want)
	}
}

// uids draws UIDs, most of which exist.
func (r *random) uids(box *refBox) []mailstore.UID {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) mailstore.UID {
		return mailstore.UID(rapid.IntRange(1, int(box.next)).Draw(t, "uid"))
	}), 0, 5).Draw(r.t, "uids")
}

// existing gives those of uids that exist, sorted, each once.
func (b *refBox) existing(uids []mailstore.UID) []mailstore.UID {
	var list []mailstore.UID
	for _, uid := range uids {
		if _, ok := b.messages[uid]; ok {
			list = append(list, uid)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func (b *refBox) remove(uids []mailstore.UID) []mailstore.UID {
	list := b.existing(uids)
	for _, uid := range list {
		delete(b.messages, uid)
	}
	return list
}

func (b *refBox) add(m refMessage) mailstore.UID {
	b.version++
	m.changed = b.version
	b.messages[b.next] = m
	b.next++
	return b.next - 1
}

func (r *random) create(tx *mailstore.Tx, want *reference, name string) error {
	box, err := tx.CreateMailbox(r.account, name, "")
	if err == nil && box.UIDValidity <= r.last {
		r.t.Fatalf("UIDVALIDITY %d after %d", box.UIDValidity, r.last)
	}
	want.boxes[name] = &refBox{id: box.ID, validity: box.UIDValidity, next: 1, messages: make(map[mailstore.UID]refMessage), notes: make(map[string]string),
		rights: want.inherited(name)}
	return err
}

func (r *random) setQuota(tx *mailstore.Tx, want *reference) error {
	want.quota = mailstore.Quota{
		Storage:  rapid.SampledFrom([]int64{0, 0, 300, 70000}).Draw(r.t, "storage"),
		Messages: rapid.SampledFrom([]int64{0, 0, 3, 10}).Draw(r.t, "messages"),
	}
	return tx.UpdateAccount(mailstore.Account{ID: r.account, Address: "bob@example.org", Quota: want.quota})
}

func (r *random) append(tx *mailstore.Tx, all *reference, box *refBox, b *mailstore.Body) error {
	p := make([]byte, b.Size())
	_, _ = b.ReadAt(p, 0)
	text := "P\r\n" + string(p)
	uid, err := tx.Append(box.id, mailstore.NewMessage{Body: b, Prefix: "P\r\n"})
	if !all.admits(text) {
		return expect(err, mailstore.ErrQuota)
	}
	if want := box.add(refMessage{text: text}); uid != want {
		r.t.Fatalf("UID %d, want %d", uid, want)
	}
	return err
}

func (r *random) setFlags(tx *mailstore.Tx, box *refBox) error {
	uids := r.uids(box)
	f := mailstore.Flags{System: mailstore.SystemFlags(rapid.IntRange(0, 3).Draw(r.t, "flags"))}
	if rapid.Bool().Draw(r.t, "keyword") {
		f.Keywords = []string{"$k"}
	}
	how := rapid.SampledFrom([]mailstore.FlagChange{mailstore.ReplaceFlags, mailstore.AddFlags, mailstore.RemoveFlags}).Draw(r.t, "how")
	now, _, err := tx.SetFlags(box.id, uids, how, f, 0)
	r.equalUIDs(uidsOf(now), box.existing(uids))
	box.version++
	for _, m := range now {
		old := box.messages[m.UID]
		flags := combined(old.flags, how, f)
		if got := flagText(m.Flags); got != flags {
			r.t.Fatalf("flags %q, want %q", got, flags)
		}
		if flags != old.flags {
			old.flags, old.seen, old.changed = flags, m.Flags.System&mailstore.Seen != 0, box.version
			box.messages[m.UID] = old
		}
	}
	return err
}

// flagText writes flags as letters, one for each.
func flagText(f mailstore.Flags) string {
	text := ""
	for i, letter := range []string{"s", "a", "f", "d", "t"} {
		if f.System&(1<<i) != 0 {
			text += letter
		}
	}
	return text + strings.Join(f.Keywords, ",")
}

// combined changes flags letter by letter.
func combined(old string, how mailstore.FlagChange, f mailstore.Flags) string {
	text := ""
	for _, part := range []string{"s", "a", "f", "d", "t", "$k"} {
		had, has := strings.Contains(old, part), strings.Contains(flagText(f), part)
		switch how {
		case mailstore.AddFlags:
			had = had || has
		case mailstore.RemoveFlags:
			had = had && !has
		default:
			had = has
		}
		if had {
			text += part
		}
	}
	return text
}

func (r *random) transfer(tx *mailstore.Tx, want *reference, from *refBox) error {
	to := want.boxes[rapid.SampledFrom(slices.Sorted(maps.Keys(want.boxes))).Draw(r.t, "to")]
	uids := r.uids(from)
	move := rapid.Bool().Draw(r.t, "move")
	do := tx.Copy
	if move {
		do = tx.Move
	}
	src, dst, err := do(from.id, uids, to.id)
	list := from.existing(uids)
	var texts []string
	for _, uid := range list {
		texts = append(texts, from.messages[uid].text)
	}
	if !move && !want.admits(texts...) {
		return expect(err, mailstore.ErrQuota)
	}
	r.equalUIDs(src, list)
	var added []mailstore.UID
	for _, uid := range list {
		added = append(added, to.add(from.messages[uid]))
	}
	r.equalUIDs(dst, added)
	if move {
		from.remove(list)
	}
	return err
}

func (r *random) rename(tx *mailstore.Tx, want *reference, name string) error {
	box := want.boxes[name]
	to := rapid.SampledFrom([]string{"a", "a/b", "c", "d", "d/e"}).Draw(r.t, "new name")
	err := tx.RenameMailbox(box.id, to)
	switch {
	case name != "INBOX" && strings.HasPrefix(to, name+"/"):
		return expect(err, mailstore.ErrName)
	case want.boxes[to] != nil:
		return expect(err, mailstore.ErrExists)
	case name == "INBOX":
		if err != nil {
			return err
		}
		made, err := tx.MailboxByName(r.account, to)
		moved := &refBox{id: made.ID, validity: made.UIDValidity, next: 1, messages: make(map[mailstore.UID]refMessage), notes: maps.Clone(box.notes),
			rights: want.inherited(to)}
		for _, uid := range slices.Sorted(maps.Keys(box.messages)) {
			moved.add(box.messages[uid])
		}
		clear(box.messages)
		want.boxes[to] = moved
		return err
	}
	names := make(map[string]string)
	for _, old := range slices.Sorted(maps.Keys(want.boxes)) {
		if rest, below := strings.CutPrefix(old, name+"/"); below {
			if names[old] = to + "/" + rest; want.boxes[names[old]] != nil {
				if !errors.Is(err, mailstore.ErrExists) {
					return fmt.Errorf("rename onto a child: %v", err)
				}
				return errNo // what was done of it is undone with the Update
			}
		}
	}
	names[name] = to
	for old, now := range names {
		want.boxes[now] = want.boxes[old]
		delete(want.boxes, old)
	}
	return err
}

// expect passes where err is what it should be.
func expect(err, want error) error {
	if errors.Is(err, want) {
		return nil
	}
	return fmt.Errorf("error %v, want %v", err, want)
}

func (r *random) enqueue(tx *mailstore.Tx, want *reference, b *mailstore.Body) error {
	n := rapid.IntRange(1, 3).Draw(r.t, "recipients")
	item, to, err := tx.Enqueue(b, mailstore.QueueItem{}, make([]mailstore.QueueRecipient, n))
	want.queue[item.ID] = make(map[int]string)
	for _, one := range to {
		want.queue[item.ID][one.Index] = ""
	}
	return err
}

func (r *random) dequeue(tx *mailstore.Tx, want *reference) error {
	if len(want.queue) == 0 {
		return nil
	}
	id := rapid.SampledFrom(slices.Sorted(maps.Keys(want.queue))).Draw(r.t, "item")
	index := rapid.SampledFrom(slices.Sorted(maps.Keys(want.queue[id]))).Draw(r.t, "index")
	if rapid.Bool().Draw(r.t, "retry") {
		want.queue[id][index] = "tried"
		return tx.UpdateRecipient(mailstore.QueueRecipient{Item: id, Index: index, Address: "tried"})
	}
	delete(want.queue[id], index)
	if len(want.queue[id]) == 0 {
		delete(want.queue, id)
	}
	return tx.RemoveRecipient(id, index)
}

// check compares all that can be seen.
func (r *random) check(t *rapid.T) {
	r.t = t
	var boxes []mailstore.Mailbox
	queue := make(map[mailstore.QueueID]map[int]string)
	length := 0
	r.view(func(v *mailstore.View) error {
		var err1, err2, err3 error
		used, quota, err := v.Usage(r.account)
		if err != nil || used != r.want.usage() || quota != r.want.quota {
			t.Fatalf("usage %+v of %+v, want %+v of %+v: %v", used, quota, r.want.usage(), r.want.quota, err)
		}
		boxes, err1 = v.Mailboxes(r.account)
		length, err2 = v.QueueLength()
		err3 = v.Queue(0, func(item mailstore.QueueItem, to []mailstore.QueueRecipient) bool {
			queue[item.ID] = make(map[int]string)
			for _, one := range to {
				queue[item.ID][one.Index] = one.Address
				length--
			}
			return true
		})
		return errors.Join(err1, err2, err3)
	})
	if fmt.Sprint(queue) != fmt.Sprint(r.want.queue) || length != 0 {
		t.Fatalf("queue %v, want %v; length wrong by %d", queue, r.want.queue, length)
	}
	if len(boxes) != len(r.want.boxes) {
		t.Fatalf("mailboxes %+v, want %v", boxes, slices.Sorted(maps.Keys(r.want.boxes)))
	}
	r.checkNotes(0, r.want.notes)
	for _, box := range boxes {
		r.last = max(r.last, box.UIDValidity)
		want := r.want.boxes[box.Name]
		if want == nil || want.id != box.ID {
			t.Fatalf("mailbox %+v, want %+v", box, want)
		}
		r.checkBox(box, want)
	}
}

func (r *random) checkBox(box mailstore.Mailbox, want *refBox) {
	unseen, size := 0, 0
	for _, m := range want.messages {
		size += len(m.text)
		if !m.seen {
			unseen++
		}
	}
	got := fmt.Sprint(box.UIDValidity, box.UIDNext, box.Messages, box.Unseen, box.Size)
	if w := fmt.Sprint(want.validity, want.next, len(want.messages), unseen, size); got != w {
		r.t.Fatalf("mailbox %s: %s, want %s", box.Name, got, w)
	}
	msgs := r.messages(box.ID)
	r.equalUIDs(uidsOf(msgs), slices.Sorted(maps.Keys(want.messages)))
	for _, m := range msgs {
		w := want.messages[m.UID]
		if flagText(m.Flags) != w.flags {
			r.t.Fatalf("UID %d has flags %q, want %q", m.UID, flagText(m.Flags), w.flags)
		}
		if text := r.read(m); text != w.text {
			r.t.Fatalf("UID %d has another text", m.UID)
		}
	}
	r.checkNotes(box.ID, want.notes)
	r.checkRights(box.ID, want)
	for _, past := range want.past {
		r.checkChanges(box, want, past)
	}
}

// checkChanges compares the changes since a moment with the difference.
func (r *random) checkChanges(box mailstore.Mailbox, want *refBox, past refMoment) {
	c := r.changesSince(box.ID, past.modSeq)
	var arrived, changed, gone []mailstore.UID
	for uid, m := range want.messages {
		switch {
		case uid >= past.next:
			arrived = append(arrived, uid)
		case m.changed > past.version:
			changed = append(changed, uid)
		}
	}
	for uid := range past.messages {
		if _, ok := want.messages[uid]; !ok {
			gone = append(gone, uid)
		}
	}
	for _, list := range [][]mailstore.UID{arrived, changed, gone} {
		slices.Sort(list)
	}
	r.equalUIDs(uidsOf(c.Arrived), arrived)
	r.equalUIDs(uidsOf(c.Changed), changed)
	r.equalUIDs(slices.DeleteFunc(c.Expunged, func(uid mailstore.UID) bool { return uid >= past.next }), gone)
	if c.ModSeq != box.ModSeq || c.UIDNext != box.UIDNext || c.Horizon {
		r.t.Fatalf("changes %+v of %+v", c, box)
	}
}

// look remembers each mailbox as it is now.
func (r *random) look() {
	for _, box := range r.want.boxes {
		box.past = append(box.past, refMoment{
			modSeq: r.mailbox(box.id).ModSeq, next: box.next, version: box.version, messages: maps.Clone(box.messages),
		})
	}
}
