package node

import (
	"fmt"
	"slices"
	"strings"
)

// target is what a command is about.
type target struct {
	byUID bool
	set   string
	uids  []int // in order
	gone  int   // of them, that another session expunged
}

// verb writes a command's name.
func (a *target) verb(name string) string {
	if a.byUID {
		return "UID " + name
	}
	return name
}

// aim draws some messages that the client knows; none: there are none.
func (p *play) aim(c *mail) *target {
	if len(c.view) == 0 {
		return nil
	}
	a := &target{byUID: c.uidonly || p.r.IntN(2) == 0}
	first := p.r.IntN(len(c.view))
	var numbers []int
	for i := first; i < min(first+1+p.r.IntN(4), len(c.view)); i++ {
		if uid := c.view[i].uid; uid != 0 {
			a.uids, numbers = append(a.uids, uid), append(numbers, i+1)
			if p.now.byID(c.box).find(uid) == nil {
				a.gone++
			}
		}
	}
	if len(a.uids) == 0 {
		return nil
	}
	if a.byUID {
		numbers = a.uids
	}
	a.set = setOf(numbers)
	return a
}

func (p *play) store(c *mail) {
	a := p.aim(c)
	if a == nil {
		return
	}
	want := p.now.clone()
	flag, sign := p.flag(), []string{"+", "-", ""}[p.r.IntN(3)]
	if p.r.IntN(5) == 0 {
		flag += " Work"
	}
	flag = words(strings.Fields(flag))
	silent := []string{"", ".SILENT"}[p.r.IntN(2)]
	since, conditional := uint64(0), c.condstore && p.r.IntN(3) == 0
	middle := ""
	if conditional {
		since = max(c.view[p.r.IntN(len(c.view))].modseq, 1)
		middle = fmt.Sprintf("(UNCHANGEDSINCE %d) ", since)
	}
	command := fmt.Sprintf("%s %s %s%sFLAGS%s (%s)", a.verb("STORE"), a.set, middle, sign, silent, flag)
	box := want.byID(c.box)
	var modified, done []int
	for _, uid := range a.uids {
		l := box.find(uid)
		switch {
		case l == nil || c.readOnly:
		case conditional && l.modseq > since:
			modified = append(modified, uid)
		default:
			box.store(uid, sign, flag)
			done = append(done, uid)
		}
	}
	answer := p.run(c, command, func(answer string) { c.stored(a, answer, silent != "", sign, flag, done) })
	p.expectFrom(want)
	if box.id == "" { // the mailbox was deleted
		return
	}
	ok := !c.readOnly && (a.byUID || a.gone == 0 || len(modified) > 0)
	if strings.HasPrefix(answer, "OK") != ok {
		p.wrong("%s: %s", command, answer)
	}
	if got := p.modified(c, a, answer); !slices.Equal(got, modified) {
		p.wrong("%s: %s, and %v are modified", command, answer, modified)
	}
}

// modified are the UIDs of a response code.
func (p *play) modified(c *mail, a *target, answer string) []int {
	m := modifiedIn.FindStringSubmatch(answer)
	if m == nil {
		return nil
	}
	list := numbersOf(m[1])
	for i, n := range list {
		if !a.byUID {
			list[i] = c.view[n-1].uid
		}
	}
	return list
}

// stored is what a client knows behind its own STORE: of a silent one nothing is
// told, so that it has to work the flags out.
func (c *mail) stored(a *target, answer string, silent bool, sign, flag string, done []int) {
	if !silent {
		return
	}
	for i := range c.view {
		k := &c.view[i]
		if !slices.Contains(a.uids, k.uid) || c.fetched[k.uid] {
			continue
		}
		switch {
		case !strings.HasPrefix(answer, "OK"):
			k.flags = "?" // some may be changed
		case slices.Contains(done, k.uid) && (k.flags != "?" || sign == ""):
			k.flags = changed(k.flags, sign, flag)
		}
	}
}

func (p *play) expunge(c *mail) {
	want := p.now.clone()
	box := want.byID(c.box)
	command := "EXPUNGE"
	meant := func(uid int) bool { return true }
	if p.r.IntN(2) == 0 {
		a := p.aim(c)
		if a == nil {
			return
		}
		command = "UID EXPUNGE " + setOf(a.uids)
		meant = func(uid int) bool { return slices.Contains(a.uids, uid) }
	}
	if !c.readOnly {
		box.remove(func(l *letter) bool { return has(l.flags, `\Deleted`) && c.knows(l.uid) && meant(l.uid) })
	}
	answer := p.run(c, command)
	p.expectFrom(want)
	if box.id != "" && strings.HasPrefix(answer, "OK") == c.readOnly {
		p.wrong("%s: %s", command, answer)
	}
}

// transfer is COPY and MOVE.
func (p *play) transfer(c *mail) {
	a := p.aim(c)
	if a == nil {
		return
	}
	want, name, move := p.now.clone(), p.name(), p.r.IntN(2) == 0
	from, to := want.byID(c.box), want[name]
	verb := a.verb("COPY")
	if move {
		verb = a.verb("MOVE")
	}
	command := fmt.Sprintf("%s %s %s", verb, a.set, name)
	ok := to != nil && (a.byUID || a.gone == 0) && !(move && c.readOnly)
	code := ""
	if ok {
		code = from.transfer(a.uids, to, move)
	}
	c.copied = ""
	answer := p.run(c, command)
	p.expectFrom(want)
	switch {
	case from.id == "": // the mailbox was deleted
		if to != nil && strings.Contains(answer, "TRYCREATE") {
			p.wrong("%s: %s, and there is such a mailbox", command, answer)
		}
	case strings.HasPrefix(answer, "OK") != ok,
		to == nil && !(move && c.readOnly) && !strings.HasPrefix(answer, "NO [TRYCREATE]"),
		to != nil && strings.Contains(answer, "TRYCREATE"),
		c.copied != code:
		p.wrong("%s: %s (%s, and should be %s)", command, answer, c.copied, code)
	}
}

// transfer copies or moves those that are there, and returns the code for it.
func (b *ledgerBox) transfer(uids []int, to *ledgerBox, move bool) string {
	var src, dst []int
	var list []letter
	for _, uid := range uids {
		if l := b.find(uid); l != nil {
			list = append(list, *l)
		}
	}
	for _, l := range list {
		src, dst = append(src, l.uid), append(dst, to.next)
		to.add(l.flags, l.size)
	}
	if move {
		b.remove(func(l *letter) bool { return slices.Contains(src, l.uid) })
	}
	if len(src) == 0 {
		return ""
	}
	return fmt.Sprint(fmt.Sprint(to.validity), src, dst)
}

// fetch is FETCH, which may mark messages as read.
func (p *play) fetch(c *mail) {
	a := p.aim(c)
	if a == nil {
		return
	}
	want := p.now.clone()
	item := []string{"UID", "BODY[]", "BODY.PEEK[TEXT]", "(FLAGS)", "(UID BODY[HEADER])", "ENVELOPE", "(UID FLAGS MODSEQ)"}[p.r.IntN(7)]
	if strings.Contains(item, "MODSEQ") {
		c.condstore = true
	}
	box := want.byID(c.box)
	for _, uid := range a.uids {
		if strings.Contains(item, "BODY[") && !c.readOnly {
			box.store(uid, "+", `\Seen`)
		}
	}
	command := fmt.Sprintf("%s %s %s", a.verb("FETCH"), a.set, item)
	answer := p.run(c, command)
	p.expectFrom(want)
	if box.id != "" && strings.HasPrefix(answer, "OK") != (a.byUID || a.gone == 0) {
		p.wrong("%s: %s", command, answer)
	}
}

// replace is REPLACE (RFC 8508).
func (p *play) replace(c *mail) {
	a := p.aim(c)
	if a == nil {
		return
	}
	want, name, text := p.now.clone(), p.name(), p.letter()
	first := strings.Split(a.set, ",")[0]
	command := fmt.Sprintf("%s %s %s (\\Draft) {%d+}\r\n%s", a.verb("REPLACE"), first, name, len(text), text)
	from, to := want.byID(c.box), want[name]
	ok := !c.readOnly && to != nil && from.find(a.uids[0]) != nil
	if ok {
		to.add(`\Draft`, int64(len(text)))
		from.remove(func(l *letter) bool { return l.uid == a.uids[0] })
	}
	answer := p.run(c, command)
	p.expectFrom(want)
	if strings.HasPrefix(answer, "OK") != ok {
		p.wrong("%s: %s", command, answer)
	}
}
