package node

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"postrider/internal/journey"
	"postrider/mailstore"
	"postrider/mailstore/search"
)

// session is what the commands of one connection leave running between them. It
// ends with the connection.
type session struct {
	mu      sync.Mutex
	check   *check
	release func()
	lost    func() bool

	follower *journey.Follower // of TraceFollow; nil before it
}

func (s *session) end() {
	s.mu.Lock()
	check, release := s.check, s.release
	follower := s.follower
	s.check, s.release, s.follower = nil, nil, nil
	s.mu.Unlock()
	if follower != nil {
		follower.Close()
	}
	if check != nil {
		check.cancel()
		<-check.done
	}
	if release != nil {
		release()
	}
}

// HoldBegin keeps the files of the store as they are, for a backup to read them,
// until HoldEnd or the end of the connection.
func (a *Admin) HoldBegin(_ None, _ *None) (err error) {
	_, end := a.command(&err)
	defer end()
	a.session.mu.Lock()
	defer a.session.mu.Unlock()
	if a.session.release != nil {
		return errors.New("this connection has a hold")
	}
	a.session.release, a.session.lost = a.n.Store.Hold()
	return nil
}

// HoldCheck is an error when the files were not kept since HoldBegin.
func (a *Admin) HoldCheck(_ None, _ *None) (err error) {
	_, end := a.command(&err)
	defer end()
	a.session.mu.Lock()
	defer a.session.mu.Unlock()
	if a.session.release == nil || a.session.lost() {
		return errors.New("the disk of the server got full meanwhile: make room and give the command again")
	}
	return nil
}

// HoldEnd ends the hold.
func (a *Admin) HoldEnd(_ None, _ *None) (err error) {
	_, end := a.command(&err)
	defer end()
	a.session.mu.Lock()
	defer a.session.mu.Unlock()
	if a.session.release != nil {
		a.session.release()
		a.session.release = nil
	}
	return nil
}

const maxCheckFindings = 500 // that wait for VerifyPoll; the check waits when there are more

// check is a Verify that runs.
type check struct {
	cancel   context.CancelFunc
	done     chan struct{}
	findings chan mailstore.Finding
	progress mailstore.VerifyProgress
	err      error // once done is closed
}

// VerifyArgs says what VerifyBegin does.
type VerifyArgs struct{ Repair bool }

// VerifyBegin begins to check the store. It ends with the connection.
func (a *Admin) VerifyBegin(args VerifyArgs, _ *None) (err error) {
	_, end := a.command(&err)
	defer end()
	ctx, cancel := context.WithCancel(a.base)
	c := &check{cancel: cancel, done: make(chan struct{}), findings: make(chan mailstore.Finding, maxCheckFindings)}
	a.session.mu.Lock()
	defer a.session.mu.Unlock()
	if a.session.check != nil {
		cancel()
		return errors.New("this connection has a check that runs")
	}
	a.session.check = c
	go a.verify(ctx, c, args.Repair)
	return nil
}

func (a *Admin) verify(ctx context.Context, c *check, repair bool) {
	defer close(c.done)
	defer func() {
		if v := recover(); v != nil {
			a.n.panics.Add(1)
			a.n.log.Error("panic in a check of the store", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			c.err = errors.New("a fault of the program: the server's log has the details")
		}
	}()
	found := func(f mailstore.Finding) {
		select {
		case c.findings <- f:
		case <-ctx.Done():
		}
	}
	c.err = a.n.Store.Verify(ctx, mailstore.VerifyOptions{Repair: repair, Progress: &c.progress, Found: found})
	if c.err != nil || !a.n.options.SearchIndex {
		return
	}
	if err := a.verifyIndex(ctx, repair, found); err != nil { // which does not hide what was found before
		found(mailstore.Finding{Kind: "search", Lost: true, Text: fmt.Sprintf("the index for SEARCH could not be checked: %v", err)})
	}
}

// verifyIndex checks the search index; what is wrong is mended by making that of
// the account anew, which a server does behind other work.
func (a *Admin) verifyIndex(ctx context.Context, repair bool, found func(mailstore.Finding)) error {
	var list []search.Damage
	anew := map[mailstore.AccountID]error{} // whose index is made anew, and whether that could begin
	err := a.n.searching.verify(ctx, a.n, func(d search.Damage) {
		list = append(list, d)
		anew[d.Account] = nil
	})
	if err != nil {
		return err
	}
	if _, all := anew[0]; all {
		anew = map[mailstore.AccountID]error{0: nil}
	}
	for id := range anew {
		if repair {
			anew[id] = a.reindex(ctx, id)
		}
	}
	for _, d := range list {
		f := mailstore.Finding{Kind: "search", Text: "the index for SEARCH: " + d.Text, Repaired: repair}
		if err := a.n.Store.View(ctx, func(v *mailstore.View) error {
			account, err := v.Account(d.Account)
			f.Account = account.Address
			return err
		}); err == nil {
			f.Text += ", of " + f.Account
		}
		err, one := anew[d.Account]
		if !one {
			err = anew[0]
		}
		if err != nil {
			f.Repaired = false
			f.Text += fmt.Sprintf("; not repaired: %v", err)
		}
		found(f)
	}
	return nil
}

func (a *Admin) reindex(ctx context.Context, id mailstore.AccountID) error {
	x, err := a.n.searching.open(a.n)
	if err != nil {
		return err
	}
	_, err = x.Reindex(ctx, id)
	return err
}

// VerifyState is how far a check is.
type VerifyState struct {
	Done, Total      int64 // octets of bodies; Total is 0 until it is known
	Messages, Bodies int64
	Findings         []mailstore.Finding // since the last VerifyPoll
	Ended            bool
}

// VerifyPoll tells how far the check of this connection is.
func (a *Admin) VerifyPoll(_ None, reply *VerifyState) (err error) {
	_, end := a.command(&err)
	defer end()
	a.session.mu.Lock()
	c := a.session.check
	a.session.mu.Unlock()
	if c == nil {
		return errors.New("no check runs")
	}
	select {
	case <-c.done:
		reply.Ended = true
	default:
	}
	for len(c.findings) > 0 && len(reply.Findings) < maxCheckFindings {
		reply.Findings = append(reply.Findings, <-c.findings)
	}
	reply.Ended = reply.Ended && len(c.findings) == 0
	reply.Done, reply.Total = c.progress.Done.Load(), c.progress.Total.Load()
	reply.Messages, reply.Bodies = c.progress.Messages.Load(), c.progress.Bodies.Load()
	if reply.Ended {
		return c.err
	}
	return nil
}
