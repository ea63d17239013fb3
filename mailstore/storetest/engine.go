package storetest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"postrider/mailstore"
)

// Engine is the model engine: it keeps everything in memory, in the plainest
// way that keeps the promises. Snapshots share what did not change. A new
// Engine on the same Disk sees what was committed there.
type Engine struct{ disk *Disk }

// Disk is what a model engine keeps its rows and files on; it stays when the
// engine is closed.
type Disk struct {
	mu    sync.Mutex
	rows  rows
	files map[string][]byte
	names int
	fault func(op string) error
}

// Operations of the engine that SetFault can make fail.
const (
	OpBegin      = "begin"
	OpWrite      = "write" // of rows
	OpCommit     = "commit"
	OpSnapshot   = "snapshot"
	OpCreateFile = "create file"
	OpWriteFile  = "write file"
	OpCommitFile = "commit file"
	OpOpenFile   = "open file"
	OpRemoveFile = "remove file"
)

// SetFault has fn asked before each operation; an error from it is the
// operation's, which then does nothing. nil ends it.
func (e *Engine) SetFault(fn func(op string) error) {
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	e.disk.fault = fn
}

// failed asks for the fault of an operation.
func (d *Disk) failed(op string) error {
	d.mu.Lock()
	fn := d.fault
	d.mu.Unlock()
	if fn == nil {
		return nil
	}
	return fn(op)
}

// Damage changes the stored bytes of a body: an inline one's, or its file's.
func (e *Engine) Damage(id mailstore.BodyID, change func([]byte)) error {
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	b, ok := e.disk.rows.bodies.get(id)
	if !ok {
		return mailstore.ErrNotFound
	}
	if b.File != "" {
		data := bytes.Clone(e.disk.files[b.File])
		change(data)
		e.disk.files[b.File] = data
		return nil
	}
	b.Data = bytes.Clone(b.Data)
	change(b.Data)
	e.disk.rows.bodies = e.disk.rows.bodies.put(id, b)
	return nil
}

// NewEngine returns an engine on a new disk.
func NewEngine() *Engine { return NewDisk().Engine() }

// NewDisk returns an empty disk.
func NewDisk() *Disk { return &Disk{rows: newRows(), files: make(map[string][]byte)} }

// Engine returns an engine on the disk; there should be one at a time.
func (d *Disk) Engine() *Engine { return &Engine{disk: d} }

// Reopen returns an engine on the same disk, as after a restart.
func (e *Engine) Reopen() *Engine { return e.disk.Engine() }

func (e *Engine) Close() error { return nil }

// Begin starts the write transaction.
func (e *Engine) Begin() (mailstore.Writer, error) {
	if err := e.disk.failed(OpBegin); err != nil {
		return nil, err
	}
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	return &transaction{rows: e.disk.rows, disk: e.disk}, nil
}

// Snapshot returns a reader of what is committed.
func (e *Engine) Snapshot(ctx context.Context) (mailstore.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := e.disk.failed(OpSnapshot); err != nil {
		return nil, err
	}
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	return &snapshot{e.disk.rows}, nil
}

type snapshot struct{ rows }

func (*snapshot) Close() {}

// CreateFile begins a file.
func (e *Engine) CreateFile() (mailstore.BodyFile, error) {
	if err := e.disk.failed(OpCreateFile); err != nil {
		return nil, err
	}
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	e.disk.names++
	return &file{disk: e.disk, name: fmt.Sprintf("file%d", e.disk.names)}, nil
}

type file struct {
	disk *Disk
	name string
	data []byte
}

func (f *file) Name() string { return f.name }
func (f *file) Abort()       {}

func (f *file) Write(p []byte) (int, error) {
	if err := f.disk.failed(OpWriteFile); err != nil {
		return 0, err
	}
	f.data = append(f.data, p...)
	return len(p), nil
}

func (f *file) Commit() (mailstore.Content, error) {
	if err := f.disk.failed(OpCommitFile); err != nil {
		return nil, err
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.files[f.name] = f.data
	return content{bytes.NewReader(f.data)}, nil
}

type content struct{ *bytes.Reader }

func (content) Close() error { return nil }

// OpenFile opens a file for reading.
func (e *Engine) OpenFile(name string) (mailstore.Content, error) {
	if err := e.disk.failed(OpOpenFile); err != nil {
		return nil, err
	}
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	data, ok := e.disk.files[name]
	if !ok {
		return nil, mailstore.ErrNotFound
	}
	return content{bytes.NewReader(data)}, nil
}

// RemoveFile removes a file.
func (e *Engine) RemoveFile(name string) error {
	if err := e.disk.failed(OpRemoveFile); err != nil {
		return err
	}
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	delete(e.disk.files, name)
	return nil
}

// Files lists the files.
func (e *Engine) Files(fn func(name string) bool) error {
	e.disk.mu.Lock()
	var names []string
	for name := range e.disk.files {
		names = append(names, name)
	}
	e.disk.mu.Unlock()
	slices.Sort(names)
	for _, name := range names {
		if !fn(name) {
			break
		}
	}
	return nil
}

// Keys of rows.
type (
	ownedName struct {
		account mailstore.AccountID
		name    string
	}
	blockKey struct {
		mailbox mailstore.MailboxID
		first   mailstore.UID
	}
	expungeKey struct {
		mailbox mailstore.MailboxID
		modSeq  mailstore.ModSeq
		first   mailstore.UID
	}
	annotationKey struct {
		account mailstore.AccountID
		mailbox mailstore.MailboxID
		entry   string
		user    mailstore.AccountID
	}
	aclKey struct {
		mailbox    mailstore.MailboxID
		identifier string
	}
	urlKeyKey struct {
		account mailstore.AccountID
		mailbox mailstore.MailboxID
	}
	threadKey struct {
		account mailstore.AccountID
		key     int64
	}
	recipientKey struct {
		item  mailstore.QueueID
		index int
	}
	dueKey struct {
		next time.Time
		recipientKey
	}
)

func (a ownedName) compare(b ownedName) int {
	return cmp.Or(cmp.Compare(a.account, b.account), strings.Compare(a.name, b.name))
}

func (a blockKey) compare(b blockKey) int {
	return cmp.Or(cmp.Compare(a.mailbox, b.mailbox), cmp.Compare(a.first, b.first))
}

func (a expungeKey) compare(b expungeKey) int {
	return cmp.Or(cmp.Compare(a.mailbox, b.mailbox), cmp.Compare(a.modSeq, b.modSeq), cmp.Compare(a.first, b.first))
}

func (a annotationKey) compare(b annotationKey) int {
	return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(a.mailbox, b.mailbox), strings.Compare(a.entry, b.entry), cmp.Compare(a.user, b.user))
}

func (a aclKey) compare(b aclKey) int {
	return cmp.Or(cmp.Compare(a.mailbox, b.mailbox), strings.Compare(a.identifier, b.identifier))
}

func (a urlKeyKey) compare(b urlKeyKey) int {
	return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(a.mailbox, b.mailbox))
}

func (a threadKey) compare(b threadKey) int {
	return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(a.key, b.key))
}

func (a recipientKey) compare(b recipientKey) int {
	return cmp.Or(cmp.Compare(a.item, b.item), cmp.Compare(a.index, b.index))
}

func (a dueKey) compare(b dueKey) int {
	return cmp.Or(a.next.Compare(b.next), a.recipientKey.compare(b.recipientKey))
}

// rows is the whole index. A copy of it is a snapshot.
type rows struct {
	counters      tree[string, int64]
	settings      tree[string, []byte]
	domains       tree[int, mailstore.Domain] // by order of creation
	domainCount   int
	aliases       tree[string, mailstore.Alias]
	accounts      tree[mailstore.AccountID, mailstore.Account]
	usages        tree[mailstore.AccountID, mailstore.Usage]
	mailboxes     tree[mailstore.MailboxID, mailstore.MailboxRow]
	subscriptions tree[ownedName, bool]
	annotations   tree[annotationKey, mailstore.AnnotationRow]
	acls          tree[aclKey, mailstore.ACLRow]
	urlKeys       tree[urlKeyKey, []byte]
	blocks        tree[blockKey, mailstore.BlockRow]
	expunges      tree[expungeKey, mailstore.ExpungeRow]
	bodies        tree[mailstore.BodyID, mailstore.BodyRow]
	contents      tree[mailstore.BodyID, []byte]
	threads       tree[threadKey, mailstore.ThreadID]
	held          tree[mailstore.HeldID, mailstore.HeldRow]
	items         tree[mailstore.QueueID, mailstore.QueueRow]
	recipients    tree[recipientKey, mailstore.QueueRecipient]
	due           tree[dueKey, bool]
}

func newRows() rows {
	return rows{
		counters:      tree[string, int64]{compare: strings.Compare},
		settings:      tree[string, []byte]{compare: strings.Compare},
		domains:       tree[int, mailstore.Domain]{compare: cmp.Compare[int]},
		aliases:       tree[string, mailstore.Alias]{compare: strings.Compare},
		accounts:      tree[mailstore.AccountID, mailstore.Account]{compare: cmp.Compare[mailstore.AccountID]},
		usages:        tree[mailstore.AccountID, mailstore.Usage]{compare: cmp.Compare[mailstore.AccountID]},
		mailboxes:     tree[mailstore.MailboxID, mailstore.MailboxRow]{compare: cmp.Compare[mailstore.MailboxID]},
		subscriptions: tree[ownedName, bool]{compare: ownedName.compare},
		annotations:   tree[annotationKey, mailstore.AnnotationRow]{compare: annotationKey.compare},
		acls:          tree[aclKey, mailstore.ACLRow]{compare: aclKey.compare},
		urlKeys:       tree[urlKeyKey, []byte]{compare: urlKeyKey.compare},
		blocks:        tree[blockKey, mailstore.BlockRow]{compare: blockKey.compare},
		expunges:      tree[expungeKey, mailstore.ExpungeRow]{compare: expungeKey.compare},
		bodies:        tree[mailstore.BodyID, mailstore.BodyRow]{compare: cmp.Compare[mailstore.BodyID]},
		contents:      tree[mailstore.BodyID, []byte]{compare: cmp.Compare[mailstore.BodyID]},
		threads:       tree[threadKey, mailstore.ThreadID]{compare: threadKey.compare},
		held:          tree[mailstore.HeldID, mailstore.HeldRow]{compare: cmp.Compare[mailstore.HeldID]},
		items:         tree[mailstore.QueueID, mailstore.QueueRow]{compare: cmp.Compare[mailstore.QueueID]},
		recipients:    tree[recipientKey, mailstore.QueueRecipient]{compare: recipientKey.compare},
		due:           tree[dueKey, bool]{compare: dueKey.compare},
	}
}

// found turns a map's answer into a getter's.
func found[V any](v V, ok bool) (V, error) {
	if !ok {
		return v, mailstore.ErrNotFound
	}
	return v, nil
}

// first finds the first value that is good.
func first[K, V any](t tree[K, V], start K, good func(V) bool) (V, error) {
	var hit V
	err := mailstore.ErrNotFound
	t.from(start, func(_ K, v V) bool {
		if !good(v) {
			return true
		}
		hit, err = v, nil
		return false
	})
	return hit, err
}

func (r *rows) Annotations(a mailstore.AccountID, m mailstore.MailboxID, fn func(mailstore.AnnotationRow) bool) error {
	r.annotations.from(annotationKey{account: a, mailbox: m}, func(k annotationKey, row mailstore.AnnotationRow) bool {
		return k.account == a && k.mailbox == m && fn(row)
	})
	return nil
}

func (r *rows) AnnotationUsage(a mailstore.AccountID) (n int, octets int64, err error) {
	r.annotations.from(annotationKey{account: a}, func(k annotationKey, row mailstore.AnnotationRow) bool {
		if k.account != a {
			return false
		}
		n++
		octets += int64(len(row.Entry) + len(row.Value))
		return true
	})
	return n, octets, nil
}

func (r *rows) ACL(m mailstore.MailboxID, fn func(mailstore.ACLRow) bool) error {
	r.acls.from(aclKey{mailbox: m}, func(k aclKey, row mailstore.ACLRow) bool {
		return k.mailbox == m && fn(row)
	})
	return nil
}

func (r *rows) Granted(identifier string, fn func(mailstore.ACLRow) bool) error {
	r.acls.from(aclKey{}, func(_ aclKey, row mailstore.ACLRow) bool {
		return row.Identifier != identifier || fn(row)
	})
	return nil
}

func (r *rows) URLKey(a mailstore.AccountID, m mailstore.MailboxID) ([]byte, error) {
	key, ok := r.urlKeys.get(urlKeyKey{a, m})
	return found(bytes.Clone(key), ok)
}

func (r *rows) Counter(name string) (int64, error) {
	v, _ := r.counters.get(name)
	return v, nil
}

func (r *rows) Setting(key string) ([]byte, error) {
	v, ok := r.settings.get(key)
	return found(bytes.Clone(v), ok)
}

func (r *rows) Domain(name string) (mailstore.Domain, error) {
	return first(r.domains, 0, func(d mailstore.Domain) bool { return d.Name == name })
}

func (r *rows) Domains(fn func(mailstore.Domain) bool) error {
	r.domains.from(0, func(_ int, d mailstore.Domain) bool { return fn(d) })
	return nil
}

func (r *rows) Alias(address string) (mailstore.Alias, error) {
	return found(r.aliases.get(address))
}

func (r *rows) Aliases(fn func(mailstore.Alias) bool) error {
	r.aliases.from("", func(_ string, a mailstore.Alias) bool { return fn(a) })
	return nil
}

func (r *rows) Account(id mailstore.AccountID) (mailstore.Account, error) {
	return found(r.accounts.get(id))
}

func (r *rows) AccountByAddress(address string) (mailstore.Account, error) {
	return first(r.accounts, 0, func(a mailstore.Account) bool { return a.Address == address })
}

func (r *rows) Accounts(fn func(mailstore.Account) bool) error {
	r.accounts.from(0, func(_ mailstore.AccountID, a mailstore.Account) bool { return fn(a) })
	return nil
}

func (r *rows) Usage(a mailstore.AccountID) (mailstore.Usage, error) {
	u, _ := r.usages.get(a)
	return u, nil
}

func (r *rows) Mailbox(id mailstore.MailboxID) (mailstore.MailboxRow, error) {
	return found(r.mailboxes.get(id))
}

func (r *rows) MailboxByName(a mailstore.AccountID, name string) (mailstore.MailboxRow, error) {
	return first(r.mailboxes, 0, func(m mailstore.MailboxRow) bool { return m.Account == a && m.Name == name })
}

func (r *rows) Mailboxes(a mailstore.AccountID, fn func(mailstore.MailboxRow) bool) error {
	r.mailboxes.from(0, func(_ mailstore.MailboxID, m mailstore.MailboxRow) bool {
		return m.Account != a || fn(m)
	})
	return nil
}

func (r *rows) CountMailboxes(a mailstore.AccountID) (int, error) {
	n := 0
	err := r.Mailboxes(a, func(mailstore.MailboxRow) bool {
		n++
		return true
	})
	return n, err
}

func (r *rows) Subscribed(a mailstore.AccountID, name string) (bool, error) {
	v, _ := r.subscriptions.get(ownedName{a, name})
	return v, nil
}

func (r *rows) Subscriptions(a mailstore.AccountID, fn func(string) bool) error {
	r.subscriptions.from(ownedName{a, ""}, func(k ownedName, _ bool) bool {
		return k.account == a && fn(k.name)
	})
	return nil
}

func (r *rows) Blocks(m mailstore.MailboxID, fn func(*mailstore.BlockRow) bool) error {
	r.blocks.from(blockKey{mailbox: m}, func(k blockKey, b mailstore.BlockRow) bool {
		b.Data = nil
		return k.mailbox == m && fn(&b)
	})
	return nil
}

func (r *rows) BlockData(m mailstore.MailboxID, first mailstore.UID) ([]byte, error) {
	b, err := found(r.blocks.get(blockKey{m, first}))
	return b.Data, err
}

func (r *rows) Expunges(m mailstore.MailboxID, since mailstore.ModSeq, fn func(mailstore.ExpungeRow) bool) error {
	r.expunges.from(expungeKey{m, since + 1, 0}, func(k expungeKey, e mailstore.ExpungeRow) bool {
		return k.mailbox == m && fn(e)
	})
	return nil
}

func (r *rows) Body(id mailstore.BodyID, data bool) (mailstore.BodyRow, error) {
	b, ok := r.bodies.get(id)
	if !data {
		b.Data, b.Coding = nil, nil
	}
	return found(b, ok)
}

func (r *rows) Bodies(after mailstore.BodyID, fn func(mailstore.BodyRow) bool) error {
	r.bodies.from(after+1, func(_ mailstore.BodyID, b mailstore.BodyRow) bool {
		b.Data, b.Coding = nil, nil
		return fn(b)
	})
	return nil
}

func (r *rows) BodyTexts(from, to mailstore.BodyID, fn func(mailstore.BodyRow) bool) error {
	r.bodies.from(from, func(id mailstore.BodyID, b mailstore.BodyRow) bool {
		b.Refs, b.Hash = 0, [32]byte{}
		return id <= to && fn(b)
	})
	return nil
}

func (r *rows) BodyOfFile(name string) (mailstore.BodyID, error) {
	b, err := first(r.bodies, 0, func(b mailstore.BodyRow) bool { return b.File == name })
	return b.ID, err
}

func (r *rows) Content(id mailstore.BodyID) ([]byte, error) { return found(r.contents.get(id)) }

func (r *rows) Contents(from, to mailstore.BodyID, fn func(mailstore.BodyID, []byte) bool) error {
	r.contents.from(from, func(id mailstore.BodyID, record []byte) bool { return id <= to && fn(id, record) })
	return nil
}

func (r *rows) Thread(a mailstore.AccountID, key int64) (mailstore.ThreadID, error) {
	return found(r.threads.get(threadKey{a, key}))
}

func (r *rows) HeldRow(id mailstore.HeldID) (*mailstore.HeldRow, error) {
	h, err := found(r.held.get(id))
	return &h, err
}

func (r *rows) Held(a mailstore.AccountID, fn func(*mailstore.HeldRow) bool) error {
	r.held.from(0, func(_ mailstore.HeldID, h mailstore.HeldRow) bool {
		return a != 0 && h.Account != a || fn(&h)
	})
	return nil
}

func (r *rows) HeldSizes(fn func(mailstore.AccountID, int64) bool) error {
	sums := map[mailstore.AccountID]int64{}
	r.held.from(0, func(_ mailstore.HeldID, h mailstore.HeldRow) bool {
		sums[h.Account] += h.Size
		return true
	})
	for _, a := range slices.Sorted(maps.Keys(sums)) {
		if !fn(a, sums[a]) {
			break
		}
	}
	return nil
}

func (r *rows) QueueItem(id mailstore.QueueID) (mailstore.QueueRow, error) {
	return found(r.items.get(id))
}

func (r *rows) QueueItems(after mailstore.QueueID, fn func(mailstore.QueueRow) bool) error {
	r.items.from(after+1, func(_ mailstore.QueueID, q mailstore.QueueRow) bool { return fn(q) })
	return nil
}

func (r *rows) Recipients(item mailstore.QueueID, fn func(mailstore.QueueRecipient) bool) error {
	r.recipients.from(recipientKey{item, 0}, func(k recipientKey, q mailstore.QueueRecipient) bool {
		return k.item == item && fn(q)
	})
	return nil
}

func (r *rows) Recipient(item mailstore.QueueID, index int) (mailstore.QueueRecipient, error) {
	return found(r.recipients.get(recipientKey{item, index}))
}

func (r *rows) Due(until time.Time, limit int, skip *mailstore.QueueRecipient) ([]mailstore.QueueRecipient, error) {
	var start dueKey
	if skip != nil {
		start = dueKey{skip.Next, recipientKey{skip.Item, skip.Index + 1}}
	}
	var due []mailstore.QueueRecipient
	r.due.from(start, func(k dueKey, _ bool) bool {
		if len(due) >= limit || k.next.After(until) {
			return false
		}
		q, _ := r.recipients.get(k.recipientKey)
		due = append(due, q)
		return true
	})
	return due, nil
}
