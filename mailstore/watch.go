package mailstore

import "sync"

// watchers is who waits for changes of what.
type watchers struct {
	mu       sync.Mutex
	boxes    map[MailboxID]map[*Watcher]bool
	accounts map[AccountID]map[*Watcher]bool
}

func (ws *watchers) init() {
	ws.boxes = make(map[MailboxID]map[*Watcher]bool)
	ws.accounts = make(map[AccountID]map[*Watcher]bool)
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
}

func wakeAll(set map[*Watcher]bool) {
	for w := range set {
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
	w := &Watcher{ws: &s.watch, account: a, mailbox: m, c: make(chan struct{}, 1)}
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

func register[K comparable](sets map[K]map[*Watcher]bool, key K, w *Watcher) {
	if sets[key] == nil {
		sets[key] = make(map[*Watcher]bool)
	}
	sets[key][w] = true
}

func unregister[K comparable](sets map[K]map[*Watcher]bool, key K, w *Watcher) {
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
}

// C gets a value after a change; its capacity is 1.
func (w *Watcher) C() <-chan struct{} { return w.c }

// Close ends the subscription. It may be called again.
func (w *Watcher) Close() {
	w.ws.mu.Lock()
	defer w.ws.mu.Unlock()
	if w.mailbox != 0 {
		unregister(w.ws.boxes, w.mailbox, w)
	} else {
		unregister(w.ws.accounts, w.account, w)
	}
}
