// Package scenario runs stories in the lab: text files with steps and expected
// outcomes, for tests and for students.
//
// It owns the language (docs/scenarios.md), the built-in scenarios and their
// grading. What happens, happens in the lab: a step types into a connection, asks
// a name server, sets a fault or the clock, and looks at mailboxes, queues,
// caches, the journey and the traffic.
package scenario

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Limits of a scenario file.
const (
	maxFile     = 256 << 10 // octets
	maxCommands = 1000
	maxBlock    = 2000 // lines of one block
)

// Scenario is a story.
type Scenario struct {
	Name   string // of the file, without its suffix
	Number int    // in the course; 0 = none
	Title  string
	Topic  string   // smtp, pop3, imap, dns
	About  string   // what it shows
	Hints  []string // for students, the least telling first
	// Alone tells that it needs a lab of its own.
	Alone bool
	World string // path of its world file; "" = the built-in one
	Steps []Step
}

// Step is a part of a scenario with a name.
type Step struct {
	Name     string
	Line     int
	Commands []Command
}

// Command is one line of a step, with the lines of its block.
type Command struct {
	Line  int
	Verb  string
	Args  string
	Block []string // lines behind "| "
}

// Parse reads a scenario. Its error has every problem on a line of its own, with
// name and line.
func Parse(name string, text []byte) (*Scenario, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s: a scenario has at most %d octets", name, maxFile)
	}
	p := &parser{name: name, s: &Scenario{Name: strings.TrimSuffix(path.Base(name), ".lab")}}
	for i, line := range strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n") {
		p.line(i+1, line)
	}
	if p.s.Title == "" {
		p.fail(1, "title: is missing")
	}
	if p.commands == 0 {
		p.fail(1, "no step does anything")
	}
	return p.s, errors.Join(p.problems...)
}

type parser struct {
	name     string
	s        *Scenario
	commands int
	problems []error
}

func (p *parser) fail(line int, format string, args ...any) {
	p.problems = append(p.problems, fmt.Errorf("%s:%d: %s", p.name, line, fmt.Sprintf(format, args...)))
}

// line reads one line: of the header until the first step, else a command.
func (p *parser) line(n int, line string) {
	trimmed := strings.TrimSpace(line)
	switch {
	case strings.HasPrefix(trimmed, "|"):
		p.block(n, strings.TrimPrefix(strings.TrimPrefix(strings.TrimLeft(line, " \t"), "|"), " "))
		return
	case trimmed == "", strings.HasPrefix(trimmed, "#"):
		return
	}
	if name, ok := strings.CutPrefix(trimmed, "step "); ok {
		p.s.Steps = append(p.s.Steps, Step{Name: strings.TrimSpace(name), Line: n})
		return
	}
	if len(p.s.Steps) == 0 {
		p.header(n, trimmed)
		return
	}
	// What stands behind C: and S: counts to the last octet.
	verb, args := trimmed, ""
	if i := strings.IndexAny(trimmed, " \t"); i > 0 {
		verb, args = trimmed[:i], trimmed[i+1:]
	}
	if !strings.HasSuffix(verb, ":") {
		args = strings.TrimSpace(args)
	} else if rest := strings.TrimLeft(line, " \t"); len(rest) > len(verb) {
		args = rest[len(verb)+1:]
	}
	if _, known := verbs[verb]; !known {
		p.fail(n, "%q is not a command", verb)
		return
	}
	if p.commands++; p.commands > maxCommands {
		if p.commands == maxCommands+1 {
			p.fail(n, "more than %d commands", maxCommands)
		}
		return
	}
	step := &p.s.Steps[len(p.s.Steps)-1]
	step.Commands = append(step.Commands, Command{Line: n, Verb: verb, Args: args})
}

func (p *parser) block(n int, line string) {
	if len(p.s.Steps) == 0 || len(p.s.Steps[len(p.s.Steps)-1].Commands) == 0 {
		p.fail(n, "a line of a block without a command above it")
		return
	}
	step := &p.s.Steps[len(p.s.Steps)-1]
	c := &step.Commands[len(step.Commands)-1]
	if len(c.Block) == maxBlock {
		p.fail(n, "more than %d lines in a block", maxBlock)
		return
	}
	c.Block = append(c.Block, line)
}

func (p *parser) header(n int, line string) {
	key, value, ok := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	if !ok {
		p.fail(n, "before the first step there are lines such as title: ...")
		return
	}
	switch key {
	case "title":
		p.s.Title = value
	case "topic":
		p.s.Topic = value
	case "about":
		p.s.About = strings.TrimSpace(p.s.About + " " + value)
	case "hint":
		p.s.Hints = append(p.s.Hints, value)
	case "world":
		p.s.World = value
	case "alone":
		p.s.Alone = value == "yes"
	case "number":
		var err error
		if p.s.Number, err = strconv.Atoi(value); err != nil || p.s.Number < 0 {
			p.fail(n, "number: %q is not one", value)
		}
	default:
		p.fail(n, "%s: is not one of title, number, topic, about, hint, world, alone", key)
	}
}

//go:embed scenarios
var builtin embed.FS

// Builtin lists the built-in scenarios by number.
func Builtin() ([]*Scenario, error) {
	names, err := fs.Glob(builtin, "scenarios/*.lab")
	if err != nil {
		return nil, err
	}
	var list []*Scenario
	for _, name := range names {
		s, err := FromBuiltin(name)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	slices.SortStableFunc(list, func(a, b *Scenario) int { return a.Number - b.Number })
	return list, nil
}

// FromBuiltin reads a built-in scenario, by its path.
func FromBuiltin(name string) (*Scenario, error) {
	text, err := builtin.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return Parse(name, text)
}
