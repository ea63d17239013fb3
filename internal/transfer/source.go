package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"postrider/mailstore"
)

// Mark is the identity of a message within its folder of the source. An import
// keeps the marks of what it brought in, and leaves those alone the next time.
type Mark [16]byte

// markOf makes a mark from the parts of an identity.
func markOf(parts ...string) Mark {
	h := sha256.New()
	for _, p := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		io.WriteString(h, p)
	}
	return Mark(h.Sum(nil)[:len(Mark{})])
}

// Folder is one folder of a source.
type Folder struct {
	Name       string // in the source
	Mailbox    string // ours: UTF-8, "/" between levels
	SpecialUse string // RFC 6154; where an account has a mailbox for it, that is the one
	Subscribed bool
	// Validity is part of the identity of the folder's messages: an IMAP
	// server's UIDVALIDITY, else "".
	Validity string
	Work     int64 // what there is to do, in the source's unit
	// View: it shows messages of other folders, and is read only when it is named.
	View bool

	path string // where the source finds it
}

// Message is one message of a source. It is valid until the call that hands it
// over returns.
type Message struct {
	Where    string // for reports, such as "inbox.mbox: message 3"
	Mark     Mark
	Flags    mailstore.Flags
	Dropped  int // flags of the source that can not be kept
	Internal time.Time
	Size     int64 // octets as the store will have them; -1 = not known before they are read
	// Open reads the octets as the store will have them. It may be nil in a dry
	// run, where Size is known.
	Open func() (io.ReadCloser, error)
}

// Visitor takes what a Source reads. An error ends the reading.
type Visitor interface {
	// Known tells whether the message came in by an earlier run.
	Known(Mark) bool
	// Fits tells whether a message of that size is taken; one that is not is
	// reported.
	Fits(where string, size int64) bool
	// Take imports a message that is not known.
	Take(*Message) error
	// Already counts messages that are known.
	Already(n int)
	// Skip reports a message that can not be read.
	Skip(where, reason string)
	// Done adds to what was done of Folder.Work.
	Done(work int64)
}

// Source is where an import comes from. It is used from one goroutine.
type Source interface {
	// Identity names the source, so that a later run can tell what it brought
	// in before. It holds no password.
	Identity() string
	// Unit says what Folder.Work counts: "octets" or "messages".
	Unit() string
	Folders(ctx context.Context) ([]Folder, error)
	// Read hands the folder's messages in their order to v.
	Read(ctx context.Context, f Folder, v Visitor) error
	Close() error
}

// keepFlags returns those of the flags that the store can keep, and how many it
// can not: keywords that are no atoms, too long or too many.
func keepFlags(system mailstore.SystemFlags, keywords []string) (mailstore.Flags, int) {
	f := mailstore.Flags{System: system}
	dropped := 0
	for _, k := range keywords {
		switch {
		case f.Has(0, k):
		case !mailstore.IsKeyword(k) || len(f.Keywords) == mailstore.MaxKeywords:
			dropped++
		default:
			f.Keywords = append(f.Keywords, k)
		}
	}
	return f, dropped
}

// errDialect: the chosen form can not express the message.
var errDialect = errors.New("can not be written in this form")
