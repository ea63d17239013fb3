package route

import (
	"context"
	"strconv"
	"strings"
	"time"

	"postrider/internal/clock"
	"postrider/mta"
)

// Catch makes a Router take mail for every address of every domain into one
// account and send none on: for tests of programs that send mail. It refuses
// on purpose where the recipient's local part (without its subaddress) asks for
// it:
//
//	temperror@  451, come again later
//	permerror@  550, never
//	450@, 550@  that code, from 400 to 599; 421 ends the connection
//	timeout@    silence for longer than a client has to wait (RFC 5321
//	            section 4.5.3.2.3), then 421
type Catch struct {
	Account mta.Address     // gets everything
	Clock   clock.Clock     // of the silence; nil: the system's
	Quit    <-chan struct{} // ends every silence when it is closed; may be nil
}

const (
	// silence is longer than the five minutes that a client gives RCPT.
	silence = 6 * time.Minute
	// maxSilent bounds the sessions that wait for silence to end at once; more
	// are told 421 immediately.
	maxSilent = 100
)

// catcher is a Catch at work.
type catcher struct {
	Catch
	silent chan struct{}
}

func newCatcher(c *Catch) *catcher {
	k := &catcher{Catch: *c, silent: make(chan struct{}, maxSilent)}
	if k.Clock == nil {
		k.Clock = clock.System()
	}
	return k
}

// recipient is Router.Recipient.
func (k *catcher) recipient(ctx context.Context, d Directory, c mta.Client, to mta.Address) ([]mta.Target, error) {
	if !c.Ours { // reports of this server are not refused by it
		if err := k.rehearse(ctx, strings.ToLower(to.Base().Local)); err != nil {
			return nil, err
		}
	}
	return d.Resolve(ctx, k.Account)
}

// rehearse is the refusal that a local part asks for, or nil.
func (k *catcher) rehearse(ctx context.Context, name string) error {
	switch name {
	case "temperror":
		return mta.Errorf(451, "4.3.0", "You asked for an error that goes away: come again later")
	case "permerror":
		return mta.Errorf(550, "5.0.0", "You asked for an error that stays")
	case "timeout":
		return k.wait(ctx)
	}
	if len(name) != 3 {
		return nil
	}
	code, err := strconv.Atoi(name)
	if err != nil || code < 400 || code > 599 {
		return nil
	}
	r := mta.Errorf(code, strconv.Itoa(code/100)+".0.0", "You asked for this code")
	r.Close = code == 421
	return r
}

// wait says nothing for a long time.
func (k *catcher) wait(ctx context.Context) error {
	over := mta.Errorf(421, "4.4.2", "You asked for silence, and it is over")
	over.Close = true
	select {
	case k.silent <- struct{}{}:
	default:
		return over
	}
	defer func() { <-k.silent }()
	timer := k.Clock.NewTimer(silence)
	defer timer.Stop()
	select {
	case <-timer.Chan():
	case <-k.Quit:
	case <-ctx.Done():
		return ctx.Err()
	}
	return over
}
