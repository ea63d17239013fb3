package imap

import (
	"context"
	"iter"

	"postrider/mailstore"
)

// Of messages that are sent whole.
const (
	aheadOctets = 256 << 10 // are opened at a time, about; twice as much is held
	firstOctets = 64 << 10  // the first time, when the client waits for the first octet
)

// aheadBatch is what one opening of several messages had.
type aheadBatch struct {
	opened   []mailstore.Opened
	err      error
	panicked any
}

func (b *aheadBatch) close() {
	for i := range b.opened {
		if b.opened[i].Err == nil {
			b.opened[i].Close()
		}
	}
}

// opened opens messages in order. While those of one batch are used, another
// goroutine reads the next. Who gets a message that is open closes it. After an
// error of the store as a whole, which the last message has, no more come.
func (s *session) opened(ctx context.Context, list []numbered) iter.Seq2[int, mailstore.Opened] {
	messages := make([]mailstore.Message, len(list))
	for i := range list {
		messages[i] = list[i].Message
	}
	return func(yield func(int, mailstore.Opened) bool) {
		first := s.openBatch(ctx, messages, firstOctets)
		at := len(first.opened)
		if !first.yield(0, yield) || at == len(messages) {
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		batches := make(chan *aheadBatch)
		go func() {
			defer close(batches)
			for rest := messages[at:]; len(rest) > 0 && ctx.Err() == nil; {
				b := s.openBatch(ctx, rest, aheadOctets)
				last := b.err != nil || b.panicked != nil
				rest = rest[len(b.opened):]
				batches <- b
				if last {
					return
				}
			}
		}()
		defer func() {
			cancel()
			for b := range batches {
				b.close()
			}
		}()
		for b := range batches {
			n := len(b.opened)
			if !b.yield(at, yield) {
				return
			}
			at += n
		}
	}
}

// openBatch opens messages. It panics in the goroutine of the session only, which
// is ready for that.
func (s *session) openBatch(ctx context.Context, list []mailstore.Message, octets int64) (b *aheadBatch) {
	b = new(aheadBatch)
	defer func() { b.panicked = recover() }()
	b.opened, b.err = s.srv.o.Store.OpenMessages(ctx, list, octets)
	return b
}

// yield hands the messages of a batch out and reports whether to go on.
func (b *aheadBatch) yield(at int, yield func(int, mailstore.Opened) bool) bool {
	if b.panicked != nil {
		panic(b.panicked)
	}
	if b.err != nil {
		yield(at, mailstore.Opened{Err: b.err})
		return false
	}
	for len(b.opened) > 0 {
		o := b.opened[0]
		b.opened = b.opened[1:]
		if !yield(at, o) {
			b.close()
			return false
		}
		at++
	}
	return true
}
