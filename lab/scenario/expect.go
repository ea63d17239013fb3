package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"regexp"
	"strconv"
	"strings"
	"time"

	"postrider/internal/journey"
	"postrider/internal/provenance"
	"postrider/lab"
)

// arrives ADDRESS N: waits until so many letters have come to the INBOX since the
// scenario began.
func (p *player) arrives(ctx context.Context, c Command) error {
	f, err := want(c, 2, "ADDRESS N")
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(f[1])
	if err != nil {
		return fmt.Errorf("%q is no number", f[1])
	}
	return p.until(ctx, func() error {
		letters, err := p.letters(ctx, f[0], "INBOX")
		if err == nil && len(letters) < n {
			err = fmt.Errorf("%d have come", len(letters))
		}
		return err
	})
}

// pollPause is how often a condition is looked at while nothing happens.
const pollPause = 10 * time.Millisecond

// until looks at a condition again and again until it holds, and gives its last
// error when ctx is over.
func (p *player) until(ctx context.Context, holds func() error) error {
	for {
		err := holds()
		if err == nil {
			return nil
		}
		short, cancel := context.WithTimeout(ctx, pollPause)
		more, _ := p.events.Next(short)
		cancel()
		p.seen = append(p.seen, more...)
		if ctx.Err() != nil {
			return err
		}
	}
}

// letters are those that came to a mailbox since the scenario began.
func (p *player) letters(ctx context.Context, address, mailbox string) ([]lab.Stored, error) {
	a, ok := p.lab.World().Account(address)
	if !ok {
		return nil, fmt.Errorf("there is no account %q", address)
	}
	boxes, err := p.lab.Mailboxes(ctx, a.Host)
	if err != nil {
		return nil, err
	}
	var out []lab.Stored
	for _, b := range boxes {
		if b.Account != address || !strings.EqualFold(b.Name, mailbox) {
			continue
		}
		for _, m := range b.Letters {
			if m.UID > p.base[b.Account+"\n"+b.Name] {
				out = append(out, m)
			}
		}
	}
	return out, nil
}

// wait EXPECTATION: as expect, but it may take a while to come true.
func (p *player) wait(ctx context.Context, c Command) error {
	return p.until(ctx, func() error { return p.expect(ctx, c) })
}

// expect checks something about the lab.
func (p *player) expect(ctx context.Context, c Command) error {
	f, err := want(c, 1, "WHAT ...")
	if err != nil {
		return err
	}
	what, ok := expectations[f[0]]
	if !ok {
		return fmt.Errorf("%q cannot be expected", f[0])
	}
	return what(p, ctx, f[1:])
}

var expectations = map[string]func(*player, context.Context, []string) error{
	"mailbox": (*player).expectMailbox, "letter": (*player).expectLetter, "queue": (*player).expectQueue,
	"queued": (*player).expectQueued, "cache": (*player).expectCache, "event": (*player).expectEvent,
	"trips": traffic("trips"), "connections": traffic("connections"), "sent": traffic("sent"), "received": traffic("received"),
	"asked": (*player).expectAsked, "time": (*player).expectTime, "value": (*player).expectValue, "reply": (*player).expectReply,
}

// mailbox ADDRESS [MAILBOX] N: letters since the scenario began.
func (p *player) expectMailbox(ctx context.Context, f []string) error {
	if len(f) < 2 {
		return errors.New("the form is: mailbox ADDRESS [MAILBOX] N")
	}
	box := "INBOX"
	rest := f[1:]
	if _, err := strconv.Atoi(rest[0][:1]); err != nil && !strings.ContainsAny(rest[0], "<>=!") {
		box, rest = rest[0], rest[1:]
	}
	letters, err := p.letters(ctx, f[0], box)
	if err != nil {
		return err
	}
	return compare(float64(len(letters)), rest)
}

// letter ADDRESS N has TEXT | lacks TEXT | matches REGEXP | header NAME VALUE | no NAME | count NAME NUMBER | size NUMBER | flags FLAGS | slowest HOST
func (p *player) expectLetter(ctx context.Context, f []string) error {
	if len(f) < 3 {
		return errors.New("the form is: letter ADDRESS N has|lacks|matches|header|no|count|size|flags|slowest WHAT")
	}
	n, err := strconv.Atoi(f[1])
	if err != nil || n < 1 {
		return fmt.Errorf("%q is no number of a letter", f[1])
	}
	letters, err := p.letters(ctx, f[0], "INBOX")
	if err != nil {
		return err
	}
	if len(letters) < n {
		return fmt.Errorf("there are %d letters", len(letters))
	}
	text, err := p.lab.Message(ctx, f[0], "INBOX", letters[n-1].UID)
	if err != nil {
		return err
	}
	return judge(string(text), letters[n-1], f[2], f[3:])
}

// judge checks one thing about a message.
func judge(text string, s lab.Stored, what string, f []string) error {
	words := strings.ReplaceAll(strings.Join(f, " "), `\n`, "\r\n")
	switch what {
	case "has":
		if !strings.Contains(text, words) {
			return fmt.Errorf("it is:\n%s", text)
		}
		return nil
	case "lacks":
		if strings.Contains(text, words) {
			return fmt.Errorf("it is:\n%s", text)
		}
		return nil
	case "matches":
		re, err := regexp.Compile(words)
		if err == nil && !re.MatchString(text) {
			err = fmt.Errorf("it is:\n%s", text)
		}
		return err
	case "size":
		return compare(float64(len(text)), f)
	case "slowest":
		x := provenance.Explain([]byte(text), provenance.Options{})
		if x.Slowest == 0 {
			return errors.New("no hop has a time")
		}
		if h := x.Path[x.Slowest-1]; h.By != words {
			return fmt.Errorf("the slowest hop is the one to %s, after %v", h.By, time.Duration(h.Delay))
		}
		return nil
	case "flags":
		if have := strings.Join(s.Flags, " "); have != words {
			return fmt.Errorf("they are %q", have)
		}
		return nil
	}
	m, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil || len(f) == 0 {
		return fmt.Errorf("%q is not one of has, lacks, matches, header, no, count, size, flags, slowest: %v", what, err)
	}
	values := m.Header[mailKey(f[0])]
	switch what {
	case "header":
		for _, v := range values {
			if strings.Contains(v, strings.Join(f[1:], " ")) {
				return nil
			}
		}
		return fmt.Errorf("it has %q", values)
	case "no":
		if len(values) > 0 {
			return fmt.Errorf("it has %q", values)
		}
		return nil
	case "count":
		return compare(float64(len(values)), f[1:])
	}
	return fmt.Errorf("%q is not one of has, lacks, matches, header, no, count, size, flags, slowest", what)
}

// mailKey is a field's name as package mail has it.
func mailKey(s string) string {
	parts := strings.Split(strings.ToLower(s), "-")
	for i, p := range parts {
		if p != "" {
			parts[i] = strings.ToUpper(p[:1]) + p[1:]
		}
	}
	return strings.Join(parts, "-")
}

// asked SERVER NAME TYPE: a server answers that with records. It is for wait: to
// let a zone transfer come through.
func (p *player) expectAsked(ctx context.Context, f []string) error {
	if err := p.ask(ctx, Command{Verb: "ask", Args: strings.Join(f, " ")}); err != nil {
		return err
	}
	if p.reply.msg == nil {
		return p.reply.err
	}
	if len(p.reply.msg.Answer) == 0 {
		return fmt.Errorf("it answered: %s", p.reply)
	}
	return nil
}

// queue HOST N: messages that wait there since the scenario began.
func (p *player) expectQueue(ctx context.Context, f []string) error {
	if len(f) < 2 {
		return errors.New("the form is: queue HOST N")
	}
	items, err := p.queue(ctx, f[0])
	if err != nil {
		return err
	}
	return compare(float64(len(items)), f[1:])
}

// queued HOST TEXT: a recipient that waits there has that in its address, its
// state or the last reply.
func (p *player) expectQueued(ctx context.Context, f []string) error {
	if len(f) < 2 {
		return errors.New("the form is: queued HOST TEXT")
	}
	items, err := p.queue(ctx, f[0])
	if err != nil {
		return err
	}
	for _, line := range items {
		if strings.Contains(line, strings.Join(f[1:], " ")) {
			return nil
		}
	}
	return fmt.Errorf("there is %q", items)
}

func (p *player) queue(ctx context.Context, host string) ([]string, error) {
	tables, err := p.lab.Queues(ctx, host)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, t := range tables {
		for _, i := range t.Items {
			if p.queued[i.ID] {
				continue
			}
			for _, r := range i.Recipients {
				out = append(out, fmt.Sprintf("%s to %s: %s, %d attempts, %s %s", i.From, r.Address, r.State, r.Attempts, r.Host, r.Reply))
			}
		}
	}
	return out, nil
}

// cache HOST NAME TYPE [DATA] | none: what a resolver remembers.
func (p *player) expectCache(ctx context.Context, f []string) error {
	if len(f) < 3 {
		return errors.New("the form is: cache HOST NAME TYPE [DATA|none|left NUMBER|security WORD]")
	}
	tables, err := p.lab.Caches(ctx, f[0])
	if err != nil {
		return err
	}
	wanted := strings.Join(f[3:], " ")
	var have []string
	for _, t := range tables {
		for _, e := range t.Entries {
			if !strings.EqualFold(e.Name, strings.TrimSuffix(f[1], ".")) || e.Type != f[2] || e.Rank != "answer" || e.Left <= 0 {
				continue
			}
			switch {
			case len(f) > 3 && f[3] == "left":
				return compare(time.Duration(e.Left).Seconds(), f[4:])
			case len(f) > 3 && f[3] == "security":
				if e.Security != f[4] {
					return fmt.Errorf("it is %s", e.Security)
				}
				return nil
			}
			have = append(have, e.Data...)
		}
	}
	switch {
	case wanted == "none" && len(have) == 0:
		return nil
	case wanted == "none":
		return fmt.Errorf("it remembers %q", have)
	}
	for _, d := range have {
		// The case of names on the way is chance (0x20).
		if strings.Contains(strings.ToLower(d), strings.ToLower(wanted)) {
			return nil
		}
	}
	return fmt.Errorf("it remembers %q", have)
}

// traffic: trips FROM TO N; FROM and TO are hosts, sites, kinds or *, and "me"
// is you, outside the lab. The counts are since the scenario began, or reset.
func traffic(what string) func(*player, context.Context, []string) error {
	return func(p *player, _ context.Context, f []string) error {
		if len(f) < 3 {
			return fmt.Errorf("the form is: %s FROM TO N", what)
		}
		return compare(p.traffic(what, f[0], f[1]), f[2:])
	}
}

func (p *player) traffic(what, from, to string) float64 {
	w := p.lab.World()
	is := func(pattern, host string) bool {
		if pattern == "*" || pattern == host || pattern == "me" && host == "" {
			return true
		}
		h, ok := w.Host(host)
		return ok && (h.Site == pattern || string(h.Kind) == pattern)
	}
	sum := 0
	for _, t := range p.lab.Traffic() {
		if !is(from, t.From) || !is(to, t.To) {
			continue
		}
		switch what {
		case "trips":
			sum += t.RoundTrips
		case "connections":
			sum += t.Connections
		case "sent":
			sum += t.Sent
		case "received":
			sum += t.Received
		}
	}
	return float64(sum)
}

// event KIND [at HOST] [N times] [TEXT]: something that happened since the
// scenario began, on that host, with that in its text or in one of its facts.
func (p *player) expectEvent(_ context.Context, f []string) error {
	if len(f) < 1 {
		return errors.New("the form is: event KIND [at HOST] [TEXT]")
	}
	f, at := option(f, "at")
	p.drain()
	wanted := strings.Join(f[1:], " ")
	n := 0
	for i := range p.seen {
		e := &p.seen[i]
		if string(e.Kind) == f[0] && (at == "" || e.Node == at) && (wanted == "" || mentions(e, wanted)) {
			n++
		}
	}
	if n == 0 {
		return errors.New("it did not happen")
	}
	return nil
}

func mentions(e *journey.Event, text string) bool {
	if strings.Contains(e.Text, text) || strings.Contains(e.Peer, text) {
		return true
	}
	for _, a := range e.Attrs {
		if strings.Contains(a.Key+"="+a.Value, text) {
			return true
		}
	}
	return false
}

// time < 2s: of the lab, since the timer was started.
func (p *player) expectTime(_ context.Context, f []string) error {
	return compare(p.lab.Clock().Now().Sub(p.timer).Seconds(), f)
}

// value NAME < 3, or NAME < OTHER: of let.
func (p *player) expectValue(_ context.Context, f []string) error {
	if len(f) < 2 {
		return errors.New("the form is: value NAME < NUMBER|NAME")
	}
	have, ok := p.values[f[0]]
	if !ok {
		return fmt.Errorf("there is no value %q", f[0])
	}
	rest := append([]string(nil), f[1:]...)
	if other, ok := p.values[rest[len(rest)-1]]; ok {
		rest[len(rest)-1] = strconv.FormatFloat(other, 'f', -1, 64)
	}
	return compare(have, rest)
}

// reply has TEXT | lacks TEXT | lines N: of the last thing that a server said.
func (p *player) expectReply(_ context.Context, f []string) error {
	if p.current == nil || len(f) < 2 {
		return errors.New("the form is: reply has|lacks TEXT, or reply lines N")
	}
	said := strings.Join(p.current.last, "\n")
	if f[0] == "lines" {
		return compare(float64(len(p.current.last)), f[1:])
	}
	if strings.Contains(said, p.expand(strings.Join(f[1:], " "))) != (f[0] == "has") {
		return fmt.Errorf("it was %q", said)
	}
	return nil
}

// let NAME = trips|connections|sent|received FROM TO, or time, ttl, A - B, or
// reply REGEXP
func (p *player) let(_ context.Context, c Command) error {
	f, err := want(c, 3, "NAME = trips|connections|sent|received FROM TO, time, ttl, A - B, or reply REGEXP")
	if err != nil {
		return err
	}
	switch {
	case f[1] != "=":
		return errors.New("the form is: let NAME = WHAT")
	case f[2] == "time":
		p.values[f[0]] = p.lab.Clock().Now().Sub(p.timer).Seconds()
	case f[2] == "ttl" && p.reply != nil && p.reply.msg != nil && len(p.reply.msg.Answer) > 0:
		p.values[f[0]] = float64(p.reply.msg.Answer[0].Header().Ttl)
	case f[2] == "reply" && len(f) > 3:
		return p.letReply(f[0], strings.Join(f[3:], " "))
	case len(f) == 5 && f[3] == "-":
		a, aok := p.values[f[2]]
		b, bok := p.values[f[4]]
		if !aok || !bok {
			return fmt.Errorf("%s or %s is no value", f[2], f[4])
		}
		p.values[f[0]] = a - b
	case len(f) == 5:
		p.values[f[0]] = p.traffic(f[2], f[3], f[4])
	default:
		return fmt.Errorf("%q is nothing to measure", strings.Join(f[2:], " "))
	}
	return nil
}

// letReply keeps what the first group of an expression has of the last thing that
// a server said.
func (p *player) letReply(name, expr string) error {
	re, err := regexp.Compile(expr)
	if err != nil {
		return err
	}
	if re.NumSubexp() != 1 || p.current == nil {
		return errors.New("the form is: let NAME = reply REGEXP, with one group in it")
	}
	said := strings.Join(p.current.last, "\n")
	found := re.FindStringSubmatch(said)
	if found == nil {
		return fmt.Errorf("it was %q", said)
	}
	p.texts[name] = found[1]
	return nil
}
