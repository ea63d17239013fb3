package mailstore

import (
	"context"
	"sync"
)

// boxNames remembers which mailboxes have which names, as they were committed. A
// snapshot forgets at each commit all that it has read: to look a name up anew for
// every message that arrives costs more than to store some of them.
type boxNames struct {
	mu       sync.Mutex
	accounts map[AccountID]map[string]named
	n        int    // of names
	changes  uint64 // commits that changed a list of mailboxes
}

// named is what a name stands for.
type named struct {
	id         MailboxID
	subscribed bool
}

func (b *boxNames) get(a AccountID, name string) (named, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, ok := b.accounts[a][name]
	return n, ok
}

// at is how many changes there were; put wants it from before the name was read.
func (b *boxNames) at() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changes
}

// put notes what was read, unless a list has changed since.
func (b *boxNames) put(a AccountID, name string, n named, at uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changes != at {
		return
	}
	if b.n >= maxCached || b.accounts == nil {
		b.accounts, b.n = make(map[AccountID]map[string]named), 0
	}
	of := b.accounts[a]
	if of == nil {
		of = make(map[string]named)
		b.accounts[a] = of
	}
	if _, ok := of[name]; !ok {
		b.n++
	}
	of[name] = n
}

// changed forgets the names of accounts whose lists a commit changed.
func (b *boxNames) changed(lists map[AccountID]bool) {
	if len(lists) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changes++
	for a := range lists {
		b.n -= len(b.accounts[a])
		delete(b.accounts, a)
	}
}

// MailboxID finds a mailbox by its name, as View.MailboxByName does, as things are
// now: within a View the mailbox can be gone or have another name. It costs next to
// nothing where the name was asked for before.
func (s *Store) MailboxID(ctx context.Context, a AccountID, name string) (MailboxID, error) {
	name, err := CleanName(name)
	if err != nil {
		return 0, ErrNotFound
	}
	if n, ok := s.names.get(a, name); ok {
		return n.id, nil
	}
	at := s.names.at()
	var box Mailbox
	err = s.View(ctx, func(v *View) error {
		box, err = v.MailboxByName(a, name)
		return err
	})
	if err == nil {
		s.names.put(a, name, named{box.ID, box.Subscribed}, at)
	}
	return box.ID, err
}

// listed tells whether the transaction, or another of its batch, changed the
// account's list of mailboxes: then what was committed does not count.
func (tx *Tx) listed(a AccountID) bool { return tx.lists[a] || tx.b.lists[a] }

// remembered finds a mailbox of a clean name without reading, where it can.
func (tx *Tx) remembered(a AccountID, name string) (Mailbox, bool) {
	if tx.listed(a) {
		return Mailbox{}, false
	}
	n, ok := tx.b.s.names.get(a, name)
	if !ok {
		return Mailbox{}, false
	}
	row, err := tx.box(n.id)
	if err != nil || row.Account != a || row.Name != name {
		return Mailbox{}, false
	}
	box := row.Mailbox
	box.Subscribed = n.subscribed
	return box, true
}

// remember notes a mailbox that was read. Nothing is committed meanwhile.
func (tx *Tx) remember(box *Mailbox) {
	if !tx.listed(box.Account) {
		names := &tx.b.s.names
		names.put(box.Account, box.Name, named{box.ID, box.Subscribed}, names.at())
	}
}
