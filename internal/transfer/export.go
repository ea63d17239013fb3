package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"postrider/mailstore"
)

// ExportOptions says what an export does.
type ExportOptions struct {
	Account  string
	Mailbox  []string // by name; none = all
	Format   string   // "mbox" or "maildir"
	Dialect  Dialect  // of mbox; "" = mboxrd
	Dest     string   // what is made; it must not be there
	Now      time.Time
	Progress *Progress
}

// target is what an export writes. Nothing of it is seen under its name before
// Commit.
type target interface {
	// Begin goes on with a mailbox.
	Begin(name string) error
	// Add writes a message. errDialect says that it can not be expressed, and
	// is left out.
	Add(h messageHead, c content) error
	// End completes a mailbox.
	End() error
	// Commit makes all of it durable and gives it its name.
	Commit() error
	// Abort removes what was written; it does nothing after Commit.
	Abort()
}

// Export writes an account's mail to files.
func Export(ctx context.Context, conn io.ReadWriteCloser, o ExportOptions) (s Summary, err error) {
	if o.Progress == nil {
		o.Progress = &Progress{}
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer func() {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		} else if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("the server ended; nothing was written")
		}
	}()
	ex := &exporter{f: newFrames(conn), o: o}
	if err := ex.f.answer(exportKind, exportRequest{Account: o.Account, Mailbox: o.Mailbox}); err != nil {
		return s, err
	}
	boxes, err := ex.boxes()
	if err != nil {
		return s, err
	}
	if ex.target, err = newTarget(o, len(o.Mailbox) == 1); err != nil {
		return s, err
	}
	defer ex.target.Abort()
	ex.spool.dir = o.Dest
	defer ex.spool.close()
	for _, b := range boxes {
		if err := ex.box(b); err != nil {
			return s, err
		}
	}
	if err := ctx.Err(); err != nil {
		return s, err
	}
	return ex.summary, ex.target.Commit()
}

func newTarget(o ExportOptions, single bool) (target, error) {
	if _, err := os.Lstat(o.Dest); err == nil {
		return nil, fmt.Errorf("%s is there already; nothing is overwritten: choose another name", o.Dest)
	}
	if o.Format == "maildir" {
		return newMaildirTarget(o.Dest, o.Now, single)
	}
	d := o.Dialect
	if d == "" {
		d = MboxRD
	}
	return newMboxTarget(o.Dest, d, single)
}

// exporter is the command's side of an export.
type exporter struct {
	f       *frames
	o       ExportOptions
	target  target
	spool   spool
	summary Summary
}

// boxes reads the list of mailboxes.
func (ex *exporter) boxes() ([]exportBox, error) {
	var list []exportBox
	for {
		k, b, err := ex.f.read()
		if err != nil {
			return nil, err
		}
		switch k {
		case boxKind:
			var box exportBox
			if err := json.Unmarshal(b, &box); err != nil {
				return nil, err
			}
			list = append(list, box)
			ex.o.Progress.Total.Add(int64(box.Messages))
		case okKind:
			return list, nil
		default:
			return nil, ex.unexpected(k, b)
		}
	}
}

// unexpected is the error for a frame that is no answer, which may say why.
func (ex *exporter) unexpected(k kind, b []byte) error {
	var r refusal
	if k == errorKind && json.Unmarshal(b, &r) == nil {
		return errors.New(r.Reason)
	}
	return fmt.Errorf("%w: kind %q in an export", errFrame, k)
}

// box writes one mailbox.
func (ex *exporter) box(box exportBox) error {
	if err := ex.target.Begin(box.Name); err != nil {
		if errors.Is(err, errDialect) {
			ex.summary.skip(fmt.Sprintf("mailbox %s with %d messages", box.Name, box.Messages), err.Error())
			return nil
		}
		return err
	}
	ex.summary.Mailboxes++
	if err := ex.f.answer(boxKind, openBox{box.ID}); err != nil {
		return err
	}
	for {
		k, b, err := ex.f.read()
		if err != nil {
			return err
		}
		switch k {
		case okKind:
			return ex.target.End()
		case refuseKind:
			var r refusal
			if err := json.Unmarshal(b, &r); err != nil {
				return err
			}
			ex.summary.skip(r.Where, r.Reason)
		case messageKind:
			var h messageHead
			if err := json.Unmarshal(b, &h); err != nil {
				return err
			}
			if err := ex.message(box, h); err != nil {
				return err
			}
		default:
			return ex.unexpected(k, b)
		}
	}
}

// message reads one message and writes it.
func (ex *exporter) message(box exportBox, h messageHead) error {
	if err := ex.spool.reset(h.Size); err != nil {
		return err
	}
	for {
		k, b, err := ex.f.read()
		if err != nil {
			return err
		}
		switch k {
		case dataKind:
			if err := ex.spool.write(b); err != nil {
				return err
			}
		case dropKind: // a refusal says why
			return nil
		case endKind:
			err := ex.target.Add(h, &ex.spool)
			switch {
			case errors.Is(err, errDialect):
				ex.summary.skip(fmt.Sprintf("%s: UID %d", box.Name, h.UID), err.Error())
			case err != nil:
				return err
			default:
				ex.summary.Messages++
				ex.summary.Octets += ex.spool.size
			}
			ex.o.Progress.Done.Add(1)
			ex.o.Progress.Messages.Add(1)
			ex.o.Progress.Octets.Add(ex.spool.size)
			return nil
		default:
			return ex.unexpected(k, b)
		}
	}
}

func (h messageHead) flags() mailstore.Flags {
	return mailstore.Flags{System: mailstore.SystemFlags(h.System), Keywords: h.Keywords}
}

// spool holds one message: a small one in memory, a large one in a file without
// a name beside what is written.
type spool struct {
	dir  string // a path in the folder of the file
	buf  bytes.Buffer
	file *os.File
	used bool // the file
	size int64
}

// reset makes room for a message.
func (s *spool) reset(size int64) error {
	s.buf.Reset()
	s.size = 0
	if s.used = size > maxHeld; !s.used {
		return nil
	}
	if s.file == nil {
		f, err := os.CreateTemp(parent(s.dir), ".postrider-spool-*")
		if err != nil {
			return err
		}
		if err := os.Remove(f.Name()); err != nil {
			f.Close()
			return err
		}
		s.file = f
	}
	if err := s.file.Truncate(0); err != nil {
		return err
	}
	_, err := s.file.Seek(0, io.SeekStart)
	return err
}

func (s *spool) write(b []byte) (err error) {
	s.size += int64(len(b))
	if s.used {
		_, err = s.file.Write(b)
	} else {
		_, err = s.buf.Write(b)
	}
	return err
}

func (s *spool) Size() int64 { return s.size }

func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	if s.used {
		return s.file.ReadAt(p, off)
	}
	return bytes.NewReader(s.buf.Bytes()).ReadAt(p, off)
}

func (s *spool) close() {
	if s.file != nil {
		s.file.Close()
	}
}
