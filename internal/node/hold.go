package node

import (
	"context"
	"fmt"
	"net/rpc/jsonrpc"
	"os"
	"path/filepath"
	"time"

	"postrider/internal/clock"
	"postrider/mailstore/sqlite"
)

// holdPulse is how often a hold is asked for, so that its connection is not idle.
const holdPulse = time.Minute

// Hold keeps the files of a data directory as they are, for a backup.
type Hold struct {
	admin *AdminClient // of the server that runs; nil without one
	free  func() error
	stop  chan struct{}
}

// OpenHold makes the server that runs on o.DataDir keep its files as they are;
// with none running it locks the directory, and changes nothing in it.
func OpenHold(ctx context.Context, o Options) (*Hold, error) {
	if _, err := os.Stat(filepath.Join(o.DataDir, "postrider.db")); err != nil {
		return nil, fmt.Errorf("there is no data directory to back up: %w", err)
	}
	h := &Hold{stop: make(chan struct{})}
	conn, err := reach(ctx, o, controlSocket, func() (err error) {
		h.free, err = sqlite.Lock(o.DataDir)
		return err
	})
	if err != nil {
		return nil, err
	}
	if conn == nil {
		return h, nil
	}
	h.admin = &AdminClient{rpc: jsonrpc.NewClient(conn), Running: true}
	if err := h.admin.Call("HoldBegin", None{}, &None{}); err != nil {
		h.admin.Close()
		return nil, err
	}
	c := o.Clock
	if c == nil {
		c = clock.System()
	}
	go h.pulse(c)
	return h, nil
}

func (h *Hold) pulse(c clock.Clock) {
	for {
		t := c.NewTimer(holdPulse)
		select {
		case <-t.Chan():
			_ = h.Check() // whoever relies on it asks too
		case <-h.stop:
			t.Stop()
			return
		}
	}
}

// Check is an error when the files were not kept all the time since OpenHold.
func (h *Hold) Check() error {
	if h.admin == nil {
		return nil
	}
	return h.admin.Call("HoldCheck", None{}, &None{})
}

// Close ends the hold.
func (h *Hold) Close() error {
	close(h.stop)
	if h.admin == nil {
		return h.free()
	}
	err := h.admin.Call("HoldEnd", None{}, &None{})
	h.admin.Close()
	return err
}
