package page

import (
	"regexp"

	"postrider/internal/journey"
)

// letters knows which messages are one letter on its way: each server that takes it
// gives it an id of its own.
type letters struct {
	named   map[string]string // Message-ID to the first message that had it
	content map[string]string // host and content to the message in whose journey it came into a mailbox
	sent    map[string]string // a line of the envelope, from one host to another, to the message
}

// maxLetters bounds what is remembered of either; beyond it, it is forgotten.
const maxLetters = 5000

func newLetters() letters {
	return letters{map[string]string{}, map[string]string{}, map[string]string{}}
}

func remember[T any](m map[string]T, key string, value T) {
	if len(m) >= maxLetters {
		clear(m)
	}
	m[key] = value
}

// taken is the reply of a server that took a letter, with its id there.
var taken = regexp.MustCompile(`^250 .*\bid ([0-9A-Za-z]+)$`)

// envelope is a line of it, with the address.
var envelope = regexp.MustCompile(`^(?i:MAIL FROM|RCPT TO):(<[^>]*>)`)

// follow notes what an event tells of a letter's way, and joins what is one letter:
// the next server's id is in its reply. Where that reply was lost, the letter is
// there twice, and its Message-ID tells; a report belongs to what it is about. What
// the next server checks before it takes the letter, if it does, is for it, too.
func (l *letters) follow(s *Step, e journey.Event, node, peer string) {
	join := func(id string) {
		if id != "" && id != s.Message {
			s.Same = append(s.Same, s.Message, id)
		}
	}
	switch e.Kind {
	case journey.DeliverCommand:
		if m := envelope.FindStringSubmatch(e.Text); m != nil {
			remember(l.sent, node+" "+peer+" "+m[1], s.Message)
		}
	case journey.CheckPassed, journey.CheckFailed:
		if id := l.sent[peer+" "+node+" "+e.Get("input")]; id != "" {
			s.For = []string{id}
		}
	case journey.QueueDelivered:
		if m := taken.FindStringSubmatch(e.Get("reply")); m != nil {
			join(m[1])
		}
	case journey.QueueBounce:
		join(e.Get("bounce"))
	case journey.MessageAccepted:
		join(e.Get("about"))
		if id := e.Get("message-id"); id != "" {
			if first := l.named[id]; first != "" {
				join(first)
			} else {
				remember(l.named, id, s.Message)
			}
		}
	case journey.SMTPReply: // when there is no letter in hand any more
		if m := taken.FindStringSubmatch(e.Text); m != nil {
			s.For = []string{m[1]}
		}
	case journey.MailboxDelivered:
		remember(l.content, e.Node+" "+e.Get("content"), s.Message)
	case journey.MailboxFetched:
		if id := l.content[e.Node+" "+e.Get("content")]; id != "" {
			s.For = []string{id}
		}
	}
}
