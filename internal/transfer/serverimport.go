package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"postrider/mailstore"
)

// importing is the store's side of one import.
type importing struct {
	s       *Server
	f       *frames
	request importRequest
	account mailstore.AccountID
	maxSize int64

	box   mailstore.MailboxID // 0 in a dry run
	marks *markRows           // belongs to the commit in hand while there is one
	open  bool                // a folder is

	head  *messageHead // of the message that comes in; nil between messages
	body  *mailstore.BodyWriter
	batch []incoming
	bytes int64      // of batch, in memory
	busy  chan error // the commit in hand; nil without one
}

// incoming is a message that waits for its commit.
type incoming struct {
	head messageHead
	body *mailstore.Body
}

// serveImport takes messages until the connection is closed.
func (s *Server) serveImport(ctx context.Context, f *frames, r importRequest) error {
	account, err := s.o.Account(ctx, r.Account)
	if err != nil {
		return err
	}
	end, err := s.begin(ctx, fmt.Sprintf("%d %s %s", account.ID, r.Source, r.Mailbox))
	if err != nil {
		return err
	}
	defer end()
	im := &importing{s: s, f: f, request: r, account: account.ID}
	if s.o.MaxSize != nil {
		im.maxSize = s.o.MaxSize()
	}
	if err := f.answer(okKind, importReply{im.maxSize}); err != nil {
		return err
	}
	defer im.abandon()
	for {
		k, b, err := f.read()
		if err != nil {
			// What is complete is worth keeping.
			return errors.Join(err, im.settle(ctx))
		}
		if err := im.handle(ctx, k, b); err != nil {
			return err
		}
	}
}

// abandon frees what was not committed.
func (im *importing) abandon() {
	if im.body != nil {
		im.body.Abort()
	}
	if im.busy != nil {
		<-im.busy
	}
	for _, m := range im.batch {
		m.body.Release()
	}
}

func (im *importing) handle(ctx context.Context, k kind, b []byte) error {
	inMessage := im.head != nil
	switch {
	case k == folderKind && !inMessage:
		var r folderRequest
		if err := json.Unmarshal(b, &r); err != nil {
			return err
		}
		return im.folder(ctx, r)
	case k == againKind && !inMessage && im.open:
		if err := im.settle(ctx); err != nil {
			return err
		}
		if !im.request.DryRun {
			if err := im.marks.forget(ctx, im.s.o.Store); err != nil {
				return err
			}
		}
		return im.f.answer(okKind, struct{}{})
	case k == syncKind && !inMessage:
		if err := im.settle(ctx); err != nil {
			return err
		}
		return im.f.answer(okKind, struct{}{})
	case k == messageKind && !inMessage && im.open && !im.request.DryRun:
		im.head = &messageHead{}
		im.body = im.s.o.Store.NewBody()
		return json.Unmarshal(b, im.head)
	case k == dataKind && inMessage:
		if _, err := im.body.Write(b); err != nil {
			return err
		}
		if im.maxSize > 0 && im.body.Size() > im.maxSize {
			return fmt.Errorf("a message of more than %d octets", im.maxSize)
		}
		return nil
	case k == dropKind && inMessage:
		im.body.Abort()
		im.head, im.body = nil, nil
		return nil
	case k == endKind && inMessage:
		return im.end(ctx)
	}
	return fmt.Errorf("%w: kind %q in an import", errFrame, k)
}

// end takes a complete message into the batch.
func (im *importing) end(ctx context.Context) error {
	body, err := im.body.Commit()
	if err != nil {
		return err
	}
	// Here and not within the Update, where deliveries would wait for it.
	if err := body.Describe(); err != nil {
		body.Release()
		return err
	}
	im.batch = append(im.batch, incoming{*im.head, body})
	im.bytes += min(body.Size(), mailstore.InlineSize)
	im.head, im.body = nil, nil
	if len(im.batch) < maxBatch && im.bytes < maxBatchBytes {
		return nil
	}
	return im.commit(ctx)
}

// settle commits all that came.
func (im *importing) settle(ctx context.Context) error {
	if err := im.commit(ctx); err != nil {
		return err
	}
	return im.wait()
}

// wait waits for the commit in hand.
func (im *importing) wait() error {
	if im.busy == nil {
		return nil
	}
	err := <-im.busy
	im.busy = nil
	return err
}

// commit begins the commit of the batch, when the one before is done: the next
// messages come in while it is written.
func (im *importing) commit(ctx context.Context) error {
	if err := im.wait(); err != nil || len(im.batch) == 0 {
		return err
	}
	batch := im.batch
	im.batch, im.bytes = nil, 0
	im.busy = make(chan error, 1)
	box, marks := im.box, im.marks
	go func(done chan<- error) { done <- im.write(ctx, box, marks, batch) }(im.busy)
	return nil
}

// write makes messages and their marks durable in one Update, and says so.
func (im *importing) write(ctx context.Context, box mailstore.MailboxID, rows *markRows, batch []incoming) error {
	defer func() {
		for _, m := range batch {
			m.body.Release()
		}
	}()
	var now *markRows
	var full *mailstore.QuotaError
	octets, count := int64(0), 0
	// A cancelled session ends before a commit or after it.
	err := im.s.o.Store.Update(ctx, func(tx *mailstore.Tx) error {
		marks := make([]Mark, 0, len(batch))
		for _, m := range batch {
			n := mailstore.NewMessage{
				Body:  m.body,
				Flags: mailstore.Flags{System: mailstore.SystemFlags(m.head.System), Keywords: m.head.Keywords},
			}
			if m.head.Dated {
				n.Internal = time.Unix(m.head.Internal, 0)
			}
			_, err := tx.Append(box, n)
			if errors.As(err, &full) {
				break // those before it stand
			}
			if err != nil {
				return err
			}
			octets += m.body.Size()
			marks = append(marks, m.head.Mark)
		}
		count = len(marks)
		var err error
		now, err = rows.add(tx, marks)
		return err
	})
	if errors.Is(err, mailstore.ErrNotFound) {
		return errors.New("the mailbox was deleted meanwhile; give the command again")
	}
	if err != nil {
		return err
	}
	*rows = *now
	if err := im.f.answer(doneKind, committed{count, octets}); err != nil {
		return err
	}
	if full != nil { // another message might be small enough, and leave a hole that nobody sees
		return full
	}
	return nil
}

// folder goes on with a folder: it finds or makes the mailbox and tells what is
// in it by earlier runs.
func (im *importing) folder(ctx context.Context, r folderRequest) error {
	if err := im.settle(ctx); err != nil {
		return err
	}
	reply, err := im.mailbox(ctx, r)
	if err != nil {
		return err
	}
	im.open = true
	im.marks = &markRows{prefix: marksPrefix(im.account, im.request, r)}
	err = im.marks.load(ctx, im.s.o.Store, func(row []byte) error { return im.f.write(marksKind, row) })
	if err != nil {
		return err
	}
	return im.f.answer(okKind, reply)
}

// mailbox finds the mailbox for a folder, by its special use or its name, or
// makes it.
func (im *importing) mailbox(ctx context.Context, r folderRequest) (folderReply, error) {
	name, err := mailstore.CleanName(r.Mailbox)
	if err != nil {
		return folderReply{}, fmt.Errorf("mailbox %q: %w", r.Mailbox, err)
	}
	var box mailstore.Mailbox
	find := func(v *mailstore.View) error {
		boxes, err := v.Mailboxes(im.account)
		if err != nil {
			return err
		}
		for _, b := range boxes {
			if r.SpecialUse != "" && strings.EqualFold(b.SpecialUse, r.SpecialUse) {
				box = b
				return nil
			}
		}
		box, err = v.MailboxByName(im.account, name)
		return err
	}
	err = im.s.o.Store.View(ctx, find)
	if err == nil || !errors.Is(err, mailstore.ErrNotFound) {
		im.box = box.ID
		return folderReply{Mailbox: box.Name}, err
	}
	im.box = 0
	if im.request.DryRun {
		return folderReply{Mailbox: name, Created: true}, nil
	}
	err = im.s.o.Store.Update(ctx, func(tx *mailstore.Tx) error {
		err := find(&tx.View)
		if err == nil || !errors.Is(err, mailstore.ErrNotFound) {
			return err
		}
		box, err = create(tx, im.account, name, r)
		return err
	})
	im.box = box.ID
	return folderReply{Mailbox: box.Name, Created: true}, err
}

// create makes a mailbox and those above it that are missing.
func create(tx *mailstore.Tx, a mailstore.AccountID, name string, r folderRequest) (mailstore.Mailbox, error) {
	for i, c := range name {
		if c != '/' {
			continue
		}
		if _, err := tx.MailboxByName(a, name[:i]); !errors.Is(err, mailstore.ErrNotFound) {
			if err != nil {
				return mailstore.Mailbox{}, err
			}
			continue
		}
		if _, err := tx.CreateMailbox(a, name[:i], ""); err != nil {
			return mailstore.Mailbox{}, err
		}
	}
	box, err := tx.CreateMailbox(a, name, r.SpecialUse)
	if err != nil || !r.Subscribe {
		return box, err
	}
	return box, tx.Subscribe(a, name, true)
}
