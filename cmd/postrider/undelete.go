package main

import (
	"errors"
	"fmt"
	"time"

	"postrider/internal/node"
)

type undeleteCmd struct {
	addressArg
	Mailbox string    `help:"Only what was in this mailbox." placeholder:"NAME"`
	Since   sinceFlag `help:"Only what was expunged since then: a time such as 2026-11-20 or 2026-11-20T18:00:00Z, or so long ago, such as 2h or 3d." placeholder:"TIME"`
	List    bool      `help:"Show what could be brought back, and bring back nothing."`
	jsonFlag
}

// sinceFlag is a moment, or a time before now.
type sinceFlag struct{ time.Time }

func (s *sinceFlag) UnmarshalText(text []byte) error {
	if d, err := parseDuration(string(text)); err == nil {
		s.Time = time.Now().Add(-d)
		return nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, string(text), time.Local); err == nil {
			s.Time = t
			return nil
		}
	}
	return errors.New(`must be a time such as "2026-11-20" or "2026-11-20T18:00:00Z", or so long ago, such as "2h" or "3d"`)
}

func (c *undeleteCmd) Run(e *env) error {
	return e.admin(func(a *node.AdminClient) error {
		args := node.HeldArgs{Address: c.Address, Mailbox: c.Mailbox, Since: c.Since.Truncate(time.Second)}
		var list []node.Held
		if err := a.Call("HeldList", args, &list); err != nil {
			return err
		}
		if c.List || c.JSON {
			return printList(e, c.JSON, list, "EXPUNGED\tMESSAGES\tOCTETS\tMAILBOX", func(h node.Held) string {
				return fmt.Sprintf("%s\t%d\t%d\t%s", printWhen(&h.Expunged), h.Messages, h.Size, h.Mailbox)
			})
		}
		back := make(map[string]int)
		var order []string
		var failed error
		for _, h := range list {
			var mailbox string
			if failed = a.Call("Undelete", node.UndeleteArgs{Address: c.Address, ID: h.ID}, &mailbox); failed != nil {
				break
			}
			if back[mailbox] == 0 {
				order = append(order, mailbox)
			}
			back[mailbox] += h.Messages
		}
		for _, mailbox := range order {
			fmt.Fprintf(e.stdout, "%s: brought back %d\n", mailbox, back[mailbox])
		}
		if failed == nil && len(list) == 0 {
			return fmt.Errorf("nothing of %s was expunged that is still kept ([storage] undelete says for how long)", c.Address)
		}
		return failed
	})
}
