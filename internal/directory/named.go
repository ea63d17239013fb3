package directory

import (
	"context"
	"strings"

	"postrider/mailstore"
	"postrider/mta"
)

// Named finds the account that logs in by a name, without its credentials: an
// address, or a local part in the first domain. ErrNoUser when there is none.
func (d *Directory) Named(ctx context.Context, name string) (mailstore.Account, error) {
	first, err := d.ourDomains(ctx)
	if err != nil {
		return mailstore.Account{}, err
	}
	a := loginAddress(name, first)
	if a.IsZero() {
		return mailstore.Account{}, ErrNoUser
	}
	return d.Account(ctx, a.String())
}

// Serves tells whether a host may be this server by its name: it is a domain of ours,
// or below one.
func (d *Directory) Serves(ctx context.Context, host string) (bool, error) {
	name, err := mta.NormalizeDomain(host)
	if err != nil {
		return false, nil
	}
	if _, err := d.ourDomains(ctx); err != nil {
		return false, err
	}
	d.book.mu.RLock()
	defer d.book.mu.RUnlock()
	for more := true; more; _, name, more = strings.Cut(name, ".") {
		if d.book.domains[name] {
			return true, nil
		}
	}
	return false, nil
}
