package storetest

import (
	"bytes"
	"errors"
	"math"

	"postrider/mailstore"
)

// transaction is a copy of the rows that takes their place on commit.
type transaction struct {
	rows
	disk *Disk
	mark *rows
}

var errSavepoint = errors.New("savepoints do not nest, and must be there")

func (t *transaction) PutCounter(name string, v int64) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	t.counters = t.counters.put(name, v)
	return nil
}

func (t *transaction) PutSetting(key string, v []byte) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	if v == nil {
		t.settings = t.settings.remove(key)
	} else {
		t.settings = t.settings.put(key, v)
	}
	return nil
}

func (t *transaction) PutDomain(d mailstore.Domain) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	place := 0
	t.domains.from(0, func(k int, old mailstore.Domain) bool {
		if old.Name == d.Name {
			place = k
		}
		return place == 0
	})
	if place == 0 {
		t.domainCount++
		place = t.domainCount
	}
	t.domains = t.domains.put(place, d)
	return nil
}

func (t *transaction) DeleteDomain(name string) error {
	t.domains.from(0, func(k int, d mailstore.Domain) bool {
		if d.Name == name {
			t.domains = t.domains.remove(k)
		}
		return true
	})
	return nil
}

func (t *transaction) PutAlias(a mailstore.Alias) error {
	t.aliases = t.aliases.put(a.Address, a)
	return nil
}

func (t *transaction) DeleteAlias(address string) error {
	t.aliases = t.aliases.remove(address)
	return nil
}

func (t *transaction) PutAccount(a mailstore.Account) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	t.accounts = t.accounts.put(a.ID, a)
	return nil
}

func (t *transaction) DeleteAccount(id mailstore.AccountID) error {
	t.accounts = t.accounts.remove(id)
	return nil
}

func (t *transaction) PutUsage(a mailstore.AccountID, u mailstore.Usage) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	if u == (mailstore.Usage{}) {
		t.usages = t.usages.remove(a)
	} else {
		t.usages = t.usages.put(a, u)
	}
	return nil
}

func (t *transaction) PutMailbox(m mailstore.MailboxRow) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	m.Subscribed = false
	t.mailboxes = t.mailboxes.put(m.ID, m)
	return nil
}

func (t *transaction) DeleteMailbox(id mailstore.MailboxID) error {
	t.mailboxes = t.mailboxes.remove(id)
	return nil
}

func (t *transaction) PutSubscription(a mailstore.AccountID, name string) error {
	t.subscriptions = t.subscriptions.put(ownedName{a, name}, true)
	return nil
}

func (t *transaction) DeleteSubscription(a mailstore.AccountID, name string) error {
	t.subscriptions = t.subscriptions.remove(ownedName{a, name})
	return nil
}

func keyOf(a *mailstore.AnnotationRow) annotationKey {
	return annotationKey{a.Account, a.Mailbox, a.Entry, a.User}
}

func (t *transaction) PutAnnotation(a *mailstore.AnnotationRow) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	t.annotations = t.annotations.put(keyOf(a), *a)
	return nil
}

func (t *transaction) DeleteAnnotation(a *mailstore.AnnotationRow) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	t.annotations = t.annotations.remove(keyOf(a))
	return nil
}

func (t *transaction) DeleteAnnotations(a mailstore.AccountID, m mailstore.MailboxID) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	t.annotations.from(annotationKey{account: a, mailbox: m}, func(k annotationKey, _ mailstore.AnnotationRow) bool {
		if k.account != a || k.mailbox != m {
			return false
		}
		t.annotations = t.annotations.remove(k)
		return true
	})
	return nil
}

func (t *transaction) PutACL(row mailstore.ACLRow) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	t.acls = t.acls.put(aclKey{row.Mailbox, row.Identifier}, row)
	return nil
}

func (t *transaction) DeleteACL(m mailstore.MailboxID, identifier string) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	t.acls = t.acls.remove(aclKey{m, identifier})
	return nil
}

func (t *transaction) DeleteACLs(m mailstore.MailboxID) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	return t.ACL(m, func(row mailstore.ACLRow) bool {
		t.acls = t.acls.remove(aclKey{m, row.Identifier})
		return true
	})
}

func (t *transaction) PutURLKey(a mailstore.AccountID, m mailstore.MailboxID, key []byte) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	t.urlKeys = t.urlKeys.put(urlKeyKey{a, m}, bytes.Clone(key))
	return nil
}

func (t *transaction) DeleteURLKeys(a mailstore.AccountID, m mailstore.MailboxID) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	t.urlKeys.from(urlKeyKey{account: a}, func(k urlKeyKey, _ []byte) bool {
		if a != 0 && k.account != a {
			return false
		}
		if m == 0 || k.mailbox == m {
			t.urlKeys = t.urlKeys.remove(k)
		}
		return true
	})
	return nil
}

func (t *transaction) PutBlock(b *mailstore.BlockRow) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	k := blockKey{b.Mailbox, b.First}
	row := *b
	if row.Data == nil {
		old, ok := t.blocks.get(k)
		if !ok {
			return mailstore.ErrNotFound
		}
		row.Data = old.Data
	}
	t.blocks = t.blocks.put(k, row)
	return nil
}

func (t *transaction) DeleteBlock(m mailstore.MailboxID, first mailstore.UID) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	t.blocks = t.blocks.remove(blockKey{m, first})
	return nil
}

func (t *transaction) DeleteBlocks(m mailstore.MailboxID) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	t.blocks.from(blockKey{mailbox: m}, func(k blockKey, _ mailstore.BlockRow) bool {
		if k.mailbox != m {
			return false
		}
		t.blocks = t.blocks.remove(k)
		return true
	})
	return nil
}

func (t *transaction) PutExpunge(m mailstore.MailboxID, e mailstore.ExpungeRow) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	t.expunges = t.expunges.put(expungeKey{m, e.ModSeq, e.First}, e)
	return nil
}

func (t *transaction) DeleteExpunges(m mailstore.MailboxID, upTo mailstore.ModSeq) error {
	t.expunges.from(expungeKey{mailbox: m}, func(k expungeKey, _ mailstore.ExpungeRow) bool {
		if k.mailbox != m || k.modSeq > upTo {
			return false
		}
		t.expunges = t.expunges.remove(k)
		return true
	})
	return nil
}

func (t *transaction) InsertBody(b *mailstore.BodyRow) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	t.bodies = t.bodies.put(b.ID, *b)
	return nil
}

func (t *transaction) PutContent(id mailstore.BodyID, record []byte) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	t.contents = t.contents.put(id, record)
	return nil
}

func (t *transaction) PutThread(a mailstore.AccountID, key int64, thread mailstore.ThreadID) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	t.threads = t.threads.put(threadKey{a, key}, thread)
	return nil
}

func (t *transaction) DeleteThreads(a mailstore.AccountID) error {
	t.threads.from(threadKey{account: a, key: math.MinInt64}, func(k threadKey, _ mailstore.ThreadID) bool {
		if k.account != a {
			return false
		}
		t.threads = t.threads.remove(k)
		return true
	})
	return nil
}

func (t *transaction) PutHeld(h *mailstore.HeldRow) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	t.held = t.held.put(h.ID, *h)
	return nil
}

func (t *transaction) DeleteHeld(id mailstore.HeldID) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	t.held = t.held.remove(id)
	return nil
}

func (t *transaction) AddRefs(id mailstore.BodyID, n int) error {
	b, ok := t.bodies.get(id)
	if !ok {
		return mailstore.ErrNotFound
	}
	b.Refs += n
	t.bodies = t.bodies.put(id, b)
	return nil
}

func (t *transaction) DropRefs(id mailstore.BodyID, n int) (left int, file string, err error) {
	b, ok := t.bodies.get(id)
	if !ok {
		return 0, "", mailstore.ErrNotFound
	}
	if b.Refs -= n; b.Refs <= 0 {
		t.bodies, t.contents = t.bodies.remove(id), t.contents.remove(id)
		return 0, b.File, nil
	}
	t.bodies = t.bodies.put(id, b)
	return b.Refs, "", nil
}

func (t *transaction) PutQueueItem(q mailstore.QueueRow) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	t.items = t.items.put(q.ID, q)
	return nil
}

func (t *transaction) DeleteQueueItem(id mailstore.QueueID) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	t.items = t.items.remove(id)
	return nil
}

func (t *transaction) PutRecipient(r mailstore.QueueRecipient) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	k := recipientKey{r.Item, r.Index}
	if old, ok := t.recipients.get(k); ok {
		t.due = t.due.remove(dueKey{old.Next, k})
	}
	t.recipients = t.recipients.put(k, r)
	if !r.Held {
		t.due = t.due.put(dueKey{r.Next, k}, true)
	}
	return nil
}

func (t *transaction) DeleteRecipient(item mailstore.QueueID, index int) error {
	if err := t.disk.failed(OpWrite); err != nil {
		return err
	}
	k := recipientKey{item, index}
	old, ok := t.recipients.get(k)
	if !ok {
		return mailstore.ErrNotFound
	}
	t.due = t.due.remove(dueKey{old.Next, k})
	t.recipients = t.recipients.remove(k)
	return nil
}

func (t *transaction) Savepoint() error {
	if t.mark != nil {
		return errSavepoint
	}
	mark := t.rows
	t.mark = &mark
	return nil
}

func (t *transaction) Release() error {
	if t.mark == nil {
		return errSavepoint
	}
	t.mark = nil
	return nil
}

func (t *transaction) RollbackTo() error {
	if t.mark == nil {
		return errSavepoint
	}
	t.rows, t.mark = *t.mark, nil
	return nil
}

func (t *transaction) Commit() error {
	if err := t.disk.failed(OpCommit); err != nil {
		return err
	}
	t.disk.mu.Lock()
	defer t.disk.mu.Unlock()
	t.disk.rows = t.rows
	return nil
}

func (t *transaction) Rollback() error { return nil }
