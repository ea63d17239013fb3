package main

import (
	"fmt"
	"time"

	"postrider/internal/node"
	"postrider/internal/transfer"
	"postrider/mailstore"
)

type verifyCmd struct {
	Repair bool `help:"Mend what can be made of what else is stored."`
	jsonFlag
}

// pollEvery is how often the server is asked how far it is.
const pollEvery = 100 * time.Millisecond

func (c *verifyCmd) Run(e *env) error {
	return e.admin(func(a *node.AdminClient) error {
		var state node.VerifyState
		p := &transfer.Progress{}
		stop := showProgress(e.stderr, p)
		findings, err := c.follow(e, a, p, &state)
		stop()
		if err != nil {
			return err
		}
		return c.tell(e, findings, &state)
	})
}

// follow begins the check and collects what it finds.
func (c *verifyCmd) follow(e *env, a *node.AdminClient, p *transfer.Progress, last *node.VerifyState) ([]mailstore.Finding, error) {
	if err := a.Call("VerifyBegin", node.VerifyArgs{Repair: c.Repair}, &node.None{}); err != nil {
		return nil, err
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var findings []mailstore.Finding
	for {
		var state node.VerifyState
		if err := a.Call("VerifyPoll", node.None{}, &state); err != nil {
			return nil, err
		}
		findings = append(findings, state.Findings...)
		p.Done.Store(state.Done)
		p.Total.Store(state.Total)
		p.Messages.Store(state.Bodies)
		*last = state
		if state.Ended {
			return findings, nil
		}
		if len(state.Findings) > 0 {
			continue // there may be more
		}
		select {
		case <-tick.C:
		case <-e.ctx.Done():
			return nil, e.ctx.Err()
		}
	}
}

// verdict is the outcome of a check, as --json prints it.
type verdict struct {
	Verdict  string              `json:"verdict"` // ok or damaged
	Messages int64               `json:"messages"`
	Bodies   int64               `json:"bodies"`
	Octets   int64               `json:"octets"` // of bodies
	Findings []mailstore.Finding `json:"findings"`
}

// tell prints the verdict; what is damaged, and was not mended, fails the command.
func (c *verifyCmd) tell(e *env, findings []mailstore.Finding, state *node.VerifyState) error {
	v := verdict{"ok", state.Messages, state.Bodies, state.Done, findings}
	mended, lost, left := 0, 0, 0
	for _, f := range findings {
		switch {
		case f.Repaired:
			mended++
		case f.Kind == "file": // a crash may leave it, and the next start removes it
		case f.Lost:
			lost++
		default:
			left++
		}
	}
	if lost+left > 0 {
		v.Verdict = "damaged"
	}
	if c.JSON {
		if v.Findings == nil {
			v.Findings = []mailstore.Finding{}
		}
		if err := printValue(e, v); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(e.stdout, "%s: %d messages, %d bodies (%s)", v.Verdict, v.Messages, v.Bodies, binarySize(v.Octets))
		for _, n := range []struct {
			n    int
			text string
		}{{mended, "repaired"}, {left, "can be repaired with --repair"}, {lost, "lost, or not to be mended from here"}} {
			if n.n > 0 {
				fmt.Fprintf(e.stdout, "; %d %s", n.n, n.text)
			}
		}
		fmt.Fprintln(e.stdout)
		for _, f := range findings {
			note := ""
			switch {
			case f.Repaired:
				note = "repaired: "
			case f.Lost:
				note = "LOST: "
			}
			fmt.Fprintln(e.stdout, note+f.String())
		}
	}
	if v.Verdict != "ok" {
		return exitError(exitFailed)
	}
	return nil
}
