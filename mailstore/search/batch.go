package search

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"

	"postrider/mailstore"
	"postrider/mailstore/sqlite"
)

// docKey is what a document is to the store: a body with what stands before it.
type docKey struct {
	body   mailstore.BodyID
	prefix int64 // of a hash of it; 0 for none
}

func keyOf(m *mailstore.Message) docKey {
	if m.Prefix == "" {
		return docKey{m.Body, 0}
	}
	sum := sha256.Sum256([]byte(m.Prefix))
	return docKey{m.Body, int64(binary.BigEndian.Uint64(sum[:]) | 1)}
}

// accountBatch is what one transaction adds to an account.
type accountBatch struct {
	id    mailstore.AccountID
	lo    int64            // number of its first new document
	last  mailstore.BodyID // that it has a document of; later ones are new
	b     builder
	fresh []docKey // of the new documents, in order; a zero one is of none
	known map[docKey]uint32
	boxes []*boxBatch
}

// live is the number of new documents that are of a message.
func (a *accountBatch) live() (n int64) {
	for _, key := range a.fresh {
		if key != (docKey{}) {
			n++
		}
	}
	return n
}

// boxBatch is what one transaction adds to a mailbox.
type boxBatch struct {
	id        mailstore.MailboxID
	validity  uint32
	from      mailstore.UID // the watermark before
	watermark mailstore.UID
	places
}

// batch is one transaction.
type batch struct {
	accounts map[mailstore.AccountID]*accountBatch
	messages int
	failed   error // of the store: what came before it is kept
}

// size is the memory that the batch takes, about.
func (b *batch) size() int {
	n := 0
	for _, a := range b.accounts {
		n += a.b.size
	}
	return n
}

// errLow: see Options.Low.
var errLow = errors.New("the disk is nearly full: what is left is kept for deleting")

// round indexes one batch of what is pending.
func (w *indexer) round() error {
	if w.low() {
		return errLow
	}
	b := &batch{accounts: make(map[mailstore.AccountID]*accountBatch)}
	for m, a := range w.pending {
		if b.messages >= maxBatch || b.size() >= maxBatchSize || b.failed != nil || w.ended() {
			break
		}
		if err := w.collect(b, m, a); err != nil {
			return err
		}
	}
	if err := within(w.db, func() error { return w.write(b) }); err != nil {
		return fmt.Errorf("write the search index: %w", err)
	}
	w.done.Add(int64(b.messages))
	for _, a := range b.accounts {
		w.docs.Add(a.live())
		// What came meanwhile waits for the next call of catchUp, so that it is
		// taken together with more.
		for _, m := range a.boxes {
			w.wait(m.id, a.id, max(w.waits[m.id]-int64(m.watermark-m.from), 0))
		}
	}
	return b.failed
}

// account begins to add to an account.
func (w *indexer) account(b *batch, id mailstore.AccountID) (*accountBatch, error) {
	if a := b.accounts[id]; a != nil {
		return a, nil
	}
	lo, err := number(w.db, "SELECT next FROM account WHERE id = ?", int64(id))
	if err != nil {
		return nil, err
	}
	last, err := number(w.db, "SELECT max(body) FROM doc WHERE account = ?", int64(id))
	if err != nil {
		return nil, err
	}
	a := &accountBatch{id: id, lo: lo, last: mailstore.BodyID(last), known: make(map[docKey]uint32)}
	b.accounts[id] = a
	return a, nil
}

// collect adds messages of a mailbox to the batch.
func (w *indexer) collect(b *batch, m mailstore.MailboxID, id mailstore.AccountID) error {
	known, err := readBox(w.db, m)
	if err != nil {
		return err
	}
	from := mailstore.UID(1)
	if known != nil {
		from = known.watermark
	}
	var now mailstore.Mailbox
	var list []mailstore.Message
	// What cannot be read has no place: searches that ask for it say so.
	err = view(context.Background(), w.store, func(v *mailstore.View) (err error) {
		if now, err = v.Mailbox(m); err != nil {
			return err
		}
		return v.Readable(m, from, func(one mailstore.Message) bool {
			list = append(list, one)
			return b.messages+len(list) < maxBatch
		}, func(*mailstore.DamagedRange) {})
	})
	switch {
	case errors.Is(err, mailstore.ErrDamaged): // not even where its messages are: others are not kept waiting
		w.wait(m, id, 0)
		return nil
	case errors.Is(err, mailstore.ErrNotFound):
		w.wait(m, id, 0)
		return w.dropGone(m, id)
	case err != nil:
		return err
	case known != nil && known.foreign(now):
		return fmt.Errorf("%w: it is not of this store", errDamaged)
	}
	a, err := w.account(b, id)
	if err != nil {
		return err
	}
	box := &boxBatch{id: m, validity: now.UIDValidity, from: from, watermark: from}
	a.boxes = append(a.boxes, box)
	whole := b.messages+len(list) < maxBatch
	open := &ahead{store: w.store, list: list}
	defer open.skip(len(list))
	for i := range list {
		if b.size() >= maxBatchSize || w.ended() {
			return nil
		}
		if b.failed = w.add(a, box, open, i); b.failed != nil {
			return nil
		}
		box.watermark = list[i].UID + 1
		b.messages++
	}
	if whole {
		box.watermark = now.UIDNext
	}
	return nil
}

// aheadOctets is about how much of messages is open before their turn.
const aheadOctets = 256 << 10

// ahead opens messages of a list, several at a time: a snapshot costs as much as
// what is read of one message.
type ahead struct {
	store  *mailstore.Store
	list   []mailstore.Message
	at     int                // in list, of opened[0]
	opened []mailstore.Opened // not handed out
}

// open opens a message of the list, which is behind those that were opened before.
func (a *ahead) open(i int) (mailstore.Content, error) {
	a.skip(i)
	if len(a.opened) == 0 {
		opened, err := a.store.OpenMessages(context.Background(), a.list[i:], aheadOctets)
		if err != nil {
			return nil, storeError{err}
		}
		a.at, a.opened = i, opened
	}
	o := a.opened[0]
	a.at, a.opened = a.at+1, a.opened[1:]
	return o.Content, o.Err
}

// skip closes what is open before a message of the list.
func (a *ahead) skip(i int) {
	for ; len(a.opened) > 0 && a.at < i; a.at, a.opened = a.at+1, a.opened[1:] {
		if o := a.opened[0]; o.Err == nil {
			_ = o.Close() // nothing was written
		}
	}
}

// add adds a message of a list. The error is one that may be gone the next time.
func (w *indexer) add(a *accountBatch, box *boxBatch, open *ahead, i int) error {
	m := &open.list[i]
	key := keyOf(m)
	doc, ok := a.known[key]
	if !ok && key.body <= a.last {
		n, err := number(w.db, "SELECT doc + 1 FROM doc WHERE account = ? AND body = ? AND prefix = ?", int64(a.id), int64(key.body), key.prefix)
		if err != nil {
			return err
		}
		if doc, ok = uint32(n-1), n > 0; ok {
			a.known[key] = doc
		}
	}
	if ok {
		box.add(m.UID, doc)
		return nil
	}
	n := a.b.next()
	err := w.index(&a.b, open, i)
	switch {
	case errors.Is(err, mailstore.ErrNotFound), errors.Is(err, mailstore.ErrDamaged):
		// Without a place, each search asks the message itself.
		key = docKey{}
	case err != nil:
		// What is in the batch must be complete: the document stays, for nothing.
		a.fresh = append(a.fresh, docKey{})
		a.b.done()
		return fmt.Errorf("read message %d of mailbox %d: %w", m.UID, m.Mailbox, err)
	default:
		doc = uint32(a.lo) + n
		a.known[key] = doc
		box.add(m.UID, doc)
	}
	a.fresh = append(a.fresh, key)
	a.b.done()
	count(w.count.Indexed, 1)
	return nil
}

// index reads a message into the document in hand.
func (w *indexer) index(b *builder, open *ahead, i int) (err error) {
	content, err := open.open(i)
	if err != nil {
		return err
	}
	defer content.Close()
	defer func() {
		if v := recover(); v != nil {
			w.log.Error("panic in the indexing of a message", "mailbox", open.list[i].Mailbox, "uid", open.list[i].UID, "panic", v, "stack", string(debug.Stack()))
			b.unknown()
		}
	}()
	return w.read.read(content, content.Size(), true, b)
}

// write writes a batch; it runs in a transaction.
func (w *indexer) write(b *batch) error {
	for _, a := range b.accounts {
		if err := w.writeAccount(a); err != nil {
			return err
		}
		for _, box := range a.boxes {
			if err := w.writeBox(a.id, box); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *indexer) nextID() int64 {
	w.ids++
	return w.ids
}

func (w *indexer) writeAccount(a *accountBatch) error {
	docs := int64(a.b.docs)
	if docs == 0 {
		return nil
	}
	sw := &segmentWriter{db: w.db, id: w.nextID(), docs: int(docs)}
	if err := a.b.write(sw); err != nil {
		return err
	}
	if err := w.putSegment(a.id, segment{sw.id, a.lo, a.lo + docs, sw.size}); err != nil {
		return err
	}
	for i, key := range a.fresh {
		if key == (docKey{}) {
			continue
		}
		_, err := w.db.Exec("INSERT INTO doc(account, body, prefix, doc) VALUES(?, ?, ?, ?)", int64(a.id), int64(key.body), key.prefix, a.lo+int64(i))
		if err != nil {
			return err
		}
	}
	_, err := w.db.Exec("INSERT INTO account(id, next, live) VALUES(?1, ?2, ?3) ON CONFLICT(id) DO UPDATE SET next = ?2, live = live + ?3",
		int64(a.id), a.lo+docs, a.live())
	if err != nil {
		return err
	}
	return w.mergeSegments(a.id)
}

func (w *indexer) putSegment(a mailstore.AccountID, s segment) error {
	_, err := w.db.Exec("INSERT INTO segment(id, account, lo, hi, size) VALUES(?, ?, ?, ?, ?)", s.id, int64(a), s.lo, s.hi, s.size)
	return err
}

// tier is how often the documents of a segment were merged, about.
func tier(s segment) int {
	if s.docs() >= maxSegment {
		return 1 << 10
	}
	t := 0
	for n := s.docs(); n >= fanout; n /= fanout {
		t++
	}
	return t
}

// due is how many of the last segments are to be merged: as many as are there
// of a tier or below, when those are enough.
func due(list []segment) int {
	for t := 0; t < 10; t++ {
		n, size := 0, int64(0)
		for n < len(list) && tier(list[len(list)-1-n]) <= t && size <= maxMergedSize {
			size += list[len(list)-1-n].size
			n++
		}
		if n >= fanout {
			return n
		}
	}
	return 0
}

func (w *indexer) mergeSegments(a mailstore.AccountID) error {
	list, err := segments(w.db, a)
	if err != nil {
		return err
	}
	for n := due(list); n > 0; n = due(list) {
		from := list[len(list)-n:]
		to, err := w.mergeInto(a, from, nil)
		if err != nil {
			return err
		}
		list = append(list[:len(list)-n], to)
	}
	return nil
}

// mergeInto replaces neighbours by one segment.
func (w *indexer) mergeInto(a mailstore.AccountID, from []segment, live *bitset) (segment, error) {
	to := segment{id: w.nextID(), lo: from[0].lo, hi: from[len(from)-1].hi}
	sw := &segmentWriter{db: w.db, id: to.id, docs: to.docs()}
	if err := merge(sw, from, live); err != nil {
		return to, err
	}
	to.size = sw.size
	for _, s := range from {
		if err := dropSegment(w.db, s.id); err != nil {
			return to, err
		}
	}
	return to, w.putSegment(a, to)
}

func (w *indexer) writeBox(a mailstore.AccountID, box *boxBatch) error {
	_, err := w.db.Exec("INSERT INTO mailbox(id, account, validity, watermark) VALUES(?1, ?2, ?3, ?4) ON CONFLICT(id) DO UPDATE SET watermark = ?4",
		int64(box.id), int64(a), int64(box.validity), int64(box.watermark))
	if err != nil || len(box.uids) == 0 {
		return err
	}
	if err := w.putPlaces(box.id, &box.places); err != nil {
		return err
	}
	return w.mergePlaces(box.id)
}

func (w *indexer) putPlaces(m mailstore.MailboxID, p *places) error {
	_, err := w.db.Exec("INSERT INTO place(id, mailbox, first, count, data) VALUES(?, ?, ?, ?, ?)",
		w.nextID(), int64(m), int64(p.uids[0]), int64(len(p.uids)), p.encode())
	return err
}

// mergePlaces joins the last parts of a mailbox where they are many.
func (w *indexer) mergePlaces(m mailstore.MailboxID) error {
	var ids []int64
	err := w.db.Query("SELECT id, count FROM place WHERE mailbox = ? ORDER BY first DESC", args(int64(m)), func(r sqlite.Row) bool {
		if r.Int(1) >= maxPlaces {
			return false
		}
		ids = append(ids, r.Int(0))
		return true
	})
	if err != nil || len(ids) < maxParts {
		return err
	}
	var all places
	for i := len(ids) - 1; i >= 0; i-- {
		p, err := readPlaces(w.db, ids[i])
		if err != nil {
			return err
		}
		all.uids, all.docs = append(all.uids, p.uids...), append(all.docs, p.docs...)
		if _, err := w.db.Exec("DELETE FROM place WHERE id = ?", ids[i]); err != nil {
			return err
		}
	}
	return w.putPlaces(m, &all)
}

func readPlaces(db *sqlite.Derived, id int64) (*places, error) {
	p, bad := (*places)(nil), errDamaged
	err := db.Query("SELECT data FROM place WHERE id = ?", args(id), func(r sqlite.Row) bool {
		p, bad = decodePlaces(r.Blob(0))
		return false
	})
	if err == nil {
		err = bad
	}
	return p, err
}
