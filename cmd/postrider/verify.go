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

// tally is how many findings there are of each sort.
type tally struct {
	mended, lost, left int
	files              int // that no row names: a crash or a restore may leave some
}

func count(findings []mailstore.Finding) (t tally) {
	for _, f := range findings {
		switch {
		case f.Repaired:
			t.mended++
		case f.Lost:
			t.lost++
		case f.Kind == "file":
			t.files++
		default:
			t.left++
		}
	}
	return t
}

// tell prints the verdict; what is damaged, and was not mended, fails the command.
func (c *verifyCmd) tell(e *env, findings []mailstore.Finding, state *node.VerifyState) error {
	v := verdict{"ok", state.Messages, state.Bodies, state.Done, findings}
	n := count(findings)
	if n.lost+n.left > 0 {
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
		v.print(e, n)
	}
	if v.Verdict != "ok" {
		return exitError(exitFailed)
	}
	return nil
}

// print prints the verdict for people.
func (v *verdict) print(e *env, n tally) {
	fmt.Fprintf(e.stdout, "%s: %d messages, %d bodies (%s)", v.Verdict, v.Messages, v.Bodies, binarySize(v.Octets))
	for _, n := range []struct {
		n    int
		text string
	}{{n.mended, "repaired"}, {n.left, "can be repaired with --repair"}, {n.lost, "lost, or not to be mended from here"}} {
		if n.n > 0 {
			fmt.Fprintf(e.stdout, "; %d %s", n.n, n.text)
		}
	}
	fmt.Fprintln(e.stdout)
	for _, f := range v.Findings {
		switch {
		case f.Repaired:
			fmt.Fprintln(e.stdout, "repaired: "+f.String())
		case f.Lost:
			fmt.Fprintln(e.stdout, "LOST: "+f.String())
		case f.Kind != "file":
			fmt.Fprintln(e.stdout, f.String())
		}
	}
	if n.files > 0 {
		fmt.Fprintf(e.stdout, "%d files in bodies that no row names: the next start removes them\n", n.files)
	}
}
