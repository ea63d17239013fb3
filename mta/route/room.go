package route

import (
	"context"
	"errors"
	"strings"

	"postrider/mailstore"
	"postrider/mta"
)

// maxAsked is how many accounts of one recipient are asked whether they have
// room. Behind a larger alias somebody has, or the message waits for them.
const maxAsked = 16

// Room refuses a recipient none of whose targets has room for a message of size
// octets (0: not known), with 452 4.2.2. An account that went away meanwhile is
// the queue's business, and so is an alias of which only some are full. The
// postmaster is never refused (RFC 5321 section 4.5.1): the message waits.
func (r *Router) Room(ctx context.Context, to mta.Address, targets []mta.Target, size int64) error {
	if strings.EqualFold(to.Base().Local, "postmaster") || len(targets) == 0 || len(targets) > maxAsked {
		return nil
	}
	most := int64(0)
	for _, t := range targets {
		if t.Account == 0 {
			return nil
		}
		err := r.o.Directory.Room(ctx, t.Account, size)
		var full *mailstore.QuotaError
		switch {
		case errors.As(err, &full):
			most = max(most, full.Room())
		case errors.Is(err, mailstore.ErrNotFound):
			return nil
		default:
			return err
		}
	}
	if most == 0 {
		return mta.Errorf(452, "4.2.2", "The mailbox of %s is full: try again when there is room in it", to)
	}
	return mta.Errorf(452, "4.2.2", "The mailbox of %s has room for %d octets only: send less, or try again later", to, most)
}
