package mailstore

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// MaxPrefix bounds Message.Prefix.
const MaxPrefix = 4096

// NewMessage is what Append needs to know.
type NewMessage struct {
	Body     *Body
	Prefix   string // see Message.Prefix
	Flags    Flags
	Internal time.Time // zero = now
}

// Append adds a message to a mailbox and returns its UID. ErrQuota, which
// changed nothing: the account has no room for it.
func (tx *Tx) Append(m MailboxID, n NewMessage) (UID, error) {
	flags, err := n.Flags.clean()
	if err != nil {
		return 0, err
	}
	if len(n.Prefix) > MaxPrefix {
		return 0, fmt.Errorf("%w: a prefix of %d octets", ErrLimit, len(n.Prefix))
	}
	to, err := tx.box(m)
	if err != nil {
		return 0, err
	}
	if n.Body == nil {
		return 0, errNoBody
	}
	more := Usage{int64(len(n.Prefix)) + n.Body.Size(), 1}
	if err := tx.admit(to.Account, more); err != nil {
		return 0, err
	}
	id, err := tx.use(n.Body)
	if err != nil {
		return 0, err
	}
	thread, err := tx.describe(to.Account, id, n.Body)
	if err != nil {
		return 0, err
	}
	now := tx.now()
	if n.Internal.IsZero() {
		n.Internal = now
	}
	rows := []MessageRow{{Message: Message{
		Flags: flags, Internal: second(n.Internal), Saved: second(now), Body: id, Thread: thread,
		Prefix: n.Prefix, Size: more.Storage, Unended: n.Body.unended,
	}}}
	if err := tx.insert(m, rows); err != nil {
		return 0, err
	}
	tx.addRef(id, 1)
	return rows[0].UID, tx.spend(to.Account, more)
}

// insert adds rows at the end of a mailbox, in one change, and sets their UIDs
// and mod-sequences.
func (tx *Tx) insert(m MailboxID, rows []MessageRow) error {
	c, stamp, err := tx.edit(m)
	if err != nil {
		return err
	}
	row, err := tx.box(m)
	if err != nil {
		return err
	}
	if uint64(row.UIDNext)+uint64(len(rows)) > math.MaxUint32 {
		return fmt.Errorf("%w: the mailbox has used up its UIDs", ErrLimit)
	}
	for i := range rows {
		r := &rows[i]
		r.Mailbox, r.UID = m, row.UIDNext+UID(i)
		r.ModSeq, r.Created = stamp, stamp
	}
	if err := c.append(tx.r, rows, stamp); err != nil {
		return err
	}
	box, err := tx.keep(c)
	if err != nil {
		return err
	}
	box.UIDNext += UID(len(rows))
	for i := range rows {
		box.count(&rows[i], 1)
	}
	return nil
}

// count adds a message to the counters, or takes it away with n = -1.
func (box *MailboxRow) count(row *MessageRow, n int) {
	box.Messages += uint32(n)
	box.Size += int64(n) * row.Size
	if row.Flags.System&Seen == 0 {
		box.Unseen += uint32(n)
	}
}

// FlagChange says how SetFlags combines.
type FlagChange int

const (
	ReplaceFlags FlagChange = iota
	AddFlags
	RemoveFlags
)

// SetFlags changes flags of those uids that exist and returns the messages as
// they are after it, by UID. A message that it does not change keeps its ModSeq.
// With unchangedSince > 0, messages changed after it are left alone and listed
// in modified (RFC 7162 section 3.1.3).
func (tx *Tx) SetFlags(m MailboxID, uids []UID, how FlagChange, f Flags, unchangedSince ModSeq) (now []Message, modified []UID, err error) {
	return tx.SetFlagsAs(AllRights, m, uids, how, f, unchangedSince)
}

// SetFlagsAs is SetFlags for somebody with these rights: flags that they do not
// allow to change stay as they are.
func (tx *Tx) SetFlagsAs(rights Rights, m MailboxID, uids []UID, how FlagChange, f Flags, unchangedSince ModSeq) (now []Message, modified []UID, err error) {
	if f, err = f.clean(); err != nil {
		return nil, nil, err
	}
	c, stamp, err := tx.edit(m)
	if err != nil {
		return nil, nil, err
	}
	now = make([]Message, 0, len(uids))
	changed, unseen := false, 0
	err = c.update(tx.r, runsOf(uids), stamp, func(o *opened, i int) (bool, error) {
		if unchangedSince > 0 && o.marks.modseqs[i] > unchangedSince {
			modified = append(modified, o.marks.uids[i])
			return false, nil
		}
		old := o.marks.flagsOf(i)
		flags := old.changed(old.combine(how, f), rights)
		if len(flags.Keywords) > MaxKeywords {
			return false, fmt.Errorf("%w: more than %d", ErrFlags, MaxKeywords)
		}
		did := !flags.equal(old)
		if did {
			unseen += unseenBy(flags) - unseenBy(old)
			o.marks.flags[i], o.marks.modseqs[i] = flags.System, stamp
			o.marks.setKeys(i, flags.Keywords)
			changed = true
		}
		now = append(now, o.row(i).Message)
		return did, nil
	})
	if err != nil || !changed {
		return now, modified, err
	}
	box, err := tx.keep(c)
	if err != nil {
		return nil, nil, err
	}
	box.Unseen += uint32(unseen)
	return now, modified, nil
}

// unseenBy is what a message with these flags adds to a count of unseen ones.
func unseenBy(f Flags) int {
	if f.System&Seen == 0 {
		return 1
	}
	return 0
}

// runs are the neighbours in a set of UIDs.
type run struct{ first, last UID }

// runsOf sorts uids and joins neighbours.
func runsOf(uids []UID) []run {
	if !slices.IsSorted(uids) {
		uids = slices.Clone(uids)
		slices.Sort(uids)
	}
	var runs []run
	for _, uid := range uids {
		if n := len(runs); n > 0 && uid <= runs[n-1].last+1 && runs[n-1].last != math.MaxUint32 {
			runs[n-1].last = uid
			continue
		}
		runs = append(runs, run{uid, uid})
	}
	return runs
}

// everything is the run of all messages.
func everything() []run { return []run{{1, math.MaxUint32}} }

// Expunge removes those uids that exist and returns them.
func (tx *Tx) Expunge(m MailboxID, uids []UID) ([]UID, error) {
	taken, err := tx.take(m, runsOf(uids))
	if err != nil {
		return nil, err
	}
	var gone []UID
	for _, b := range taken {
		if gone, err = b.appendUIDs(gone); err != nil {
			return nil, err
		}
	}
	row, err := tx.box(m)
	if err != nil {
		return nil, err
	}
	return gone, tx.hold(row, taken)
}

// take removes the messages in runs, records it, and returns them, packed.
func (tx *Tx) take(m MailboxID, runs []run) ([]*BlockRow, error) {
	c, stamp, err := tx.edit(m)
	if err != nil {
		return nil, err
	}
	taken, err := c.take(tx.r, runs, stamp)
	if err != nil || len(taken) == 0 {
		return nil, err
	}
	box, err := tx.keep(c)
	if err != nil {
		return nil, err
	}
	var gone []UID
	var less Usage
	for _, b := range taken {
		less = less.plus(Usage{-b.Size, -int64(b.Count)})
		box.Messages -= uint32(b.Count)
		box.Unseen -= uint32(b.Unseen)
		box.Size -= b.Size
		if gone, err = b.appendUIDs(gone); err != nil {
			return nil, err
		}
	}
	if err := tx.spend(box.Account, less); err != nil {
		return nil, err
	}
	for _, r := range runsOf(gone) {
		e := ExpungeRow{ModSeq: stamp, First: r.first, Last: r.last}
		if err := tx.do(func(w Writer) error { return w.PutExpunge(m, e) }); err != nil {
			return nil, err
		}
		box.Expunges++
	}
	return taken, tx.trimExpunges(box)
}

// trimExpunges keeps the record of expunges bounded.
func (tx *Tx) trimExpunges(box *MailboxRow) error {
	if box.Expunges <= MaxExpunges {
		return nil
	}
	// Whole mod-sequences go, so that the horizon is exact.
	n, upTo, gone := 0, ModSeq(0), 0
	err := tx.r.Expunges(box.ID, 0, func(e ExpungeRow) bool {
		if n >= MaxExpunges/2 && e.ModSeq != upTo {
			return false
		}
		n++
		upTo, gone = e.ModSeq, n
		return true
	})
	if err != nil {
		return err
	}
	box.Horizon = upTo
	box.Expunges -= gone
	return tx.do(func(w Writer) error { return w.DeleteExpunges(box.ID, upTo) })
}

// Copy copies those uids that exist into to, flags and INTERNALDATE kept;
// src[i] became dst[i]. Bodies are shared. ErrQuota, which changed nothing: the
// account of to has no room for all of them.
func (tx *Tx) Copy(from MailboxID, uids []UID, to MailboxID) (src, dst []UID, err error) {
	return tx.transfer(AllRights, from, runsOf(uids), to, false)
}

// CopyAs is Copy for somebody who has these rights to to: flags that they do not
// allow to set are left out (RFC 4314 section 4).
func (tx *Tx) CopyAs(rights Rights, from MailboxID, uids []UID, to MailboxID) (src, dst []UID, err error) {
	return tx.transfer(rights, from, runsOf(uids), to, false)
}

// Move is Copy and Expunge in one. Within one account it needs no room.
func (tx *Tx) Move(from MailboxID, uids []UID, to MailboxID) (src, dst []UID, err error) {
	return tx.transfer(AllRights, from, runsOf(uids), to, true)
}

// MoveAs is Move as CopyAs is Copy.
func (tx *Tx) MoveAs(rights Rights, from MailboxID, uids []UID, to MailboxID) (src, dst []UID, err error) {
	return tx.transfer(rights, from, runsOf(uids), to, true)
}

// transfer copies messages and then removes them where move is true. rights are
// those to to.
func (tx *Tx) transfer(rights Rights, from MailboxID, runs []run, to MailboxID, move bool) (src, dst []UID, err error) {
	var rows []MessageRow
	x, err := tx.messages(from)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range runs {
		err := x.between(tx.r, r.first, r.last, func(row *MessageRow) bool {
			rows = append(rows, *row)
			return true
		})
		if err != nil {
			return nil, nil, err
		}
	}
	if _, err := tx.box(to); err != nil || len(rows) == 0 {
		return nil, nil, err
	}
	if err := tx.charge(from, to, rows, move); err != nil {
		return nil, nil, err
	}
	if err := tx.rethread(from, to, rows); err != nil {
		return nil, nil, err
	}
	now := second(tx.now())
	src, dst = make([]UID, len(rows)), make([]UID, len(rows))
	for i := range rows {
		src[i], rows[i].Saved = rows[i].UID, now
		rows[i].Flags = rights.Changes(rows[i].Flags)
		if !move {
			tx.addRef(rows[i].Body, 1)
		}
	}
	if err := tx.insert(to, rows); err != nil {
		return nil, nil, err
	}
	for i := range rows {
		dst[i] = rows[i].UID
	}
	if move {
		_, err = tx.take(from, runsOf(src))
	}
	return src, dst, err
}

// rethread finds the conversations of messages that go to another account.
func (tx *Tx) rethread(from, to MailboxID, rows []MessageRow) error {
	source, err := tx.box(from)
	if err != nil {
		return err
	}
	dest, err := tx.box(to)
	if err != nil || source.Account == dest.Account {
		return err
	}
	for i := range rows {
		rows[i].Thread = ThreadID(rows[i].Body)
		record, err := tx.r.Content(rows[i].Body)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return tx.fail(err)
		}
		if rows[i].Thread, err = tx.thread(dest.Account, rows[i].Body, record); err != nil {
			return err
		}
	}
	return nil
}

// charge counts what is transferred for the account of to, where there is room.
func (tx *Tx) charge(from, to MailboxID, rows []MessageRow, move bool) error {
	source, err := tx.box(from)
	if err != nil {
		return err
	}
	dest, err := tx.box(to)
	if err != nil {
		return err
	}
	var more Usage
	for i := range rows {
		more = more.plus(Usage{rows[i].Size, 1})
	}
	if !move || source.Account != dest.Account {
		if err := tx.admit(dest.Account, more); err != nil {
			return err
		}
	}
	return tx.spend(dest.Account, more)
}
