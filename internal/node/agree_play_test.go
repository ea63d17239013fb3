package node

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// play is one run of steps, each of which a number draws.
type play struct {
	town    *town
	r       *rand.Rand // of this step
	now     ledger     // what there is
	was     ledger     // what there was before the last command
	script  []string   // what was said, and by whom
	fault   string     // the first thing that went wrong
	mails   []*mail
	pop     *maildrop
	smtp    *line
	letters int // that were written
}

// maildrop is a POP3 session.
type maildrop struct {
	*line
	uids   []int // when it began
	marked map[int]bool
}

func (p *play) note(format string, args ...any) {
	p.script = append(p.script, fmt.Sprintf(format, args...))
}

func (p *play) wrong(format string, args ...any) {
	if p.fault == "" {
		p.fault = fmt.Sprintf(format, args...)
		p.note("WRONG: %s", p.fault)
	}
}

// begin opens a town with a few letters and four IMAP sessions. It must be called
// in a bubble.
func begin(t *testing.T, seed uint64) *play {
	p := &play{r: rand.New(rand.NewPCG(seed, 0))}
	p.town = newTown(t, p.wrong)
	for range 4 {
		p.town.append("INBOX", p.letter())
	}
	p.now = p.town.look()
	p.smtp = p.town.line("smtp", "smtp", p.note)
	time.Sleep(time.Minute) // the greeting takes its time, on purpose
	p.smtp.hear()
	p.smtp.say("EHLO crepes.fr\r\n")
	p.smtp.hear()
	for i := range 4 {
		c := &mail{wrong: p.wrong, kept: make(map[string]*kept)}
		p.connect(c, string(rune('A'+i)))
		p.mails = append(p.mails, c)
	}
	return p
}

// perform plays steps and returns what went wrong, and the script.
func perform(t *testing.T, seed uint64, steps []int) (fault string, script []string) {
	synctest.Test(t, func(t *testing.T) {
		p := begin(t, seed)
		defer func() {
			p.town.close()
			fault, script = p.fault, p.script
		}()
		for _, n := range steps {
			p.r = rand.New(rand.NewPCG(seed, uint64(n)))
			p.note("step %d", n)
			p.step()
			if p.fault != "" {
				return
			}
		}
	})
	return fault, script
}

// step does something at random and has everybody look.
func (p *play) step() {
	var actor *mail
	switch who := p.r.IntN(12); who {
	case 0:
		p.popStep()
	case 1:
		p.deliver()
	default:
		actor = p.mails[who%len(p.mails)]
		p.mailStep(actor)
	}
	p.now = p.town.look()
	for _, c := range p.mails {
		if c != actor {
			c.overhear()
			if c.idle || c.telling != atCommands {
				p.compare(c, !c.pins(""))
			}
		}
		if p.r.IntN(4) == 0 {
			p.checkContexts(c)
		}
		p.checkWatch(c)
	}
}

// expect compares what there is with what should be.
func (p *play) expect(want ledger) {
	p.was, p.now = p.now, p.town.look()
	p.expectFrom(want)
}

// expectFrom is expect where run has looked already.
func (p *play) expectFrom(want ledger) {
	if why := want.differ(p.now, p.was); why != "" {
		p.wrong("%s", why)
	}
}

// run runs a command and compares the client's picture with the store. then is
// what the client makes of the answer.
func (p *play) run(c *mail, command string, then ...func(answer string)) string {
	answer := c.do(command)
	for _, fn := range then {
		fn(answer)
	}
	if strings.HasPrefix(answer, "BAD") {
		p.wrong("%s: %s: %s", c.line.name, command, answer)
	}
	p.was, p.now = p.now, p.town.look()
	if verb, _, _ := strings.Cut(command, " "); verb != "SELECT" && verb != "EXAMINE" {
		p.compare(c, c.telling == atOnce || c.telling == flagless || !c.pins(command))
	}
	return answer
}

// compare compares a picture with what there is; full: also what is gone was
// told.
func (p *play) compare(c *mail, full bool) {
	if c.box == "" || c.telling == nothing {
		return
	}
	truth := p.now.byID(c.box).letters
	unknown := slices.ContainsFunc(c.view, func(k known) bool { return k.uid == 0 })
	if full && len(c.view) != len(truth) {
		p.wrong("%s knows %v, and there is %v", c.line.name, c.view, truth)
		return
	}
	if unknown && (!full || c.uidonly) {
		return // not to be aligned
	}
	at := 0
	for _, k := range c.view {
		if !full && p.now.byID(c.box).find(k.uid) == nil {
			continue // it waits for a command that may tell
		}
		if at == len(truth) {
			p.wrong("%s knows %v, and there is %v", c.line.name, c.view, truth)
			return
		}
		l := truth[at]
		at++
		switch {
		case k.uid != 0 && k.uid != l.uid:
			p.wrong("%s has UID %d where there is %d", c.line.name, k.uid, l.uid)
		case c.telling == flagless:
		case k.flags != "?" && k.flags != l.flags:
			p.wrong("%s was told that UID %d has %q, which has %q", c.line.name, l.uid, k.flags, l.flags)
		case c.condstore && k.modseq != 0 && k.modseq != l.modseq:
			p.wrong("%s was told that UID %d has MODSEQ %d, which has %d", c.line.name, l.uid, k.modseq, l.modseq)
		}
	}
	if at != len(truth) {
		p.wrong("%s knows %v, and there is %v", c.line.name, c.view, truth)
	}
}

// letter is a new text.
func (p *play) letter() string {
	p.letters++
	return fmt.Sprintf("Subject: %s\r\n\r\nletter %s\r\n", []string{"even", "odd"}[p.letters%2], strings.Repeat("x", p.letters))
}

// deliver is a message by SMTP.
func (p *play) deliver() {
	want := p.now.clone()
	p.smtp.say("MAIL FROM:<alice@crepes.fr>\r\nRCPT TO:<bob@hamburger.edu>\r\nDATA\r\n")
	p.smtp.say(p.letter() + ".\r\n")
	if said := p.smtp.hear(); len(said) != 4 || !strings.HasPrefix(said[3], "250") {
		p.wrong("a delivery: %q", said)
	}
	want["INBOX"].add("", 0)
	p.expect(want)
}

// popStep is a step of a POP3 session: one at a time, as the server has it.
func (p *play) popStep() {
	want := p.now.clone()
	d := p.pop
	if d == nil {
		d = &maildrop{line: p.town.line("pop3", "pop", p.note), marked: make(map[int]bool)}
		for _, l := range want["INBOX"].letters {
			d.uids = append(d.uids, l.uid)
		}
		d.say("USER bob\r\nPASS hungry\r\nSTAT\r\n")
		if said := d.hear(); len(said) != 4 || !strings.HasPrefix(said[3], fmt.Sprintf("+OK %d ", len(d.uids))) {
			p.wrong("POP3: %q, and there are %d", said, len(d.uids))
		}
		p.pop = d
		return
	}
	n := 1 + p.r.IntN(len(d.uids)+1)
	there := n <= len(d.uids) && !d.marked[n]
	switch p.r.IntN(6) {
	case 0, 1:
		d.say("QUIT\r\n")
		if said := d.hear(); len(said) != 1 || !strings.HasPrefix(said[0], "+OK") {
			p.wrong("QUIT: %q", said)
		}
		want["INBOX"].remove(func(l *letter) bool {
			i, is := slices.BinarySearch(d.uids, l.uid)
			return is && d.marked[i+1]
		})
		p.pop = nil
	case 2:
		d.conn.Close()
		synctest.Wait()
		p.pop = nil
	case 3:
		d.say(fmt.Sprintf("RETR %d\r\n", n))
		said := d.hear()
		if ok := there && want["INBOX"].find(d.uids[n-1]) != nil; len(said) == 0 || strings.HasPrefix(said[0], "+OK") != ok {
			p.wrong("RETR %d: %q", n, said)
		}
	default:
		d.say(fmt.Sprintf("DELE %d\r\n", n))
		if said := d.hear(); len(said) != 1 || strings.HasPrefix(said[0], "+OK") != there {
			p.wrong("DELE %d: %q", n, said)
		}
		if there {
			d.marked[n] = true
		}
	}
	p.expect(want)
}

// checkContexts compares the results that are followed with a search.
func (p *play) checkContexts(c *mail) {
	if c.telling == nothing || c.idle || c.box == "" || len(c.contexts) == 0 || p.fault != "" {
		return
	}
	p.run(c, "NOOP")
	p.learn(c)
	for _, tag := range slices.Sorted(maps.Keys(c.contexts)) {
		f := c.contexts[tag]
		c.ok("UID SEARCH RETURN (ALL) " + f.key)
		have := make(map[int]bool)
		for n := range f.numbers {
			switch {
			case f.byUID:
				have[n] = true
			case n > len(c.view):
				p.wrong("%s: %d of %d messages is in a result", c.line.name, n, len(c.view))
			default:
				have[c.view[n-1].uid] = true
			}
		}
		if got := slices.Sorted(maps.Keys(have)); !slices.Equal(got, c.found) {
			p.wrong("%s: %s: has %v, a search finds %v", c.line.name, f.key, got, c.found)
		}
	}
}

// checkWatch compares what NOTIFY told of mailboxes with what they are.
func (p *play) checkWatch(c *mail) {
	if !c.watching || p.fault != "" {
		return
	}
	if got, want := slices.Sorted(maps.Keys(c.told)), slices.Sorted(maps.Keys(p.now)); !slices.Equal(got, want) {
		p.wrong("%s was told of mailboxes %q, and there are %q", c.line.name, got, want)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(p.now)) {
		box, t := p.now[name], c.told[name]
		if box.id == c.box {
			*t = told{-1, -1, -1, -1}
			continue
		}
		if !c.idle && min(t.messages, t.next, t.unseen) < 0 {
			p.status(c, name)
		}
		unseen := 0
		for _, l := range box.letters {
			if !has(l.flags, `\Seen`) {
				unseen++
			}
		}
		for _, n := range []struct {
			what      string
			told, is  int
			essential bool
		}{
			{"MESSAGES", t.messages, len(box.letters), true}, {"UIDNEXT", t.next, box.next, true}, {"UNSEEN", t.unseen, unseen, true},
			{"HIGHESTMODSEQ", t.modseq, int(box.modseq), c.condstore},
		} {
			if n.told >= 0 && n.told != n.is && n.essential {
				p.wrong("%s was told that %s has %s %d, which has %d", c.line.name, name, n.what, n.told, n.is)
			}
		}
	}
}

// status asks for the counters of a mailbox.
func (p *play) status(c *mail, name string) {
	items := "MESSAGES UIDNEXT UNSEEN"
	if c.condstore {
		items += " HIGHESTMODSEQ"
	}
	c.ok(fmt.Sprintf("STATUS %s (%s)", name, items))
}
