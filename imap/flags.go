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
const flagRecent imap.Flag = "\\Recent"

func toFlags(f mailstore.Flags) []imap.Flag {
	list := make([]imap.Flag, 0, len(systemFlags)+len(f.Keywords))
	for _, s := range systemFlags {
		if f.System&s.bit != 0 {
			list = append(list, s.flag)
		}
	}
	for _, k := range f.Keywords {
		list = append(list, imap.Flag(k))
	}
	return list
}

func fromFlags(list []imap.Flag) (mailstore.Flags, error) {
	var f mailstore.Flags
	for _, flag := range list {
		bit := systemFlag(flag)
		switch {
		case bit != 0:
			f.System |= bit
		case strings.EqualFold(string(flag), string(flagRecent)):
		case strings.HasPrefix(string(flag), "\\"):
			return f, bad("There is no such system flag")
		default:
			f.Keywords = append(f.Keywords, string(flag))
		}
	}
	return f, nil
}

// systemFlag is the bit of a flag, 0 where it is none.
func systemFlag(flag imap.Flag) mailstore.SystemFlags {
	for _, s := range systemFlags {
		if strings.EqualFold(string(flag), string(s.flag)) {
			return s.bit
		}
	}
	return 0
}

// flagList is the FLAGS response of a mailbox.
func (b *selection) flagList() []imap.Flag {
	return toFlags(mailstore.Flags{System: ^mailstore.SystemFlags(0), Keywords: b.keywords})
}
