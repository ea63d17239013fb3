package page

import (
	"slices"
	"strings"
	"time"

	"postrider/internal/journey"
)

// questions are those under way. Who asks and who answers both tell of one; it is
// shown as the asker has it, who knows also what was lost or forged on the way, and
// what the server says of its answer is added to that. A question of which the
// server alone tells, since its asker records nothing, is shown as the server has
// it.
//
// They also tell for which letters a resolver works. Its own questions name none,
// since one answer may serve many; but the question that it was asked does, and
// until that is answered what the resolver does is for it.
//
// Of what name servers say to each other about their zones that is shown which
// comes of a change: not the first copies when the lab starts, and not that a
// secondary asks from time to time, and at each jump of the clock, whether its copy
// is the newest.
type questions struct {
	open       map[string][]*task   // by the host that was asked
	changed    map[string]time.Time // by zone
	registered bool                 // a domain, whose zones are new
}

// task is a question under way.
type task struct {
	asker, name, typ string
	letters          []string // message ids
	since            time.Time
	told             bool        // by the asker
	came, said       bool        // to the server; it has answered
	over             bool        // for the asker, but the server may still tell of it
	at               string      // the host that answered
	facts            [][2]string // what the server says of its answer
	say              string      // the same as a sentence
}

const (
	// maxTasks bounds the questions that are under way at one host.
	maxTasks = 200
	// taskLife is how long a question may be without an answer, on the lab's clock;
	// resolvers give up before.
	taskLife = time.Minute
)

// query notes a question, and returns the letters that it is for.
func (q *questions) query(s *Step, name, typ string, told bool) []string {
	letters := q.letters(s, s.From, name)
	if s.From != s.To && len(q.tasks(s.To, s.Time)) < maxTasks {
		q.open[s.To] = append(q.open[s.To], &task{asker: s.From, name: name, typ: typ, letters: letters, since: s.Time, told: told})
	}
	return letters
}

// reply ends a question, and returns it; one that was not noted names the letters
// of its step.
func (q *questions) reply(s *Step, name, typ string) *task {
	for i, t := range q.open[s.From] {
		if t.is(s.To, name, typ) && !t.over {
			// Of a transfer the server tells when it is over on its side, too.
			if t.over = t.came && !t.said; !t.over {
				q.open[s.From] = slices.Delete(q.open[s.From], i, i+1)
			}
			return t
		}
	}
	return &task{letters: q.letters(s, s.To, name), came: true}
}

// letters are those that a step about a name is for: the one that it names, or those
// for which its host works.
func (q *questions) letters(s *Step, host, name string) []string {
	if s.Message != "" {
		return []string{s.Message}
	}
	return q.under(host, name, s.Time)
}

// told returns the question of which the server tells, if its asker has told of it,
// too. It may be at another host than the asker knows of: a replica.
func (q *questions) told(server, asker, name, typ string) *task {
	var found *task
	look := func(list []*task) {
		for _, t := range list {
			if t.told && t.is(asker, name, typ) && (found == nil || found.over && !t.over) {
				found = t
			}
		}
	}
	if look(q.open[server]); found == nil {
		for _, list := range q.open {
			look(list)
		}
	}
	return found
}

// change notes that another version of a zone is served, and tells whether it is
// shown: not the first, and not one with new signatures alone.
func (q *questions) change(e journey.Event) bool {
	if e.Get("why") != "" || e.Get("before") == "" && !q.registered {
		return false
	}
	remember(q.changed, nameOf(e), e.Time)
	return true
}

// shows tells whether a question, or its answer, is shown. records tells that the
// asker tells of it: a server has then told of it late, when nobody waited any more.
func (q *questions) shows(e journey.Event, records bool) bool {
	typ, asks := typeOf(e), strings.HasPrefix(string(e.Kind), "zone.")
	switch typ {
	case "SOA", "NOTIFY", "AXFR", "IXFR":
		return !asks && !records || asks && typ != "SOA" && e.Time.Sub(q.changed[nameOf(e)]) < taskLife
	}
	return true
}

func (t *task) is(asker, name, typ string) bool {
	return t.asker == asker && t.name == name && t.typ == typ
}

// under is for which letters a host asks about a name. Where it has questions of
// several under way, those about the name or one below it come first: with QNAME
// minimisation (RFC 9156) a resolver asks for parts of the name.
func (q *questions) under(node, name string, now time.Time) []string {
	var near, all []string
	for _, t := range q.tasks(node, now) {
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
func (q *questions) tasks(host string, now time.Time) []*task {
	q.open[host] = slices.DeleteFunc(q.open[host], func(t *task) bool { return now.Sub(t.since) > taskLife })
	return q.open[host]
}

// originOf is what a server says of its answer, beside what is in it.
func originOf(e journey.Event) (facts [][2]string, say string) {
	add := func(key, value string) {
		if value != "" {
			facts = append(facts, [2]string{key, value})
		}
	}
	ttl := e.Get("ttl")
	switch {
	case e.Get("zone") != "":
		say = "The server has it from its zone " + e.Get("zone") + "."
		add("from", "the zone "+e.Get("zone"))
	case e.Get("cache") == "hit":
		say = "The server had it in its cache"
		if ttl != "" {
			say += ", for " + ttl + " more seconds"
		}
		say += "."
		add("from", "the cache")
	case e.Get("cache") == "miss":
		add("from", "other servers, which it asked")
	}
	add("TTL", ttl)
	add("DNSSEC", e.Get("security"))
	for _, x := range e.All("extended") {
		add("extended error", x)
	}
	add("limit", e.Get("limit"))
	add("reason", e.Get("reason"))
	return facts, say
}
