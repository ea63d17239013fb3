package node

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
)

// TestSessionsAgree: whatever clients of IMAP, POP3 and SMTP do to the mailboxes
// of an account, all is done as it was said and nothing else; and what each IMAP
// client was told, step by step, is what there is.
//
// SEEDS=n plays so many; SEED=n plays one again, and STEPS=1,2,9 those of its
// steps alone, which is how a failure is told.
func TestSessionsAgree(t *testing.T) {
	first, last := 1, number(t, "SEEDS", 100)
	if n := number(t, "SEED", 0); n > 0 {
		first, last = n, n
	}
	steps := make([]int, 100)
	for i := range steps {
		steps[i] = i + 1
	}
	if s := os.Getenv("STEPS"); s != "" {
		steps = numbersOf(s)
	}
	for seed := first; seed <= last; seed++ {
		if fault, _ := perform(t, uint64(seed), steps); fault != "" {
			fewer, fault, script := shrink(t, uint64(seed), steps)
			t.Errorf("SEED=%d STEPS=%s\n%s\n%s", seed, setOf(fewer), strings.Join(script, "\n"), fault)
			return
		}
	}
}

// number is what a variable of the environment says.
func number(t *testing.T, name string, usual int) int {
	s := os.Getenv(name)
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestSessionsAtOnce: also when sessions do it at the same moment, each learns of
// what all have done.
func TestSessionsAtOnce(t *testing.T) {
	for seed := range uint64(20) {
		var fault string
		var script []string
		synctest.Test(t, func(t *testing.T) {
			p := begin(t, seed)
			for _, c := range p.mails {
				c.ok("SELECT INBOX")
			}
			for range 40 {
				p.rush()
			}
			p.town.close()
			fault, script = p.fault, p.script
		})
		if fault != "" {
			t.Fatalf("seed %d\n%s\n%s", seed, strings.Join(script[max(len(script)-300, 0):], "\n"), fault)
		}
	}
}

// rush has every session do something at once, and then compare.
func (p *play) rush() {
	commands := make([]string, len(p.mails))
	for i, c := range p.mails {
		a := p.aim(c)
		if a == nil || p.r.IntN(5) == 0 {
			text := p.letter()
			commands[i] = fmt.Sprintf("APPEND INBOX (%s) {%d+}\r\n%s", p.flag(), len(text), text)
			continue
		}
		commands[i] = []string{
			fmt.Sprintf("%s %s %sFLAGS (%s)", a.verb("STORE"), a.set, []string{"+", "-", ""}[p.r.IntN(3)], p.flag()),
			fmt.Sprintf("%s %s +FLAGS (\\Deleted)", a.verb("STORE"), a.set),
			"EXPUNGE",
			fmt.Sprintf("%s %s INBOX", a.verb("COPY"), a.set),
			fmt.Sprintf("%s %s INBOX", a.verb("MOVE"), a.set),
			fmt.Sprintf("%s %s (FLAGS BODY[])", a.verb("FETCH"), a.set),
		}[p.r.IntN(6)]
	}
	for i, c := range p.mails {
		c.begin(commands[i])
	}
	for i, c := range p.mails {
		if answer := c.finish(commands[i]); strings.HasPrefix(answer, "BAD") {
			p.wrong("%s: %s", commands[i], answer)
		}
	}
	for _, c := range p.mails {
		p.run(c, "NOOP")
		p.learn(c)
	}
}

// shrink leaves out steps as long as something goes wrong without them.
func shrink(t *testing.T, seed uint64, steps []int) (fewer []int, fault string, script []string) {
	fault, script = perform(t, seed, steps)
	for size := len(steps) / 2; size > 0; {
		shorter := false
		for i := 0; i+size <= len(steps); {
			rest := slices.Delete(slices.Clone(steps), i, i+size)
			if f, s := perform(t, seed, rest); f != "" {
				steps, fault, script, shorter = rest, f, s, true
				continue
			}
			i += size
		}
		if !shorter {
			size /= 2
		}
	}
	return steps, fault, script
}
