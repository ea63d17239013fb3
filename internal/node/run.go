package node

import (
	"context"
	"errors"
	"time"
)

// stopPatience bounds the end of a node: sessions and attempts in hand may
// finish within it.
const stopPatience = 20 * time.Second

var (
	errClosed  = errors.New("the node is closed")
	errRunning = errors.New("the node runs, or has run")
)

// Run serves until ctx ends or Close is called, then stops: no new connection,
// what is in hand finishes within a bound, and all is closed. It is called once,
// on a node with listeners. It calls ready when every listener accepts. An error
// means that the node could not go on, because the storage failed.
func (n *Node) Run(ctx context.Context, ready func()) error {
	done, err := n.begin()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queueDone := make(chan error, 1)
	go func() { queueDone <- n.queue.Run(ctx) }()
	n.own.refresh(ctx) // before anybody can ask
	n.server.Serve(n.sockets.submit, n.protocols["submit"])
	for _, b := range n.ls.all {
		if b.service == "metrics" {
			n.metrics.serve(b.Listener)
			continue
		}
		if b.packets != nil {
			if err := n.dns.ServePacket(b.packets); err != nil {
				return errors.Join(err, n.free())
			}
		}
		n.server.Serve(b.Listener, n.protocols[b.service])
	}
	ownDone := make(chan struct{})
	go func() {
		defer close(ownDone)
		n.own.run(ctx)
	}()
	if ready != nil {
		ready()
	}
	select {
	case <-ctx.Done():
	case <-n.stop:
	case <-n.Store.Failed():
		err = errors.New("the storage failed; nothing acknowledged is lost; mend the disk and start again")
	}
	n.log.Info("stopping")
	cancel()
	n.endSessions()
	<-ownDone
	if qerr := <-queueDone; qerr != nil && !errors.Is(qerr, context.Canceled) {
		err = errors.Join(err, qerr)
	}
	return errors.Join(err, n.free())
}

// begin makes sure that there is one Run, and that Close waits for it.
func (n *Node) begin() (done func(), err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed:
		return nil, errClosed
	case n.running != nil:
		return nil, errRunning
	}
	running := make(chan struct{})
	n.running = running
	return func() { close(running) }, nil
}

// Close ends a node: one that runs as the end of Run's context does. It returns
// when all is closed, and may be called more than once.
func (n *Node) Close() error {
	n.mu.Lock()
	if !n.closed {
		n.closed = true
		close(n.stop)
	}
	running := n.running
	n.mu.Unlock()
	if running != nil {
		<-running
	}
	return n.free()
}

// endSessions lets sessions finish what is in hand.
func (n *Node) endSessions() {
	n.beginsToStop.Do(func() { close(n.stopping) })
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	if err := n.server.Shutdown(ctx); err != nil {
		n.log.Warn("sessions were cut short", "err", err)
	}
}

// free gives back all that New took, as far as it came: the store last, whose
// lock keeps the sockets' names ours until they are removed.
func (n *Node) free() (err error) {
	n.freeing.Do(func() {
		if n.control != nil {
			n.sockets.closeControl()
			n.control.close()
			n.transfers.close()
		}
		if n.server != nil {
			n.endSessions() // after Run there are none
		}
		if n.dns != nil {
			n.dns.Close()
		}
		if n.ls != nil {
			n.ls.Close()
		}
		if n.metrics != nil {
			n.metrics.close()
		}
		if n.client != nil {
			n.client.Close()
		}
		n.mu.Lock()
		r := n.recursor
		n.mu.Unlock()
		if r != nil {
			r.Close()
		}
		if n.tokens != nil {
			n.tokens.Close()
		}
		n.sockets.remove()
		n.searching.close()
		if n.journey != nil {
			if jerr := n.journey.Close(); jerr != nil {
				n.log.Warn("close the journey", "error", jerr)
			}
		}
		if n.Store != nil {
			err = n.Store.Close()
		}
	})
	return err
}
