package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"postrider/mailstore"
	"postrider/mta"
)

// Bounds of the expansion of one address.
const (
	maxAliasDepth = 10   // aliases that lead to one another
	maxTargets    = 1000 // accounts and addresses in the end
	maxVisited    = 2000 // local addresses on the way
)

// errAliasTooLarge is none of the classified errors: mail waits until an
// operator has mended the aliases.
var errAliasTooLarge = fmt.Errorf("aliases are nested more than %d deep or have more than %d targets", maxAliasDepth, maxTargets)

// maxRemembered is how many resolved addresses are kept, and maxKeptTargets how
// many targets each may have: a stranger can name a large alias in many ways
// (alias+1, alias+2, ...).
const (
	maxRemembered  = 8192
	maxKeptTargets = 32
)

// book remembers what is asked with every recipient: our domains, and where
// addresses lead that somebody has. What is not in it is looked up.
type book struct {
	mu      sync.RWMutex
	edition uint64          // raised by every change of the store
	domains map[string]bool // nil: not read yet
	first   string          // of the domains
	targets map[mta.Address][]mta.Target
}

func (b *book) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.edition++
	b.domains, b.targets = nil, nil
}

// answer returns what is known about an address; an unknown one is answered by
// neither targets nor an error, and the edition to remember more under.
func (b *book) answer(a mta.Address) (targets []mta.Target, edition uint64, err error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.domains != nil && a.Domain != "" && !b.domains[a.Domain] {
		return nil, b.edition, ErrNoDomain
	}
	return b.targets[a], b.edition, nil
}

// remember notes what a View said that began under the edition.
func (b *book) remember(edition uint64, a mta.Address, targets []mta.Target) {
	if len(targets) > maxKeptTargets {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if edition != b.edition {
		return
	}
	if b.targets == nil {
		b.targets = make(map[mta.Address][]mta.Target)
	}
	for old := range b.targets { // any one
		if len(b.targets) < maxRemembered {
			break
		}
		delete(b.targets, old)
	}
	b.targets[a] = targets
}

// Resolve finds the targets of an address in one of our domains: the account
// (subaddress "+..." stripped), the expansion of an alias (nested, each target
// once, bounded), or the catch-all. "postmaster" (with and without a domain)
// and "abuse" go to the first account until an alias or account of that name
// exists. ErrNoDomain: not ours; ErrNoUser: ours, nobody there.
func (d *Directory) Resolve(ctx context.Context, a mta.Address) ([]mta.Target, error) {
	a = a.Fold()
	targets, edition, err := d.book.answer(a)
	if err != nil {
		return nil, err
	}
	if targets != nil {
		return slices.Clone(targets), nil
	}
	if _, err := d.ourDomains(ctx); err != nil {
		return nil, err
	}
	err = d.store.View(ctx, func(v *mailstore.View) error {
		targets, err = resolve(v, a)
		return err
	})
	if err != nil {
		return nil, err
	}
	d.book.remember(edition, a, targets)
	return slices.Clone(targets), nil
}

// ourDomains makes sure that the book has the domains, and returns the first.
func (d *Directory) ourDomains(ctx context.Context) (first string, err error) {
	b := &d.book
	b.mu.RLock()
	known, first, edition := b.domains != nil, b.first, b.edition
	b.mu.RUnlock()
	if known {
		return first, nil
	}
	names, err := d.Domains(ctx)
	if err != nil {
		return "", err
	}
	domains := make(map[string]bool)
	for _, name := range names {
		domains[name] = true
	}
	first = ""
	if len(names) > 0 {
		first = names[0]
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if edition == b.edition {
		b.domains, b.first = domains, first
	}
	return first, nil
}

// Owns tells whether account may send as a: its own address, one of its
// aliases, or a subaddress of these. What leads to it by a catch-all, or as
// the first account, is its own as well.
func (d *Directory) Owns(ctx context.Context, account int64, a mta.Address) (bool, error) {
	if a.IsZero() {
		return false, nil
	}
	targets, err := d.Resolve(ctx, a)
	if errors.Is(err, ErrNoDomain) || errors.Is(err, ErrNoUser) {
		return false, nil
	}
	return slices.Contains(targets, mta.Target{Account: account}), err
}

// expansion collects where one address leads.
type expansion struct {
	view    *mailstore.View
	seen    map[mta.Address]bool
	targets []mta.Target
}

// resolve is Resolve for a folded address.
func resolve(v *mailstore.View, a mta.Address) ([]mta.Target, error) {
	if a.Domain == "" { // RFC 5321 section 4.5.1
		domains, err := v.Domains()
		switch {
		case err != nil:
			return nil, err
		case len(domains) == 0:
			return nil, ErrNoUser
		}
		a.Domain = domains[0].Name
	}
	ours, err := isOurs(v, a.Domain)
	switch {
	case err != nil:
		return nil, err
	case !ours:
		return nil, ErrNoDomain
	}
	e := expansion{view: v, seen: make(map[mta.Address]bool)}
	if err := e.expand(a, 0); err != nil {
		return nil, err
	}
	if len(e.targets) == 0 {
		return nil, ErrNoUser
	}
	return e.targets, nil
}

func isOurs(v *mailstore.View, domain string) (bool, error) {
	_, err := v.Domain(domain)
	if errors.Is(err, mailstore.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// expand adds where a leads, which may be nowhere: targets of an alias go away.
func (e *expansion) expand(a mta.Address, depth int) error {
	ours, err := isOurs(e.view, a.Domain)
	if err != nil {
		return err
	}
	if !ours {
		return e.add(mta.Target{Remote: a})
	}
	a = a.Fold()
	if e.seen[a] {
		return nil
	}
	if depth > maxAliasDepth || len(e.seen) == maxVisited {
		return errAliasTooLarge
	}
	e.seen[a] = true
	id, alias, err := e.find(a)
	if err != nil {
		return err
	}
	if id != 0 {
		return e.add(mta.Target{Account: int64(id)})
	}
	for _, t := range alias.Targets {
		next, err := mta.ParseAddress(t)
		if err != nil {
			return fmt.Errorf("target %q of alias %s: %w", t, alias.Address, err)
		}
		if err := e.expand(next, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (e *expansion) add(t mta.Target) error {
	if slices.Contains(e.targets, t) {
		return nil
	}
	if len(e.targets) == maxTargets {
		return errAliasTooLarge
	}
	e.targets = append(e.targets, t)
	return nil
}

// find looks for the account or alias that takes mail for a: by the whole
// address, without its subaddress, as one of the names that every domain has
// (RFC 5321 section 4.5.1, RFC 2142 section 2), or as the catch-all.
func (e *expansion) find(a mta.Address) (mailstore.AccountID, mailstore.Alias, error) {
	names := []mta.Address{a}
	base := a.Base()
	if base != a {
		names = append(names, base)
	}
	for _, name := range names {
		account, err := e.view.AccountByAddress(key(name))
		if err == nil || !errors.Is(err, mailstore.ErrNotFound) {
			return account.ID, mailstore.Alias{}, err
		}
		alias, err := e.view.Alias(key(name))
		if err == nil || !errors.Is(err, mailstore.ErrNotFound) {
			return 0, alias, err
		}
	}
	if base.Local == "postmaster" || base.Local == "abuse" {
		account, err := e.view.FirstAccount()
		if err == nil || !errors.Is(err, mailstore.ErrNotFound) {
			return account.ID, mailstore.Alias{}, err
		}
	}
	alias, err := e.view.Alias(key(mta.Address{Domain: a.Domain}))
	if errors.Is(err, mailstore.ErrNotFound) {
		err = nil
	}
	return 0, alias, err
}
