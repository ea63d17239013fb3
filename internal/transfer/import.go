package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"postrider/mailstore"
)

// ImportOptions says what an import does.
type ImportOptions struct {
	Account string
	Mailbox string   // where all goes; "" = each folder to a mailbox of its own name
	Only    []string // folders, by their name in the source or that of their mailbox; none = all
	DryRun  bool
	// Again brings in what an earlier run did, once more.
	Again bool
	// Watch, where it is not nil, hears of the folders as they begin, in the
	// goroutine that called Import.
	Watch    func(f Folder, mailbox string, created bool)
	Progress *Progress // where it is not nil, it is kept up to date
}

// Progress is how far an import or export is. All may be read at any time.
type Progress struct {
	Total, Done      atomic.Int64 // work, in the source's unit
	Messages, Octets atomic.Int64 // moved
}

// Skipped is a message that was not moved.
type Skipped struct{ Where, Reason string }

// maxSkipped bounds the messages that a Summary names.
const maxSkipped = 1000

// Summary is what came of an import or export.
type Summary struct {
	Messages  int64 // imported or exported; in a dry run, that would be
	Octets    int64
	Already   int64 // there by an earlier run
	Failed    int64 // skipped
	Skipped   []Skipped
	Dropped   int64 // flags that can not be kept
	Mailboxes int
	Views     []string // folders that were left out: see Folder.View
}

func (s *Summary) skip(where, reason string) {
	s.Failed++
	if len(s.Skipped) < maxSkipped {
		s.Skipped = append(s.Skipped, Skipped{where, reason})
	}
}

// importer is the command's side of an import.
type importer struct {
	f       *frames
	o       ImportOptions
	summary Summary
	maxSize int64
	known   map[Mark]struct{}
	buf     []byte

	replies chan reply // what the store answers
	ended   chan struct{}

	mu     sync.Mutex
	failed error // what the store's side said when it ended the connection
	did    committed
}

// reply is a frame that answers a request.
type reply struct {
	k kind
	b []byte
}

// Import reads src and brings into the store what is not there by an earlier
// run. The summary is true also when there is an error: all that it counts is
// on disk. src stays open.
func Import(ctx context.Context, conn io.ReadWriteCloser, src Source, o ImportOptions) (Summary, error) {
	if o.Progress == nil {
		o.Progress = &Progress{}
	}
	im := &importer{f: newFrames(conn), o: o, buf: make([]byte, maxData),
		replies: make(chan reply), ended: make(chan struct{})}
	var reading sync.WaitGroup
	reading.Go(im.read)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	err := im.run(ctx, src)
	stop()
	close(im.ended)
	conn.Close()
	reading.Wait()
	im.mu.Lock()
	defer im.mu.Unlock()
	if !o.DryRun {
		im.summary.Messages, im.summary.Octets = int64(im.did.Messages), im.did.Octets
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return im.summary, err
}

// read takes what the store says until the connection ends. It always reads:
// the store never waits for the command to hear it.
func (im *importer) read() {
	defer close(im.replies)
	for {
		k, b, err := im.f.read()
		if err != nil {
			if errors.Is(err, errFrame) {
				im.fail(err)
			}
			return
		}
		switch k {
		case doneKind:
			var c committed
			if err := json.Unmarshal(b, &c); err != nil {
				im.fail(err)
				return
			}
			im.mu.Lock()
			im.did.Messages += c.Messages
			im.did.Octets += c.Octets
			im.mu.Unlock()
			im.o.Progress.Messages.Add(int64(c.Messages))
			im.o.Progress.Octets.Add(c.Octets)
		case errorKind:
			var r refusal
			if err := json.Unmarshal(b, &r); err != nil {
				im.fail(err)
				return
			}
			im.fail(errors.New(r.Reason))
			return
		default:
			select {
			case im.replies <- reply{k, append([]byte(nil), b...)}:
			case <-im.ended:
				return
			}
		}
	}
}

func (im *importer) fail(err error) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.failed == nil {
		im.failed = err
	}
}

// errEnded: the connection broke without a word.
var errEnded = errors.New("the server ended; give the command again when it runs: it goes on where it ended")

// why tells what ended the connection, when reading or writing it failed with err.
func (im *importer) why(err error) error {
	if errors.Is(err, errFrame) { // it was not sent, and the connection stands
		return err
	}
	for range im.replies { // until read has ended, and knows
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.failed != nil {
		return im.failed
	}
	return errEnded
}

// ask sends a request and waits for ok; each frame before it goes to fn.
func (im *importer) ask(k kind, request, answer any, fn func([]byte)) error {
	if err := im.f.answer(k, request); err != nil {
		return im.why(err)
	}
	for r := range im.replies {
		if r.k == okKind {
			return json.Unmarshal(r.b, answer)
		}
		if fn == nil {
			return fmt.Errorf("%w: kind %q for an answer", errFrame, r.k)
		}
		fn(r.b)
	}
	return im.why(io.EOF)
}

func (im *importer) run(ctx context.Context, src Source) error {
	var hello importReply
	err := im.ask(importKind, importRequest{Account: im.o.Account, Source: src.Identity(), Mailbox: im.o.Mailbox, DryRun: im.o.DryRun}, &hello, nil)
	if err != nil {
		return err
	}
	im.maxSize = hello.MaxSize
	folders, err := src.Folders(ctx)
	if err != nil {
		return err
	}
	if len(im.o.Only) == 0 {
		for _, f := range folders {
			if f.View {
				im.summary.Views = append(im.summary.Views, f.Name)
			}
		}
	}
	if folders, err = only(folders, im.o.Only); err != nil {
		return err
	}
	for _, f := range folders {
		im.o.Progress.Total.Add(f.Work)
	}
	for _, f := range folders {
		if err := im.folder(ctx, src, f); err != nil {
			return err
		}
	}
	return nil
}

// only picks folders by name; each name must be that of one at least.
func only(folders []Folder, names []string) ([]Folder, error) {
	if len(names) == 0 {
		return slices.DeleteFunc(folders, func(f Folder) bool { return f.View }), nil
	}
	picked := make([]bool, len(folders))
	for _, n := range names {
		found := false
		for i, f := range folders {
			if f.Name == n || f.Mailbox == n {
				picked[i], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("the source has no folder %q", n)
		}
	}
	var list []Folder
	for i, f := range folders {
		if picked[i] {
			list = append(list, f)
		}
	}
	return list, nil
}

// folder imports one folder.
func (im *importer) folder(ctx context.Context, src Source, f Folder) error {
	r := folderRequest{Folder: f.Name, Validity: f.Validity, Mailbox: f.Mailbox, SpecialUse: f.SpecialUse, Subscribe: f.Subscribed}
	if im.o.Mailbox != "" {
		r.Mailbox, r.SpecialUse, r.Subscribe = im.o.Mailbox, "", true
	}
	if _, err := mailstore.CleanName(r.Mailbox); err != nil {
		im.summary.skip(f.Name, fmt.Sprintf("%v; --mailbox puts it elsewhere", err))
		return nil
	}
	im.known = make(map[Mark]struct{})
	var got folderReply
	err := im.ask(folderKind, r, &got, func(b []byte) {
		for ; len(b) >= len(Mark{}); b = b[len(Mark{}):] {
			im.known[Mark(b[:len(Mark{})])] = struct{}{}
		}
	})
	if err != nil {
		return err
	}
	im.summary.Mailboxes++
	if im.o.Watch != nil {
		im.o.Watch(f, got.Mailbox, got.Created)
	}
	if im.o.Again && len(im.known) > 0 {
		clear(im.known)
		if err := im.ask(againKind, struct{}{}, &struct{}{}, nil); err != nil {
			return err
		}
	}
	if err := src.Read(ctx, f, (*visitor)(im)); err != nil {
		// What came so far is kept; the store hears the end of it.
		if serr := im.ask(syncKind, struct{}{}, &struct{}{}, nil); serr != nil {
			return serr
		}
		return err
	}
	return im.ask(syncKind, struct{}{}, &struct{}{}, nil)
}

// visitor is the importer as sources see it.
type visitor importer

func (v *visitor) Known(m Mark) bool {
	_, ok := v.known[m]
	return ok
}

func (v *visitor) Already(n int)             { v.summary.Already += int64(n) }
func (v *visitor) Skip(where, reason string) { v.summary.skip(where, reason) }
func (v *visitor) Done(n int64)              { v.o.Progress.Done.Add(n) }

func (v *visitor) Fits(where string, size int64) bool {
	if v.maxSize > 0 && size > v.maxSize {
		v.summary.skip(where, fmt.Sprintf("larger than the server takes (%d octets, [limits] message_size)", v.maxSize))
		return false
	}
	return true
}

// Take sends one message.
func (v *visitor) Take(m *Message) error {
	if !v.Fits(m.Where, m.Size) {
		return nil
	}
	if v.o.DryRun && m.Size >= 0 {
		v.would(m, m.Size)
		return nil
	}
	r, err := m.Open()
	if err != nil {
		v.summary.skip(m.Where, err.Error())
		return nil
	}
	defer r.Close()
	if v.o.DryRun {
		n, err := io.Copy(io.Discard, r)
		if err != nil {
			v.summary.skip(m.Where, err.Error())
		} else if v.Fits(m.Where, n) {
			v.would(m, n)
		}
		return nil
	}
	head := messageHead{Mark: m.Mark, System: uint8(m.Flags.System), Keywords: m.Flags.Keywords}
	if !m.Internal.IsZero() {
		head.Internal, head.Dated = m.Internal.Unix(), true
	}
	if err := v.f.send(messageKind, head); err != nil {
		return (*importer)(v).why(err)
	}
	_, err = v.f.body(r, v.buf, v.maxSize)
	var broken connectionError
	switch {
	case errors.As(err, &broken):
		return (*importer)(v).why(err)
	case err != nil:
		if err := v.f.write(dropKind, nil); err != nil {
			return (*importer)(v).why(err)
		}
		if errors.Is(err, errTooLarge) {
			v.Fits(m.Where, v.maxSize+1)
			return nil
		}
		v.summary.skip(m.Where, err.Error())
		return nil
	}
	v.summary.Dropped += int64(m.Dropped)
	if err := v.f.write(endKind, nil); err != nil {
		return (*importer)(v).why(err)
	}
	return nil
}

// would counts a message in a dry run.
func (v *visitor) would(m *Message, size int64) {
	v.summary.Messages++
	v.summary.Octets += size
	v.summary.Dropped += int64(m.Dropped)
}
