package search

import (
	"context"
	"errors"
	"maps"
	"time"

	"postrider/mailstore"
	"postrider/mailstore/sqlite"
)

// indexer belongs to the goroutine that writes the index.
type indexer struct {
	*Index
	db      *sqlite.Derived                             // nil until the file is open
	ids     int64                                       // the last id of a segment or a place that was given out
	behind  bool                                        // all is to be compared with the store
	touched map[mailstore.MailboxID]mailstore.AccountID // by commits, and to be looked at
	pending map[mailstore.MailboxID]mailstore.AccountID // have messages to be indexed
	waits   map[mailstore.MailboxID]int64               // how many, as far as is known
	changed map[mailstore.AccountID]bool                // to be looked at for stale documents
	taken   []request                                   // answered when their account was forgotten
	read    extractor
}

// errEnded: the index is being closed.
var errEnded = errors.New("the search index is closed")

// run keeps the index until Close.
func (x *Index) run() {
	w := &indexer{
		Index:   x,
		touched: make(map[mailstore.MailboxID]mailstore.AccountID),
		pending: make(map[mailstore.MailboxID]mailstore.AccountID),
		waits:   make(map[mailstore.MailboxID]int64),
		changed: make(map[mailstore.AccountID]bool),
	}
	defer close(x.stopped)
	defer w.close()
	for {
		err := w.work()
		more := true
		switch {
		case err == nil:
			x.trouble.Store(nil)
			select {
			case <-x.feed.C():
				more = w.sleep(pause)
			case <-x.wake:
			case <-x.stop:
				more = false
			}
		case !x.ended():
			text := err.Error()
			x.trouble.Store(&text)
			x.log.Error("index for searching; what is not indexed is found by reading", "error", err, "retry", retry)
			more = w.sleep(retry)
		}
		if !more || x.ended() {
			return
		}
	}
}

// sleep waits, unless there is a request; it is false when Close was called.
func (w *indexer) sleep(d time.Duration) bool {
	t := w.clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.Chan():
		return true
	case <-w.wake:
		return true
	case <-w.stop:
		return false
	}
}

// work does all there is to do. A file that is of no use is made anew, once.
func (w *indexer) work() error {
	for fresh := false; ; fresh = true {
		err := w.workOnce()
		if err == nil || !useless(err) || fresh {
			return err
		}
		if err := w.rebuild(err); err != nil {
			return err
		}
	}
}

func (w *indexer) workOnce() error {
	if w.db != nil && w.damaged.Swap(false) {
		return errDamaged
	}
	w.mu.Lock()
	settlers := w.settlers
	w.settlers = nil
	w.mu.Unlock()
	err := w.catchUp()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.settlers = append(w.settlers, settlers...)
		return err
	}
	for _, c := range settlers {
		close(c)
	}
	return nil
}

func (w *indexer) catchUp() error {
	if err := w.openFile(); err != nil {
		return err
	}
	if err := w.forget(); err != nil {
		return err
	}
	// What cannot be looked at now is kept for the next time.
	touched, complete := w.feed.Take()
	maps.Copy(w.touched, touched)
	w.behind = w.behind || !complete
	if err := w.compare(); err != nil {
		return err
	}
	for m, a := range w.touched {
		w.changed[a] = true
		if err := w.look(m, a); err != nil {
			return err
		}
		delete(w.touched, m)
	}
	for len(w.pending) > 0 {
		if w.ended() {
			return errEnded
		}
		if err := w.round(); err != nil {
			return err
		}
		if err := w.forget(); err != nil { // a request does not wait for all the rest
			return err
		}
	}
	return w.compactStale()
}

// openFile opens the file where it is not open, and compares it with the store.
func (w *indexer) openFile() error {
	if w.db == nil {
		db, err := openDB(w.path)
		if err != nil {
			return err
		}
		w.ids, err = number(db, "SELECT max(coalesce((SELECT max(id) FROM segment), 0), coalesce((SELECT max(id) FROM place), 0))")
		if err != nil {
			return errors.Join(err, db.Close())
		}
		w.db, w.behind = db, true
		w.setReady(true)
	}
	return w.compare()
}

// countDocs makes the figure of documents right.
func (w *indexer) countDocs() error {
	n, err := number(w.db, "SELECT coalesce(sum(live), 0) FROM account")
	w.docs.Store(n)
	return err
}

// rebuild removes a file that is of no use; the next step makes it anew.
func (w *indexer) rebuild(why error) error {
	w.log.Warn("the search index is made anew", "reason", why)
	count(w.count.Rebuilds, 1)
	w.close()
	return sqlite.RemoveDerived(w.path)
}

// close ends the use of the file.
func (w *indexer) close() {
	w.setReady(false)
	if w.db != nil {
		if err := w.db.Close(); err != nil {
			w.log.Warn("close the search index", "error", err)
		}
		w.db = nil
	}
	clear(w.pending)
	clear(w.waits)
	w.docs.Store(0)
	w.lag.Store(0)
}

// forget drops what Reindex asked for, and has it indexed anew.
func (w *indexer) forget() error {
	w.mu.Lock()
	w.taken = append(w.taken, w.requests...)
	w.requests = nil
	w.mu.Unlock()
	for len(w.taken) > 0 {
		r := w.taken[0]
		if r.account == 0 {
			w.close()
			if err := sqlite.RemoveDerived(w.path); err != nil {
				return err
			}
			if err := w.openFile(); err != nil {
				return err
			}
		} else if err := w.restart(r.account); err != nil {
			return err
		}
		*r.status = w.Status()
		close(r.taken)
		w.taken = w.taken[1:]
	}
	return nil
}

// restart drops an account from the index and has its mailboxes looked at.
func (w *indexer) restart(a mailstore.AccountID) error {
	if err := within(w.db, func() error { return dropAccount(w.db, a) }); err != nil {
		return err
	}
	if err := w.countDocs(); err != nil {
		return err
	}
	boxes, err := w.mailboxes(a)
	for _, b := range boxes {
		w.wait(b.ID, a, int64(b.UIDNext)-1)
	}
	return err
}

func (w *indexer) mailboxes(a mailstore.AccountID) (boxes []mailstore.Mailbox, err error) {
	err = view(context.Background(), w.store, func(v *mailstore.View) error {
		boxes, err = v.Mailboxes(a)
		return err
	})
	return boxes, err
}

// wait notes that so many messages of a mailbox wait to be indexed.
func (w *indexer) wait(m mailstore.MailboxID, a mailstore.AccountID, n int64) {
	w.lag.Add(n - w.waits[m])
	if n == 0 {
		delete(w.pending, m)
		delete(w.waits, m)
		return
	}
	w.pending[m] = a
	w.waits[m] = n
}

// compare looks for all that is in the store and not in the index, or the other
// way round, unless that was done and nothing was missed since.
func (w *indexer) compare() error {
	if !w.behind {
		return nil
	}
	var accounts []mailstore.Account
	err := view(context.Background(), w.store, func(v *mailstore.View) (err error) {
		accounts, err = v.Accounts()
		return err
	})
	if err != nil {
		return err
	}
	known := make(map[mailstore.AccountID]bool, len(accounts))
	for _, a := range accounts {
		if w.ended() {
			return errEnded
		}
		known[a.ID] = true
		if err := w.compareAccount(a.ID); err != nil {
			return err
		}
	}
	var gone []mailstore.AccountID
	err = w.db.Query("SELECT id FROM account UNION SELECT account FROM mailbox", nil, func(r sqlite.Row) bool {
		if a := mailstore.AccountID(r.Int(0)); !known[a] {
			gone = append(gone, a)
		}
		return true
	})
	for _, a := range gone {
		if err == nil {
			err = within(w.db, func() error { return dropAccount(w.db, a) })
		}
	}
	if err == nil {
		err = w.countDocs()
	}
	w.behind = err != nil
	return err
}

func (w *indexer) compareAccount(a mailstore.AccountID) error {
	boxes, err := w.mailboxes(a)
	if err != nil {
		return err
	}
	have := make(map[mailstore.MailboxID]box)
	err = w.db.Query("SELECT id, validity, watermark FROM mailbox WHERE account = ?", args(int64(a)), func(r sqlite.Row) bool {
		have[mailstore.MailboxID(r.Int(0))] = box{a, uint32(r.Int(1)), mailstore.UID(r.Int(2))}
		return true
	})
	if err != nil {
		return err
	}
	w.changed[a] = true
	for _, b := range boxes {
		known, ok := have[b.ID]
		delete(have, b.ID)
		if ok && known.foreign(b) {
			w.log.Warn("the search index is not of this store: the account is indexed anew", "account", a)
			return w.restart(a)
		}
		w.wait(b.ID, a, int64(b.UIDNext)-int64(max(known.watermark, 1)))
	}
	for m := range have {
		if err := within(w.db, func() error { return dropBox(w.db, m) }); err != nil {
			return err
		}
	}
	return nil
}

// foreign tells whether b is not what a mailbox of this store has become: the
// store is a copy from before.
func (b box) foreign(now mailstore.Mailbox) bool {
	return b.account != now.Account || b.validity != now.UIDValidity || b.watermark > now.UIDNext
}

// look finds out whether a mailbox that a commit touched has something to index.
func (w *indexer) look(m mailstore.MailboxID, a mailstore.AccountID) error {
	var now mailstore.Mailbox
	err := view(context.Background(), w.store, func(v *mailstore.View) (err error) {
		now, err = v.Mailbox(m)
		return err
	})
	if errors.Is(err, mailstore.ErrNotFound) {
		w.wait(m, a, 0)
		return w.dropGone(m, a)
	}
	if err != nil {
		return err
	}
	known, err := readBox(w.db, m)
	if err != nil {
		return err
	}
	if known == nil {
		known = &box{watermark: 1}
	}
	w.wait(m, a, max(int64(now.UIDNext)-int64(known.watermark), 0))
	return nil
}

// dropGone forgets a mailbox that was deleted, and its account with it where
// that was, too.
func (w *indexer) dropGone(m mailstore.MailboxID, a mailstore.AccountID) error {
	err := view(context.Background(), w.store, func(v *mailstore.View) error {
		_, err := v.Account(a)
		return err
	})
	switch {
	case errors.Is(err, mailstore.ErrNotFound):
		delete(w.changed, a)
		if err := within(w.db, func() error { return dropAccount(w.db, a) }); err != nil {
			return err
		}
		return w.countDocs()
	case err != nil:
		return err
	}
	return within(w.db, func() error { return dropBox(w.db, m) })
}
