package imap

import (
	"strings"

	"github.com/emersion/go-imap/v2"

	"postrider/mailstore"
)

// systemFlags are the system flags in the order in which they are listed.
var systemFlags = []struct {
	flag imap.Flag
	bit  mailstore.SystemFlags
}{
	{imap.FlagAnswered, mailstore.Answered},
	{imap.FlagFlagged, mailstore.Flagged},
	{imap.FlagDeleted, mailstore.Deleted},
	{imap.FlagSeen, mailstore.Seen},
	{imap.FlagDraft, mailstore.Draft},
}

// flagRecent is of IMAP4rev1 and gone since: no message of ours has it, and a
// client that sets it is not told off.
const flagRecent = "\\Recent"

func fromFlags(list []string) (mailstore.Flags, error) {
	var f mailstore.Flags
	for _, flag := range list {
		bit := systemFlag(flag)
		switch {
		case bit != 0:
			f.System |= bit
		case strings.EqualFold(flag, flagRecent):
		case strings.HasPrefix(flag, "\\"):
			return f, bad("There is no such system flag")
		default:
			f.Keywords = append(f.Keywords, flag)
		}
	}
	return f, nil
}

// systemFlag is the bit of a flag, 0 where it is none.
func systemFlag(flag string) mailstore.SystemFlags {
	for _, s := range systemFlags {
		if strings.EqualFold(flag, string(s.flag)) {
			return s.bit
		}
	}
	return 0
}

// appendFlags appends a list of flags in parentheses; extra stands at its end.
func appendFlags(b []byte, f mailstore.Flags, extra string) []byte {
	b = append(b, '(')
	n := len(b)
	for _, s := range systemFlags {
		if f.System&s.bit != 0 {
			b = append(b, s.flag...)
			b = append(b, ' ')
		}
	}
	for _, k := range f.Keywords {
		b = append(b, k...)
		b = append(b, ' ')
	}
	if extra != "" {
		b = append(b, extra...)
		b = append(b, ' ')
	}
	if len(b) > n {
		b = b[:len(b)-1]
	}
	return append(b, ')')
}

// flagList are all flags of a mailbox.
func (b *selection) flagList() mailstore.Flags {
	return mailstore.Flags{System: ^mailstore.SystemFlags(0), Keywords: b.keywords}
}
