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
	now := tx.now()
	if n.Internal.IsZero() {
		n.Internal = now
	}
	row := MessageRow{Message: Message{
		Flags: flags, Internal: second(n.Internal), Saved: second(now),
		Body: id, Prefix: n.Prefix, Size: more.Storage, Unended: n.Body.unended,
	}}
	box, err := tx.change(m)
	if err != nil {
		return 0, err
	}
	box.ModSeq++
	if err := tx.insert(box, &row); err != nil {
		return 0, err
	}
	return row.UID, tx.spend(box.Account, more)
}

// insert adds a row to the mailbox at its present mod-sequence.
func (tx *Tx) insert(box *MailboxRow, row *MessageRow) error {
	if box.UIDNext == math.MaxUint32 {
		return fmt.Errorf("%w: the mailbox has used up its UIDs", ErrLimit)
	}
	row.Mailbox, row.UID = box.ID, box.UIDNext
	row.ModSeq, row.Created = box.ModSeq, box.ModSeq
	if err := tx.do(func(w Writer) error { return w.InsertMessage(row) }); err != nil {
		return err
	}
	box.UIDNext++
	box.count(row, 1)
	tx.addRef(row.Body, 1)
	tx.touch(box.ID, box.Account)
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
	if f, err = f.clean(); err != nil {
		return nil, nil, err
	}
	rows, err := tx.rows(m, runsOf(uids))
	if err != nil {
		return nil, nil, err
	}
	var box *MailboxRow
	for i := range rows {
		row := &rows[i]
		if unchangedSince > 0 && row.ModSeq > unchangedSince {
			modified = append(modified, row.UID)
			continue
		}
		flags := row.Flags.combine(how, f)
		if len(flags.Keywords) > MaxKeywords {
			return nil, nil, fmt.Errorf("%w: more than %d", ErrFlags, MaxKeywords)
		}
		if !flags.equal(row.Flags) {
			if box == nil {
				if box, err = tx.change(m); err != nil {
					return nil, nil, err
				}
				box.ModSeq++
				tx.touch(m, box.Account)
			}
			box.count(row, -1)
			row.Flags, row.ModSeq = flags, box.ModSeq
			box.count(row, 1)
			if err := tx.do(func(w Writer) error { return w.UpdateMessage(row) }); err != nil {
				return nil, nil, err
			}
		}
		now = append(now, row.Message)
	}
	return now, modified, nil
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

// rows reads the messages in runs, by UID.
func (tx *Tx) rows(m MailboxID, runs []run) ([]MessageRow, error) {
	if _, err := tx.box(m); err != nil {
		return nil, err
	}
	var rows []MessageRow
	for _, r := range runs {
		if r.first == r.last {
			row, err := tx.r.Message(m, r.first)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			rows = append(rows, row)
			continue
		}
		err := tx.r.Messages(m, r.first, r.last, func(row *MessageRow) bool {
			rows = append(rows, *row)
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// Expunge removes those uids that exist and returns them.
func (tx *Tx) Expunge(m MailboxID, uids []UID) ([]UID, error) {
	rows, err := tx.rows(m, runsOf(uids))
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return tx.expunge(m, rows)
}

// expunge removes rows, which are in order, and records it.
func (tx *Tx) expunge(m MailboxID, rows []MessageRow) ([]UID, error) {
	box, err := tx.change(m)
	if err != nil {
		return nil, err
	}
	box.ModSeq++
	gone := make([]UID, len(rows))
	var less Usage
	for i := range rows {
		gone[i] = rows[i].UID
		less = less.plus(Usage{-rows[i].Size, -1})
		box.count(&rows[i], -1)
		tx.addRef(rows[i].Body, -1)
	}
	if err := tx.spend(box.Account, less); err != nil {
		return nil, err
	}
	tx.touch(m, box.Account)
	for _, r := range runsOf(gone) {
		err := tx.do(func(w Writer) error {
			if err := w.DeleteMessages(m, r.first, r.last); err != nil {
				return err
			}
			return w.PutExpunge(m, ExpungeRow{ModSeq: box.ModSeq, First: r.first, Last: r.last})
		})
		if err != nil {
			return nil, err
		}
		box.Expunges++
	}
	return gone, tx.trimExpunges(box)
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
	return tx.transfer(from, runsOf(uids), to, false)
}

// Move is Copy and Expunge in one. Within one account it needs no room.
func (tx *Tx) Move(from MailboxID, uids []UID, to MailboxID) (src, dst []UID, err error) {
	return tx.transfer(from, runsOf(uids), to, true)
}

// transfer copies messages and then removes them where move is true.
func (tx *Tx) transfer(from MailboxID, runs []run, to MailboxID, move bool) (src, dst []UID, err error) {
	rows, err := tx.rows(from, runs)
	if err != nil {
		return nil, nil, err
	}
	if _, err := tx.box(to); err != nil || len(rows) == 0 {
		return nil, nil, err
	}
	if err := tx.charge(from, to, rows, move); err != nil {
		return nil, nil, err
	}
	box, err := tx.change(to)
	if err != nil {
		return nil, nil, err
	}
	box.ModSeq++
	now := second(tx.now())
	for i := range rows {
		row := rows[i]
		row.Saved = now
		if err := tx.insert(box, &row); err != nil {
			return nil, nil, err
		}
		src = append(src, rows[i].UID)
		dst = append(dst, row.UID)
	}
	if move {
		_, err = tx.expunge(from, rows)
	}
	return src, dst, err
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
