package imap

import (
	"strconv"
	"time"

	"postrider/imap/syntax"
)

// progressEvery is how often a client hears of a command that takes long.
const progressEvery = 10 * time.Second

// progress tells how far a command is (RFC 9585), so that its client does not
// take it for dead.
type progress struct {
	s          *session
	tag        string
	done, goal int
	told       time.Time
}

// step notes that one more of goal is done.
func (p *progress) step() {
	if p.done++; p.tag == "" {
		return // nobody waits
	}
	now := p.s.srv.o.Clock.Now()
	if now.Sub(p.told) < progressEvery {
		return
	}
	p.told = now
	b := append(p.s.out.begin(), "* OK [INPROGRESS ("...)
	b = syntax.AppendString(b, p.tag)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(p.done), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(p.goal), 10)
	p.s.out.end(append(b, ")] Still working\r\n"...))
	p.s.out.send()
}
