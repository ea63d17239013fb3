package node

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"postrider/internal/directory"
	"postrider/internal/transfer"
	"postrider/mailstore"
	"postrider/mta"
	"postrider/mta/queue"
	"postrider/mta/route"
	"postrider/pop3"
)

// Admin is what commands can do to a node. Its methods have the form that
// net/rpc serves; errors are for the person who typed the command. A list in a
// result is never nil: JSON-RPC takes null for a missing result.
type Admin struct {
	n       *Node
	base    context.Context // of every command; ends with the node
	session session
	refill  func() // lets the connection send as much again; nil = it has no limit
}

// adminPatience bounds one command.
const adminPatience = time.Minute

// command begins a command whose result is err: its time is bounded, and a
// panic in it is an error to the one who gave it.
func (a *Admin) command(err *error) (ctx context.Context, end func()) {
	ctx, cancel := context.WithTimeout(a.base, adminPatience)
	return ctx, func() {
		cancel()
		if v := recover(); v != nil {
			a.n.panics.Add(1)
			a.n.log.Error("panic in a command", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			*err = errors.New("a fault of the program: the server's log has the details")
		}
	}
}

// None is an empty argument or result.
type None struct{}

// Status is what `init` and the start-up text tell of a node.
type Status struct {
	Hostname string
	Domains  []string
	Version  string
	Started  time.Time
	Queue    int
}

// Status describes the node.
func (a *Admin) Status(_ None, reply *Status) (err error) {
	ctx, end := a.command(&err)
	defer end()
	domains, err := a.n.Directory.Domains(ctx)
	if err != nil {
		return err
	}
	*reply = Status{Hostname: a.n.options.Hostname, Domains: domains, Version: Version(), Started: a.n.started}
	return a.n.Store.View(ctx, func(v *mailstore.View) (err error) {
		reply.Queue, err = v.QueueLength()
		return err
	})
}

// DomainAdd adds a domain.
func (a *Admin) DomainAdd(name string, _ *None) (err error) {
	ctx, end := a.command(&err)
	defer end()
	defer a.n.own.look() // our own zones have its records
	return a.n.Directory.AddDomain(ctx, name)
}

// DomainRemove removes a domain without accounts.
func (a *Admin) DomainRemove(name string, _ *None) (err error) {
	ctx, end := a.command(&err)
	defer end()
	defer a.n.own.look()
	return a.n.Directory.RemoveDomain(ctx, name)
}

// DomainList lists the domains in order of creation.
func (a *Admin) DomainList(_ None, reply *[]string) (err error) {
	ctx, end := a.command(&err)
	defer end()
	domains, err := a.n.Directory.Domains(ctx)
	*reply = append([]string{}, domains...)
	return err
}

// UserArgs names an account and its new password.
type UserArgs struct{ Address, Password string }

// UserAdd creates an account.
func (a *Admin) UserAdd(args UserArgs, _ *None) (err error) {
	ctx, end := a.command(&err)
	defer end()
	return a.n.Directory.AddAccount(ctx, args.Address, args.Password)
}

// UserPasswd replaces an account's password.
func (a *Admin) UserPasswd(args UserArgs, _ *None) (err error) {
	ctx, end := a.command(&err)
	defer end()
	return a.n.Directory.SetPassword(ctx, args.Address, args.Password)
}

// UserRemove removes an account with its mail.
func (a *Admin) UserRemove(address string, _ *None) (err error) {
	ctx, end := a.command(&err)
	defer end()
	account, err := a.n.Directory.Account(ctx, address)
	if err != nil {
		return err
	}
	if err := a.n.Directory.RemoveAccount(ctx, address); err != nil {
		return err
	}
	return errors.Join(transfer.ForgetAccount(ctx, a.n.Store, account.ID), pop3.ForgetAccount(ctx, a.n.Store, account.ID))
}

// CertificateArgs names an account and a certificate of it.
type CertificateArgs struct {
	Address     string // "" in CertificateList: of all accounts
	PEM         string // for CertificateAdd
	Fingerprint string // for CertificateRemove: at least its beginning
}

// CertificateAdd lets a TLS client certificate log an account in.
func (a *Admin) CertificateAdd(args CertificateArgs, reply *directory.Certificate) (err error) {
	ctx, end := a.command(&err)
	defer end()
	*reply, err = a.n.Directory.AddCertificate(ctx, args.Address, []byte(args.PEM))
	return err
}

// CertificateList lists the certificates of one account, or of all.
func (a *Admin) CertificateList(args CertificateArgs, reply *[]directory.Certificate) (err error) {
	ctx, end := a.command(&err)
	defer end()
	*reply, err = a.n.Directory.Certificates(ctx, args.Address)
	return err
}

// CertificateRemove ends what CertificateAdd began.
func (a *Admin) CertificateRemove(args CertificateArgs, _ *None) (err error) {
	ctx, end := a.command(&err)
	defer end()
	return a.n.Directory.RemoveCertificate(ctx, args.Address, args.Fingerprint)
}

// User is one line of `user list`.
type User struct {
	Address  string    `json:"address"`
	Created  time.Time `json:"created"`
	Messages int64     `json:"messages"`
	Size     int64     `json:"size"` // octets
	Shared   bool      `json:"shared,omitempty"`
	// Limits in force; 0 = none.
	StorageLimit  int64 `json:"storage_limit,omitempty"` // octets
	MessagesLimit int64 `json:"messages_limit,omitempty"`
}

// UserList lists the accounts.
func (a *Admin) UserList(_ None, reply *[]User) (err error) {
	ctx, end := a.command(&err)
	defer end()
	return a.n.Store.View(ctx, func(v *mailstore.View) error {
		accounts, err := v.Accounts()
		if err != nil {
			return err
		}
		*reply = []User{}
		for _, acct := range accounts {
			used, limit, err := v.Usage(acct.ID)
			if err != nil {
				return err
			}
			*reply = append(*reply, User{Address: acct.Address, Shared: acct.Shared, Created: acct.Created, Messages: used.Messages, Size: used.Storage,
				StorageLimit: max(limit.Storage, 0), MessagesLimit: max(limit.Messages, 0)})
		}
		return nil
	})
}

// QuotaArgs names an account or a domain and what to change of its quota; nil
// leaves a limit as it is, 0 is the default, -1 none.
type QuotaArgs struct {
	Name              string
	Storage, Messages *int64
}

// QuotaSet changes the quota of an account or a domain. What waits for room there
// is tried at once.
func (a *Admin) QuotaSet(args QuotaArgs, _ *None) (err error) {
	ctx, end := a.command(&err)
	defer end()
	if err := a.n.Directory.SetQuota(ctx, args.Name, directory.QuotaChange{Storage: args.Storage, Messages: args.Messages}); err != nil {
		return err
	}
	if err := a.n.retryFull(ctx, args.Name); err != nil {
		return fmt.Errorf("the limit is set, and what waits for room comes within 15 minutes: %w", err)
	}
	return nil
}

// retryFull tries what waits for room in an account or in those of a domain.
func (n *Node) retryFull(ctx context.Context, name string) error {
	waits := "" // of a domain: all, since a try costs little
	if account, err := n.Directory.Account(ctx, name); err == nil {
		waits = account.Address
	}
	return n.queue.RetryFull(ctx, waits)
}

// setQuota is what an administrator does over IMAP.
func (n *Node) setQuota(ctx context.Context, address string, q mailstore.Quota) error {
	if err := n.Directory.SetQuota(ctx, address, directory.QuotaChange{Storage: &q.Storage, Messages: &q.Messages}); err != nil {
		return err
	}
	if err := n.retryFull(ctx, address); err != nil {
		n.log.Warn("try again what waits for a full account", "account", address, "error", err)
	}
	return nil
}

// Quota is one line of `quota show`.
type Quota struct {
	Name     string `json:"name"` // an account's address, or a domain
	Storage  Share  `json:"storage"`
	Messages Share  `json:"messages"`
}

// Share is what is used of one limit.
type Share struct {
	Used  int64 `json:"used"`  // of an account; octets or messages
	Limit int64 `json:"limit"` // in force; 0 = none
	// Set: the limit, or that there is none, was given to this account or domain
	// itself.
	Set bool `json:"set"`
}

func share(used, limit, own int64) Share { return Share{used, max(limit, 0), own != 0} }

// QuotaShow tells the quota of an account, or of a domain and its accounts; of
// all when name is "".
func (a *Admin) QuotaShow(name string, reply *[]Quota) (err error) {
	ctx, end := a.command(&err)
	defer end()
	list, err := a.n.Directory.Quotas(ctx, name)
	*reply = []Quota{}
	for _, q := range list {
		*reply = append(*reply, Quota{q.Name, share(q.Used.Storage, q.Limit.Storage, q.Own.Storage),
			share(q.Used.Messages, q.Limit.Messages, q.Own.Messages)})
	}
	return err
}

// AliasArgs names an alias and targets.
type AliasArgs struct {
	Address string   `json:"address"`
	Targets []string `json:"targets"`
}

// AliasAdd adds targets to an alias.
func (a *Admin) AliasAdd(args AliasArgs, _ *None) (err error) {
	ctx, end := a.command(&err)
	defer end()
	return a.n.Directory.AddAlias(ctx, args.Address, args.Targets)
}

// AliasRemove removes targets, or the alias when none are named.
func (a *Admin) AliasRemove(args AliasArgs, _ *None) (err error) {
	ctx, end := a.command(&err)
	defer end()
	return a.n.Directory.RemoveAlias(ctx, args.Address, args.Targets)
}

// AliasList lists the aliases.
func (a *Admin) AliasList(_ None, reply *[]AliasArgs) (err error) {
	ctx, end := a.command(&err)
	defer end()
	aliases, err := a.n.Directory.Aliases(ctx)
	*reply = []AliasArgs{}
	for _, al := range aliases {
		*reply = append(*reply, AliasArgs{al.Address, al.Targets})
	}
	return err
}

// CheckArgs names an address, and the name server to ask where it is not the
// configured one.
type CheckArgs struct{ Address, Server string }

// CheckAddress explains what would become of mail for an address.
func (a *Admin) CheckAddress(args CheckArgs, reply *route.Explanation) (err error) {
	ctx, end := a.command(&err)
	defer end()
	addr, err := mta.ParseAddress(args.Address)
	if err != nil {
		return err
	}
	router := a.n.router
	if args.Server != "" {
		resolver, err := a.n.newResolver(args.Server)
		if err != nil {
			return err
		}
		router = a.n.newRouter(resolver)
	}
	*reply = router.Explain(ctx, addr)
	return nil
}

// maxListed is how many lines, of messages and recipients, one QueueList gives
// before it ends with the message that reached it.
const maxListed = 5000

// QueuePage asks for what is behind the message of that number; 0 = from the start.
type QueuePage struct{ After mailstore.QueueID }

// QueueListing is what waits, oldest first.
type QueueListing struct {
	Items []queue.Item
	Next  mailstore.QueueID // there may be others behind it; 0 = no
}

// QueueList lists a part of what is in the queue.
func (a *Admin) QueueList(page QueuePage, reply *QueueListing) (err error) {
	ctx, end := a.command(&err)
	defer end()
	lines := 0
	return a.n.queue.List(ctx, page.After, func(n mailstore.QueueID, i queue.Item) bool {
		reply.Items = append(reply.Items, i)
		if lines += 1 + len(i.Recipients); lines >= maxListed {
			reply.Next = n
			return false
		}
		return true
	})
}

// QueueShown is one message of the queue in full.
type QueueShown struct {
	queue.Item
	Header string `json:"header"`
}

// maxShownHeader bounds the header that QueueShow gives.
const maxShownHeader = 64 << 10

// QueueShow shows messages, each with its header.
func (a *Admin) QueueShow(ids []string, reply *[]QueueShown) (err error) {
	ctx, end := a.command(&err)
	defer end()
	*reply = []QueueShown{}
	for _, id := range ids {
		item, err := a.n.queue.Show(ctx, id)
		if err != nil {
			return fmt.Errorf("message %s: %w", id, err)
		}
		header, err := a.n.queue.Header(ctx, id, maxShownHeader)
		if err != nil {
			return fmt.Errorf("header of message %s: %w", id, err)
		}
		*reply = append(*reply, QueueShown{item, string(header)})
	}
	return nil
}

// operate runs one of the queue's operations.
func (a *Admin) operate(op func(context.Context, ...string) ([]queue.Change, error), ids []string, reply *[]queue.Change) (err error) {
	ctx, end := a.command(&err)
	defer end()
	changes, err := op(ctx, ids...)
	*reply = append([]queue.Change{}, changes...)
	return err
}

// QueueRetry makes messages due now.
func (a *Admin) QueueRetry(ids []string, reply *[]queue.Change) (err error) {
	return a.operate(a.n.queue.Retry, ids, reply)
}

// QueueHold keeps messages from being tried.
func (a *Admin) QueueHold(ids []string, reply *[]queue.Change) (err error) {
	return a.operate(a.n.queue.Hold, ids, reply)
}

// QueueRelease ends a hold.
func (a *Admin) QueueRelease(ids []string, reply *[]queue.Change) (err error) {
	return a.operate(a.n.queue.Release, ids, reply)
}

// QueueRemove throws messages away.
func (a *Admin) QueueRemove(ids []string, reply *[]queue.Change) (err error) {
	return a.operate(a.n.queue.Remove, ids, reply)
}
