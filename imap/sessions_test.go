package imap

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"postrider/mailstore"
)

// client is a mail program in small: it keeps a picture of the mailbox from
// what the server says unasked, and complains when that does not fit.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	tag  int
	view []known
	all  []string // untagged lines of the last command

	qresync bool   // VANISHED is enabled
	modseq  uint64 // the highest that was told
}

// known is what the client knows of a message.
type known struct {
	uid   int    // 0 = not told yet
	flags string // sorted; "?" = not told yet
}

func (w *world) client(mailbox string) *client {
	w.t.Helper()
	c := w.connect()
	c.ok("LOGIN bob hungry")
	c.ok("SELECT " + mailbox)
	return c
}

func (w *world) connect() *client {
	conn := w.dial()
	w.t.Cleanup(func() { conn.Close() })
	c := &client{t: w.t, conn: conn, r: bufio.NewReader(conn)}
	c.line()
	return c
}

// line reads a line with the literals in it.
func (c *client) line() string {
	var b strings.Builder
	for {
		s, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Errorf("read: %v (after %q)", err, b.String()+s)
			return b.String() + s
		}
		b.WriteString(s)
		m := literal.FindStringSubmatch(s)
		if m == nil {
			return strings.TrimSuffix(b.String(), "\r\n")
		}
		n, _ := strconv.Atoi(m[1])
		if _, err := io.CopyN(&b, c.r, int64(n)); err != nil {
			c.t.Errorf("literal: %v", err)
			return b.String()
		}
	}
}

var (
	literal  = regexp.MustCompile(`\{(\d+)\}\r\n$`)
	untagged = regexp.MustCompile(`(?s)^\* (\d+) (EXISTS|EXPUNGE|FETCH)(?: \((.*)\))?$`)
	uidItem  = regexp.MustCompile(`UID (\d+)`)
	flagItem = regexp.MustCompile(`FLAGS \(([^)]*)\)`)

	modseqItem = regexp.MustCompile(`MODSEQ \((\d+)\)`)
)

// do runs a command and returns its tagged answer.
func (c *client) do(command string) string {
	c.tag++
	tag := fmt.Sprintf("t%d ", c.tag)
	if _, err := io.WriteString(c.conn, tag+command+"\r\n"); err != nil {
		c.t.Errorf("%s: %v", command, err)
		return ""
	}
	c.all = nil
	for {
		line := c.line()
		if answer, ok := strings.CutPrefix(line, tag); ok || line == "" {
			return answer
		}
		c.all = append(c.all, line)
		c.hear(command, line)
	}
}

func (c *client) ok(command string) {
	c.t.Helper()
	if answer := c.do(command); !strings.HasPrefix(answer, "OK") {
		c.t.Errorf("%s: %s", command, answer)
	}
}

// hear updates the picture.
func (c *client) hear(command, line string) {
	if set, ok := strings.CutPrefix(line, "* VANISHED "); ok {
		c.vanish(command, set)
		return
	}
	m := untagged.FindStringSubmatch(line)
	if m == nil {
		return
	}
	n, _ := strconv.Atoi(m[1])
	switch {
	case m[2] == "EXPUNGE" && c.qresync:
		c.t.Errorf("%s: %s, and QRESYNC is enabled", command, line)
	case m[2] == "EXISTS":
		if n < len(c.view) {
			c.t.Errorf("%s: %s, but there were %d", command, line, len(c.view))
			return
		}
		for len(c.view) < n {
			c.view = append(c.view, known{flags: "?"})
		}
	case n < 1 || n > len(c.view):
		c.t.Errorf("%s: %s of %d", command, line, len(c.view))
	case m[2] == "EXPUNGE":
		if verb, _, _ := strings.Cut(command, " "); verb == "FETCH" || verb == "STORE" || verb == "SEARCH" {
			c.t.Errorf("%s: %s", command, line)
		}
		c.view = slices.Delete(c.view, n-1, n)
	default:
		c.hearFetch(command, &c.view[n-1], m[3])
	}
}

func (c *client) hearFetch(command string, k *known, items string) {
	if m := uidItem.FindStringSubmatch(items); m != nil {
		uid, _ := strconv.Atoi(m[1])
		if k.uid != 0 && k.uid != uid {
			c.t.Errorf("%s: UID %d where %d was", command, uid, k.uid)
		}
		k.uid = uid
	}
	if m := flagItem.FindStringSubmatch(items); m != nil {
		f := strings.Fields(m[1])
		slices.Sort(f)
		k.flags = strings.Join(f, " ")
	}
	if m := modseqItem.FindStringSubmatch(items); m != nil {
		n, _ := strconv.ParseUint(m[1], 10, 64)
		c.modseq = max(c.modseq, n)
	} else if c.qresync && !strings.HasPrefix(command, "FETCH") && strings.Contains(items, "FLAGS") {
		c.t.Errorf("%s: %s without MODSEQ", command, items)
	}
}

// vanish takes messages by UID out of the picture.
func (c *client) vanish(command, set string) {
	if verb, _, _ := strings.Cut(command, " "); verb == "FETCH" || verb == "STORE" || verb == "SEARCH" || !c.qresync {
		c.t.Errorf("%s: VANISHED %s", command, set)
	}
	for _, r := range strings.Split(set, ",") {
		first, last, ranged := strings.Cut(r, ":")
		from, _ := strconv.Atoi(first)
		to := from
		if ranged {
			to, _ = strconv.Atoi(last)
		}
		for uid := from; uid <= to; uid++ {
			i := slices.IndexFunc(c.view, func(k known) bool { return k.uid == uid })
			if i < 0 { // one of those that came since, whose UIDs the client has not asked for
				above := slices.IndexFunc(c.view, func(k known) bool { return k.uid > uid })
				if above < 0 {
					above = len(c.view)
				}
				if above > 0 && c.view[above-1].uid == 0 { // it stands right before those
					i = above - 1
				}
			}
			if i < 0 {
				c.t.Errorf("%s: UID %d vanished, of which the client does not know", command, uid)
				return
			}
			c.view = slices.Delete(c.view, i, i+1)
		}
	}
}

// enableQresync makes the client one that goes by UIDs.
func (c *client) enableQresync() *client {
	c.ok("ENABLE QRESYNC")
	c.qresync = true
	c.learn()
	return c
}

// learn asks for the UIDs that are not known.
func (c *client) learn() {
	if slices.ContainsFunc(c.view, func(k known) bool { return k.uid == 0 }) {
		c.do("NOOP")
		c.do("FETCH 1:* (UID FLAGS)") // NO where one is gone already
	}
}

// check compares the picture with what the server has.
func (c *client) check() {
	c.t.Helper()
	c.ok("NOOP")
	before := slices.Clone(c.view)
	c.ok("FETCH 1:* (UID FLAGS)")
	for i, k := range c.view {
		if i < len(before) && before[i].flags != "?" && before[i].flags != k.flags {
			c.t.Errorf("UID %d has flags %q, the client was told %q", k.uid, k.flags, before[i].flags)
		}
	}
}

// step does something at random.
func (c *client) step(r *rand.Rand) {
	n := len(c.view)
	flag := []string{`\Seen`, `\Flagged`, `\Deleted`, "Work", "$Junk"}[r.IntN(5)]
	silent := []string{"", ".SILENT"}[r.IntN(2)]
	sign := []string{"+", "-", ""}[r.IntN(3)]
	switch op := r.IntN(12); {
	case op == 0 || n == 0:
		c.do("APPEND INBOX (" + flag + ") {5+}\r\nhello")
	case op < 5:
		c.store(1+r.IntN(n), 1+r.IntN(n), sign, silent, flag)
	case op < 6:
		c.store(1+r.IntN(n), n, "+", silent, `\Deleted`)
	case op < 7:
		c.do("EXPUNGE")
	case op < 8:
		c.do(fmt.Sprintf("COPY %d INBOX", 1+r.IntN(n)))
	case op < 9:
		c.do(fmt.Sprintf("MOVE %d INBOX", 1+r.IntN(n)))
	case op < 10:
		c.do(fmt.Sprintf("FETCH %d (UID BODY[])", 1+r.IntN(n)))
	case op < 11:
		c.do("NOOP")
	default:
		c.do("SEARCH SEEN")
	}
	if c.qresync {
		c.learn()
	}
}

// store changes a flag. Of a silent change the server says nothing, so that the
// client has to know itself.
func (c *client) store(from, to int, sign, silent, flag string) {
	if from > to {
		from, to = to, from
	}
	for i := from - 1; silent != "" && i < to; i++ {
		k := &c.view[i]
		have := strings.Fields(k.flags)
		has := slices.Contains(have, flag)
		switch {
		case sign == "":
			k.flags = flag
		case k.flags == "?":
		case sign == "+" && !has:
			have = append(have, flag)
			slices.Sort(have)
			k.flags = strings.Join(have, " ")
		case sign == "-" && has:
			k.flags = strings.Join(slices.DeleteFunc(have, func(f string) bool { return f == flag }), " ")
		}
	}
	c.do(fmt.Sprintf("STORE %d:%d %sFLAGS%s (%s)", from, to, sign, silent, flag))
}

// TestSessionsAgree: whatever several sessions do to one mailbox, one after the
// other, each client's picture stays right.
func TestSessionsAgree(t *testing.T) {
	for seed := range uint64(40) {
		w := newWorld(t, nil)
		w.deliver("bob", "INBOX", []byte("Subject: x\r\n\r\nhello\r\n"), mailstore.Flags{}, 5)
		clients := []*client{w.client("INBOX"), w.client("INBOX"), w.client("INBOX").enableQresync()}
		r := rand.New(rand.NewPCG(seed, 1))
		for range 60 {
			clients[r.IntN(len(clients))].step(r)
		}
		checkAll(t, clients)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestSessionsAtOnce does the same at the same time.
func TestSessionsAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("bob", "INBOX", []byte("Subject: x\r\n\r\nhello\r\n"), mailstore.Flags{}, 20)
	clients := []*client{w.client("INBOX"), w.client("INBOX"), w.client("INBOX").enableQresync(), w.client("INBOX").enableQresync()}
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 2))
			for range 150 {
				c.step(r)
			}
		})
	}
	wg.Wait()
	checkAll(t, clients)
}

func checkAll(t *testing.T, clients []*client) {
	t.Helper()
	for _, c := range clients {
		c.check()
	}
	for _, c := range clients[1:] {
		if !slices.Equal(c.view, clients[0].view) {
			t.Errorf("one session sees %v, another %v", clients[0].view, c.view)
		}
	}
}
