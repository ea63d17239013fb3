package mailstore

import (
	"errors"
	"maps"
	"slices"
	"time"
)

// Tx reads and writes. It is good for one goroutine, until the function that
// got it returns.
type Tx struct {
	View
	b *batch

	wrote    bool // something, in the engine or in what is kept here until the end
	stored   bool // in the engine
	flushing bool // fn has ended well
	marked   bool // there is a savepoint
	reserved bool // a block of ids
	broken   error
	bytes    int64                     // of new bodies
	queued   int                       // recipients added less removed
	boxes    map[MailboxID]*MailboxRow // as changed here; nil = deleted
	usage    map[AccountID]Usage       // as changed here
	limits   bool                      // a quota was changed
	rights   bool                      // somebody's rights to a mailbox were changed
	edits    map[MailboxID]*boxChange  // indexes as changed here; nil = deleted
	threads  map[AccountID]threadKeys  // that are new
	refs     map[BodyID]int            // references added less removed
	bodies   []*Body                   // with an id that they got here
	freed    []string
	touched  map[MailboxID]AccountID
	lists    map[AccountID]bool

	annotated []annotated
}

// errReading: engines would differ in what the list shows of the change.
var errReading = errors.New("a change was made from within a list")

var errNoBody = errors.New("a body was used after its release")

func newTx(b *batch) *Tx {
	tx := &Tx{b: b}
	tx.View = View{s: b.s, r: b.w, tx: tx, defaults: b.s.defaultQuota()}
	return tx
}

// end makes later use of tx fail at once.
func (tx *Tx) end() {
	tx.View.end()
	tx.b = nil
}

// begin notes that something is written, be it here or in the engine.
func (tx *Tx) begin() error {
	if tx.broken != nil {
		return tx.broken
	}
	if tx.reading > 0 {
		return errReading
	}
	tx.wrote = true
	return nil
}

// write gives the engine's writer, after marking where this function's changes
// begin when others of the same batch stand before them. What is written when fn
// has ended needs no mark: there is nothing but a failure of the engine that could
// undo it, and that undoes the batch.
func (tx *Tx) write() (Writer, error) {
	if err := tx.begin(); err != nil {
		return nil, err
	}
	if !tx.stored {
		if tx.b.dirty && !tx.flushing {
			if err := tx.b.w.Savepoint(); err != nil {
				return nil, tx.fail(err)
			}
			tx.marked = true
		}
		tx.stored = true
	}
	return tx.b.w, nil
}

// fail notes that the engine failed, so that nothing of the transaction can be
// committed whatever fn makes of the error. What is merely not found is fine.
func (tx *Tx) fail(err error) error {
	if err != nil && !errors.Is(err, ErrNotFound) && tx.broken == nil {
		tx.broken = err
	}
	return err
}

// do runs one write of the engine.
func (tx *Tx) do(op func(w Writer) error) error {
	w, err := tx.write()
	if err != nil {
		return err
	}
	return tx.fail(op(w))
}

// now is the present, as rows keep it.
func (tx *Tx) now() time.Time { return tx.b.s.clock.Now() }

// known gives the row as changed here or earlier in the batch; nil when it was
// not read.
func (tx *Tx) known(id MailboxID) *MailboxRow {
	if row, ok := tx.boxes[id]; ok {
		return row
	}
	return tx.b.s.state.boxes[id]
}

// Inbox finds the INBOX of an account.
func (tx *Tx) Inbox(a AccountID) (MailboxID, error) {
	box, err := tx.MailboxByName(a, Inbox)
	return box.ID, tx.fail(err)
}

// box reads a mailbox row, which the caller must not change.
func (tx *Tx) box(id MailboxID) (*MailboxRow, error) {
	if row, ok := tx.boxes[id]; ok {
		if row == nil {
			return nil, ErrNotFound
		}
		return row, nil
	}
	if row := tx.b.s.state.boxes[id]; row != nil {
		return row, nil
	}
	row, err := tx.r.Mailbox(id)
	if err != nil {
		return nil, err
	}
	tx.b.s.state.boxes[id] = &row
	return &row, nil
}

// change gives a mailbox row to change; it is written at the end of the batch.
func (tx *Tx) change(id MailboxID) (*MailboxRow, error) {
	if row := tx.boxes[id]; row != nil {
		return row, nil
	}
	old, err := tx.box(id)
	if err != nil {
		return nil, err
	}
	if err := tx.begin(); err != nil {
		return nil, err
	}
	row := *old
	tx.setBox(id, &row)
	return &row, nil
}

func (tx *Tx) setBox(id MailboxID, row *MailboxRow) {
	if tx.boxes == nil {
		tx.boxes = make(map[MailboxID]*MailboxRow)
	}
	tx.boxes[id] = row
}

// messages gives a mailbox's index as the transaction sees it.
func (tx *Tx) messages(m MailboxID) (*boxIndex, error) {
	c, ok := tx.edits[m]
	if !ok {
		c, ok = tx.b.s.state.edits[m]
	}
	switch {
	case ok && c == nil:
		return nil, ErrNotFound
	case ok:
		return &c.boxIndex, nil
	}
	// Whoever raises the mod-sequence has the index in edits: this is the one
	// that the engine has.
	row, err := tx.box(m)
	if err != nil {
		return nil, err
	}
	x, err := tx.b.s.load(tx.r, m, row.ModSeq)
	return x, tx.fail(err)
}

// edit gives a mailbox's index to change, and the mod-sequence of the change.
func (tx *Tx) edit(m MailboxID) (*boxChange, ModSeq, error) {
	row, err := tx.box(m)
	if err != nil {
		return nil, 0, err
	}
	c := tx.edits[m]
	if c == nil {
		c = tx.b.s.state.edits[m]
	}
	if c == nil {
		x, err := tx.messages(m)
		if err != nil {
			return nil, 0, err
		}
		c = &boxChange{mailbox: m, sizes: tx.b.s.blocks, base: x, boxIndex: boxIndex{blocks: x.blocks, tail: x.tail}}
	}
	return c.clone(), row.ModSeq + 1, nil
}

// keep makes a change part of the transaction, and gives the mailbox's row to
// change with it.
func (tx *Tx) keep(c *boxChange) (*MailboxRow, error) {
	box, err := tx.change(c.mailbox)
	if err != nil {
		return nil, err
	}
	box.ModSeq++
	tx.touch(c.mailbox, box.Account)
	tx.setEdit(c.mailbox, c)
	return box, nil
}

func (tx *Tx) setEdit(m MailboxID, c *boxChange) {
	if tx.edits == nil {
		tx.edits = make(map[MailboxID]*boxChange)
	}
	tx.edits[m] = c
}

// touch notes that watchers of the mailbox must hear of the commit.
func (tx *Tx) touch(m MailboxID, a AccountID) {
	if tx.touched == nil {
		tx.touched = make(map[MailboxID]AccountID)
	}
	tx.touched[m] = a
}

// touchList notes that an account's list of mailboxes changed.
func (tx *Tx) touchList(a AccountID) {
	if tx.lists == nil {
		tx.lists = make(map[AccountID]bool)
	}
	tx.lists[a] = true
}

// addRef counts references to a body; they are written at the end, so that a
// move costs none.
func (tx *Tx) addRef(id BodyID, delta int) {
	if tx.refs == nil {
		tx.refs = make(map[BodyID]int)
	}
	tx.refs[id] += delta
}

// use gives the id under which a body is stored, once the transaction commits.
func (tx *Tx) use(body *Body) (BodyID, error) {
	if body == nil || body.released {
		return 0, errNoBody
	}
	if body.id != 0 {
		if slices.Contains(tx.bodies, body) || tx.refs[body.id] > 0 {
			return body.id, nil
		}
		_, err := tx.r.Body(body.id, false)
		if err == nil {
			return body.id, nil
		}
		if body.stored || !errors.Is(err, ErrNotFound) {
			return 0, err
		}
	}
	id, err := tx.b.s.state.take(tx, bodyIDs)
	if err != nil {
		return 0, err
	}
	body.id = BodyID(id)
	tx.bodies = append(tx.bodies, body)
	return body.id, nil
}

// flush writes what fn left to its end. After an error the batch is broken.
func (tx *Tx) flush() error {
	if tx.broken != nil {
		return tx.broken
	}
	tx.flushing = true
	for _, write := range []func() error{tx.flushBodies, tx.flushRefs, tx.flushThreads} {
		if err := write(); err != nil {
			if tx.broken == nil {
				tx.broken = err
			}
			return err
		}
	}
	return nil
}

// flushBodies writes the new bodies.
func (tx *Tx) flushBodies() error {
	for _, body := range tx.bodies {
		n := tx.refs[body.id]
		delete(tx.refs, body.id)
		if n <= 0 {
			body.id = 0
			continue
		}
		row := body.row()
		row.Refs = n
		err := tx.do(func(w Writer) error {
			if err := w.InsertBody(&row); err != nil || body.record == nil {
				return err
			}
			return w.PutContent(row.ID, body.record)
		})
		if err != nil {
			return err
		}
		tx.bytes += int64(len(row.Data))
	}
	return nil
}

// flushRefs writes the references to bodies that were there before.
func (tx *Tx) flushRefs() error {
	for _, id := range slices.Sorted(maps.Keys(tx.refs)) { // in the order of the engine's rows
		delta := tx.refs[id]
		if delta == 0 {
			continue
		}
		w, err := tx.write()
		if err != nil {
			return err
		}
		if delta > 0 {
			if err := w.AddRefs(id, delta); err != nil {
				return tx.fail(err)
			}
			continue
		}
		left, file, err := w.DropRefs(id, -delta)
		if errors.Is(err, ErrNotFound) {
			// The body was lost before; that its message can be deleted is
			// the better part.
			tx.b.s.log.Error("a body is missing", "body", id)
			continue
		}
		if err != nil {
			return tx.fail(err)
		}
		if left == 0 && file != "" {
			tx.freed = append(tx.freed, file)
		}
	}
	return nil
}

// flushThreads writes the new ids of conversations.
func (tx *Tx) flushThreads() error {
	for a, keys := range tx.threads {
		for key, thread := range keys {
			if err := tx.do(func(w Writer) error { return w.PutThread(a, key, thread) }); err != nil {
				return err
			}
		}
	}
	return nil
}
