package mailstore

import (
	"errors"
	"fmt"
	"strings"
)

// Rights is a set of rights to a mailbox (RFC 4314 section 2.1).
type Rights uint16

const (
	RightLookup     Rights = 1 << iota // l: LIST shows the mailbox
	RightRead                          // r: SELECT and STATUS
	RightSeen                          // s: \Seen
	RightWrite                         // w: flags but \Seen and \Deleted
	RightInsert                        // i: APPEND, COPY into it
	RightPost                          // p: kept, and without effect here
	RightCreate                        // k: mailboxes below it
	RightDelete                        // x: the mailbox itself
	RightTrash                         // t: \Deleted
	RightExpunge                       // e: EXPUNGE
	RightAdminister                    // a: its access control list
	rightsEnd
)

// AllRights is what an owner has.
const AllRights = rightsEnd - 1

// Rights that stand for others (RFC 4314 section 2.1.1).
const (
	virtualCreate = RightCreate | RightDelete // c
	virtualDelete = RightTrash | RightExpunge // d
)

// letters of the rights, in order of their bits.
const rightLetters = "lrswipkxtea"

// ErrRights: a letter that is no right.
var ErrRights = errors.New("no such right")

// ParseRights reads letters in any order: "c" is k and x, "d" t and e. The error
// is ErrRights.
func ParseRights(letters string) (Rights, error) {
	var r Rights
	for i := 0; i < len(letters); i++ {
		switch c := letters[i]; {
		case c == 'c':
			r |= virtualCreate
		case c == 'd':
			r |= virtualDelete
		default:
			at := strings.IndexByte(rightLetters, c)
			if at < 0 {
				return 0, fmt.Errorf("%w: %q", ErrRights, c)
			}
			r |= 1 << at
		}
	}
	return r, nil
}

// Has tells whether r has all of these.
func (r Rights) Has(these Rights) bool { return r&these == these }

// Any tells whether r has one of these at least.
func (r Rights) Any(these Rights) bool { return r&these != 0 }

// String writes the letters, without the virtual ones.
func (r Rights) String() string {
	b := make([]byte, 0, len(rightLetters))
	for i := range len(rightLetters) {
		if r&(1<<i) != 0 {
			b = append(b, rightLetters[i])
		}
	}
	return string(b)
}

// Wire writes the letters as clients are told, with the virtual ones of which r
// has a part (RFC 4314 section 2.1.1).
func (r Rights) Wire() string {
	s := r.String()
	if r.Any(virtualCreate) {
		s += "c"
	}
	if r.Any(virtualDelete) {
		s += "d"
	}
	return s
}

// changed gives the flags as somebody with these rights changes them to others:
// what the rights do not allow to change stays (RFC 4314 section 4).
func (f Flags) changed(to Flags, r Rights) Flags {
	if r.Has(RightSeen | RightTrash | RightWrite) {
		return to
	}
	mask := SystemFlags(0)
	if r.Has(RightSeen) {
		mask |= Seen
	}
	if r.Has(RightTrash) {
		mask |= Deleted
	}
	keywords := f.Keywords
	if r.Has(RightWrite) {
		mask |= Answered | Flagged | Draft
		keywords = to.Keywords
	}
	return Flags{f.System&^mask | to.System&mask, keywords}
}

// Changes gives those of the flags that somebody with these rights may change.
func (r Rights) Changes(f Flags) Flags { return Flags{}.changed(f, r) }

// RightsChange says how Tx.SetACL combines.
type RightsChange int

const (
	ReplaceRights RightsChange = iota
	AddRights
	RemoveRights
)

// combine gives the rights after a change.
func (r Rights) combine(how RightsChange, with Rights) Rights {
	switch how {
	case AddRights:
		return r | with
	case RemoveRights:
		return r &^ with
	}
	return with
}
