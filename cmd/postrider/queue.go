package main

import (
	"encoding/json"
	"fmt"
	"time"

	"postrider/internal/node"
	"postrider/mta/queue"
)

type queueCmd struct {
	List    queueListCmd    `cmd:"" help:"List the messages that wait, each recipient with its next attempt and last reply."`
	Show    queueShowCmd    `cmd:"" help:"Show messages in full: envelope, every recipient, the header."`
	Retry   queueRetryCmd   `cmd:"" help:"Try now, whatever the schedule says."`
	Hold    queueHoldCmd    `cmd:"" help:"Do not try until released."`
	Release queueReleaseCmd `cmd:"" help:"End a hold."`
	Remove  queueRemoveCmd  `cmd:"" help:"Throw messages away without telling their senders."`
}

type queueIDs struct {
	ID []string `arg:"" help:"IDs as queue list prints them."`
}

type optionalIDs struct {
	ID []string `arg:"" optional:"" help:"IDs as queue list prints them; default: all."`
}

type (
	queueListCmd struct{ jsonFlag }
	queueShowCmd struct {
		queueIDs
		jsonFlag
	}
	queueRetryCmd   struct{ optionalIDs }
	queueHoldCmd    struct{ queueIDs }
	queueReleaseCmd struct{ queueIDs }
	queueRemoveCmd  struct{ queueIDs }
)

func (c *queueListCmd) Run(e *env) error {
	return e.admin(func(a *node.AdminClient) error {
		if c.JSON {
			return listJSON(e, a)
		}
		empty := true
		err := eachQueued(a, func(item queue.Item) error {
			empty = false
			fmt.Fprintf(e.stdout, "%s  %s  %d octets  from <%s>\n", item.ID, printWhen(&item.Accepted), item.Size, item.From)
			printRecipients(e, item)
			return nil
		})
		if empty && err == nil {
			_, err = fmt.Fprintln(e.stdout, "The queue is empty.")
		}
		return err
	})
}

// eachQueued calls fn for each message in the queue, and asks for them in parts:
// a queue may be larger than the memory.
func eachQueued(a *node.AdminClient, fn func(queue.Item) error) error {
	for page := (node.QueuePage{}); ; {
		var l node.QueueListing
		if err := a.Call("QueueList", page, &l); err != nil {
			return err
		}
		for _, item := range l.Items {
			if err := fn(item); err != nil {
				return err
			}
		}
		if l.Next == 0 {
			return nil
		}
		page.After = l.Next
	}
}

// listJSON prints the queue in the form of printJSON, without having all of it
// in memory.
func listJSON(e *env, a *node.AdminClient) error {
	before, end := "[\n  ", "[]\n"
	err := eachQueued(a, func(item queue.Item) error {
		text, err := json.MarshalIndent(item, "  ", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(e.stdout, "%s%s", before, text)
		before, end = ",\n  ", "\n]\n"
		return err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(e.stdout, end)
	return err
}

func printRecipients(e *env, item queue.Item) {
	for _, r := range item.Recipients {
		fmt.Fprintf(e.stdout, "    <%s>  %s", r.Address, r.State)
		if r.Next != nil {
			fmt.Fprintf(e.stdout, ", next try %s", printWhen(r.Next))
		}
		fmt.Fprintf(e.stdout, ", %d tried\n", r.Attempts)
		if r.Reply != "" {
			said := r.Reply
			if r.Host != "" {
				said = r.Host + ": " + said
			}
			fmt.Fprintf(e.stdout, "        %s\n", said)
		}
	}
}

func printWhen(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

func (c *queueShowCmd) Run(e *env) error {
	return e.admin(func(a *node.AdminClient) error {
		var shown []node.QueueShown
		if err := a.Call("QueueShow", c.ID, &shown); err != nil {
			return err
		}
		if c.JSON {
			return printJSON(e, shown)
		}
		for _, m := range shown {
			fmt.Fprintf(e.stdout, "id        %s\nfrom      <%s>\naccepted  %s\nexpires   %s\nsize      %d octets\n",
				m.ID, m.From, printWhen(&m.Accepted), printWhen(&m.Expires), m.Size)
			if m.Login != "" {
				fmt.Fprintf(e.stdout, "login     %s\n", m.Login)
			}
			fmt.Fprintln(e.stdout, "to")
			printRecipients(e, m.Item)
			fmt.Fprintf(e.stdout, "header\n%s\n", m.Header)
		}
		return nil
	})
}

func (c *queueRetryCmd) Run(e *env) error   { return queueAction(e, "QueueRetry", c.ID) }
func (c *queueHoldCmd) Run(e *env) error    { return queueAction(e, "QueueHold", c.ID) }
func (c *queueReleaseCmd) Run(e *env) error { return queueAction(e, "QueueRelease", c.ID) }
func (c *queueRemoveCmd) Run(e *env) error  { return queueAction(e, "QueueRemove", c.ID) }

// queueAction runs an action on the named messages and says what it did to
// each; one that could not be done fails the command.
func queueAction(e *env, method string, ids []string) error {
	return e.admin(func(a *node.AdminClient) error {
		var changes []queue.Change
		if err := a.Call(method, ids, &changes); err != nil {
			return err
		}
		failed := 0
		for _, c := range changes {
			switch {
			case c.Error != "":
				failed++
				fmt.Fprintf(e.stderr, "postrider: %s: %s\n", c.ID, c.Error)
				continue
			case c.Busy > 0:
				fmt.Fprintf(e.stdout, "%s: %s done, %d being delivered just now\n", c.ID, recipients(c.Recipients), c.Busy)
			case c.Held > 0:
				fmt.Fprintf(e.stdout, "%s: %s done, %d on hold (queue release ends that)\n", c.ID, recipients(c.Recipients), c.Held)
			default:
				fmt.Fprintf(e.stdout, "%s: %s done\n", c.ID, recipients(c.Recipients))
			}
		}
		if failed > 0 {
			return exitError(exitFailed)
		}
		return nil
	})
}

func recipients(n int) string {
	if n == 1 {
		return "1 recipient"
	}
	return fmt.Sprintf("%d recipients", n)
}
