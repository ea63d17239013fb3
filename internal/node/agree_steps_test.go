package node

import (
	"fmt"
	"slices"
	"strings"
	"testing/synctest"
)

// name is the name of a mailbox, of one that there is as a rule.
func (p *play) name() string {
	name := "INBOX"
	for range 2 {
		name = []string{"INBOX", "INBOX", "INBOX", "INBOX", "a", "a/b", "c", "c", "d", "d/e"}[p.r.IntN(10)]
		if p.now[name] != nil {
			break
		}
	}
	return name
}

func (p *play) flag() string {
	return []string{`\Seen`, `\Flagged`, `\Deleted`, `\Deleted`, "Work", "$Junk"}[p.r.IntN(6)]
}

// connect opens a session, with what it enables drawn.
func (p *play) connect(c *mail, name string) {
	*c = mail{line: p.town.line("imap", name, p.note), wrong: p.wrong, kept: c.kept, tag: c.tag}
	c.hear()
	c.ok("LOGIN bob hungry")
	switch p.r.IntN(6) {
	case 0:
		c.ok("ENABLE CONDSTORE")
		c.condstore = true
	case 1:
		c.ok("ENABLE QRESYNC")
		c.condstore, c.qresync = true, true
	case 2:
		c.ok("ENABLE QRESYNC UIDONLY")
		c.condstore, c.qresync, c.uidonly = true, true, true
	case 3:
		c.ok("ENABLE UIDONLY IMAP4rev2")
		c.uidonly = true
	case 4:
		c.ok("ENABLE IMAP4rev2")
	}
}

// mailStep does something in a session.
func (p *play) mailStep(c *mail) {
	if c.idle {
		c.overhear()
		if p.r.IntN(2) == 0 {
			p.done(c)
		}
		return
	}
	c.overhear()
	if c.box == "" && p.r.IntN(4) > 0 {
		p.open(c)
		return
	}
	any := []func(*mail){p.open, p.tree, p.append, p.append, p.notify, p.beginIdle, p.reconnect, p.looks}
	if c.box == "" {
		any[p.r.IntN(len(any))](c)
		return
	}
	p.learn(c)
	within := []func(*mail){p.store, p.store, p.store, p.store, p.expunge, p.transfer, p.transfer, p.fetch, p.fetch, p.looks, p.leave, p.follow, p.replace}
	if p.r.IntN(6) == 0 {
		any[p.r.IntN(len(any))](c)
		return
	}
	within[p.r.IntN(len(within))](c)
}

// learn asks for what is not known.
func (p *play) learn(c *mail) {
	for range 3 {
		if !slices.ContainsFunc(c.view, func(k known) bool { return k.uid == 0 || k.flags == "?" }) || p.fault != "" {
			return
		}
		items := "UID FLAGS"
		if c.condstore {
			items += " MODSEQ"
		}
		p.run(c, "UID FETCH 1:* ("+items+")")
	}
}

// open is SELECT and EXAMINE, with QRESYNC where the client knows the mailbox.
func (p *play) open(c *mail) {
	name := p.name()
	verb := []string{"SELECT", "SELECT", "SELECT", "EXAMINE"}[p.r.IntN(4)]
	command := verb + " " + name
	p.left(c, true)
	old := c.kept[name]
	switch {
	case c.qresync && old != nil && p.r.IntN(4) > 0:
		command += fmt.Sprintf(" (QRESYNC (%s %d%s))", old.validity, max(old.safe, 1), p.knownSet(old, !c.uidonly))
	case p.r.IntN(6) == 0:
		old = nil
		command += " (CONDSTORE)"
		c.condstore = true
	default:
		old = nil
	}
	answer := p.run(c, command)
	if exists := p.now[name] != nil; strings.HasPrefix(answer, "OK") != exists {
		p.wrong("%s: %s", command, answer)
	}
	if !strings.HasPrefix(answer, "OK") {
		c.box = ""
		return
	}
	c.name, c.readOnly = name, verb == "EXAMINE"
	if old != nil && old.validity == c.validity {
		p.synchronise(c, old)
	}
	telling := c.telling
	c.telling = atCommands // what SELECT tells is told whatever NOTIFY says
	p.compare(c, true)
	c.telling = telling
}

// knownSet is the rest of the parameter of QRESYNC, with message numbers where there are any.
func (p *play) knownSet(old *kept, numbers bool) string {
	var uids, seqs []int
	for i, k := range old.view {
		uids, seqs = append(uids, k.uid), append(seqs, i+1)
	}
	switch {
	case len(uids) == 0 || p.r.IntN(3) == 0:
		return ""
	case p.r.IntN(2) == 0, !numbers:
		return fmt.Sprintf(" 1:%d", uids[len(uids)-1]+100)
	}
	return fmt.Sprintf(" 1:%d (%s %s)", uids[len(uids)-1]+100, setOf(seqs), setOf(uids))
}

// synchronise makes the picture of what the client had and what it was told.
func (p *play) synchronise(c *mail, old *kept) {
	view := slices.DeleteFunc(slices.Clone(old.view), func(k known) bool { return slices.Contains(c.earlier, k.uid) })
	for _, k := range c.view {
		if k.uid == 0 {
			continue
		}
		view = append(slices.DeleteFunc(view, func(o known) bool { return o.uid == k.uid }), k)
	}
	slices.SortFunc(view, func(a, b known) int { return a.uid - b.uid })
	if len(view) != len(c.view) {
		p.wrong("%s has %v behind QRESYNC, and EXISTS says %d", c.line.name, view, len(c.view))
	}
	c.view = view
}

// left is what a client does that leaves a mailbox; keep: it may come back.
func (p *play) left(c *mail, keep bool) {
	lossy := c.telling == nothing || c.telling == flagless || !keep ||
		slices.ContainsFunc(c.view, func(k known) bool { return k.uid == 0 || k.flags == "?" })
	if c.box != "" {
		delete(c.kept, c.name)
	}
	if c.box != "" && !lossy && c.qresync {
		c.kept[c.name] = &kept{c.box, c.validity, c.safe, c.view}
	}
	c.box, c.view, c.contexts, c.safe = "", nil, nil, 0
}

func (p *play) leave(c *mail) {
	if p.r.IntN(2) == 0 {
		p.left(c, true)
		p.run(c, "UNSELECT")
		return
	}
	want := p.now.clone()
	if !c.readOnly {
		want.byID(c.box).remove(func(l *letter) bool { return has(l.flags, `\Deleted`) && c.knows(l.uid) })
	}
	p.left(c, false)
	p.run(c, "CLOSE")
	p.expectFrom(want)
}

func (c *mail) knows(uid int) bool {
	return slices.ContainsFunc(c.view, func(k known) bool { return k.uid == uid })
}

// reconnect loses the connection and comes back.
func (p *play) reconnect(c *mail) {
	p.left(c, true)
	c.conn.Close()
	synctest.Wait()
	p.connect(c, c.line.name)
}

func (p *play) append(c *mail) {
	want, name, flag, text := p.now.clone(), p.name(), p.flag(), p.letter()
	command := fmt.Sprintf("APPEND %s (%s) {%d+}\r\n%s", name, flag, len(text), text)
	n := 1
	if p.r.IntN(4) == 0 { // MULTIAPPEND
		n = 2
		command += fmt.Sprintf(" (%s) {%d+}\r\n%s", flag, len(text), text)
	}
	answer := p.run(c, command)
	box := want[name]
	switch {
	case box == nil && !strings.HasPrefix(answer, "NO [TRYCREATE]"):
		p.wrong("%s: %s", command, answer)
	case box != nil && !strings.HasPrefix(answer, fmt.Sprintf("OK [APPENDUID %d %d", box.validity, box.next)):
		p.wrong("%s: %s", command, answer)
	case box != nil:
		for range n {
			box.add(flag, int64(len(text)))
		}
	}
	p.expectFrom(want)
}

// tree changes the tree of mailboxes.
func (p *play) tree(c *mail) {
	want, name, other := p.now.clone(), p.name(), p.name()
	switch p.r.IntN(4) {
	case 0:
		if answer := p.run(c, "DELETE "+name); strings.HasPrefix(answer, "OK") {
			delete(want, name)
		}
	case 1:
		if answer := p.run(c, "RENAME "+name+" "+other); strings.HasPrefix(answer, "OK") {
			want.rename(name, other, p.now)
		}
	default:
		if answer := p.run(c, "CREATE "+name); strings.HasPrefix(answer, "OK") {
			want.create(name, p.now, true)
		}
	}
	p.expectFrom(want)
}

// looks asks without changing anything.
func (p *play) looks(c *mail) {
	want, name := p.now.clone(), p.name()
	if p.r.IntN(3) == 0 {
		if p.now[name] != nil {
			p.status(c, name)
		}
		return
	}
	commands := []string{"NOOP"}
	if c.box != "" {
		commands = append(commands, "CHECK", "UID SEARCH UNSEEN", "UID SORT (ARRIVAL) UTF-8 ALL", "UID SEARCH RETURN (SAVE) FLAGGED")
		if !c.uidonly {
			commands = append(commands, "SEARCH ALL", "SORT (SUBJECT) UTF-8 UNDELETED", "THREAD REFERENCES UTF-8 ALL", "SEARCH RETURN (COUNT MIN) SUBJECT even")
		}
	}
	if answer := p.run(c, commands[p.r.IntN(len(commands))]); !strings.HasPrefix(answer, "OK") {
		p.wrong("%s", answer)
	}
	p.expectFrom(want)
}

// beginIdle is IDLE; done ends it.
func (p *play) beginIdle(c *mail) {
	c.tag++
	c.idle, c.fetched = true, make(map[int]bool)
	c.say(fmt.Sprintf("%s%d IDLE\r\n", c.line.name, c.tag))
	c.overhear()
	p.compare(c, true)
}

func (p *play) done(c *mail) {
	c.say("DONE\r\n")
	answer := ""
	for _, line := range c.hear() {
		if text, mine := strings.CutPrefix(line, fmt.Sprintf("%s%d ", c.line.name, c.tag)); mine {
			answer = text
			c.hearCode(text)
			continue
		}
		c.listen("", line)
	}
	c.idle = false
	if !strings.HasPrefix(answer, "OK") {
		p.wrong("%s: DONE: %q", c.line.name, answer)
	}
	p.compare(c, true)
}

// notify is NOTIFY.
func (p *play) notify(c *mail) {
	was := c.telling
	c.telling = []telling{atOnce, delayed, flagless, nothing, nothing}[p.r.IntN(5)]
	items := []string{"", " (UID FLAGS)"}[p.r.IntN(2)]
	if c.condstore && items != "" {
		items = " (UID FLAGS MODSEQ)"
	}
	group := map[telling]string{
		atOnce:   "(selected (MessageNew" + items + " MessageExpunge FlagChange))",
		delayed:  "(selected-delayed (MessageNew" + items + " MessageExpunge FlagChange))",
		flagless: "(selected (MessageNew MessageExpunge))",
	}[c.telling]
	c.watching, c.told = p.r.IntN(2) == 0, nil
	if c.watching {
		c.told = make(map[string]*told)
		for name := range p.now { // as LIST would say
			c.told[name] = &told{-1, -1, -1, -1}
		}
		group += " (personal (MessageNew MessageExpunge FlagChange MailboxName))"
	}
	if was == flagless || c.telling == flagless {
		for i := range c.view {
			c.view[i].flags, c.view[i].modseq = "?", 0
		}
	}
	command := "NOTIFY NONE"
	if group != "" {
		command = "NOTIFY SET STATUS " + strings.TrimSpace(group)
	}
	if answer := p.run(c, command); !strings.HasPrefix(answer, "OK") {
		p.wrong("%s: %s", command, answer)
	}
}

// follow begins or ends a search with UPDATE.
func (p *play) follow(c *mail) {
	if c.telling == nothing {
		return
	}
	if len(c.contexts) > 2 {
		for tag := range c.contexts {
			delete(c.contexts, tag)
			c.ok(`CANCELUPDATE "` + tag + `"`)
			break
		}
		return
	}
	keys := []string{"FLAGGED", "UNSEEN", "ALL", "OR DELETED SUBJECT even", "NOT (SEEN BODY xxx)", "UID 3:40 UNDELETED", "FUZZY SUBJECT odd", "SMALLER 60 NOT FLAGGED", "KEYWORD Work"}
	f := &followed{key: keys[p.r.IntN(len(keys))], byUID: c.qresync || c.uidonly || p.r.IntN(2) == 0, numbers: make(map[int]bool)}
	verb := "SEARCH"
	if f.byUID {
		verb = "UID SEARCH"
	}
	c.ok("NOOP")
	p.learn(c)
	c.ok(fmt.Sprintf("%s RETURN (ALL UPDATE) %s", verb, f.key))
	f.tag = fmt.Sprintf("%s%d", c.line.name, c.tag)
	for _, n := range c.found {
		f.numbers[n] = true
	}
	if c.contexts == nil {
		c.contexts = make(map[string]*followed)
	}
	c.contexts[f.tag] = f
}
