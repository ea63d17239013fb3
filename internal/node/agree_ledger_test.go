package node

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ledger is what is in the mailboxes.
type ledger map[string]*ledgerBox // by name

type ledgerBox struct {
	id       string
	validity uint32
	next     int
	modseq   uint64
	letters  []letter // by UID
}

// letter is one message. In what is expected, a size of 0 is not known, and the
// mod-sequence is the one before.
type letter struct {
	uid    int
	flags  string // as words writes them
	size   int64
	modseq uint64
}

// words writes a set of flags in one way.
func words(list []string) string {
	slices.Sort(list)
	return strings.Join(slices.Compact(list), " ")
}

func (l ledger) clone() ledger {
	c := make(ledger)
	for name, box := range l {
		b := *box
		b.letters = slices.Clone(box.letters)
		c[name] = &b
	}
	return c
}

// byID finds a mailbox; one that is gone is empty.
func (l ledger) byID(id string) *ledgerBox {
	for _, box := range l {
		if box.id == id {
			return box
		}
	}
	return &ledgerBox{}
}

func (b *ledgerBox) find(uid int) *letter {
	i, ok := slices.BinarySearchFunc(b.letters, uid, func(l letter, uid int) int { return l.uid - uid })
	if !ok {
		return nil
	}
	return &b.letters[i]
}

func (b *ledgerBox) add(flags string, size int64) {
	b.letters = append(b.letters, letter{uid: b.next, flags: flags, size: size})
	b.next++
}

func (b *ledgerBox) remove(gone func(l *letter) bool) {
	b.letters = slices.DeleteFunc(b.letters, func(l letter) bool { return gone(&l) })
}

// store changes the flags of a message that is there.
func (b *ledgerBox) store(uid int, sign, flag string) {
	if l := b.find(uid); l != nil {
		l.flags = changed(l.flags, sign, flag)
	}
}

// changed is what STORE makes of flags.
func changed(flags, sign, flag string) string {
	have := strings.Fields(flags)
	switch sign {
	case "+":
		have = append(have, strings.Fields(flag)...)
	case "-":
		have = slices.DeleteFunc(have, func(f string) bool { return slices.Contains(strings.Fields(flag), f) })
	default:
		have = strings.Fields(flag)
	}
	return words(have)
}

func has(flags, flag string) bool { return slices.Contains(strings.Fields(flags), flag) }

// rename is RENAME that was answered with OK; now is what there is behind it, for
// the ids of mailboxes that came into being.
func (l ledger) rename(from, to string, now ledger) {
	if from == "INBOX" {
		box := now[to]
		if box == nil {
			return
		}
		moved := &ledgerBox{id: box.id, validity: box.validity, next: 1}
		for _, one := range l["INBOX"].letters {
			moved.add(one.flags, one.size)
		}
		l["INBOX"].letters = nil
		l[to] = moved
	} else {
		for _, name := range slices.Sorted(maps.Keys(l)) {
			if name == from || strings.HasPrefix(name, from+"/") {
				box := l[name]
				delete(l, name)
				l[to+strings.TrimPrefix(name, from)] = box
			}
		}
	}
	l.create(to, now, false)
}

// create is CREATE that was answered with OK: of the levels above too.
func (l ledger) create(name string, now ledger, itself bool) {
	for i := range len(name) + 1 {
		if i < len(name) && name[i] != '/' || i == len(name) && !itself {
			continue
		}
		if box := now[name[:i]]; l[name[:i]] == nil && box != nil {
			l[name[:i]] = &ledgerBox{id: box.id, validity: box.validity, next: 1}
		}
	}
}

// differ tells how now is not what was expected, from before on.
func (l ledger) differ(now, before ledger) string {
	if a, b := slices.Sorted(maps.Keys(l)), slices.Sorted(maps.Keys(now)); !slices.Equal(a, b) {
		return fmt.Sprintf("there are mailboxes %q, and should be %q", b, a)
	}
	for name, want := range l {
		got := now[name]
		if got.id != want.id || got.validity != want.validity || got.next != want.next || len(got.letters) != len(want.letters) {
			return fmt.Sprintf("%s is %+v, and should be %+v", name, got, want)
		}
		old := before.byID(want.id)
		if got.modseq < old.modseq {
			return fmt.Sprintf("%s had HIGHESTMODSEQ %d and has %d", name, old.modseq, got.modseq)
		}
		for i := range want.letters {
			if why := want.letters[i].differ(&got.letters[i], got, old); why != "" {
				return name + ": " + why
			}
		}
	}
	return ""
}

func (l *letter) differ(got *letter, box, old *ledgerBox) string {
	switch was := old.find(got.uid); {
	case got.uid != l.uid || got.flags != l.flags || l.size != 0 && got.size != l.size:
		return fmt.Sprintf("there is %+v, and should be %+v", *got, *l)
	case got.modseq > box.modseq:
		return fmt.Sprintf("%+v is newer than the mailbox's %d", *got, box.modseq)
	case was != nil && was.flags == got.flags && was.modseq > got.modseq:
		return fmt.Sprintf("%+v was %+v", *got, *was)
	case (was == nil || was.flags != got.flags) && got.modseq <= old.modseq:
		return fmt.Sprintf("%+v is not newer than the mailbox was, %d", *got, old.modseq)
	}
	return ""
}
