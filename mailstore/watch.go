package mailstore

import (
	"sync"
	"sync/atomic"
)

// watchers is who waits for changes of what.
type watchers struct {
	rights atomic.Uint64 // see Store.RightsVersion

	mu       sync.Mutex
	boxes    map[MailboxID]map[*Watcher]bool
	accounts map[AccountID]map[*Watcher]bool
	granted  map[*Watcher]bool // of WatchRights
	feeds    map[*Feed]bool

	annotations map[AccountID]map[*AnnotationWatcher]bool
}

func (ws *watchers) init() {
	ws.boxes = make(map[MailboxID]map[*Watcher]bool)
	ws.accounts = make(map[AccountID]map[*Watcher]bool)
	ws.granted = make(map[*Watcher]bool)
	ws.feeds = make(map[*Feed]bool)
	ws.annotations = make(map[AccountID]map[*AnnotationWatcher]bool)
}

// wake wakes those who watch what a commit changed.
func (ws *watchers) wake(touched map[MailboxID]AccountID, lists map[AccountID]bool) {
	if len(touched) == 0 && len(lists) == 0 {
		return
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for m, a := range touched {
		wakeAll(ws.boxes[m])
		if !lists[a] {
			wakeAll(ws.accounts[a])
		}
	}
	for a := range lists {
		wakeAll(ws.accounts[a])
	}
	for f := range ws.feeds {
		f.addLocked(touched)
	}
}

// wakeGranted notes that rights changed.
func (ws *watchers) wakeGranted() {
	ws.rights.Add(1)
	ws.mu.Lock()
	defer ws.mu.Unlock()
	wakeAll(ws.granted)
}

// WatchRights has fn called as WatchFunc does, after commits that raised
// RightsVersion.
func (s *Store) WatchRights(fn func()) *Watcher {
	w := &Watcher{ws: &s.watch, fn: fn}
	w.ws.mu.Lock()
	defer w.ws.mu.Unlock()
	w.ws.granted[w] = true
	return w
}

func wakeAll(set map[*Watcher]bool) {
	for w := range set {
		if w.fn != nil {
			w.fn()
			continue
		}
		select {
		case w.c <- struct{}{}:
		default: // it has not looked yet since the last
		}
	}
}

// Watch wakes the caller after commits that changed a mailbox. Wake-ups merge:
// after one, ask Changes. m = 0 watches every mailbox of the account and its
// list; m alone hears also of the mailbox's renaming and deletion.
func (s *Store) Watch(a AccountID, m MailboxID) *Watcher {
	return s.enter(&Watcher{account: a, mailbox: m, c: make(chan struct{}, 1)})
}

// WatchFunc is Watch for who has no goroutine to wait: fn is called after each
// such commit, on a goroutine that must not be held up. It is not called after
// Close has returned.
func (s *Store) WatchFunc(a AccountID, m MailboxID, fn func()) *Watcher {
	return s.enter(&Watcher{account: a, mailbox: m, fn: fn})
}

// enter adds a watcher.
func (s *Store) enter(w *Watcher) *Watcher {
	a, m := w.account, w.mailbox
	w.ws = &s.watch
	ws := w.ws
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if m != 0 {
		register(ws.boxes, m, w)
	} else {
		register(ws.accounts, a, w)
	}
	return w
}

func register[K, W comparable](sets map[K]map[W]bool, key K, w W) {
	if sets[key] == nil {
		sets[key] = make(map[W]bool)
	}
	sets[key][w] = true
}

func unregister[K, W comparable](sets map[K]map[W]bool, key K, w W) {
	delete(sets[key], w)
	if len(sets[key]) == 0 {
		delete(sets, key)
	}
}

// Watcher is one subscription to changes.
type Watcher struct {
	ws      *watchers
	account AccountID
	mailbox MailboxID
	c       chan struct{}
	fn      func() // instead of c; nil for none
}

// C gets a value after a change; its capacity is 1. It is nil for WatchFunc.
func (w *Watcher) C() <-chan struct{} { return w.c }

// Close ends the subscription. It may be called again.
func (w *Watcher) Close() {
	w.ws.mu.Lock()
	defer w.ws.mu.Unlock()
	delete(w.ws.granted, w)
	if w.mailbox != 0 {
		unregister(w.ws.boxes, w.mailbox, w)
	} else {
		unregister(w.ws.accounts, w.account, w)
	}
}

// maxFed is how many mailboxes a feed remembers until it is asked.
const maxFed = 10000

// Feed is a subscription to the changes of all mailboxes.
type Feed struct {
	ws   *watchers
	c    chan struct{}
	lost bool // more than maxFed; guarded by ws.mu, as touched is

	touched map[MailboxID]AccountID
}

// WatchAll wakes the caller after commits that changed any mailbox, and tells
// which.
func (s *Store) WatchAll() *Feed {
	f := &Feed{ws: &s.watch, c: make(chan struct{}, 1), touched: make(map[MailboxID]AccountID)}
	f.ws.mu.Lock()
	defer f.ws.mu.Unlock()
	f.ws.feeds[f] = true
	return f
}

// addLocked notes what a commit touched.
func (f *Feed) addLocked(touched map[MailboxID]AccountID) {
	if len(touched) == 0 {
		return
	}
	for m, a := range touched {
		if len(f.touched) == maxFed {
			f.lost = true
			break
		}
		f.touched[m] = a
	}
	select {
	case f.c <- struct{}{}:
	default:
	}
}

// C gets a value after a change; its capacity is 1.
func (f *Feed) C() <-chan struct{} { return f.c }

// Take gives the mailboxes that were changed or deleted since it was
// last called. complete is false where there were too many to remember: any
// may have changed then.
func (f *Feed) Take() (touched map[MailboxID]AccountID, complete bool) {
	f.ws.mu.Lock()
	defer f.ws.mu.Unlock()
	touched, complete = f.touched, !f.lost
	f.touched, f.lost = make(map[MailboxID]AccountID), false
	return touched, complete
}

// Close ends the subscription. It may be called again.
func (f *Feed) Close() {
	f.ws.mu.Lock()
	defer f.ws.mu.Unlock()
	delete(f.ws.feeds, f)
}
