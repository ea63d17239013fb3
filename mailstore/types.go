package mailstore

import (
	"errors"
	"strings"
	"time"
)

var (
	ErrNotFound = errors.New("not found")      // every getter
	ErrExists   = errors.New("exists already") // every creator, and rename
	ErrClosed   = errors.New("store is closed")
	// ErrFailed: the disk failed under a commit. The store is read-only from
	// then on and the process should end.
	ErrFailed = errors.New("storage failed")
	// ErrNotWritten: the disk refused a write, and nothing was changed; the next
	// one may succeed.
	ErrNotWritten = errors.New("could not be written")
	// ErrFull: no space for this change; reading and deleting go on.
	ErrFull = errors.New("no space left")
	// ErrName: a mailbox name that cannot be, or an operation that its name
	// forbids (deleting INBOX, renaming a mailbox to one below itself).
	ErrName = errors.New("bad mailbox name")
	// ErrFlags: a keyword that is not an atom, or too many of them.
	ErrFlags = errors.New("bad keyword")
	// ErrDamaged: stored bytes do not match their checksum, or are gone, or the
	// database has a page that cannot be.
	ErrDamaged = errors.New("stored data is damaged")
	// ErrLimit: a named limit of this package is reached.
	ErrLimit = errors.New("limit reached")
)

type (
	AccountID int64
	MailboxID int64
	UID       uint32 // only grows within a mailbox; never 0
	ModSeq    uint64 // only grows within a mailbox
	BodyID    int64
	QueueID   int64
	// ThreadID names a conversation within an account: the body of its first
	// message.
	ThreadID int64
)

// Account is one person's mailboxes and credentials.
type Account struct {
	ID          AccountID // only grows; the lowest is the first account
	Address     string    // normalised
	Credentials []byte    // opaque here; package directory's verifiers
	Created     time.Time
	Quota       Quota
	// Shared: nobody logs in to it, and others read its mailboxes by the rights
	// that they have.
	Shared bool
}

// domain is the domain of the account's address.
func (a *Account) domain() string { return a.Address[strings.LastIndexByte(a.Address, '@')+1:] }

// Domain is one that we accept mail for. Domains are listed in order of creation.
type Domain struct {
	Name    string // A-labels, lower case
	Created time.Time
	Quota   Quota // of accounts that set none
}

// Alias stands for other addresses. "@domain" is that domain's catch-all.
type Alias struct {
	Address string
	Targets []string
}

// Mailbox is an IMAP folder with its counters.
type Mailbox struct {
	ID          MailboxID
	Account     AccountID
	Name        string // UTF-8, "/" between levels; INBOX in capitals
	SpecialUse  string // RFC 6154, such as "\\Sent"; "" for none
	Subscribed  bool
	UIDValidity uint32
	UIDNext     UID
	ModSeq      ModSeq // HIGHESTMODSEQ
	Messages    uint32
	Unseen      uint32
	Size        int64 // sum of the messages' sizes
}

// Flags is a set of system flags and keywords.
type Flags struct {
	System   SystemFlags
	Keywords []string // sorted, each once; compared without regard to case, kept as first given
}

// SystemFlags is a bit set of RFC 9051 section 2.3.2.
type SystemFlags uint8

const (
	Seen SystemFlags = 1 << iota
	Answered
	Flagged
	Deleted
	Draft
)

// Message is one message in one mailbox.
type Message struct {
	Mailbox  MailboxID
	UID      UID
	ModSeq   ModSeq // of its last change
	Flags    Flags
	Internal time.Time // INTERNALDATE, to the second
	Saved    time.Time // when it came into this mailbox
	Body     BodyID
	Thread   ThreadID
	// Prefix stands before the shared body when the message is read: a
	// Return-Path field, CRLF included, or nothing.
	Prefix string
	Size   int64 // octets of prefix and body
	// Unended: the body has octets and does not end in CRLF (APPEND and BDAT
	// may store such ones). POP3 sends a CRLF after it, which Size does not
	// count, and has to know without reading bodies.
	Unended bool
}

// Changes is what happened in a mailbox after a mod-sequence.
type Changes struct {
	ModSeq   ModSeq // the mailbox's now: ask from here next time
	UIDNext  UID
	Arrived  []Message // new since then and still there, by UID; with UID, ModSeq and Flags alone
	Changed  []Message // older ones whose flags changed, as Arrived
	Expunged []UID     // sorted
	// Horizon: since is older than the record of expunges reaches; Arrived,
	// Changed and Expunged are empty and the caller must start anew.
	Horizon bool
}

// QueueItem is a message that waits for at least one recipient: at another server,
// or an account that was full.
type QueueItem struct {
	ID       QueueID
	Envelope string // the envelope's ID
	From     string // mta.Address.String(); "" for the null path
	BodyType string // 7BIT, 8BITMIME; "" when not declared
	UTF8     bool   // SMTPUTF8
	Return   string // RET: FULL, HDRS or ""
	EnvID    string // ENVID, decoded
	Login    string // who submitted it; "" for a stranger
	Body     BodyID
	Size     int64
	Accepted time.Time
	Expires  time.Time
}

// QueueRecipient is one undelivered recipient of a QueueItem. It is removed
// when its fate is known.
type QueueRecipient struct {
	Item     QueueID
	Index    int    // within the item, from 0
	Address  string // where to deliver
	Domain   string // of Address, or Address where it is an account: what the scheduler is fair across
	Notify   string // NOTIFY as comma list; ""
	ORCPT    string // "rfc822;..." decoded form, ""
	Original string // the address of RCPT, where an alias led here; else Address
	Held     bool
	Attempts int
	Last     time.Time // of the last attempt; zero before it
	Next     time.Time // when to try next
	Reply    string    // the last attempt's: "451 4.3.0 ..."
	Host     string    // who said so
	Delayed  bool      // the delay notice was sent
}
