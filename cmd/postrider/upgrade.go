package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"postrider/internal/node"
	"postrider/mailstore"
	"postrider/mailstore/sqlite"
)

type upgradeCmd struct {
	DryRun bool `help:"Upgrade and verify a copy, say what clients would see of it, and remove it; also beside the old server while that runs."`
	jsonFlag
}

func (c *upgradeCmd) Run(e *env) error {
	conf, err := e.loadConfig()
	if err != nil {
		return err
	}
	dir := conf.node.DataDir
	// What root would make here its owner could not use.
	if _, err := node.DropPrivileges("", dir); err != nil {
		return err
	}
	p := &sqlite.UpgradeProgress{}
	o := sqlite.UpgradeOptions{Program: node.Version(), DryRun: c.DryRun, Progress: p}
	start := time.Now()
	stop := showText(e.stderr, func(time.Duration) string {
		stage, done, total := p.State()
		return barText(done, total) + stage
	})
	u, err := sqlite.Upgrade(e.ctx, dir, o)
	if c.DryRun && errors.Is(err, sqlite.ErrInUse) {
		u, err = upgradeBeside(e, conf, o)
	}
	stop()
	switch {
	case errors.Is(err, sqlite.ErrInUse) && !c.DryRun:
		return fmt.Errorf("%w: stop the server first, or start it anew with this program, which upgrades too", err)
	case err != nil:
		return err
	}
	return c.tell(e, dir, &u, time.Since(start))
}

// upgradeBeside is a dry run while a server runs, which keeps its files as they
// are meanwhile.
func upgradeBeside(e *env, conf *config, o sqlite.UpgradeOptions) (u sqlite.Upgraded, err error) {
	hold, err := node.OpenHold(e.ctx, conf.node)
	if err != nil {
		return u, fmt.Errorf("a dry run beside the server: %w; stop the server first", err)
	}
	defer func() { err = errors.Join(err, hold.Close()) }()
	o.Held = hold.Check
	return sqlite.Upgrade(e.ctx, conf.node.DataDir, o)
}

// upgraded is the outcome, as --json prints it.
type upgraded struct {
	// Verdict is nothing to do or upgraded; of a dry run, ok, different or damaged.
	Verdict     string              `json:"verdict"`
	From        int                 `json:"from"`
	To          int                 `json:"to"`
	Kept        string              `json:"kept,omitempty"`
	Octets      int64               `json:"octets"` // of the old database
	Space       int64               `json:"space"`  // that was needed
	Counts      sqlite.Counts       `json:"counts"`
	Differences []sqlite.Difference `json:"differences"` // the first of so many:
	Differ      int                 `json:"differ"`
	Findings    []mailstore.Finding `json:"findings"`
}

func (c *upgradeCmd) tell(e *env, dir string, u *sqlite.Upgraded, took time.Duration) error {
	v := upgraded{"ok", u.From, u.To, u.Kept, u.Size, u.Need, u.Counts, u.Differences, u.Differ, u.Findings}
	switch {
	case u.From == u.To:
		v.Verdict = "nothing to do"
	case u.Differ > 0:
		v.Verdict = "different"
	case len(u.Findings) > 0:
		v.Verdict = "damaged"
	case u.Kept != "":
		v.Verdict = "upgraded"
	}
	if c.JSON {
		if v.Differences == nil {
			v.Differences = []sqlite.Difference{}
		}
		if v.Findings == nil {
			v.Findings = []mailstore.Finding{}
		}
		if err := printValue(e, v); err != nil {
			return err
		}
	} else {
		c.print(e, dir, &v, u, took)
	}
	if v.Verdict == "different" || v.Verdict == "damaged" {
		return exitError(exitFailed)
	}
	return nil
}

func (c *upgradeCmd) print(e *env, dir string, v *upgraded, u *sqlite.Upgraded, took time.Duration) {
	n := &v.Counts
	seen := fmt.Sprintf("%d domains, %d aliases, %d accounts, %d mailboxes, %d messages, and %d queued for %d recipients",
		n.Domains, n.Aliases, n.Accounts, n.Mailboxes, n.Messages, n.Queued, n.Recipients)
	took = took.Round(time.Millisecond)
	switch {
	case v.Verdict == "nothing to do":
		fmt.Fprintf(e.stdout, "nothing to do: the data directory %s is of version %d, which is this program's\n", dir, v.To)
		return
	case !c.DryRun:
		kept, db := filepath.Base(v.Kept), "postrider.db"
		fmt.Fprintf(e.stdout, "upgraded: version %d became %d in %v\n", v.From, v.To, took)
		fmt.Fprintf(e.stdout, "Clients see the same: %s.\n", seen)
		fmt.Fprintf(e.stdout, "The old database (%s) is kept as %s; remove it when all is well.\n", binarySize(v.Octets), v.Kept)
		fmt.Fprintf(e.stdout, "To go back, without what comes from now on, stop the server, then\n")
		fmt.Fprintf(e.stdout, "  cd %s && rm -f %s-wal %s-shm search.db* && mv %s %s\n", dir, db, db, kept, db)
		fmt.Fprintf(e.stdout, "and start the program of before.\n")
		return
	}
	fmt.Fprintf(e.stdout, "%s: tried on a copy, which is removed: version %d became %d in %v\n", v.Verdict, v.From, v.To, took)
	fmt.Fprintf(e.stdout, "An upgrade copies the database (%s) and takes %s of free space. The server must not run meanwhile.\n", binarySize(v.Octets), binarySize(v.Space))
	fmt.Fprintf(e.stdout, "Verified: %d bodies (%s), %d problems.\n", u.Verified, binarySize(u.Octets), len(v.Findings))
	for _, f := range v.Findings {
		fmt.Fprintln(e.stdout, " ", f.String())
	}
	if v.Differ == 0 {
		fmt.Fprintf(e.stdout, "Clients see no difference: %s.\n", seen)
		return
	}
	fmt.Fprintf(e.stdout, "Clients would see %d differences, and an upgrade will not be done: %s.\n", v.Differ, seen)
	for _, d := range v.Differences {
		fmt.Fprintln(e.stdout, " ", d.String())
	}
	if more := v.Differ - len(v.Differences); more > 0 {
		fmt.Fprintf(e.stdout, "  and %d more\n", more)
	}
}
