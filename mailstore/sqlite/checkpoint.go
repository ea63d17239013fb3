package sqlite

import "sync"

const (
	// checkpointPages is how much the log grows, by estimate, before it is
	// moved into the database beside the writer.
	checkpointPages = 4096
	// maxLogPages is the length of the log at which the writer waits until it
	// is moved whole, so that it starts anew. Snapshots that overlap keep it from
	// that: from twice this length on, new ones wait until there are none. One
	// of another process can still make it longer.
	maxLogPages = 4 * checkpointPages
)

// checkpointer moves the log into the database on a connection and a goroutine
// of its own.
type checkpointer struct {
	e    *Engine
	c    *conn
	kick chan struct{}
	done sync.WaitGroup
	most int64 // maxLogPages

	mu     sync.Mutex // held by a checkpoint
	holds  int
	gaveUp int // times that holds were given up for want of space

	every int // checkpointPages; this and pages belong to the writer
	pages int // written since the last wake, by estimate
}

func startCheckpoints(e *Engine) (*checkpointer, error) {
	c, err := connect(e.path, role{cache: readerCache, write: true})
	if err != nil {
		return nil, err
	}
	k := &checkpointer{e: e, c: c, kick: make(chan struct{}, 1), every: checkpointPages, most: maxLogPages}
	if n := int(e.reserve.size / 4 / 4096); n < k.every {
		// A checkpoint may need as much space as the log has: the reserve has to do.
		k.every, k.most = max(n, lowPages), 4*max(int64(n), lowPages)
	}
	k.done.Add(1)
	go k.loop()
	return k, nil
}

// grown tells how many pages a commit added to the log, about, and asks for a
// checkpoint when there are enough of them.
func (k *checkpointer) grown(pages int) {
	every := k.every
	if k.e.reserve.low.Load() {
		every = min(every, lowPages)
	}
	if k.pages += pages; k.pages < every {
		return
	}
	k.pages = 0
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// close ends the goroutine after the checkpoint in hand.
func (k *checkpointer) close() error {
	close(k.kick)
	k.done.Wait()
	return k.c.close()
}

func (k *checkpointer) loop() {
	defer k.done.Done()
	for range k.kick {
		if err := k.move(); err != nil {
			// The log keeps what was not moved; the next one tries again.
			k.e.log.Warn("move the write-ahead log into the database", "error", err)
		}
	}
}

// move makes the log short, unless it is held and there is space for more of it.
func (k *checkpointer) move() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.holds > 0 {
		if !k.e.reserve.low.Load() {
			return nil
		}
		k.gaveUp++
	}
	length, err := k.checkpoint()
	most := k.most
	if k.e.reserve.low.Load() {
		most = min(most, 4*lowPages)
	}
	if err == nil && length > most {
		// Most of the log is moved; the rest is short. With the writer
		// stopped all of it can be, and its next commit starts the log anew.
		err = k.finish(length > 2*most)
	}
	return err
}

// Hold lets nothing be moved from the log into the database: the database file
// stays as it is, and the log only grows, or begins once again if all of it was
// moved before. A disk that gets full ends it; low tells that it did.
func (e *Engine) Hold() (release func(), low func() bool) {
	k := e.check
	k.mu.Lock()
	defer k.mu.Unlock()
	k.holds++
	before := k.gaveUp
	release = func() {
		k.mu.Lock()
		k.holds--
		k.mu.Unlock()
	}
	low = func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.gaveUp != before
	}
	return release, low
}

// finish moves the whole log with the writer stopped and, where alone is true,
// without any snapshot of ours: the connections that are taken first are lent
// to nobody, and the writer goes on until the last one is free.
func (k *checkpointer) finish(alone bool) error {
	if alone {
		var all sync.WaitGroup // at once, so that no new snapshot comes between
		for range cap(k.e.slots) {
			all.Go(func() { k.e.slots <- struct{}{} })
		}
		all.Wait()
		defer func() {
			for range cap(k.e.slots) {
				<-k.e.slots
			}
		}()
	}
	k.e.turn.Lock()
	defer k.e.turn.Unlock()
	_, err := k.checkpoint()
	return err
}

// checkpoint moves what no snapshot needs in the log, and returns its length.
func (k *checkpointer) checkpoint() (length int64, err error) {
	err = k.c.one("PRAGMA wal_checkpoint(PASSIVE)", nil, func(r row) { length = r.int(1) })
	if failedSync(err) {
		k.e.fail(err)
	}
	return length, err
}
