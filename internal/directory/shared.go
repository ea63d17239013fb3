package directory

import (
	"context"
	"errors"
	"fmt"

	"postrider/mailstore"
)

func errShared(address string) error {
	return fmt.Errorf("account %s is shared, and nobody logs in to it: that is %w", address, ErrInvalid)
}

// AddShared creates an account that receives mail and that nobody logs in to: its
// mailboxes are for those whom SetACL gives rights. They are those of AddAccount.
func (d *Directory) AddShared(ctx context.Context, address string) error {
	a, err := parseAccount(address)
	if err != nil {
		return err
	}
	return d.update(ctx, func(tx *mailstore.Tx) error {
		if err := needDomain(&tx.View, a.Domain); err != nil {
			return err
		}
		if err := free(&tx.View, key(a)); err != nil {
			return err
		}
		return createAccount(tx, mailstore.Account{Address: key(a), Shared: true})
	})
}

// AllMailboxes stands for each mailbox that an account has.
const AllMailboxes = "*"

// MailboxACL is the access control list of one mailbox.
type MailboxACL struct {
	Mailbox string
	Entries []mailstore.ACLEntry
}

// ACLs lists the access control lists of a mailbox of an account, or with "" or
// AllMailboxes those of all its mailboxes that have one. ErrNoUser: there is no such
// account; ErrNoMailbox.
func (d *Directory) ACLs(ctx context.Context, address, mailbox string) ([]MailboxACL, error) {
	var list []MailboxACL
	err := d.store.View(ctx, func(v *mailstore.View) error {
		boxes, err := mailboxesAt(v, address, mailbox)
		if err != nil {
			return err
		}
		for _, box := range boxes {
			entries, err := v.ACL(box.ID)
			if err != nil {
				return err
			}
			if len(entries) > 0 {
				list = append(list, MailboxACL{box.Name, entries})
			}
		}
		return nil
	})
	return list, err
}

// SetACL gives an identifier (an address, "@domain" or "anyone", and with "-" before
// it what is taken away) rights to a mailbox of an account, or with AllMailboxes to
// each, in place of those that it had; without any rights its entry goes.
func (d *Directory) SetACL(ctx context.Context, address, mailbox, identifier string, rights mailstore.Rights) error {
	return d.update(ctx, func(tx *mailstore.Tx) error {
		boxes, err := mailboxesAt(&tx.View, address, mailbox)
		if err != nil {
			return err
		}
		clean, err := tx.CleanIdentifier(identifier)
		if errors.Is(err, mailstore.ErrIdentifier) {
			return fmt.Errorf("%q %w: name an account, a domain as @example.org, or anyone, each with a - before it to take rights away", identifier, ErrInvalid)
		}
		if err != nil {
			return err
		}
		for _, box := range boxes {
			err := tx.SetACL(box.ID, clean, mailstore.ReplaceRights, rights)
			if errors.Is(err, mailstore.ErrOwner) {
				err = fmt.Errorf("%s is %w: it is the owner, who has all rights", identifier, ErrInvalid)
			}
			if err != nil {
				return fmt.Errorf("mailbox %s: %w", box.Name, err)
			}
		}
		return nil
	})
}

// mailboxesAt finds mailboxes of an account.
func mailboxesAt(v *mailstore.View, address, mailbox string) ([]mailstore.Mailbox, error) {
	a, err := parse(address)
	if err != nil {
		return nil, err
	}
	account, err := accountAt(v, a.Fold())
	if err != nil {
		return nil, err
	}
	if mailbox == "" || mailbox == AllMailboxes {
		return v.Mailboxes(account.ID)
	}
	box, err := v.MailboxByName(account.ID, mailbox)
	if errors.Is(err, mailstore.ErrNotFound) || errors.Is(err, mailstore.ErrName) {
		err = fmt.Errorf("%s has no mailbox %q: %w", account.Address, mailbox, ErrNoMailbox)
	}
	return []mailstore.Mailbox{box}, err
}
