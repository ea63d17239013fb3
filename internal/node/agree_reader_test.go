package node

import (
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing/synctest"
)

// line collects what comes on a connection. The steps of a play run one after the
// other, so that all that the server has to say is there when nobody moves.
type line struct {
	conn net.Conn
	log  func(format string, args ...any)
	name string

	mu  sync.Mutex
	buf []byte
	end error
}

func (w *town) line(door, name string, log func(format string, args ...any)) *line {
	l := &line{conn: w.dial(door), name: name, log: log}
	go func() {
		room := make([]byte, 4096)
		for {
			n, err := l.conn.Read(room)
			l.mu.Lock()
			l.buf = append(l.buf, room[:n]...)
			l.end = err
			l.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return l
}

// say sends and waits until nobody moves.
func (l *line) say(text string) {
	l.send(text)
	synctest.Wait()
}

func (l *line) send(text string) {
	l.log("%s> %s", l.name, strings.TrimSuffix(text, "\r\n"))
	if _, err := l.conn.Write([]byte(text)); err != nil {
		l.log("%s: %v", l.name, err)
	}
}

// hear is what has come: lines, with the literals in them.
func (l *line) hear() []string {
	synctest.Wait()
	l.mu.Lock()
	text := string(l.buf)
	l.buf = nil
	l.mu.Unlock()
	var lines []string
	for text != "" {
		n := 0
		for {
			i := strings.Index(text[n:], "\r\n")
			if i < 0 {
				l.log("%s: half a line: %q", l.name, text)
				return lines
			}
			n += i + 2
			m := literalEnd.FindStringSubmatch(text[:n])
			if m == nil {
				break
			}
			size, _ := strconv.Atoi(m[1])
			n += size
		}
		lines = append(lines, strings.TrimSuffix(text[:n], "\r\n"))
		if last := lines[len(lines)-1]; !strings.Contains(last, "[CAPABILITY") {
			l.log("%s< %s", l.name, last)
		}
		text = text[n:]
	}
	return lines
}

var (
	literalEnd = regexp.MustCompile(`\{(\d+)\}\r\n$`)
	numberedIn = regexp.MustCompile(`(?s)^\* (\d+) (EXISTS|EXPUNGE|FETCH|UIDFETCH)(?: \((.*)\))?$`)
	uidIn      = regexp.MustCompile(`UID (\d+)`)
	flagsIn    = regexp.MustCompile(`FLAGS \(([^)]*)\)`)
	modseqIn   = regexp.MustCompile(`MODSEQ \((\d+)\)`)
	codeIn     = regexp.MustCompile(`^\* OK \[(HIGHESTMODSEQ|UIDVALIDITY|MAILBOXID) \(?(\w+)\)?\]`)
	statusIn   = regexp.MustCompile(`^\* STATUS (\S+) \((.*)\)$`)
	listIn     = regexp.MustCompile(`^\* LIST \(([^)]*)\) "/" (\S+)(?: \("OLDNAME" \((\S+)\)\))?$`)
	copiedIn   = regexp.MustCompile(`\[COPYUID (\d+) (\S+) (\S+)\]`)
	modifiedIn = regexp.MustCompile(`\[MODIFIED ([0-9,:]+)\]`)
)

// numbersOf lists the numbers of a set.
func numbersOf(set string) []int {
	var list []int
	for _, r := range strings.Split(set, ",") {
		lo, hi, two := strings.Cut(r, ":")
		first, _ := strconv.Atoi(lo)
		last := first
		if two {
			last, _ = strconv.Atoi(hi)
		}
		for i := first; i <= last; i++ {
			list = append(list, i)
		}
	}
	return list
}

// setOf writes a set.
func setOf(list []int) string {
	var b strings.Builder
	for i, n := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(n))
	}
	return b.String()
}

// What NOTIFY tells of the selected mailbox.
type telling int

const (
	atCommands telling = iota // no NOTIFY: as in the base protocol
	atOnce                    // SELECTED
	delayed                   // SELECTED-DELAYED
	flagless                  // SELECTED without FlagChange
	nothing                   // NOTIFY NONE
)

// known is what a client knows of a message.
type known struct {
	uid    int    // 0 = not told yet
	flags  string // "?" = not told yet
	modseq uint64 // 0 = not told yet
}

// kept is what a client keeps of a mailbox that it left, to synchronise again.
type kept struct {
	id       string
	validity string
	safe     uint64
	view     []known
}

// mail is a mail program in small: it keeps a picture of the mailbox from what
// the server says, and nothing else, and complains when that does not fit.
type mail struct {
	*line
	wrong func(format string, args ...any)
	tag   int

	condstore, qresync, uidonly bool
	telling                     telling
	idle                        bool

	box      string // id of the selected mailbox; "" for none
	name     string // when it was selected
	validity string
	readOnly bool
	view     []known
	safe     uint64       // all changes up to here are known (RFC 7162 section 6)
	fetched  map[int]bool // UIDs whose flags were told in this command
	earlier  []int        // that vanished before
	kept     map[string]*kept
	contexts map[string]*followed // by tag
	found    []int                // of the last ESEARCH
	copied   string               // of the last COPYUID

	watching bool             // NOTIFY for all mailboxes
	told     map[string]*told // of them, by name
}

// told is what NOTIFY said of a mailbox. -1 is not known.
type told struct{ messages, next, unseen, modseq int }

// do runs a command and returns its tagged answer.
func (c *mail) do(command string) string {
	c.begin(command)
	return c.finish(command)
}

// begin sends a command; finish takes what it was answered with.
func (c *mail) begin(command string) {
	c.tag++
	c.fetched, c.found, c.earlier = make(map[int]bool), nil, nil
	c.send(fmt.Sprintf("%s%d %s\r\n", c.line.name, c.tag, command))
}

func (c *mail) finish(command string) string {
	tag := fmt.Sprintf("%s%d ", c.line.name, c.tag)
	answer, answered := "", false
	for _, line := range c.hear() {
		switch text, mine := strings.CutPrefix(line, tag); {
		case mine && !answered:
			answer, answered = text, true
			c.hearCode(text)
		case answered:
			c.listen("", line)
		default:
			c.listen(command, line)
		}
	}
	if !answered {
		c.wrong("%s: no answer to %s", c.line.name, command)
	}
	return answer
}

func (c *mail) ok(command string) {
	if answer := c.do(command); !strings.HasPrefix(answer, "OK") {
		c.wrong("%s: %s: %s", c.line.name, command, answer)
	}
}

// overhear takes what comes without a command. Nothing may where none was asked
// for.
func (c *mail) overhear() {
	lines := c.hear()
	if len(lines) > 0 && !c.idle && c.telling == atCommands && !c.watching {
		c.wrong("%s was told %q unasked", c.line.name, lines)
	}
	c.fetched = make(map[int]bool)
	for _, line := range lines {
		c.listen("", line)
	}
}

// hearCode looks at the code of a tagged OK.
func (c *mail) hearCode(answer string) {
	var n uint64
	if _, err := fmt.Sscanf(answer, "OK [HIGHESTMODSEQ %d", &n); err == nil {
		c.safe = n
	}
	if m := copiedIn.FindStringSubmatch(answer); m != nil {
		c.copied = fmt.Sprint(m[1], numbersOf(m[2]), numbersOf(m[3]))
	}
}

// pins tells whether message numbers must stay while something is told.
func (c *mail) pins(command string) bool {
	verb, _, _ := strings.Cut(command, " ")
	if command == "" {
		return !c.idle && c.telling != atOnce && c.telling != flagless
	}
	return slices.Contains([]string{"FETCH", "STORE", "SEARCH", "SORT", "THREAD"}, verb)
}

// listen updates the picture.
func (c *mail) listen(command, line string) {
	for _, f := range c.contexts {
		f.apply(c, line)
	}
	if m := numberedIn.FindStringSubmatch(line); m != nil {
		c.numbered(command, line, m)
		return
	}
	if set, ok := strings.CutPrefix(line, "* VANISHED (EARLIER) "); ok {
		c.earlier = append(c.earlier, numbersOf(set)...)
		return
	}
	if set, ok := strings.CutPrefix(line, "* VANISHED "); ok {
		c.vanish(command, numbersOf(set))
		return
	}
	if m := codeIn.FindStringSubmatch(line); m != nil {
		switch m[1] {
		case "HIGHESTMODSEQ":
			c.safe, _ = strconv.ParseUint(m[2], 10, 64)
		case "UIDVALIDITY":
			c.validity = m[2]
		default:
			c.box = m[2]
		}
		return
	}
	if strings.HasPrefix(line, "* OK [COPYUID ") {
		c.hearCode(line)
	}
	if m := statusIn.FindStringSubmatch(line); m != nil {
		c.status(strings.Trim(m[1], `"`), m[2])
	}
	if m := listIn.FindStringSubmatch(line); m != nil {
		c.listed(m[1], strings.Trim(m[2], `"`), strings.Trim(m[3], `"`))
	}
	if strings.HasPrefix(line, "* ESEARCH (TAG ") && !contextIn.MatchString(line) {
		if _, set, ok := strings.Cut(line, " ALL "); ok {
			c.found = numbersOf(set)
		}
	}
	if strings.HasPrefix(line, "* BYE") {
		c.wrong("%s: %s", c.line.name, line)
	}
}

func (c *mail) numbered(command, line string, m []string) {
	n, _ := strconv.Atoi(m[1])
	switch what := m[2]; {
	case what == "EXISTS" && (n < len(c.view) || c.telling == nothing && !slices.Contains([]string{"SELECT", "EXAMINE", "NOTIFY"}, strings.Split(command, " ")[0])):
		c.wrong("%s: %s: %s, but there were %d", c.line.name, command, line, len(c.view))
	case what == "EXISTS":
		for len(c.view) < n {
			c.view = append(c.view, known{flags: "?"})
		}
	case c.uidonly != (what == "UIDFETCH"), what == "EXPUNGE" && c.qresync:
		c.wrong("%s: %s: %s in spite of UIDONLY or QRESYNC", c.line.name, command, line)
	case what == "UIDFETCH":
		if i := c.place(n); i < 0 {
			c.wrong("%s: %s: %s, of which the client does not know", c.line.name, command, line)
		} else {
			c.view[i].uid = n
			c.learnFetch(command, &c.view[i], m[3])
		}
	case n < 1 || n > len(c.view):
		c.wrong("%s: %s: %s of %d", c.line.name, command, line, len(c.view))
	case what == "EXPUNGE":
		if c.pins(command) {
			c.wrong("%s: %s: %s", c.line.name, command, line)
		}
		c.lose(n - 1)
	default:
		c.learnFetch(command, &c.view[n-1], m[3])
	}
}

// place finds a UID among the messages, or where it has to be: -1 for nowhere.
// Without message numbers those that are not known stand at the end.
func (c *mail) place(uid int) int {
	if i := slices.IndexFunc(c.view, func(k known) bool { return k.uid == uid }); i >= 0 {
		return i
	}
	above := slices.IndexFunc(c.view, func(k known) bool { return k.uid > uid || c.uidonly && k.uid == 0 })
	if above < 0 {
		above = len(c.view)
	}
	if c.uidonly {
		last := len(c.view) - 1
		if last < 0 || c.view[last].uid != 0 {
			return -1
		}
		c.view = slices.Insert(c.view[:last], above, known{flags: "?"})
		return above
	}
	if above > 0 && c.view[above-1].uid == 0 {
		return above - 1
	}
	return -1
}

func (c *mail) learnFetch(command string, k *known, items string) {
	if m := uidIn.FindStringSubmatch(items); m != nil {
		uid, _ := strconv.Atoi(m[1])
		if k.uid != 0 && k.uid != uid {
			c.wrong("%s: %s: UID %d where %d was", c.line.name, command, uid, k.uid)
		}
		k.uid = uid
	}
	asked := strings.Contains(command, "FETCH") && strings.Contains(command, "FLAGS")
	if m := modseqIn.FindStringSubmatch(items); m != nil {
		k.modseq, _ = strconv.ParseUint(m[1], 10, 64)
		c.safe = max(c.safe, k.modseq)
	} else if c.condstore && !asked && strings.Contains(items, "FLAGS") {
		c.wrong("%s: %s: %s without MODSEQ", c.line.name, command, items)
	} else if strings.Contains(items, "FLAGS") {
		k.modseq = 0
	}
	if m := flagsIn.FindStringSubmatch(items); m != nil {
		k.flags = words(strings.Fields(m[1]))
		c.fetched[k.uid] = true
	}
}

// vanish takes messages by UID out of the picture.
func (c *mail) vanish(command string, uids []int) {
	if c.pins(command) || !c.qresync && !c.uidonly {
		c.wrong("%s: %s: VANISHED %v", c.line.name, command, uids)
	}
	for _, uid := range uids {
		i := c.place(uid)
		if i < 0 {
			c.wrong("%s: %s: UID %d vanished, of which the client does not know", c.line.name, command, uid)
			return
		}
		c.lose(i)
	}
}

// lose takes a message out of the picture, and out of the results that go by
// numbers.
func (c *mail) lose(i int) {
	c.view = slices.Delete(c.view, i, i+1)
	for _, f := range c.contexts {
		f.lose(c, i+1)
	}
}

// status is what STATUS says, asked for or not.
func (c *mail) status(name, items string) {
	if c.told == nil {
		return
	}
	t := c.told[name]
	if t == nil {
		t = &told{-1, -1, -1, -1}
		c.told[name] = t
	}
	f := strings.Fields(items)
	for i := 0; i+1 < len(f); i += 2 {
		n, _ := strconv.Atoi(f[i+1])
		switch f[i] {
		case "MESSAGES":
			t.messages = n
		case "UIDNEXT":
			t.next = n
		case "UNSEEN":
			t.unseen = n
		case "HIGHESTMODSEQ":
			t.modseq = n
		}
	}
}

// listed is LIST as NOTIFY tells it.
func (c *mail) listed(attributes, name, oldName string) {
	if c.told == nil {
		return
	}
	if oldName != "" {
		for _, have := range slices.Sorted(maps.Keys(c.told)) {
			if have == oldName || strings.HasPrefix(have, oldName+"/") {
				t := c.told[have]
				delete(c.told, have)
				c.told[name+strings.TrimPrefix(have, oldName)] = t
			}
		}
	}
	switch {
	case strings.Contains(attributes, `\NonExistent`):
		delete(c.told, name)
	case c.told[name] == nil:
		c.told[name] = &told{0, -1, -1, -1}
	}
}

// followed is the result of a search that the server keeps up to date.
type followed struct {
	tag, key string
	byUID    bool
	numbers  map[int]bool
}

var contextIn = regexp.MustCompile(`(ADDTO|REMOVEFROM) \(0 ([0-9:,]+)\)`)

// apply does what the server told.
func (f *followed) apply(c *mail, line string) {
	if !strings.HasPrefix(line, `* ESEARCH (TAG "`+f.tag+`")`) {
		return
	}
	for _, item := range contextIn.FindAllStringSubmatch(line, -1) {
		for _, n := range numbersOf(item[2]) {
			if f.numbers[n] == (item[1] == "ADDTO") {
				c.wrong("%s: %s: %s of %d in %v", c.line.name, f.key, item[1], n, slices.Sorted(maps.Keys(f.numbers)))
			}
			if item[1] == "ADDTO" {
				f.numbers[n] = true
			} else {
				delete(f.numbers, n)
			}
		}
	}
}

// lose is the expunge of message n.
func (f *followed) lose(c *mail, n int) {
	if f.byUID {
		return
	}
	if f.numbers[n] {
		c.wrong("%s: %s: %d is expunged and in the result", c.line.name, f.key, n)
	}
	moved := make(map[int]bool)
	for have := range f.numbers {
		if have > n {
			have--
		}
		moved[have] = true
	}
	f.numbers = moved
}
