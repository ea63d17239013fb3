package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"postrider/internal/clock"
	"postrider/mailstore"
)

// Limits of a Server.
const (
	// maxBatch and maxBatchBytes bound what is committed at once, and with it
	// the memory of an import: two batches, of which one is being committed.
	maxBatch      = 1000
	maxBatchBytes = 8 << 20 // of bodies that are held in memory
	maxSessions   = 8
)

// ServerOptions has what a Server needs.
type ServerOptions struct {
	Store *mailstore.Store
	// Account finds an account by the address that a person typed.
	Account func(ctx context.Context, address string) (mailstore.Account, error)
	MaxSize func() int64 // octets of one message; 0 = no limit
	Clock   clock.Clock
	Log     *slog.Logger
}

// Server is the store's side of imports and exports.
type Server struct {
	o ServerOptions

	mu     sync.Mutex
	active map[string]chan struct{} // imports, by account and source; closed when they end
	count  int
}

// NewServer returns a Server.
func NewServer(o ServerOptions) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	return &Server{o: o, active: make(map[string]chan struct{})}
}

// Serve does what the other side of the connection asks for, until it closes
// it or ctx ends. An import that is cut short keeps what was committed, and the
// next one goes on from there.
func (s *Server) Serve(ctx context.Context, conn io.ReadWriter) {
	f := newFrames(conn)
	err := s.session(ctx, f)
	if err == nil || errors.Is(err, io.EOF) {
		return
	}
	s.o.Log.Info("a transfer ended early", "error", err)
	// The other side may be gone: what can not be said is in the log.
	_ = f.answer(errorKind, refusal{Reason: sayable(err)})
}

// sayable is an error for the person at the other side.
func sayable(err error) string {
	switch {
	case errors.Is(err, mailstore.ErrQuota):
		return "the account has no room for more: raise its limit (postrider quota set ADDRESS --storage SIZE --messages N), or delete mail, and give the command again: it goes on where it ended"
	case errors.Is(err, mailstore.ErrFull):
		return "the disk is full; make room and give the command again: it goes on where it ended"
	case errors.Is(err, mailstore.ErrFailed), errors.Is(err, mailstore.ErrClosed), errors.Is(err, context.Canceled):
		return "the server ends; give the command again when it runs: it goes on where it ended"
	}
	return err.Error()
}

func (s *Server) session(ctx context.Context, f *frames) error {
	s.mu.Lock()
	s.count++
	full := s.count > maxSessions
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.count--
		s.mu.Unlock()
	}()
	if full {
		return fmt.Errorf("%d imports and exports are going on; wait for one to end", maxSessions)
	}
	k, b, err := f.read()
	if err != nil {
		return err
	}
	switch k {
	case importKind:
		var r importRequest
		if err := json.Unmarshal(b, &r); err != nil {
			return err
		}
		return s.serveImport(ctx, f, r)
	case exportKind:
		var r exportRequest
		if err := json.Unmarshal(b, &r); err != nil {
			return err
		}
		return s.serveExport(ctx, f, r)
	}
	return fmt.Errorf("%w: kind %q first", errFrame, k)
}

// importPatience is how long an import waits for another one of the same
// source: one whose command was killed ends when its last commit is done.
const importPatience = 10 * time.Second

// begin makes sure that an import runs once: two at a time would each bring in
// what the other has not yet marked.
func (s *Server) begin(ctx context.Context, key string) (end func(), err error) {
	timer := s.o.Clock.NewTimer(importPatience)
	defer timer.Stop()
	for {
		other := s.enter(key)
		if other == nil {
			return func() { s.leave(key) }, nil
		}
		select {
		case <-other:
		case <-timer.Chan():
			return nil, errors.New("an import of this source into this account is going on")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// enter returns nil, or what is closed when the import that is going on ends.
func (s *Server) enter(key string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.active[key]; other != nil {
		return other
	}
	s.active[key] = make(chan struct{})
	return nil
}

func (s *Server) leave(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.active[key])
	delete(s.active, key)
}

// serveExport lists mailboxes, and then gives the messages of those asked for.
func (s *Server) serveExport(ctx context.Context, f *frames, r exportRequest) error {
	account, err := s.o.Account(ctx, r.Account)
	if err != nil {
		return err
	}
	var boxes []mailstore.Mailbox
	err = s.o.Store.View(ctx, func(v *mailstore.View) (err error) {
		if len(r.Mailbox) == 0 {
			boxes, err = v.Mailboxes(account.ID)
			return err
		}
		for _, name := range r.Mailbox {
			box, err := v.MailboxByName(account.ID, name)
			if errors.Is(err, mailstore.ErrNotFound) {
				return fmt.Errorf("%s has no mailbox %q", account.Address, name)
			}
			if err != nil {
				return err
			}
			boxes = append(boxes, box)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, b := range boxes {
		if err := f.send(boxKind, exportBox{int64(b.ID), b.Name, b.Messages}); err != nil {
			return err
		}
	}
	if err := f.answer(okKind, struct{}{}); err != nil {
		return err
	}
	for {
		k, b, err := f.read()
		if err != nil {
			return err
		}
		var box openBox
		if k != boxKind {
			return fmt.Errorf("%w: kind %q in an export", errFrame, k)
		}
		if err := json.Unmarshal(b, &box); err != nil {
			return err
		}
		i := indexBox(boxes, mailstore.MailboxID(box.ID))
		if i < 0 {
			return fmt.Errorf("%w: mailbox %d", errFrame, box.ID)
		}
		if err := s.exportBox(ctx, f, boxes[i]); err != nil {
			return err
		}
		if err := f.answer(okKind, struct{}{}); err != nil {
			return err
		}
	}
}

func indexBox(boxes []mailstore.Mailbox, id mailstore.MailboxID) int {
	for i, b := range boxes {
		if b.ID == id {
			return i
		}
	}
	return -1
}

// exportPage is how many messages are listed at once.
const exportPage = 500

// exportBox gives the messages of one mailbox, and tells of those that are damaged.
// Those that go away meanwhile are left out; those that arrive meanwhile may be in.
func (s *Server) exportBox(ctx context.Context, f *frames, box mailstore.Mailbox) error {
	buf := make([]byte, maxData)
	for from := mailstore.UID(1); ; {
		var page []mailstore.Message
		var damaged []*mailstore.DamagedRange
		err := s.o.Store.View(ctx, func(v *mailstore.View) error {
			return v.Readable(box.ID, from, func(m mailstore.Message) bool {
				page = append(page, m)
				return len(page) < exportPage
			}, func(d *mailstore.DamagedRange) { damaged = append(damaged, d) })
		})
		lost := errors.Is(err, mailstore.ErrDamaged)
		if err != nil && !lost && !errors.Is(err, mailstore.ErrNotFound) {
			return err
		}
		for _, d := range damaged {
			if err := f.send(refuseKind, refusal{fmt.Sprintf("%s: UID %d to %d", box.Name, d.First, d.Last), "they are damaged"}); err != nil {
				return err
			}
		}
		for _, m := range page {
			if err := s.exportMessage(ctx, f, box, m, buf); err != nil {
				return err
			}
			from = m.UID + 1
		}
		if lost {
			return f.send(refuseKind, refusal{fmt.Sprintf("%s: UID %d and all behind it", box.Name, from), "the mailbox is damaged"})
		}
		if len(page) < exportPage || from == 0 {
			return nil
		}
	}
}

func (s *Server) exportMessage(ctx context.Context, f *frames, box mailstore.Mailbox, m mailstore.Message, buf []byte) error {
	refuse := func(reason string) error {
		return f.send(refuseKind, refusal{fmt.Sprintf("%s: UID %d", box.Name, m.UID), reason})
	}
	c, err := s.o.Store.OpenMessage(ctx, m)
	switch {
	case errors.Is(err, mailstore.ErrNotFound):
		return nil
	case errors.Is(err, mailstore.ErrDamaged):
		return refuse("its stored octets are damaged")
	case err != nil:
		return err
	}
	defer c.Close()
	err = f.send(messageKind, messageHead{System: uint8(m.Flags.System), Keywords: m.Flags.Keywords,
		Internal: m.Internal.Unix(), Dated: true, Size: c.Size(), UID: uint32(m.UID)})
	if err != nil {
		return err
	}
	_, err = f.body(io.NewSectionReader(c, 0, c.Size()), buf, 0)
	var broken connectionError
	if errors.As(err, &broken) {
		return err
	}
	if err != nil {
		if err := f.write(dropKind, nil); err != nil {
			return err
		}
		return refuse("its stored octets are damaged")
	}
	return f.write(endKind, nil)
}
