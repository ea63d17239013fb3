package main

import (
	"errors"
	"fmt"
	"time"

	"postrider/internal/node"
	"postrider/internal/transfer"
)

type reindexCmd struct {
	Account string `arg:"" optional:"" help:"Address of the account; default: all."`
}

// reindexPoll is how often a reindexing is asked how far it is.
const reindexPoll = 500 * time.Millisecond

func (c *reindexCmd) Run(e *env) error {
	return e.admin(func(a *node.AdminClient) error {
		var s node.SearchStatus
		if err := a.Call("Reindex", c.Account, &s); err != nil {
			return err
		}
		start := time.Now()
		p := &transfer.Progress{}
		p.Total.Store(s.Waiting)
		stop := showProgress(e.stderr, p)
		err := followReindex(e, a, &s, p)
		stop()
		if err != nil {
			return err
		}
		done := p.Messages.Load()
		_, err = fmt.Fprintf(e.stdout, "%d messages indexed in %v.\n", done, time.Since(start).Round(time.Millisecond))
		return err
	})
}

// followReindex waits until nothing waits to be indexed.
func followReindex(e *env, a *node.AdminClient, s *node.SearchStatus, p *transfer.Progress) error {
	tick := time.NewTicker(reindexPoll)
	defer tick.Stop()
	for before := s.Done; ; {
		p.Messages.Store(s.Done - before)
		p.Done.Store(max(p.Total.Load()-s.Waiting, 0)) // mail may arrive meanwhile
		switch {
		case s.Trouble != "":
			return fmt.Errorf("the search index: %s", s.Trouble)
		case s.Waiting == 0:
			return nil
		}
		select {
		case <-tick.C:
		case <-e.ctx.Done():
			if a.Running {
				return errors.New("interrupted; the server goes on indexing")
			}
			return errors.New("interrupted; the server goes on when it starts")
		}
		*s = node.SearchStatus{}
		if err := a.Call("SearchStatus", node.None{}, s); err != nil {
			return err
		}
	}
}
