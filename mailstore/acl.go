package mailstore

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"postrider/mta"
)

// Anyone is the identifier of every account of this server.
const Anyone = "anyone"

// Limits of access control lists.
const (
	MaxACL        = 500 // entries of one mailbox
	MaxIdentifier = 320 // octets
	// MaxGranted is how many mailboxes of others an account can find by each of
	// what means it: its address, its domain and Anyone.
	MaxGranted = 2000
)

var (
	// ErrIdentifier: an identifier that cannot be in an access control list.
	ErrIdentifier = errors.New("bad identifier")
	// ErrOwner: the rights of a mailbox's owner cannot be changed.
	ErrOwner = errors.New("the owner has all rights")
)

// ACLEntry is an entry of the access control list of a mailbox (RFC 4314).
type ACLEntry struct {
	// Identifier is the address of an account, Anyone, or "@domain" for the
	// accounts of a domain; with "-" before it, the rights are taken away from
	// whom other entries give them.
	Identifier string
	Rights     Rights // not 0
}

// ACLRow is an entry with its mailbox. Its rights are as Rights.String writes them.
type ACLRow struct {
	Mailbox    MailboxID
	Identifier string
	Rights     string
}

// entry reads a row; a letter that is no right, which only damage can bring,
// gives none.
func (row *ACLRow) entry() ACLEntry {
	r, err := ParseRights(row.Rights)
	if err != nil {
		r = 0
	}
	return ACLEntry{row.Identifier, r}
}

// identifiers are those that mean an account: its address, its domain, and
// Anyone.
func (a *Account) identifiers() [3]string {
	return [3]string{a.Address, "@" + a.domain(), Anyone}
}

// means tells whether an identifier, without its "-", means the account.
func (a *Account) means(identifier string) bool {
	ids := a.identifiers()
	return slices.Contains(ids[:], identifier)
}

// sum adds entries up to the rights of the account.
func (a *Account) sum(entries []ACLEntry) Rights {
	var given, taken Rights
	for _, e := range entries {
		name, negative := strings.CutPrefix(e.Identifier, "-")
		switch {
		case !a.means(name):
		case negative:
			taken |= e.Rights
		default:
			given |= e.Rights
		}
	}
	return given &^ taken
}

// ACL lists the entries of a mailbox by identifier. Its owner has no entry.
func (v *View) ACL(m MailboxID) ([]ACLEntry, error) {
	var list []ACLEntry
	err := v.r.ACL(m, func(row ACLRow) bool {
		list = append(list, row.entry())
		return true
	})
	return list, err
}

// Rights gives the rights of an account to a mailbox: its owner has all, others
// what the list gives them (all that entries give that mean the account, without
// what negative ones take away). A mailbox or account that is not there gives
// none.
func (v *View) Rights(user AccountID, m MailboxID) (Rights, error) {
	box, err := v.mailbox(m)
	if err != nil {
		return 0, missing(err)
	}
	if box.Account == user {
		return AllRights, nil
	}
	entries, err := v.ACL(m)
	if err != nil || len(entries) == 0 {
		return 0, err
	}
	account, err := v.r.Account(user)
	if err != nil {
		return 0, missing(err)
	}
	return account.sum(entries), nil
}

// Grant is a mailbox of another account to which an account has rights.
type Grant struct {
	Mailbox
	Rights Rights // not 0
}

// Granted lists the mailboxes of other accounts to which an account has any
// rights, by ID, without Subscribed. Beyond MaxGranted the newest mailboxes are left
// out, of those that name it, of those open to its domain and of those open to anyone
// each for itself: so mailboxes that somebody makes and shares hide no older one.
func (v *View) Granted(user AccountID) ([]Grant, error) {
	account, err := v.r.Account(user)
	if err != nil {
		return nil, missing(err)
	}
	given, err := v.grants(&account)
	if err != nil {
		return nil, err
	}
	var list []Grant
	for _, m := range slices.Sorted(maps.Keys(given)) {
		box, err := v.mailbox(m)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if box.Account == user {
			continue
		}
		if given[m] != 0 {
			list = append(list, Grant{box.Mailbox, given[m]})
		}
	}
	return list, nil
}

// grants are the rights of an account by mailbox, its own among them. It reads the
// entries that mean the account and no others: a list can have MaxACL, and who writes
// such lists must not make the sessions of all others slow.
func (v *View) grants(account *Account) (map[MailboxID]Rights, error) {
	given := make(map[MailboxID]Rights)
	for _, id := range account.identifiers() {
		before := len(given)
		err := v.r.Granted(id, func(row ACLRow) bool {
			if had, found := given[row.Mailbox]; found || len(given)-before < MaxGranted {
				given[row.Mailbox] = had | row.entry().Rights
			}
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	for _, id := range account.identifiers() {
		err := v.r.Granted("-"+id, func(row ACLRow) bool {
			if had, found := given[row.Mailbox]; found {
				given[row.Mailbox] = had &^ row.entry().Rights
			}
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	return given, nil
}

// CleanIdentifier checks an identifier and returns it as it is kept. A name without
// "@" is in the first domain. The error is ErrIdentifier where it names no account or
// domain of this server.
func (v *View) CleanIdentifier(identifier string) (string, error) {
	if len(identifier) > MaxIdentifier {
		return "", fmt.Errorf("%w: longer than %d octets", ErrIdentifier, MaxIdentifier)
	}
	name, negative := strings.CutPrefix(identifier, "-")
	sign := ""
	if negative {
		sign = "-"
	}
	if strings.EqualFold(name, Anyone) {
		return sign + Anyone, nil
	}
	if domain, all := strings.CutPrefix(name, "@"); all {
		domain, err := mta.NormalizeDomain(domain)
		if err == nil {
			_, err = v.r.Domain(domain)
		} else {
			err = ErrNotFound
		}
		return sign + "@" + domain, unknown(err, name)
	}
	address, err := v.accountName(name)
	if err == nil {
		_, err = v.r.AccountByAddress(address)
	}
	return sign + address, unknown(err, name)
}

// accountName is the address that a login name stands for: without "@" it is in the
// first domain.
func (v *View) accountName(name string) (string, error) {
	if !strings.Contains(name, "@") {
		first := ""
		err := v.r.Domains(func(d Domain) bool {
			first = d.Name
			return false
		})
		if err != nil {
			return "", err
		}
		name += "@" + first
	}
	a, err := mta.ParseAddress(name)
	if err != nil {
		return "", ErrNotFound
	}
	return a.Fold().String(), nil
}

// unknown is the outcome of looking for whom an identifier names.
func unknown(err error, name string) error {
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: %s is nobody here", ErrIdentifier, name)
	}
	return err
}

// SetACL changes the entry of an identifier, which is as CleanIdentifier returns
// it; one without rights goes. Errors: ErrNotFound for the mailbox, ErrOwner,
// ErrLimit.
func (tx *Tx) SetACL(m MailboxID, identifier string, how RightsChange, rights Rights) error {
	box, err := tx.box(m)
	if err != nil {
		return err
	}
	owner, err := tx.r.Account(box.Account)
	if err != nil {
		return err
	}
	if strings.TrimPrefix(identifier, "-") == owner.Address {
		return ErrOwner
	}
	entries, err := tx.ACL(m)
	if err != nil {
		return err
	}
	old := Rights(0)
	at := slices.IndexFunc(entries, func(e ACLEntry) bool { return e.Identifier == identifier })
	if at >= 0 {
		old = entries[at].Rights
	}
	now := old.combine(how, rights&AllRights)
	switch {
	case now == old:
		return nil
	case at < 0 && len(entries) >= MaxACL:
		return fmt.Errorf("%w: %d entries", ErrLimit, len(entries))
	}
	tx.touchACL(m, box.Account)
	if now == 0 {
		return tx.do(func(w Writer) error { return w.DeleteACL(m, identifier) })
	}
	return tx.do(func(w Writer) error { return w.PutACL(ACLRow{m, identifier, now.String()}) })
}

// isShared tells whether others have rights to a mailbox.
func (tx *Tx) isShared(m MailboxID) (shared bool, err error) {
	err = tx.r.ACL(m, func(ACLRow) bool {
		shared = true
		return false
	})
	return shared, err
}

// touchACL notes that rights to a mailbox changed.
func (tx *Tx) touchACL(m MailboxID, owner AccountID) {
	tx.rights = true
	tx.touch(m, owner)
}

// inheritACL gives a new mailbox the list of the nearest mailbox above it (RFC
// 4314 section 4).
func (tx *Tx) inheritACL(box *MailboxRow) error {
	for name := box.Name; ; {
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return nil
		}
		name = name[:i]
		above, err := tx.r.MailboxByName(box.Account, name)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		rows, err := collect(func(fn func(ACLRow) bool) error { return tx.r.ACL(above.ID, fn) })
		if err != nil {
			return err
		}
		for _, row := range rows {
			row.Mailbox = box.ID
			if err := tx.do(func(w Writer) error { return w.PutACL(row) }); err != nil {
				return err
			}
			tx.rights = true
		}
		return nil
	}
}

// dropIdentifier removes the entries that name an account, or replaces its
// address where it has a new one, so that no other account of the old one
// inherits its rights.
func (tx *Tx) dropIdentifier(address, by string) error {
	for _, sign := range []string{"", "-"} {
		rows, err := collect(func(fn func(ACLRow) bool) error { return tx.r.Granted(sign+address, fn) })
		if err != nil {
			return err
		}
		for _, row := range rows {
			err := tx.do(func(w Writer) error {
				if err := w.DeleteACL(row.Mailbox, row.Identifier); err != nil || by == "" {
					return err
				}
				row.Identifier = sign + by
				return w.PutACL(row)
			})
			if err != nil {
				return err
			}
			tx.rights = true
			if box, err := tx.box(row.Mailbox); err == nil {
				tx.touch(row.Mailbox, box.Account)
			}
		}
	}
	return nil
}

// RightsVersion grows with each commit that changed what Granted lists for anybody;
// it is read without reading the database.
func (s *Store) RightsVersion() uint64 { return s.watch.rights.Load() }
