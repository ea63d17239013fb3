package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"postrider/mailstore"
	"postrider/mta"
)

// maxAliasTargets bounds one alias.
const maxAliasTargets = 1000

// Domains lists our domains; the first is the one of login names without @.
func (d *Directory) Domains(ctx context.Context) ([]string, error) {
	var names []string
	err := d.store.View(ctx, func(v *mailstore.View) error {
		list, err := v.Domains()
		for _, domain := range list {
			names = append(names, domain.Name)
		}
		return err
	})
	return names, err
}

// AddDomain adds a domain that we accept mail for.
func (d *Directory) AddDomain(ctx context.Context, name string) error {
	domain, err := parseDomain(name)
	if err != nil {
		return err
	}
	err = d.update(ctx, func(tx *mailstore.Tx) error { return tx.CreateDomain(domain) })
	if errors.Is(err, mailstore.ErrExists) {
		return fmt.Errorf("domain %s %w", domain, ErrExists)
	}
	return err
}

func parseDomain(name string) (string, error) {
	domain, err := mta.NormalizeDomain(name)
	switch {
	case err != nil:
		return "", fmt.Errorf("domain %q %w: %s", name, ErrInvalid, err)
	case strings.HasPrefix(domain, "["):
		return "", fmt.Errorf("domain %q %w: it is an address, not a name", name, ErrInvalid)
	}
	return domain, nil
}

// RemoveDomain removes a domain; ErrInUse while it has accounts or aliases.
func (d *Directory) RemoveDomain(ctx context.Context, name string) error {
	domain, err := parseDomain(name)
	if err != nil {
		return err
	}
	return d.update(ctx, func(tx *mailstore.Tx) error {
		if err := inUse(&tx.View, domain); err != nil {
			return err
		}
		err := tx.DeleteDomain(domain)
		if errors.Is(err, mailstore.ErrNotFound) {
			return fmt.Errorf("%s: %w", domain, ErrNoDomain)
		}
		return err
	})
}

// inUse returns ErrInUse while addresses are in the domain.
func inUse(v *mailstore.View, domain string) error {
	accounts, err := v.Accounts()
	if err != nil {
		return err
	}
	n := 0
	for _, a := range accounts {
		if strings.HasSuffix(a.Address, "@"+domain) {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("domain %s is %w: it has %d accounts; remove them first (postrider user remove ADDRESS)", domain, ErrInUse, n)
	}
	aliases, err := v.Aliases()
	if err != nil {
		return err
	}
	for _, a := range aliases {
		if strings.HasSuffix(a.Address, "@"+domain) {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("domain %s is %w: it has %d aliases; remove them first (postrider alias remove ADDRESS)", domain, ErrInUse, n)
	}
	return nil
}

// needDomain returns an error that says how to add the domain if it is not ours.
func needDomain(v *mailstore.View, domain string) error {
	_, err := v.Domain(domain)
	if errors.Is(err, mailstore.ErrNotFound) {
		return fmt.Errorf("%s is %w; add it with: postrider domain add %s", domain, ErrNoDomain, domain)
	}
	return err
}

// free returns ErrExists if an account or alias has the address.
func free(v *mailstore.View, address string) error {
	_, err := v.AccountByAddress(address)
	if err == nil {
		return fmt.Errorf("account %s %w", address, ErrExists)
	}
	if !errors.Is(err, mailstore.ErrNotFound) {
		return err
	}
	_, err = v.Alias(address)
	if err == nil {
		return fmt.Errorf("alias %s %w", address, ErrExists)
	}
	if !errors.Is(err, mailstore.ErrNotFound) {
		return err
	}
	return nil
}

// accountMailboxes are those that an account begins with, and their special
// uses (RFC 6154).
var accountMailboxes = [...]struct{ name, use string }{
	{"INBOX", ""},
	{"Drafts", `\Drafts`},
	{"Sent", `\Sent`},
	{"Archive", `\Archive`},
	{"Junk", `\Junk`},
	{"Trash", `\Trash`},
}

// AddAccount creates an account with INBOX and the special-use mailboxes
// Drafts, Sent, Archive, Junk, Trash, subscribed. Its domain must exist.
func (d *Directory) AddAccount(ctx context.Context, address, password string) error {
	a, err := parseAccount(address)
	if err != nil {
		return err
	}
	check := func(v *mailstore.View) error {
		if err := needDomain(v, a.Domain); err != nil {
			return err
		}
		return free(v, key(a))
	}
	// Before the work of hashing, and again in the transaction.
	if err := d.store.View(ctx, check); err != nil {
		return err
	}
	credentials, err := d.passwords.enrol(ctx, Password(password))
	if err != nil {
		return err
	}
	return d.update(ctx, func(tx *mailstore.Tx) error {
		if err := check(&tx.View); err != nil {
			return err
		}
		return createAccount(tx, mailstore.Account{Address: key(a), Credentials: credentials})
	})
}

// createAccount creates an account with its mailboxes.
func createAccount(tx *mailstore.Tx, a mailstore.Account) error {
	id, err := tx.CreateAccount(a)
	if err != nil {
		return err
	}
	for _, m := range accountMailboxes {
		if _, err := tx.CreateMailbox(id, m.name, m.use); err != nil {
			return err
		}
		if err := tx.Subscribe(id, m.name, true); err != nil {
			return err
		}
	}
	return nil
}

// RemoveAccount removes an account with its mail. Aliases that lead to it stay,
// and lead to nobody.
func (d *Directory) RemoveAccount(ctx context.Context, address string) error {
	a, err := parse(address)
	if err != nil {
		return err
	}
	err = d.update(ctx, func(tx *mailstore.Tx) error {
		account, err := accountAt(&tx.View, a.Fold())
		if err != nil {
			return err
		}
		if err := dropCertificates(tx, account.ID); err != nil {
			return err
		}
		return tx.DeleteAccount(account.ID)
	})
	if err != nil {
		return err
	}
	return d.countCertificates(ctx)
}

func accountAt(v *mailstore.View, a mta.Address) (mailstore.Account, error) {
	found, err := v.AccountByAddress(key(a))
	if errors.Is(err, mailstore.ErrNotFound) {
		err = fmt.Errorf("%s: %w", key(a), ErrNoUser)
	}
	return found, err
}

// Accounts lists the accounts by id, without their credentials.
func (d *Directory) Accounts(ctx context.Context) ([]mailstore.Account, error) {
	var list []mailstore.Account
	err := d.store.View(ctx, func(v *mailstore.View) (err error) {
		list, err = v.Accounts()
		return err
	})
	for i := range list {
		list[i].Credentials = nil
	}
	return list, err
}

// Account finds the account with this address, without its credentials;
// ErrNoUser when there is none.
func (d *Directory) Account(ctx context.Context, address string) (account mailstore.Account, err error) {
	a, err := parse(address)
	if err != nil {
		return mailstore.Account{}, err
	}
	err = d.store.View(ctx, func(v *mailstore.View) error {
		account, err = accountAt(v, a.Fold())
		return err
	})
	account.Credentials = nil
	return account, err
}

// SetPassword replaces the password of an account.
func (d *Directory) SetPassword(ctx context.Context, address, password string) error {
	a, err := parse(address)
	if err != nil {
		return err
	}
	a = a.Fold()
	err = d.store.View(ctx, func(v *mailstore.View) error {
		account, err := accountAt(v, a)
		if err == nil && account.Shared {
			err = errShared(account.Address)
		}
		return err
	})
	if err != nil {
		return err
	}
	credentials, err := d.passwords.enrol(ctx, Password(password))
	if err != nil {
		return err
	}
	// Verified logins go with the credentials that they were verified by.
	return d.update(ctx, func(tx *mailstore.Tx) error {
		account, err := accountAt(&tx.View, a)
		if err != nil {
			return err
		}
		account.Credentials = credentials
		return tx.UpdateAccount(account)
	})
}

// AddAlias adds targets to the alias address; "@domain" is a catch-all. A
// target in one of our domains must exist.
func (d *Directory) AddAlias(ctx context.Context, address string, targets []string) error {
	a, err := parseAlias(address)
	if err != nil {
		return err
	}
	list, err := parseTargets(targets)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return fmt.Errorf("alias %s %w: it needs at least one target", key(a), ErrInvalid)
	}
	return d.update(ctx, func(tx *mailstore.Tx) error {
		if err := needDomain(&tx.View, a.Domain); err != nil {
			return err
		}
		_, err := tx.AccountByAddress(key(a))
		if err == nil {
			return fmt.Errorf("account %s %w; an alias cannot have the same address", key(a), ErrExists)
		}
		if !errors.Is(err, mailstore.ErrNotFound) {
			return err
		}
		alias, err := tx.Alias(key(a))
		if err != nil && !errors.Is(err, mailstore.ErrNotFound) {
			return err
		}
		alias.Address = key(a)
		if alias.Targets, err = withTargets(&tx.View, alias, list); err != nil {
			return err
		}
		if err := tx.PutAlias(alias); err != nil {
			return err
		}
		if _, err := resolve(&tx.View, a); err != nil {
			return fmt.Errorf("alias %s: %w", key(a), err)
		}
		return nil
	})
}

// parseTargets reads the targets of an alias into the form in which they are
// kept: the local part in its case, as another server may care.
func parseTargets(targets []string) ([]mta.Address, error) {
	var list []mta.Address
	for _, t := range targets {
		a, err := parse(t)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

// withTargets returns the alias's targets and the new ones, each once.
func withTargets(v *mailstore.View, alias mailstore.Alias, more []mta.Address) ([]string, error) {
	targets := slices.Clone(alias.Targets)
	for _, t := range more {
		ours, err := isOurs(v, t.Domain)
		if err != nil {
			return nil, err
		}
		if ours {
			t = t.Fold()
			if key(t) == alias.Address {
				return nil, fmt.Errorf("alias %s %w: it leads to itself", alias.Address, ErrInvalid)
			}
			if _, err := resolve(v, t); errors.Is(err, ErrNoUser) {
				return nil, fmt.Errorf("target %s: %w; add the account or alias first", key(t), ErrNoUser)
			} else if err != nil {
				return nil, err
			}
		}
		if !slices.Contains(targets, key(t)) {
			targets = append(targets, key(t))
		}
	}
	if len(targets) > maxAliasTargets {
		return nil, fmt.Errorf("alias %s %w: it has more than %d targets", alias.Address, ErrInvalid, maxAliasTargets)
	}
	return targets, nil
}

// RemoveAlias removes targets, or the whole alias when none are given.
func (d *Directory) RemoveAlias(ctx context.Context, address string, targets []string) error {
	a, err := parseAlias(address)
	if err != nil {
		return err
	}
	list, err := parseTargets(targets)
	if err != nil {
		return err
	}
	return d.update(ctx, func(tx *mailstore.Tx) error {
		alias, err := tx.Alias(key(a))
		if errors.Is(err, mailstore.ErrNotFound) {
			return fmt.Errorf("%s: %w", key(a), ErrNoAlias)
		}
		if err != nil {
			return err
		}
		left := slices.Clone(alias.Targets)
		for _, t := range list {
			i := slices.IndexFunc(left, func(s string) bool { return s == key(t) || s == key(t.Fold()) })
			if i < 0 {
				return fmt.Errorf("%s to %s: %w", key(a), key(t), ErrNoAlias)
			}
			left = slices.Delete(left, i, i+1)
		}
		if len(list) == 0 || len(left) == 0 {
			return tx.DeleteAlias(alias.Address)
		}
		alias.Targets = left
		return tx.PutAlias(alias)
	})
}

// Aliases lists the aliases.
func (d *Directory) Aliases(ctx context.Context) ([]mailstore.Alias, error) {
	var list []mailstore.Alias
	err := d.store.View(ctx, func(v *mailstore.View) (err error) {
		list, err = v.Aliases()
		return err
	})
	return list, err
}
