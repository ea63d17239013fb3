package node

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"postrider/internal/journey"
)

// journeyDir is where the journey is, in the data directory.
const journeyDir = "journey"

func (n *Node) openJourney() {
	o := journey.Options{Node: n.options.Hostname, Clock: n.options.Clock, Log: n.log, Parent: n.options.Journey,
		Keep: n.options.JourneyRetention, Size: n.options.JourneySize}
	if o.Keep > 0 {
		o.Dir = filepath.Join(n.options.DataDir, journeyDir)
	}
	n.journey = journey.New(o)
	n.metrics.gauge("journey_lost", "Events of the journey that were not kept: the disk did not keep up, or had no room.",
		func() float64 { return float64(n.journey.Lost()) })
}

// Journey is the recorder of the node.
func (n *Node) Journey() *journey.Recorder { return n.journey }

// Trace looks up what happened to messages.
func (a *Admin) Trace(q journey.Query, reply *journey.Found) (err error) {
	_, end := a.command(&err)
	defer end()
	if a.n.options.JourneyRetention == 0 {
		return errors.New("no journey is kept: journey.retention is 0")
	}
	*reply, err = a.n.journey.Find(q)
	if reply.Events == nil {
		reply.Events = []journey.Event{}
	}
	return err
}

// TraceFollow begins to follow; TraceNext gives what comes.
func (a *Admin) TraceFollow(f journey.Filter, _ *None) (err error) {
	_, end := a.command(&err)
	defer end()
	a.session.mu.Lock()
	defer a.session.mu.Unlock()
	if a.session.follower != nil {
		return errors.New("this connection follows already")
	}
	a.session.follower = a.n.journey.Follow(f)
	return nil
}

// followPause is how long TraceNext waits when nothing happens: it answers an empty
// list then, and the connection is not idle for too long.
const followPause = 20 * time.Second

// TraceNext waits for events and returns them.
func (a *Admin) TraceNext(_ None, reply *[]journey.Event) (err error) {
	ctx, end := a.command(&err)
	defer end()
	a.session.mu.Lock()
	f := a.session.follower
	a.session.mu.Unlock()
	if f == nil {
		return errors.New("nothing is followed")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := a.n.options.Clock.AfterFunc(followPause, cancel)
	defer stop.Stop()
	*reply, err = f.Next(ctx)
	if a.refill != nil {
		a.refill()
	}
	if errors.Is(err, context.Canceled) && a.base.Err() == nil {
		err = nil
	}
	if *reply == nil {
		*reply = []journey.Event{}
	}
	return err
}
