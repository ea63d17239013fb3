package journey

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Printer writes events for people, one on a line: the message or session that they
// are about as a title where that changes, the day where that does.
type Printer struct {
	W        io.Writer
	Location *time.Location // of times; nil = the system's
	// Follow is set for events as they come, of many messages: each line names its
	// own.
	Follow bool

	title, day string
}

// Print writes events.
func (p *Printer) Print(events []Event) error {
	for i := range events {
		if err := p.print(&events[i]); err != nil {
			return err
		}
	}
	return nil
}

func (p *Printer) print(e *Event) error {
	location := p.Location
	if location == nil {
		location = time.Local
	}
	at := e.Time.In(location)
	var b strings.Builder
	about := e.Message
	if about == "" {
		about = e.Session
	}
	switch fetched := e.Kind == MailboxFetched && about == e.Session; {
	case p.Follow, fetched: // of the message before it
	case about != p.title:
		if p.title != "" {
			b.WriteString("\n")
		}
		p.title, p.day = about, ""
		fmt.Fprintln(&b, about)
	}
	if day := at.Format(time.DateOnly); day != p.day {
		p.day = day
		fmt.Fprintf(&b, "  %s\n", day)
	}
	b.WriteString("  " + at.Format("15:04:05.000") + "  ")
	if p.Follow && about != "" {
		b.WriteString(about + "  ")
	}
	b.WriteString(e.mark() + onOneLine(e.Text) + "\n")
	_, err := io.WriteString(p.W, b.String())
	return err
}

// mark sets lines of a dialogue apart: > is what a client says, < the answer.
func (e *Event) mark() string {
	switch e.Kind {
	case DeliverCommand, SMTPCommand, POP3Command, IMAPCommand:
		return "> "
	case DeliverReply, SMTPReply, POP3Reply, IMAPReply:
		return "< "
	}
	return ""
}

// onOneLine is a text without characters that would write elsewhere on a terminal.
func onOneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return ' '
		}
		return r
	}, s)
}
