package integration

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sizeOf is mostly that of a letter, at times beyond what the database holds in
// a row.
func sizeOf(rng *rand.Rand) int {
	if rng.IntN(20) == 0 {
		return 70_000 + rng.IntN(100_000)
	}
	return 100 + rng.IntN(8000)
}

// sendMail sends letters to alice and bob, each in one transaction.
func sendMail(c *crashLoop, rng *rand.Rand, _ <-chan struct{}) error {
	conn, err := smtp(c.s.addr["smtp"])
	if err != nil {
		return wrong(err)
	}
	defer conn.Close()
	for {
		id := c.book.newID()
		text, fa := c.book.text(id, sizeOf(rng))
		fb := *fa
		both := []*fact{fa, &fb}
		for i, user := range []string{"alice", "bob"} {
			f := both[i]
			f.together, f.before = "acceptance of "+id, nowhere
			f.places = []string{nowhere, user + "/INBOX"}
			c.book.add(id+"/"+user, f)
		}
		if _, err := conn.mail("alice@crepes.fr", []string{"alice@" + hostname, "bob@" + hostname}, text); err != nil {
			return wrong(err)
		}
		c.book.ends("SMTP", both, func(f *fact) { f.places, f.together = f.places[1:], "" })
	}
}

// wrong is nil for the loss of a connection.
func wrong(err error) error {
	if lost(err) {
		return nil
	}
	return err
}

// drainMail deletes some of bob's letters by POP3, again and again.
func drainMail(c *crashLoop, rng *rand.Rand, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := drainOnce(c, rng); err != nil {
			return wrong(err)
		}
	}
}

func drainOnce(c *crashLoop, rng *rand.Rand) error {
	conn, err := pop(c.s.addr["pop3"], "bob")
	if err != nil && strings.Contains(err.Error(), "[IN-USE]") {
		return nil // the session before was dropped, and the server has not seen it yet
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	list, err := conn.popLines("LIST")
	if err != nil {
		return err
	}
	var going []*fact
	name := "QUIT of " + c.book.newID()
	for i := range list {
		if i > 20 || rng.IntN(2) == 0 {
			continue
		}
		head, err := conn.popLines(fmt.Sprintf("TOP %d 0", i+1))
		if err != nil {
			return err
		}
		m := subjectOf.FindStringSubmatch("\r\n" + strings.Join(head, "\r\n") + "\r\n")
		if m == nil {
			return fmt.Errorf("want a letter, got %q", head)
		}
		c.book.mu.Lock()
		f := c.book.facts[m[1]+"/bob"]
		c.book.mu.Unlock()
		if f == nil {
			return fmt.Errorf("want a letter that was sent, got %s", m[1])
		}
		if _, err := conn.popAsk(fmt.Sprintf("DELE %d", i+1)); err != nil {
			return err
		}
		going = append(going, f)
	}
	// A letter may be here before its sender has read the 250: then it is
	// part of two commits that are not acknowledged, which is left out.
	c.book.mu.Lock()
	open := slices.ContainsFunc(going, func(f *fact) bool { return len(f.places) > 1 })
	c.book.mu.Unlock()
	if open {
		return nil
	}
	c.book.begins(going, func(f *fact) {
		f.together, f.before = name, "bob/INBOX"
		f.places = []string{"bob/INBOX", nowhere}
	})
	if _, err := conn.popAsk("QUIT"); err != nil {
		return err
	}
	c.book.ends("QUIT", going, func(f *fact) { f.places, f.together = []string{nowhere}, "" })
	return nil
}

var (
	appendUID = regexp.MustCompile(`APPENDUID \d+ (\d+)`)
	copyUID   = regexp.MustCompile(`COPYUID \d+ (\S+) ([0-9,:]+)`)
)

// filing is an IMAP session of carol, who appends, marks, moves and expunges
// messages of her own.
type filing struct {
	c    *crashLoop
	rng  *rand.Rand
	conn *talk
	box  string // selected
	mine []*fact
}

func fileMail(c *crashLoop, rng *rand.Rand, _ <-chan struct{}) error {
	conn, err := imap(c.s.addr["imap"], "carol")
	if err != nil {
		return wrong(err)
	}
	defer conn.Close()
	f := &filing{c: c, rng: rng, conn: conn, box: "Drafts"}
	if rng.IntN(2) == 0 {
		f.box = "Archive"
	}
	if _, err := conn.imapAsk("SELECT " + f.box); err != nil {
		return wrong(err)
	}
	for {
		if err := f.step(); err != nil {
			return wrong(err)
		}
	}
}

func (f *filing) place() string { return "carol/" + f.box }

func (f *filing) step() error {
	n := f.rng.IntN(10)
	switch here := f.here(); {
	case len(here) < 3 || n < 4:
		return f.append()
	case n < 7:
		return f.store(here[f.rng.IntN(len(here))])
	case n < 9:
		return f.move(here[:1+f.rng.IntN(3)])
	default:
		return f.expunge(here[:1+f.rng.IntN(2)])
	}
}

// here are this session's messages in the selected mailbox, all acknowledged.
func (f *filing) here() (list []*fact) {
	f.c.book.mu.Lock()
	defer f.c.book.mu.Unlock()
	for _, m := range f.mine {
		if len(m.places) == 1 && m.places[0] == f.place() && m.uid != 0 {
			list = append(list, m)
		}
	}
	return list
}

func (f *filing) append() error {
	id := f.c.book.newID()
	text, m := f.c.book.text(id, sizeOf(f.rng))
	m.places = []string{nowhere, f.place()}
	f.c.book.add(id+"/carol", m)
	f.mine = append(f.mine, m)
	answer, err := f.conn.imapAppend(f.box, "", text)
	if err != nil {
		return err
	}
	uid := appendUID.FindStringSubmatch(answer)
	if uid == nil {
		return fmt.Errorf("want APPENDUID, got %q", answer)
	}
	n, err := strconv.ParseUint(uid[1], 10, 32)
	if err != nil {
		return err
	}
	f.c.book.ends("APPEND", []*fact{m}, func(m *fact) { m.places, m.uid = []string{f.place()}, uint32(n) })
	return f.c.book.takes(f.place(), uint32(n), id)
}

func (f *filing) store(m *fact) error {
	keyword := fmt.Sprintf("k%d", f.rng.IntN(1000))
	f.c.book.begins([]*fact{m}, func(m *fact) { m.keywords = append(m.keywords, keyword) })
	if _, err := f.conn.imapAsk(fmt.Sprintf("UID STORE %d FLAGS (\\Seen %s)", m.uid, keyword)); err != nil {
		return err
	}
	f.c.book.ends("STORE", []*fact{m}, func(m *fact) { m.keywords = []string{keyword} })
	return nil
}

// uidSet is a set as IMAP writes it, and its elements in order.
func uidSet(facts []*fact) (string, []uint32) {
	var uids []uint32
	for _, m := range facts {
		uids = append(uids, m.uid)
	}
	slices.Sort(uids)
	var parts []string
	for _, uid := range uids {
		parts = append(parts, strconv.FormatUint(uint64(uid), 10))
	}
	return strings.Join(parts, ","), uids
}

// expand is the elements of a set as IMAP writes it.
func expand(set string) (uids []uint32) {
	for part := range strings.SplitSeq(set, ",") {
		first, last, ok := strings.Cut(part, ":")
		if !ok {
			last = first
		}
		a, _ := strconv.ParseUint(first, 10, 32)
		b, _ := strconv.ParseUint(last, 10, 32)
		for n := a; n <= b; n++ {
			uids = append(uids, uint32(n))
		}
	}
	return uids
}

func (f *filing) move(going []*fact) error {
	to := map[string]string{"Drafts": "Archive", "Archive": "Drafts"}[f.box]
	name := "MOVE of " + f.c.book.newID()
	f.c.book.begins(going, func(m *fact) {
		m.together, m.before = name, f.place()
		m.places = []string{f.place(), "carol/" + to}
	})
	set, _ := uidSet(going)
	all, err := f.conn.imapAsk("UID MOVE " + set + " " + to)
	if err != nil {
		return err
	}
	m := copyUID.FindStringSubmatch(strings.Join(all, "\n"))
	if m == nil {
		return fmt.Errorf("want COPYUID, got %q", all)
	}
	src, dst := expand(m[1]), expand(m[2])
	if len(src) != len(going) || len(dst) != len(going) {
		return fmt.Errorf("want %d UIDs in %q", len(going), m[0])
	}
	f.c.book.ends("MOVE", going, func(m *fact) {
		m.places, m.together = []string{"carol/" + to}, ""
		m.uid = dst[slices.Index(src, m.uid)]
	})
	for _, m := range going {
		if err := f.c.book.takes("carol/"+to, m.uid, m.id); err != nil {
			return err
		}
	}
	return nil
}

func (f *filing) expunge(going []*fact) error {
	set, _ := uidSet(going)
	if _, err := f.conn.imapAsk("UID STORE " + set + ` +FLAGS.SILENT (\Deleted)`); err != nil {
		return err
	}
	name := "EXPUNGE of " + f.c.book.newID()
	f.c.book.begins(going, func(m *fact) {
		m.together, m.before = name, f.place()
		m.places = []string{f.place(), nowhere}
	})
	if _, err := f.conn.imapAsk("UID EXPUNGE " + set); err != nil {
		return err
	}
	f.c.book.ends("EXPUNGE", going, func(m *fact) { m.places, m.together = []string{nowhere}, "" })
	return nil
}

// TestCrashR1: whatever was acknowledged before kill -9 is in effect after the
// next start, byte for byte, once, under a UID that was never another's.
func TestCrashR1(t *testing.T) {
	c := newCrashLoop(t, crashConfig, "alice/INBOX", "bob/INBOX", "carol/Drafts", "carol/Archive")
	c.run(rounds(t, 20, 1000), sendMail, sendMail, sendMail, drainMail, fileMail, fileMail, fileMail)
	for _, kind := range []string{"SMTP", "QUIT", "APPEND", "STORE", "MOVE", "EXPUNGE"} {
		if c.book.acked[kind] == 0 {
			t.Errorf("no %s was acknowledged", kind)
		}
	}
}

// TestDuplicatesR3: of many letters in flight at a kill none is there twice,
// and each is with all of its recipients or with none.
func TestDuplicatesR3(t *testing.T) {
	c := newCrashLoop(t, crashConfig, "alice/INBOX", "bob/INBOX")
	c.run(rounds(t, 5, 1000), slices.Repeat([]worker{sendMail}, 16)...)
}
