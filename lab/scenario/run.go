package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"postrider/internal/journey"
	"postrider/lab"
)

// Result is how a scenario went.
type Result struct {
	Name   string       `json:"name"`
	Number int          `json:"number,omitempty"`
	Title  string       `json:"title"`
	Passed bool         `json:"passed"`
	Millis int64        `json:"took_ms"`
	Steps  []StepResult `json:"steps"`
}

// StepResult is how a step went.
type StepResult struct {
	Name   string `json:"name"`
	Passed bool   `json:"passed"`
	Line   int    `json:"line,omitempty"`  // of the command that failed
	Error  string `json:"error,omitempty"` // what was expected, and what there was
	// Skipped tells that a step before it failed.
	Skipped bool `json:"skipped,omitempty"`
}

const (
	commandPatience = 30 * time.Second // for one command
	jumpPatience    = 2 * time.Minute
)

// player plays one scenario.
type player struct {
	lab    *lab.Lab
	events *journey.Follower
	seen   []journey.Event
	base   map[string]uint32 // the last UID that was there before, by mailbox
	queued map[string]bool   // messages that were in queues before

	conns   map[string]*talk
	current *talk
	reply   *answer // of the last question
	refused error   // of the last letter
	values  map[string]float64
	texts   map[string]string // of let NAME = reply
	timer   time.Time
	hosts   map[string]string // hosts files, by host
	undo    []func(context.Context) error

	patience time.Duration // with one command
}

// verbs has what each command does.
var verbs = map[string]func(*player, context.Context, Command) error{
	"connect": (*player).connect, "use": (*player).use, "close": (*player).hangUp, "closed": (*player).closed, "tls": (*player).tls,
	"C:": (*player).say, "Craw:": (*player).sayRaw, "S:": (*player).hear, "text": (*player).text,
	"ask": (*player).ask, "lookup": (*player).lookup, "D:": (*player).dns, "update": (*player).update, "hostsfile": (*player).hostsFile,
	"flood":  (*player).flood,
	"letter": (*player).letter, "raw": (*player).raw, "refused": (*player).wasRefused,
	"fault": (*player).fault, "clear": (*player).clear, "jump": (*player).jump, "register": (*player).register,
	"flush": (*player).flush, "configure": (*player).configure, "admin": (*player).admin, "restart": (*player).restart,
	"arrives": (*player).arrives, "wait": (*player).wait, "expect": (*player).expect,
	"timer": (*player).startTimer, "let": (*player).let, "reset": (*player).reset,
}

// Run plays a scenario in a lab and puts back what it changed there, but for
// mailboxes and the clock.
func Run(ctx context.Context, l *lab.Lab, s *Scenario) Result {
	return run(ctx, l, s, commandPatience)
}

func run(ctx context.Context, l *lab.Lab, s *Scenario, patience time.Duration) Result {
	began := time.Now()
	r := Result{Name: s.Name, Number: s.Number, Title: s.Title, Passed: true}
	p := &player{lab: l, base: map[string]uint32{}, queued: map[string]bool{}, conns: map[string]*talk{},
		values: map[string]float64{}, texts: map[string]string{}, hosts: map[string]string{}, timer: l.Clock().Now(), patience: patience}
	err := p.begin(ctx)
	for _, step := range s.Steps {
		sr := StepResult{Name: step.Name, Passed: r.Passed, Skipped: !r.Passed}
		if r.Passed && err == nil {
			sr.Line, err = p.step(ctx, step)
		}
		if r.Passed && err != nil {
			sr.Passed, sr.Error = false, err.Error()
			r.Passed = false
		}
		r.Steps = append(r.Steps, sr)
	}
	if err := p.end(ctx); err != nil {
		r.Passed = false
		r.Steps = append(r.Steps, StepResult{Name: "at the end", Error: err.Error()})
	}
	r.Millis = time.Since(began).Milliseconds()
	return r
}

// step runs the commands of a step; of a failure it tells the line.
func (p *player) step(ctx context.Context, s Step) (int, error) {
	for _, c := range s.Commands {
		patience := p.patience
		if c.Verb == "jump" {
			patience = jumpPatience
		}
		one, cancel := context.WithTimeout(ctx, patience)
		err := verbs[c.Verb](p, one, c)
		cancel()
		if err != nil {
			return c.Line, fmt.Errorf("%s %s: %w", c.Verb, c.Args, err)
		}
	}
	return 0, nil
}

// begin remembers what is there, so that counts are those of this scenario.
func (p *player) begin(ctx context.Context) error {
	p.events = p.lab.Journey().Follow(journey.Filter{Sessions: true})
	if err := p.lab.Restore(ctx); err != nil {
		return err
	}
	p.lab.ResetTraffic()
	boxes, err := p.lab.Mailboxes(ctx, "")
	if err != nil {
		return err
	}
	for _, b := range boxes {
		for _, m := range b.Letters {
			p.base[b.Account+"\n"+b.Name] = max(p.base[b.Account+"\n"+b.Name], m.UID)
		}
	}
	queues, err := p.lab.Queues(ctx, "")
	if err != nil {
		return err
	}
	for _, q := range queues {
		for _, i := range q.Items {
			p.queued[i.ID] = true
		}
	}
	return nil
}

// end closes what is open and puts back what was changed.
func (p *player) end(ctx context.Context) error {
	for _, c := range p.conns {
		c.conn.Close()
	}
	p.events.Close()
	var errs []error
	for _, undo := range slices.Backward(p.undo) {
		errs = append(errs, undo(ctx))
	}
	return errors.Join(append(errs, p.lab.Restore(ctx))...)
}

// fields splits arguments; "quoted words" are one, with Go's escapes left alone.
func fields(s string) []string {
	var out []string
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if s[0] == '"' {
			if end := strings.IndexByte(s[1:], '"'); end >= 0 {
				out = append(out, s[1:1+end])
				s = s[end+2:]
				continue
			}
		}
		word, rest, _ := strings.Cut(s, " ")
		out = append(out, word)
		s = rest
	}
	return out
}

// want takes the fields of a command, at least n.
func want(c Command, n int, form string) ([]string, error) {
	f := fields(c.Args)
	if len(f) < n {
		return nil, fmt.Errorf("the form is: %s %s", c.Verb, form)
	}
	return f, nil
}

// option takes the word behind a keyword out of the fields: from HOST.
func option(f []string, keyword string) ([]string, string) {
	if i := slices.Index(f, keyword); i >= 0 && i+1 < len(f) {
		return slices.Concat(f[:i], f[i+2:]), f[i+1]
	}
	return f, ""
}

// known lists the commands.
func known() []string { return slices.Sorted(maps.Keys(verbs)) }

// drain takes the events that have come.
func (p *player) drain() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		more, err := p.events.Next(ctx)
		p.seen = append(p.seen, more...)
		if err != nil || len(more) == 0 {
			return
		}
	}
}
