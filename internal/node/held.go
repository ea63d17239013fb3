package node

import (
	"errors"
	"fmt"
	"time"

	"postrider/mailstore"
)

// HeldArgs says which of an account's expunged messages are meant.
type HeldArgs struct {
	Address string
	Mailbox string    // "" for all
	Since   time.Time // expunged then or later
}

// Held is messages that were expunged together and can be brought back.
type Held struct {
	ID       mailstore.HeldID `json:"id"`
	Mailbox  string           `json:"mailbox"`
	Expunged time.Time        `json:"expunged"`
	Messages int              `json:"messages"`
	Size     int64            `json:"size"` // octets
}

// HeldList lists what can be brought back, the oldest first.
func (a *Admin) HeldList(args HeldArgs, reply *[]Held) (err error) {
	ctx, end := a.command(&err)
	defer end()
	account, err := a.n.Directory.Account(ctx, args.Address)
	if err != nil {
		return err
	}
	if args.Mailbox != "" {
		if args.Mailbox, err = mailstore.CleanName(args.Mailbox); err != nil {
			return err
		}
	}
	return a.n.Store.View(ctx, func(v *mailstore.View) error {
		list, err := v.Held(account.ID)
		*reply = []Held{}
		for _, h := range list {
			if (args.Mailbox == "" || h.Mailbox == args.Mailbox) && !h.Expunged.Before(args.Since) {
				*reply = append(*reply, Held{h.ID, h.Mailbox, h.Expunged, h.Messages, h.Size})
			}
		}
		return err
	})
}

// UndeleteArgs names what is to be brought back.
type UndeleteArgs struct {
	Address string
	ID      mailstore.HeldID
}

// Undelete brings back messages that were expunged together, and tells into which
// mailbox they came.
func (a *Admin) Undelete(args UndeleteArgs, mailbox *string) (err error) {
	ctx, end := a.command(&err)
	defer end()
	account, err := a.n.Directory.Account(ctx, args.Address)
	if err != nil {
		return err
	}
	err = a.n.Store.Update(ctx, func(tx *mailstore.Tx) error {
		*mailbox, _, err = tx.Undelete(account.ID, args.ID)
		return err
	})
	var full *mailstore.QuotaError
	if errors.As(err, &full) {
		return fmt.Errorf("%s has no room for %d messages of %d octets in all; raise its limit with postrider quota set",
			args.Address, full.More.Messages, full.More.Storage)
	}
	return err
}
