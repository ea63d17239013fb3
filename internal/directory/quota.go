package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"postrider/mailstore"
	"postrider/mta"
)

// Room is a *mailstore.QuotaError when the account has no room for a message of
// size octets, 0 where that is not known; mailstore.ErrNotFound when it is gone.
func (d *Directory) Room(ctx context.Context, account, size int64) error {
	return d.store.Room(ctx, mailstore.AccountID(account), size)
}

// QuotaChange says what SetQuota changes: a nil limit stays as it is.
type QuotaChange struct {
	Storage  *int64 // octets; 0 = by default, mailstore.Unlimited = none
	Messages *int64
}

// apply changes q.
func (c QuotaChange) apply(q *mailstore.Quota) {
	if c.Storage != nil {
		q.Storage = *c.Storage
	}
	if c.Messages != nil {
		q.Messages = *c.Messages
	}
}

// SetQuota changes the quota of an account, or of all accounts of a domain that
// have none of their own. ErrNoUser, ErrNoDomain: name is none of ours.
func (d *Directory) SetQuota(ctx context.Context, name string, c QuotaChange) error {
	account, domain, err := accountOrDomain(name)
	if err != nil {
		return err
	}
	return d.update(ctx, func(tx *mailstore.Tx) error {
		if domain != "" {
			found, err := domainNamed(&tx.View, domain)
			if err != nil {
				return err
			}
			c.apply(&found.Quota)
			return tx.UpdateDomain(found)
		}
		found, err := accountAt(&tx.View, account)
		if err != nil {
			return err
		}
		c.apply(&found.Quota)
		return tx.UpdateAccount(found)
	})
}

// QuotaStatus is the quota of one account or domain.
type QuotaStatus struct {
	Name  string          // address or domain
	Own   mailstore.Quota // as it was set; 0 = by default
	Limit mailstore.Quota // in force; for a domain, where an account has none of its own
	Used  mailstore.Usage // of an account
}

// Quotas tells the quota of an account, or of a domain and its accounts; of all
// when name is "".
func (d *Directory) Quotas(ctx context.Context, name string) ([]QuotaStatus, error) {
	var list []QuotaStatus
	account, domain, err := accountOrDomain(name)
	if err != nil && name != "" {
		return nil, err
	}
	err = d.store.View(ctx, func(v *mailstore.View) error {
		if !account.IsZero() {
			found, err := accountAt(v, account)
			if err != nil {
				return err
			}
			list, err = appendAccount(v, list, found)
			return err
		}
		list, err = quotasOf(v, domain)
		return err
	})
	return list, err
}

// quotasOf lists the domains and their accounts: one, or all for "".
func quotasOf(v *mailstore.View, domain string) ([]QuotaStatus, error) {
	var list []QuotaStatus
	domains, err := v.Domains()
	if err != nil {
		return nil, err
	}
	for _, d := range domains {
		if domain == "" || d.Name == domain {
			list = append(list, QuotaStatus{Name: d.Name, Own: d.Quota, Limit: v.DomainQuota(d)})
		}
	}
	if domain != "" && len(list) == 0 {
		return nil, fmt.Errorf("%s: %w", domain, ErrNoDomain)
	}
	accounts, err := v.Accounts()
	if err != nil {
		return nil, err
	}
	for _, a := range accounts {
		if domain != "" && !strings.HasSuffix(a.Address, "@"+domain) {
			continue
		}
		if list, err = appendAccount(v, list, a); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func appendAccount(v *mailstore.View, list []QuotaStatus, a mailstore.Account) ([]QuotaStatus, error) {
	used, limit, err := v.Usage(a.ID)
	return append(list, QuotaStatus{Name: a.Address, Own: a.Quota, Limit: limit, Used: used}), err
}

// accountOrDomain reads the address of an account, or the name of a domain.
func accountOrDomain(name string) (account mta.Address, domain string, err error) {
	if !strings.Contains(name, "@") {
		domain, err = parseDomain(name)
		return mta.Address{}, domain, err
	}
	a, err := parse(name)
	return a.Fold(), "", err
}

func domainNamed(v *mailstore.View, name string) (mailstore.Domain, error) {
	d, err := v.Domain(name)
	if errors.Is(err, mailstore.ErrNotFound) {
		err = fmt.Errorf("%s: %w", name, ErrNoDomain)
	}
	return d, err
}
