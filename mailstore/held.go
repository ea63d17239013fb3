package mailstore

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"time"
)

// HeldID numbers what is held, in the order in which it was expunged.
type HeldID int64

// HeldRow is messages that were expunged together and are kept for a while. They
// keep their bodies and do not count for the quota. When space is short, the account
// that holds the most gives first: see Store.Reclaim.
type HeldRow struct {
	ID       HeldID
	Account  AccountID
	Name     string    // the mailbox's then
	Expunged time.Time // to the second
	BlockRow           // what was expunged
}

// hold keeps what was expunged, or lets go of it where nothing is kept.
func (tx *Tx) hold(box *MailboxRow, taken []*BlockRow) error {
	if tx.b.s.keep <= 0 {
		return tx.unrefer(taken)
	}
	for _, b := range taken {
		id, err := tx.b.s.state.take(tx, heldIDs)
		if err != nil {
			return err
		}
		row := &HeldRow{ID: HeldID(id), Account: box.Account, Name: box.Name, Expunged: second(tx.now()), BlockRow: *b}
		if err := tx.do(func(w Writer) error { return w.PutHeld(row) }); err != nil {
			return err
		}
	}
	return nil
}

// unrefer drops the references to bodies that blocks have. One that cannot be
// read keeps its bodies: verify finds them.
func (tx *Tx) unrefer(blocks []*BlockRow) error {
	for _, b := range blocks {
		f, err := b.facts(b.Data)
		if errors.Is(err, ErrDamaged) {
			tx.b.s.log.Error("the bodies of expunged messages are not known", "error", err)
			continue
		}
		if err != nil {
			return err
		}
		for _, id := range f.bodies {
			tx.addRef(id, -1)
		}
	}
	return nil
}

// unhold lets go of all that is held of an account.
func (tx *Tx) unhold(a AccountID) error {
	rows, err := heldOf(tx.r, a, 0)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := tx.release(row); err != nil {
			return err
		}
	}
	return nil
}

// release lets go of one row.
func (tx *Tx) release(row *HeldRow) error {
	if err := tx.unrefer([]*BlockRow{&row.BlockRow}); err != nil {
		return err
	}
	return tx.do(func(w Writer) error { return w.DeleteHeld(row.ID) })
}

// heldOf lists what is held of an account, or of all with account 0.
func heldOf(r Reader, a AccountID, most int) ([]*HeldRow, error) {
	var rows []*HeldRow
	err := r.Held(a, func(row *HeldRow) bool {
		rows = append(rows, row)
		return most == 0 || len(rows) < most
	})
	return rows, err
}

// Held is messages that can be brought back by Undelete.
type Held struct {
	ID       HeldID
	Mailbox  string
	Expunged time.Time
	Messages int
	Size     int64
}

// Held lists what is held of an account, the oldest first.
func (v *View) Held(a AccountID) ([]Held, error) {
	var list []Held
	err := v.r.Held(a, func(row *HeldRow) bool {
		list = append(list, Held{row.ID, row.Name, row.Expunged, row.Count, row.Size})
		return true
	})
	return list, err
}

// Undelete brings messages back that were expunged together: into the mailbox of
// that name, which is made where it is missing, with new UIDs and without
// \Deleted. ErrNotFound: they are not held (any more). ErrQuota: the account has
// no room for them.
func (tx *Tx) Undelete(a AccountID, id HeldID) (mailbox string, uids []UID, err error) {
	row, err := tx.r.HeldRow(id)
	if err == nil && row.Account != a {
		err = ErrNotFound
	}
	if err != nil {
		return "", nil, err
	}
	messages, err := Unpack(&row.BlockRow)
	if err != nil {
		return "", nil, err
	}
	box, err := tx.MailboxByName(a, row.Name)
	if errors.Is(err, ErrNotFound) {
		box, err = tx.CreateMailbox(a, row.Name, "")
	}
	if err != nil {
		return "", nil, err
	}
	more := Usage{row.Size, int64(row.Count)}
	if err := tx.admit(a, more); err != nil {
		return "", nil, err
	}
	for i := range messages {
		messages[i].Flags.System &^= Deleted
		messages[i].Saved = second(tx.now())
	}
	if err := tx.insert(box.ID, messages); err != nil {
		return "", nil, err
	}
	for i := range messages {
		uids = append(uids, messages[i].UID)
	}
	if err := tx.do(func(w Writer) error { return w.DeleteHeld(id) }); err != nil {
		return "", nil, err
	}
	return box.Name, uids, tx.spend(a, more)
}

// Times and sizes of letting go of what was held long enough.
const (
	reapPause   = 10 * time.Minute // between looks
	reapRows    = 16               // in one Update
	reclaimStep = 64 << 20         // octets let go of when something found no space
	reclaimTurn = 1 << 20          // octets of one account before it is asked anew who holds the most
)

// reap lets go of what was held long enough, and of some of it sooner when there
// is no space for something new (see Reclaim), until the store is closed.
func (s *Store) reap() {
	defer s.tasks.Done()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	timer := s.clock.NewTimer(0)
	defer timer.Stop()
	for {
		var err error
		select {
		case <-s.stop:
			return
		case <-timer.Chan():
			err = s.letGo(ctx, s.clock.Now().Add(-s.keep))
			timer.Reset(reapPause)
		case <-s.short:
			var freed int64
			if freed, err = s.Reclaim(ctx, reclaimStep); freed > 0 {
				s.log.Warn("expunged messages were let go of before their time, for want of space", "octets", freed)
			}
		}
		if err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrFailed) {
			s.log.Warn("let go of expunged messages", "error", err)
		}
	}
}

// wantSpace notes that something found no space.
func (s *Store) wantSpace(err error) {
	if !errors.Is(err, ErrFull) {
		return
	}
	select {
	case s.short <- struct{}{}:
	default: // it is known
	}
}

// Reclaim lets go of expunged messages before their time is over, until about octets
// are free or nothing is held any more, and returns how many it freed. What the
// account has that holds the most goes first, its oldest first, until another holds
// more: what is held counts for no quota, and nobody shall push out what others could
// bring back by adding and expunging again and again.
func (s *Store) Reclaim(ctx context.Context, octets int64) (freed int64, err error) {
	held := make(map[AccountID]int64)
	err = s.View(ctx, func(v *View) error {
		return v.r.HeldSizes(func(a AccountID, size int64) bool {
			held[a] = size
			return true
		})
	})
	for err == nil && freed < octets && len(held) > 0 {
		most, second := largest(held)
		var rows []*HeldRow
		if err = s.View(ctx, func(v *View) (err error) {
			rows, err = heldOf(v.r, most, reapRows)
			return err
		}); err != nil {
			break
		}
		if len(rows) == 0 {
			delete(held, most)
			continue
		}
		var step int64
		step, err = s.drop(ctx, rows, min(octets-freed, max(held[most]-held[second], reclaimTurn)))
		freed += step
		held[most] -= step
	}
	return freed, err
}

// largest are the accounts that hold the most and, where there is another, the second
// most; of equal ones the first.
func largest(held map[AccountID]int64) (most, second AccountID) {
	list := slices.SortedFunc(maps.Keys(held), func(a, b AccountID) int {
		return cmp.Or(cmp.Compare(held[b], held[a]), cmp.Compare(a, b))
	})
	return list[0], append(list, 0)[1]
}

// letGo drops what was expunged before a time, the oldest first.
func (s *Store) letGo(ctx context.Context, before time.Time) error {
	for {
		var rows []*HeldRow
		err := s.View(ctx, func(v *View) (err error) {
			rows, err = heldOf(v.r, 0, reapRows)
			return err
		})
		rows = slices.DeleteFunc(rows, func(r *HeldRow) bool { return !r.Expunged.Before(before) })
		if err != nil || len(rows) == 0 {
			return err
		}
		if _, err := s.drop(ctx, rows, math.MaxInt64); err != nil {
			return err
		}
	}
}

// drop lets go of rows in one Update, and stops when octets are free.
func (s *Store) drop(ctx context.Context, rows []*HeldRow, octets int64) (freed int64, err error) {
	err = s.Update(ctx, func(tx *Tx) error {
		freed = 0
		for _, row := range rows {
			if freed >= octets {
				break
			}
			now, err := tx.r.HeldRow(row.ID)
			if errors.Is(err, ErrNotFound) { // undeleted meanwhile
				continue
			}
			if err != nil {
				return err
			}
			if err := tx.release(now); err != nil {
				return err
			}
			freed += now.Size
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return freed, nil
}
