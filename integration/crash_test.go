package integration

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// rounds is how often a crash test kills the server: a few in a normal run, all
// of the gate by "make torture".
func rounds(t testing.TB, few, all int) int {
	t.Helper()
	n := few
	if os.Getenv("POSTRIDER_TORTURE") != "" {
		n = all
	}
	if text := os.Getenv("ROUNDS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatalf("ROUNDS: %v", err)
		}
	}
	return n
}

// nowhere is the place of a message that is not there.
const nowhere = ""

// fact is what is known of one copy of a message: where it may be, and which
// keyword it may carry. There is more than one answer only while an operation
// on it is not acknowledged.
type fact struct {
	id       string
	sum      [sha256.Size]byte
	size     int
	places   []string // "user/mailbox" or nowhere
	keywords []string // "" = none
	// together, where set, names the commit that has to take all or none of
	// its messages from where they were before.
	together string
	before   string
	uid      uint32 // where it was last acknowledged; 0 = unknown
	seen     bool   // set anew in each verification
}

// book is what the clients of all rounds know.
type book struct {
	mu     sync.Mutex
	facts  map[string]*fact // by id and user
	boxes  map[string]*boxFact
	acked  map[string]int // acknowledged operations by kind
	serial int
	// dark: the power is going; what is acknowledged from now on does not count.
	dark bool
}

// boxFact is what is known of a mailbox for ever.
type boxFact struct {
	validity string
	uids     map[uint32]string // every UID ever seen, and the message that has it
	last     uint32            // the highest in the last verification
}

func newBook() *book {
	return &book{facts: map[string]*fact{}, boxes: map[string]*boxFact{}, acked: map[string]int{}}
}

func (b *book) setDark(dark bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dark = dark
}

func (b *book) isDark() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dark
}

// newID names a message.
func (b *book) newID() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.serial++
	return fmt.Sprintf("m%d", b.serial)
}

// begins notes that an operation on some messages was sent.
func (b *book) begins(facts []*fact, change func(*fact)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range facts {
		change(f)
	}
}

// ends notes that it was acknowledged.
func (b *book) ends(kind string, facts []*fact, change func(*fact)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dark {
		return
	}
	b.acked[kind]++
	for _, f := range facts {
		change(f)
	}
}

// takes notes that a UID belongs to a message; it may never belong to another.
func (b *book) takes(place string, uid uint32, id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dark {
		return nil
	}
	return b.takesLocked(place, uid, id)
}

func (b *book) takesLocked(place string, uid uint32, id string) error {
	box := b.boxes[place]
	if box == nil {
		box = &boxFact{uids: map[uint32]string{}}
		b.boxes[place] = box
	}
	if had := box.uids[uid]; had != "" && had != id {
		return fmt.Errorf("UID %d of %s was %s and is %s", uid, place, had, id)
	}
	box.uids[uid] = id
	return nil
}

// text makes a message of about size octets that names itself, and its fact.
func (b *book) text(id string, size int) (string, *fact) {
	text := letter("alice@crepes.fr", "bob@"+hostname, id, strings.TrimSuffix(strings.Repeat(".dots and text of "+id+"\r\n", max(1, size/26)), "\r\n"))
	return text, &fact{id: id, sum: sha256.Sum256([]byte(text)), size: len(text), keywords: []string{""}}
}

func (b *book) add(key string, f *fact) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.facts[key] = f
}

// crashLoop starts a server, lets workers change mail, kills it at a random
// instant, and holds what is there after a new start against what they were told.
type crashLoop struct {
	t     *testing.T
	s     *server
	rng   *rand.Rand
	book  *book
	boxes []string // "user/mailbox" to verify
	// blackout is what comes before the kill, where it is more than that: from
	// then on the server may refuse.
	blackout func()
	remount  func() // after the kill
}

func newCrashLoop(t *testing.T, config string, boxes ...string) *crashLoop {
	t.Helper()
	return crashLoopOn(t, prepare(t, options{plain: true, quiet: true, config: config}), boxes...)
}

// seeded is a source of chance whose seed is in the log, or in the environment.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// crashLoopOn is newCrashLoop for a server whose data directory is prepared.
func crashLoopOn(t *testing.T, s *server, boxes ...string) *crashLoop {
	t.Helper()
	s.init()
	s.mustWith(password+"\n", "user", "add", "carol@"+hostname, "--password-stdin")
	return &crashLoop{t: t, s: s, rng: seeded(t), book: newBook(), boxes: boxes}
}

// crashConfig takes limits away that would slow the workers.
const crashConfig = "[limits]\nmessages_per_minute = 0\nfailed_logins_per_minute = 0\n"

// worker changes mail until the connection breaks; it returns an error only for
// what is wrong, such as a refusal.
type worker func(c *crashLoop, rng *rand.Rand, stop <-chan struct{}) error

// round is one life of the server: work until the kill.
func (c *crashLoop) round(workers []worker) {
	c.t.Helper()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	errs := make(chan error, len(workers))
	for _, w := range workers {
		rng := rand.New(rand.NewPCG(c.rng.Uint64(), 2))
		wg.Go(func() {
			err := w(c, rng, stop)
			if c.book.isDark() {
				err = nil
			}
			errs <- err
		})
	}
	// The workers log in first, which takes about this long.
	life := 100*time.Millisecond + time.Duration(c.rng.IntN(500))*time.Millisecond
	select {
	case <-time.After(life):
	case <-c.s.done:
		c.t.Errorf("the server ended by itself: %v\n%s", c.s.end, c.s.err)
	}
	if c.blackout != nil {
		c.book.setDark(true)
		c.blackout()
	}
	c.s.kill()
	if c.remount != nil {
		c.remount()
	}
	close(stop)
	wg.Wait()
	c.book.setDark(false)
	close(errs)
	for err := range errs {
		if err != nil {
			c.t.Fatalf("%v\n%s", err, c.s.err)
		}
	}
}

// restart starts the server again; now and then it is killed in its start too.
func (c *crashLoop) restart() {
	c.t.Helper()
	if c.rng.IntN(4) == 0 {
		c.s.startAndKill(time.Duration(c.rng.IntN(60)) * time.Millisecond)
	}
	before := time.Now()
	c.s.start()
	if took := time.Since(before); took > 2*time.Second {
		c.t.Logf("ready after a crash in %v", took)
	}
}

// startAndKill starts the server and kills it before it is ready, or soon after.
func (s *server) startAndKill(life time.Duration) {
	s.t.Helper()
	cmd := s.command()
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	<-time.After(life)
	cmd.Process.Kill()
	cmd.Wait()
}

// lost tells whether an error is that of a connection to a killed server.
func lost(err error) bool {
	if err == nil {
		return false
	}
	_, no := err.(imapNo)
	return !no && !strings.Contains(err.Error(), "want ") && !strings.Contains(err.Error(), "-ERR")
}

// verify reads every mailbox and compares.
func (c *crashLoop) verify() {
	c.t.Helper()
	b := c.book
	for _, f := range b.facts {
		f.seen = false
	}
	for _, place := range c.boxes {
		user, mailbox, _ := strings.Cut(place, "/")
		im, err := imap(c.s.addr["imap"], user)
		if err != nil {
			c.t.Fatal(err)
		}
		if err := c.verifyBox(im, place, user, mailbox); err != nil {
			c.t.Errorf("%s: %v", place, err)
		}
		im.Close()
	}
	groups := map[string][]bool{}
	for key, f := range b.facts {
		if !f.seen {
			if !slices.Contains(f.places, nowhere) {
				c.t.Errorf("LOST: %s, which should be in one of %q", key, f.places)
			}
			f.places = []string{nowhere}
		}
		if f.together != "" {
			groups[f.together] = append(groups[f.together], f.places[0] == f.before)
			f.together = ""
		}
		if f.places[0] == nowhere {
			delete(b.facts, key) // its UID stays in the books
		}
	}
	for name, stayed := range groups {
		if slices.Contains(stayed, true) && slices.Contains(stayed, false) {
			c.t.Errorf("TORN: the commit %s took some of its messages and left others", name)
		}
	}
	if c.t.Failed() {
		c.t.FailNow()
	}
}

var (
	validityOf = regexp.MustCompile(`UIDVALIDITY (\d+)`)
	uidNextOf  = regexp.MustCompile(`UIDNEXT (\d+)`)
	uidOf      = regexp.MustCompile(`\bUID (\d+)`)
	flagsOf    = regexp.MustCompile(`FLAGS \(([^)]*)\)`)
	subjectOf  = regexp.MustCompile(`\r\nSubject: (m\d+)\r\n`)
	keywordOf  = regexp.MustCompile(`\bk\d+\b`)
)

func (c *crashLoop) verifyBox(im *talk, place, user, mailbox string) error {
	selected, err := im.imapAsk("EXAMINE " + mailbox)
	if err != nil {
		return err
	}
	joined := strings.Join(selected, "\n")
	validity, next := validityOf.FindStringSubmatch(joined), uidNextOf.FindStringSubmatch(joined)
	if validity == nil || next == nil {
		return fmt.Errorf("EXAMINE says %s", joined)
	}
	c.book.mu.Lock()
	defer c.book.mu.Unlock()
	box := c.book.boxes[place]
	if box == nil {
		box = &boxFact{uids: map[uint32]string{}}
		c.book.boxes[place] = box
	}
	if box.validity == "" {
		box.validity = validity[1]
	}
	if box.validity != validity[1] {
		return fmt.Errorf("UIDVALIDITY changed from %s to %s", box.validity, validity[1])
	}
	fetched, err := im.imapAsk("UID FETCH 1:* (FLAGS BODY.PEEK[])")
	if err != nil {
		return err
	}
	known, highest := box.last, box.last
	for _, response := range fetched[:len(fetched)-1] {
		uid, err := c.verifyMessage(box, known, place, user, response)
		if err != nil {
			c.t.Errorf("%s: %v", place, err)
		}
		highest = max(highest, uid)
	}
	for uid := range box.uids {
		highest = max(highest, uid)
	}
	if n, err := strconv.ParseUint(next[1], 10, 32); err != nil || uint32(n) <= highest {
		return fmt.Errorf("UIDNEXT is %s, and UID %d was given out", next[1], highest)
	}
	box.last = highest
	return nil
}

// verifyMessage checks one FETCH response. known is the highest UID of the last
// verification: a message that was not there then has a higher one.
func (c *crashLoop) verifyMessage(box *boxFact, known uint32, place, user, response string) (uint32, error) {
	if !strings.Contains(response, "BODY[]") {
		return 0, nil
	}
	uid, subject := uidOf.FindStringSubmatch(response), subjectOf.FindStringSubmatch(response)
	if uid == nil || subject == nil {
		return 0, fmt.Errorf("a message that nobody sent: %.300q", response)
	}
	n, err := strconv.ParseUint(uid[1], 10, 32)
	if err != nil {
		return 0, err
	}
	id := subject[1]
	f := c.book.facts[id+"/"+user]
	switch {
	case f == nil:
		return uint32(n), fmt.Errorf("%s (UID %d) is there, and should not be", id, n)
	case f.seen:
		return uint32(n), fmt.Errorf("DUPLICATE: %s, again as UID %d", id, n)
	case !slices.Contains(f.places, place):
		return uint32(n), fmt.Errorf("%s is in %s and should be in one of %q", id, place, f.places)
	}
	f.seen = true
	if box.uids[uint32(n)] == "" && uint32(n) <= known {
		return uint32(n), fmt.Errorf("%s has UID %d, and %d was given out before", id, n, known)
	}
	if err := c.book.takesLocked(place, uint32(n), id); err != nil {
		return uint32(n), err
	}
	_, literal, _ := strings.Cut(response, "BODY[] {")
	size, text, _ := strings.Cut(literal, "}\r\n")
	octets, err := strconv.Atoi(size)
	if err != nil || octets > len(text) || octets < f.size {
		return uint32(n), fmt.Errorf("%s has %s octets, and was sent with %d", id, size, f.size)
	}
	if sha256.Sum256([]byte(text[octets-f.size:octets])) != f.sum {
		return uint32(n), fmt.Errorf("TORN: %s differs from what was sent", id)
	}
	// Flags stand before or behind the body.
	outside := response[:len(response)-len(literal)] + text[octets:]
	keyword := keywordOf.FindString(strings.Join(flagsOf.FindStringSubmatch(outside), " "))
	if !slices.Contains(f.keywords, keyword) {
		return uint32(n), fmt.Errorf("LOST: %s has the keyword %q and should have one of %q", id, keyword, f.keywords)
	}
	f.places, f.keywords, f.uid = []string{place}, []string{keyword}, uint32(n)
	return uint32(n), nil
}

// prune empties a mailbox that became large, by an acknowledged EXPUNGE.
func (c *crashLoop) prune(place string, most int) {
	c.t.Helper()
	var here []*fact
	for _, f := range c.book.facts {
		if f.places[0] == place {
			here = append(here, f)
		}
	}
	if len(here) <= most {
		return
	}
	user, mailbox, _ := strings.Cut(place, "/")
	im, err := imap(c.s.addr["imap"], user)
	if err != nil {
		c.t.Fatal(err)
	}
	defer im.Close()
	for _, command := range []string{"SELECT " + mailbox, `STORE 1:* +FLAGS.SILENT (\Deleted)`, "EXPUNGE"} {
		if _, err := im.imapAsk(command); err != nil {
			c.t.Fatal(err)
		}
	}
	c.book.ends("EXPUNGE of a mailbox", here, func(f *fact) { f.places = []string{nowhere} })
}

// run runs all rounds.
func (c *crashLoop) run(n int, workers ...worker) {
	c.t.Helper()
	c.s.start()
	for i := range n {
		c.round(workers)
		c.restart()
		c.verify()
		for _, place := range c.boxes {
			c.prune(place, 400)
		}
		if (i+1)%100 == 0 {
			c.t.Logf("%d rounds: %v", i+1, c.book.acked)
		}
	}
	c.verify() // what prune deleted is gone for ever
	total := 0
	for _, n := range c.book.acked {
		total += n
	}
	c.t.Logf("%d rounds, %d acknowledged operations, none lost, torn or doubled: %v", n, total, c.book.acked)
	c.s.stop()
	if total < 20*n {
		c.t.Errorf("only %d acknowledged operations in %d rounds", total, n)
	}
}
