package page

import (
	"slices"
	"strings"
	"time"
)

// behalf knows for which letters a resolver works. Its own questions name none,
// since one answer may serve many; but the question that it was asked does, and
// until that is answered what the resolver does is for it.
type behalf struct {
	open map[string][]task // by the host that was asked
}

// task is a question under way.
type task struct {
	asker, name, typ string
	letters          []string // message ids
	since            time.Time
}

const (
	// maxTasks bounds the questions that are under way at one host.
	maxTasks = 100
	// taskLife is how long a question may be without an answer, on the lab's clock;
	// resolvers give up before.
	taskLife = time.Minute
)

// dns notes a step of a question or an answer, and tells the letters that it is
// for: the one that it names, or those that the host who speaks, or is answered,
// has a question of under way.
func (b *behalf) dns(s *Step, what, node, name, typ string) []string {
	var letters []string
	if s.Message != "" {
		letters = []string{s.Message}
	} else {
		letters = b.under(node, name, s.Time)
	}
	switch what {
	case "query":
		if len(letters) > 0 && s.From != s.To && len(b.tasks(s.To, s.Time)) < maxTasks {
			b.open[s.To] = append(b.open[s.To], task{s.From, name, typ, letters, s.Time})
		}
	case "reply":
		i := slices.IndexFunc(b.open[s.From], func(t task) bool { return t.asker == s.To && t.name == name && t.typ == typ })
		if i >= 0 {
			letters = b.open[s.From][i].letters
			b.open[s.From] = slices.Delete(b.open[s.From], i, i+1)
		}
	}
	return letters
}

// under is for which letters a host asks about a name. Where it has questions of
// several under way, those about the name or one below it come first: with QNAME
// minimisation (RFC 9156) a resolver asks for parts of the name.
func (b *behalf) under(node, name string, now time.Time) []string {
	var near, all []string
	for _, t := range b.tasks(node, now) {
		all = append(all, t.letters...)
		if t.name == name || strings.HasSuffix(t.name, "."+name) {
			near = append(near, t.letters...)
		}
	}
	if len(near) == 0 {
		near = all
	}
	slices.Sort(near)
	return slices.Compact(near)
}

// tasks are the questions under way at a host, without those that are too old.
func (b *behalf) tasks(host string, now time.Time) []task {
	b.open[host] = slices.DeleteFunc(b.open[host], func(t task) bool { return now.Sub(t.since) > taskLife })
	return b.open[host]
}
