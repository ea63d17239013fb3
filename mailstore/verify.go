package mailstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync/atomic"

	"postrider/mailstore/message"
)

// Finding is one thing that Verify found wrong.
type Finding struct {
	// Kind is what is wrong: database, body, checksums, record, references,
	// block, message, mailbox, annotation, rights, usage, queue, counter, held or
	// file; or search, the index for SEARCH, which Verify does not look at.
	Kind string `json:"kind"`
	Text string `json:"text"`
	Body BodyID `json:"body,omitempty"`
	// Account, Mailbox, UID and Subject name the message, where one is concerned.
	Account string `json:"account,omitempty"`
	Mailbox string `json:"mailbox,omitempty"`
	UID     UID    `json:"uid,omitempty"`
	Subject string `json:"subject,omitempty"`
	// Lost: what is wrong cannot be made from anything else that is stored.
	Lost bool `json:"lost,omitempty"`
	// Repaired: it was mended.
	Repaired bool `json:"repaired,omitempty"`

	mend func(tx *Tx) error // nil where it cannot be mended
}

func (f *Finding) String() string {
	s := f.Kind + ": "
	if name, err := CleanName(f.Mailbox); err == nil && name == f.Mailbox {
		s += f.Account + " " + name + ": "
	} else if f.Mailbox != "" {
		s += fmt.Sprintf("%s %q: ", f.Account, f.Mailbox)
	}
	if f.UID != 0 {
		s += fmt.Sprintf("UID %d: ", f.UID)
	}
	s += f.Text
	if f.Subject != "" {
		s += fmt.Sprintf(" (subject %q)", f.Subject)
	}
	return s
}

// VerifyProgress tells how far Verify is.
type VerifyProgress struct {
	Done, Total atomic.Int64 // octets of bodies; Total is 0 until it is known
	Messages    atomic.Int64 // whose rows were read
	Bodies      atomic.Int64 // that were read
}

// VerifyOptions says what Verify does besides looking.
type VerifyOptions struct {
	Repair   bool
	Found    func(Finding) // called by one goroutine; required
	Progress *VerifyProgress
}

// Checker is an Engine that can check what it keeps rows in, and for rows that
// nothing leads to. It goes on after a problem; an error means that it could not.
type Checker interface {
	Check(ctx context.Context, fn func(Problem)) error
}

// Problem is what a Checker finds. Mend is nil where rows of messages may be lost.
type Problem struct {
	Text string
	Mend func(w Writer) error
}

// Holder is an Engine that can keep its files as they are for a while: nothing
// is moved from its log into the database until release is called. low tells
// that space is so scarce that the hold had to be given up.
type Holder interface {
	Hold() (release func(), low func() bool)
}

// Hold keeps all body files, and what the engine's Holder keeps, until release,
// which may be called more than once. lost tells whether it was given up before.
func (s *Store) Hold() (release func(), lost func() bool) {
	s.janitor.pause(1)
	free, low := func() {}, func() bool { return false }
	if h, ok := s.engine.(Holder); ok {
		free, low = h.Hold()
	}
	var once atomic.Bool
	return func() {
		if once.CompareAndSwap(false, true) {
			free()
			s.janitor.pause(-1)
		}
	}, low
}

// Verify checks every invariant of the store, reads every body against its hash,
// and makes what is derived anew to compare it. With Repair, what can be made of
// other rows is mended in Updates. The store goes on meanwhile: rows are judged in
// one snapshot, bodies in many short ones. Memory is 24 octets for each row of a body.
func (s *Store) Verify(ctx context.Context, o VerifyOptions) error {
	v := newVerifier(s.engine, o.Progress)
	v.busy = s.janitor.isHeld
	v.snapshot = func() (Reader, func(), error) {
		snap, err := s.snapshot(ctx)
		if err != nil {
			return nil, nil, err
		}
		return snap, snap.Close, nil
	}
	v.found = func(f Finding) {
		if o.Repair && f.mend != nil {
			if err := s.Update(ctx, f.mend); err != nil {
				f.Text += fmt.Sprintf("; not repaired: %v", err)
			} else {
				f.Repaired = true
			}
		}
		o.Found(f)
	}
	v.remove = func(file string) bool {
		if o.Repair {
			s.janitor.add(file) // who looks at it once more
		}
		return o.Repair
	}
	release, _ := s.Hold()
	defer release()
	if err := v.rows(ctx); err != nil {
		return err
	}
	release()
	v.mendAll()
	return v.texts(ctx)
}

// VerifyEngine is Verify of an engine that no store uses, in one snapshot. p may
// be nil.
func VerifyEngine(ctx context.Context, e Engine, r Reader, p *VerifyProgress, found func(Finding)) error {
	v := newVerifier(e, p)
	v.busy = func(string) bool { return false }
	v.remove = func(string) bool { return false }
	v.snapshot = func() (Reader, func(), error) { return r, func() {}, nil }
	v.found = found
	if err := v.rows(ctx); err != nil {
		return err
	}
	v.mendAll()
	return v.texts(ctx)
}

const (
	maxNamed = 10000 // damaged bodies whose messages are named
	// maxID is the highest number that a counter is mended to: a store does not come
	// so far, and a queue's item has no bits for more.
	maxID    = 1 << 42
	maxFound = 1000 // findings of rows that wait for the end of the snapshot, of each mailbox, and of each kind
)

// verifier is one run of Verify.
type verifier struct {
	e        Engine
	snapshot func() (Reader, func(), error)
	found    func(Finding)
	busy     func(file string) bool // a body in the making has it
	remove   func(file string) bool
	p        *VerifyProgress

	r       Reader // of the rows
	waiting []Finding
	table   bodyTable
	said    map[string]int // see reportFew
	// unread: references of messages that cannot be read are not counted, so
	// that no body may be said to have too many.
	unread   bool
	partial  bool // not all bodies are in the table
	damaged  map[BodyID]string
	highest  [len(idCounters)]int64
	describe describers
	coder    Coder
}

func newVerifier(e Engine, p *VerifyProgress) *verifier {
	if p == nil {
		p = &VerifyProgress{}
	}
	return &verifier{e: e, p: p, table: bodyTable{missing: make(map[BodyID]int32)}, said: make(map[string]int), damaged: make(map[BodyID]string)}
}

// bodyTable has what is known of each body that has a row, in order of id. Nothing
// in it grows by what other rows say: these may be damaged, and name any number.
type bodyTable struct {
	entries []bodyEntry
	near    int // where the last one was found: messages name bodies in order
	missing map[BodyID]int32
	// more counts references to bodies without a row beyond maxNamed such bodies.
	more int
}

type bodyEntry struct {
	id   BodyID
	size int64
	refs int32 // found less counted
}

// find gives the entry of a body, or nil where it has no row.
func (t *bodyTable) find(id BodyID) *bodyEntry {
	for i := t.near; i < min(t.near+2, len(t.entries)); i++ {
		if t.entries[i].id == id {
			t.near = i
			return &t.entries[i]
		}
	}
	i, found := slices.BinarySearchFunc(t.entries, id, func(e bodyEntry, id BodyID) int { return cmp.Compare(e.id, id) })
	if !found {
		return nil
	}
	t.near = i
	return &t.entries[i]
}

// refer counts a reference, and gives the entry as find does.
func (t *bodyTable) refer(id BodyID) *bodyEntry {
	if e := t.find(id); e != nil {
		e.refs++
		return e
	}
	if _, known := t.missing[id]; known || len(t.missing) < maxNamed {
		t.missing[id]++
	} else {
		t.more++
	}
	return nil
}

// rising refuses an id of a list that is not above the one before it, as where two
// pages of a damaged database lead to the same third: such a list can be without end.
type rising int64

var errOrder = fmt.Errorf("%w: the rows are out of order", ErrDamaged)

func (r *rising) next(id int64, err *error) bool {
	if *r != 0 && id <= int64(*r) {
		*err = errOrder
		return false
	}
	*r = rising(id)
	return true
}

// inOrder collects the rows of a list in order of id.
func inOrder[T any](list func(func(T) bool) error, id func(*T) int64) (all []T, err error) {
	var last rising
	var order error
	err = list(func(v T) bool {
		if !last.next(id(&v), &order) {
			return false
		}
		all = append(all, v)
		return true
	})
	return all, errors.Join(err, order)
}

// report keeps a finding until the snapshot is closed.
func (v *verifier) report(f Finding) { v.waiting = append(v.waiting, f) }

// reportFew is report of what any number of rows may have: after maxFound of a kind
// it counts them, and more tells the number.
func (v *verifier) reportFew(f Finding) {
	if v.said[f.Kind]++; v.said[f.Kind] <= maxFound {
		v.report(f)
	}
}

// more tells how much reportFew has kept back.
func (v *verifier) more() {
	for _, kind := range slices.Sorted(maps.Keys(v.said)) {
		if n := v.said[kind] - maxFound; n > 0 {
			v.report(Finding{Kind: kind, Text: fmt.Sprintf("%d more like these: run it again when these are mended", n)})
		}
	}
	clear(v.said)
}

// trouble reports what could not be read, which is damage too.
func (v *verifier) trouble(kind, what string, err error) {
	if err != nil {
		v.unread = true
		v.report(Finding{Kind: kind, Text: fmt.Sprintf("%s: %v", what, err), Lost: true})
	}
}

// mendAll hands on, and mends, what the rows had.
func (v *verifier) mendAll() {
	for _, f := range v.waiting {
		v.found(f)
	}
	v.waiting = nil
}

// rows checks the rows in one snapshot.
func (v *verifier) rows(ctx context.Context) error {
	r, end, err := v.snapshot()
	if err != nil {
		return err
	}
	defer end()
	v.r = r
	v.listBodies()
	v.files()
	v.accounts(ctx)
	v.held()
	v.queue()
	v.counters()
	v.check(ctx)
	v.references()
	v.more()
	return ctx.Err()
}

// check lets the engine look.
func (v *verifier) check(ctx context.Context) {
	c, ok := v.e.(Checker)
	if !ok {
		return
	}
	err := c.Check(ctx, func(p Problem) {
		f := Finding{Kind: "database", Text: p.Text, Lost: p.Mend == nil}
		if p.Mend != nil {
			f.mend = func(tx *Tx) error { return tx.do(p.Mend) }
		} else {
			v.unread = true
		}
		v.report(f)
	})
	v.trouble("database", "it cannot be checked", err)
}

// listBodies fills the table.
func (v *verifier) listBodies() {
	total := int64(0)
	var last rising
	var order error
	err := v.r.Bodies(math.MinInt64, func(b BodyRow) bool {
		if !last.next(int64(b.ID), &order) {
			return false
		}
		v.table.entries = append(v.table.entries, bodyEntry{id: b.ID, size: b.Size, refs: -int32(b.Refs)})
		total += max(b.Size, 0)
		v.above(bodyIDs, int64(b.ID))
		if b.Refs < 1 {
			v.reportFew(Finding{Kind: "references", Body: b.ID, Text: fmt.Sprintf("body %d has %d references", b.ID, b.Refs)})
		}
		return true
	})
	err = errors.Join(err, order)
	v.trouble("database", "the list of bodies", err)
	v.partial = err != nil
	v.p.Total.Store(total)
}

// files looks for body files without a row: what a crash leaves, and the sweep at
// the start removes.
func (v *verifier) files() {
	var orphans []string
	err := v.e.Files(func(file string) bool {
		if _, err := v.r.BodyOfFile(file); errors.Is(err, ErrNotFound) && !v.busy(file) {
			orphans = append(orphans, file)
		}
		return len(orphans) < maxNamed
	})
	v.trouble("file", "the folder of bodies", err)
	for _, file := range orphans {
		// It may have come after the snapshot.
		if v.committed(file) {
			continue
		}
		v.report(Finding{Kind: "file", Text: "no row names body file " + file, Repaired: v.remove(file)})
	}
}

func (v *verifier) committed(file string) bool {
	r, end, err := v.snapshot()
	if err != nil {
		return true
	}
	defer end()
	_, err = r.BodyOfFile(file)
	return !errors.Is(err, ErrNotFound)
}

// above notes an id that is in use.
func (v *verifier) above(kind int, id int64) { v.highest[kind] = max(v.highest[kind], id) }

// counters checks that no id in use can be given out again.
func (v *verifier) counters() {
	for kind, name := range idCounters {
		n, err := v.r.Counter(name)
		v.trouble("counter", name, err)
		if high := v.highest[kind]; n <= high {
			if high == 0 {
				continue
			}
			if high > maxID {
				v.report(Finding{Kind: "counter", Lost: true, Text: fmt.Sprintf("the next %s is %d, and %d, which cannot be, is in use", name, n, high)})
				continue
			}
			v.report(Finding{Kind: "counter", Text: fmt.Sprintf("the next %s is %d, and %d is in use", name, n, high),
				mend: func(tx *Tx) error {
					st := &tx.b.s.state
					st.ids[kind].next = max(st.ids[kind].next, high+1)
					st.ids[kind].limit = 0 // reserve anew
					return tx.do(func(w Writer) error { return w.PutCounter(name, high+1) })
				}})
		}
	}
}

// validity checks that no UIDVALIDITY in use can be given out again.
func (v *verifier) validity(highest uint32) {
	n, err := v.r.Counter(validityCounter)
	v.trouble("counter", validityCounter, err)
	if high := int64(highest); err == nil && n < high {
		v.report(Finding{Kind: "counter", Text: fmt.Sprintf("the last UIDVALIDITY is %d, and %d is in use", n, high),
			mend: func(tx *Tx) error {
				last, err := tx.r.Counter(validityCounter)
				if err != nil || last >= high {
					return err
				}
				return tx.do(func(w Writer) error { return w.PutCounter(validityCounter, high) })
			}})
	}
}

// references compares what was found with what is counted.
func (v *verifier) references() {
	unsure := 0
	for i := range v.table.entries {
		e := &v.table.entries[i]
		switch {
		case e.refs == 0:
		case e.refs < 0 && v.unread:
			unsure++
		default:
			v.reportFew(Finding{Kind: "references", Body: e.id, Text: fmt.Sprintf("body %d: %+d references found beyond those counted", e.id, e.refs),
				mend: mendReferences(e.id, int(e.refs))})
		}
	}
	if !v.partial {
		for id := range v.table.missing {
			v.lose(id, "its body has no row")
		}
		if n := v.table.more; n > 0 {
			v.report(Finding{Kind: "body", Lost: true, Text: fmt.Sprintf("%d messages more have bodies without a row", n)})
		}
	}
	if unsure > 0 {
		v.report(Finding{Kind: "references", Lost: true,
			Text: fmt.Sprintf("%d bodies have more references counted than found, perhaps by what cannot be read; they are kept", unsure)})
	}
}

// mendReferences adds what is missing. A difference holds also when references
// came and went since it was seen.
func mendReferences(id BodyID, delta int) func(*Tx) error {
	return func(tx *Tx) error {
		tx.addRef(id, delta)
		return nil
	}
}

// lose notes a body whose messages have to be named.
func (v *verifier) lose(id BodyID, why string) {
	if len(v.damaged) < maxNamed {
		v.damaged[id] = why
	}
}

// name tells which messages have the damaged bodies.
func (v *verifier) name() error {
	if len(v.damaged) == 0 {
		return nil
	}
	r, end, err := v.snapshot()
	if err != nil {
		return err
	}
	defer end()
	v.r = r
	named := make(map[BodyID]bool)
	v.eachMailbox(func(a *Account, m *MailboxRow) {
		_, err := v.blocks(m, func(*BlockRow, error) {}, func(row *MessageRow) {
			why, bad := v.damaged[row.Body]
			if !bad {
				return
			}
			named[row.Body] = true
			v.report(Finding{Kind: "body", Body: row.Body, Account: a.Address, Mailbox: m.Name, UID: row.UID,
				Subject: subjectOf(r, row.Body), Text: why, Lost: true})
		})
		v.trouble("mailbox", m.Name, err)
	})
	for id, why := range v.damaged {
		if !named[id] {
			v.report(Finding{Kind: "body", Body: id, Text: fmt.Sprintf("body %d, of a queued or an expunged message: %s", id, why), Lost: true})
		}
	}
	return nil
}

// subjectOf is the base subject of a message by its record.
func subjectOf(r Reader, id BodyID) string {
	record, err := r.Content(id)
	if err != nil {
		return ""
	}
	s, err := message.ReadStored(record)
	if err != nil {
		return ""
	}
	return string(s.BaseSubject)
}
