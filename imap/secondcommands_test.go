package imap

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var uidOf = regexp.MustCompile(`UID "(\d+)"`)

var tellingCode = regexp.MustCompile(`\[(COPYUID|APPENDUID) \d+ ([^\]]*)\]|\[(TRYCREATE)\]`)

// normalised writes what a server answered in one way: what a client is told, not how.
func normalised(answer string, lines []string) string {
	var out []string
	for _, line := range append(slices.Clone(lines), answer) {
		if m := tellingCode.FindStringSubmatch(line); m != nil && m[1] != "" {
			out = append(out, m[1]+" "+numbersIn(m[2]))
		} else if m != nil {
			out = append(out, m[3])
		}
		rest, ok := strings.CutPrefix(line, "* ")
		if !ok {
			continue
		}
		switch f := strings.Fields(rest); {
		case f[0] == "SEARCH":
			slices.Sort(f[1:])
			out = append(out, strings.Join(f, " "))
		case f[0] == "ESEARCH":
			out = append(out, esearched(rest))
		case f[0] == "STATUS":
			name, list := parseSaid(strings.TrimPrefix(rest, "STATUS "))
			items, _ := parseSaid(list)
			var pairs []string
			for i := 0; i+1 < len(items.list); i += 2 {
				if items.list[i].word != "UIDVALIDITY" {
					pairs = append(pairs, items.list[i].word+" "+items.list[i+1].word)
				}
			}
			slices.Sort(pairs)
			out = append(out, "STATUS "+name.word+" "+strings.Join(pairs, " "))
		case f[0] == "LIST", f[0] == "LSUB":
			_, rest := parseSaid(rest[5:]) // theirs knows few attributes
			_, rest = parseSaid(rest)
			name, _ := parseSaid(rest)
			out = append(out, f[0]+" "+name.word)
		}
	}
	slices.Sort(out)
	return answer[:2] + " " + strings.Join(out, "; ")
}

// esearched is an ESEARCH response without its tag.
func esearched(line string) string {
	_, rest, _ := strings.Cut(line, ")")
	f := strings.Fields(rest)
	for i := range f {
		if i > 0 && f[i-1] == "ALL" {
			f[i] = numbersIn(f[i])
		}
	}
	slices.Sort(f)
	return "ESEARCH " + strings.Join(f, " ")
}

// numbersIn writes the sets in a text number by number.
func numbersIn(text string) string {
	var b strings.Builder
	for _, set := range strings.Fields(text) {
		for _, r := range strings.Split(set, ",") {
			lo, hi, two := strings.Cut(r, ":")
			first, _ := strconv.Atoi(lo)
			last := first
			if two {
				last, _ = strconv.Atoi(hi)
			}
			for n := first; n <= last; n++ {
				fmt.Fprintf(&b, "%d,", n)
			}
		}
		b.WriteByte(' ')
	}
	return b.String()
}

// mailboxNow is all that a session sees of its mailbox.
func mailboxNow(c *client) string {
	answer := c.do("UID FETCH 1:* (FLAGS RFC822.SIZE)")
	var out []string
	for _, line := range c.all {
		rest, ok := strings.CutPrefix(line, "* ")
		if number, list, cut := strings.Cut(rest, " FETCH "); ok && cut {
			items, _ := parseSaid(list)
			var words []string
			for i := 0; i+1 < len(items.list); i += 2 {
				value := items.list[i+1]
				for j := range value.list {
					value.list[j].word = strings.ToLower(value.list[j].word)
				}
				slices.SortFunc(value.list, func(a, b said) int { return strings.Compare(a.word, b.word) })
				words = append(words, items.list[i].word+" "+value.String())
			}
			slices.Sort(words)
			out = append(out, number+" "+strings.Join(words, " "))
		}
	}
	return fmt.Sprintf("%.2s %s", answer, strings.Join(out, "\n"))
}

// sayings draws commands for the two.
type sayings struct {
	r        *rand.Rand
	selected string
	count    int // messages there, which both agree on
	uids     []string
}

func (g *sayings) pick(list ...string) string { return list[g.r.IntN(len(list))] }

func (g *sayings) name() string {
	return g.pick("INBOX", "INBOX", "Archive", "Sent", "new", "new/er", "other", "Junk")
}

// set is of message numbers, or of UIDs, which need not be there.
func (g *sayings) set(byUID bool) string {
	limit := g.count
	if byUID {
		limit += 10
	}
	one := func() string { return strconv.Itoa(1 + g.r.IntN(max(limit, 1))) }
	switch n := g.r.IntN(4); {
	case n == 0, n == 3 && byUID: // theirs does not know which UID is the last (RFC 9051 section 9, seq-number)
		return one()
	case n == 1:
		return one() + "," + one()
	case n == 2:
		return one() + ":" + one()
	}
	return one() + ":*"
}

// next is a command; "" where this one needs messages.
func (g *sayings) next() string {
	byUID := g.r.IntN(2) == 0
	prefix := ""
	if byUID {
		prefix = "UID "
	}
	flags := g.pick(`\Seen`, `\Flagged`, `\Deleted`, `\Answered \Draft`, "Work", `\Deleted`)
	switch k := g.r.IntN(20); {
	case g.selected == "" && k < 8 || k == 0:
		return g.pick("SELECT ", "SELECT ", "SELECT ", "EXAMINE ") + g.name()
	case k == 1:
		return "CREATE " + g.name()
	case k == 2:
		// Theirs forgets subscriptions of what is deleted (RFC 9051 section 6.3.7).
		// It makes no parents, and tells of none that is gone (sections 6.3.4, 6.3.5).
		return g.pick("RENAME other new/er", "RENAME new/er other", "DELETE "+g.pick("new/er", "other"), g.pick("SUBSCRIBE ", "UNSUBSCRIBE ")+g.pick("Junk", "Sent"))
	case k == 3:
		return "STATUS " + g.name() + g.pick(" (MESSAGES UIDNEXT UNSEEN)", " (MESSAGES)", " (SIZE)", " (UNSEEN DELETED)")
	case k == 4:
		return g.pick(`LIST "" *`, `LIST "" %`, `LIST "" "new/%"`, `LIST "" "%/%"`, `LIST "" "*e*"`, `LIST new/ "*"`, `LIST "" (INBOX "o*")`,
			`LIST "" % RETURN (STATUS (MESSAGES UNSEEN))`, `LIST (SUBSCRIBED) "" *`, `LSUB "" *`)
	case k < 8:
		text := g.pick("Subject: crepes\r\n\r\nbody\r\n", "From: alice@crepes.fr\r\nSubject: ketchup\r\n\r\nDo you like it?\r\n", "Date: Mon, 12 Oct 1998 15:27:39 +0200\r\n\r\nx")
		return fmt.Sprintf("APPEND %s (%s) \"%s\" {%d+}\r\n%s", g.name(), flags, g.pick("12-Oct-1998 13:27:39 +0000", "29-Feb-2024 23:30:00 +0000"), len(text), text)
	case g.selected == "":
		return "NOOP"
	case k < 10 && (g.count > 0 || byUID):
		return fmt.Sprintf("%sSTORE %s %sFLAGS%s (%s)", prefix, g.set(byUID), g.pick("+", "-", ""), g.pick("", ".SILENT"), flags)
	case k < 12 && g.count > 0:
		set := g.set(byUID)
		if byUID { // theirs breaks off at an empty COPYUID
			set += "," + g.pick(g.uids...)
		}
		return fmt.Sprintf("%s%s %s %s", prefix, g.pick("COPY", "MOVE"), set, g.name())
	case k == 12:
		return g.pick("EXPUNGE", "CLOSE", "UNSELECT", "UID EXPUNGE "+g.set(true))
	case k == 13 && g.count > 0:
		return fmt.Sprintf("FETCH %s (%s)", g.set(false), g.pick("FLAGS", "UID RFC822.SIZE", "INTERNALDATE", "BODY[TEXT]", "ALL", "FAST"))
	}
	return prefix + "SEARCH " + g.pick("", "", "", "RETURN () ", "RETURN (MIN MAX) ", "RETURN (COUNT ALL) ") + g.pick(g.key(0), g.key(0), g.key(0), "SMALLER 40") // which theirs forgets beside a date
}

// key is a search key.
func (g *sayings) key(depth int) string {
	if depth < 3 && g.r.IntN(3) == 0 {
		return g.pick("NOT "+g.key(depth+1), "OR "+g.key(depth+1)+" "+g.key(depth+1), "("+g.key(depth+1)+" "+g.key(depth+1)+")", g.key(depth+1)+" "+g.key(depth+1))
	}
	if g.count > 0 && g.r.IntN(8) == 0 {
		return g.set(false)
	}
	return g.pick("ALL", "SEEN", "UNSEEN", "FLAGGED", "UNFLAGGED", "DELETED", "UNDELETED", "ANSWERED", "DRAFT", "KEYWORD work", "UNKEYWORD Work",
		"SUBJECT CREPE", "FROM alice", `SUBJECT ""`, "BODY like", "TEXT ketchup", "HEADER Date 1998", `HEADER From ""`, "LARGER 40",
		"SINCE 13-Oct-1998", "BEFORE 13-Oct-1998", "ON 29-Feb-2024", "SENTSINCE 1-Oct-1998", "SENTON 12-Oct-1998", "UID "+g.set(true))
}

// TestSecondOpinionOnCommands: go-imap's server does what ours does, and says it.
// SEEDS=n plays so many, SEED=n one again.
func TestSecondOpinionOnCommands(t *testing.T) {
	first, last := uint64(1), uint64(25)
	for name, n := range map[string]*uint64{"SEEDS": &last, "SEED": &first} {
		if s := os.Getenv(name); s != "" {
			if _, err := fmt.Sscan(s, n); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	if os.Getenv("SEED") != "" {
		last = first
	}
	for seed := first; seed <= last; seed++ {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { compareCommands(t, seed) })
		if t.Failed() {
			return
		}
	}
}

func compareCommands(t *testing.T, seed uint64) {
	o := newOpinions(t)
	o.both("CREATE new")
	g := &sayings{r: rand.New(rand.NewPCG(seed, 3))}
	for range 100 {
		command := g.next()
		if differs(g, command) {
			continue
		}
		ours, theirs := o.both(command)
		x, y := normalised(ours, o.ours.all), normalised(theirs, o.theirs.all)
		if x != y {
			t.Fatalf("%s\n ours %s\n theirs %s\n ours %q\n theirs %q", command, x, y, append(o.ours.all, ours), append(o.theirs.all, theirs))
		}
		verb, _, _ := strings.Cut(command, " ")
		switch {
		case verb == "SELECT" || verb == "EXAMINE":
			g.selected = ""
			if strings.HasPrefix(ours, "OK") {
				g.selected = strings.Fields(command)[1]
			}
		case strings.HasPrefix(ours, "OK") && verb == "RENAME" && g.selected == strings.Fields(command)[1]:
			g.selected = strings.Fields(command)[2]
		case strings.HasPrefix(ours, "OK") && (verb == "CLOSE" || verb == "UNSELECT"):
			g.selected = ""
		}
		if g.selected != "" {
			x, y = mailboxNow(o.ours), mailboxNow(o.theirs)
			g.uids = nil
			for _, m := range uidOf.FindAllStringSubmatch(x, -1) {
				g.uids = append(g.uids, m[1])
			}
			if g.count = len(g.uids); x != y {
				t.Fatalf("behind %s\n ours %s\n theirs %s", command, x, y)
			}
		}
	}
}

// habit is what theirs does another way, and why ours does not.
type habit struct {
	why  string
	does func(g *sayings, f []string) bool // f: the words of the command, UID left out
}

func theirHabits() []habit {
	return []habit{
		{"no message is copied within its mailbox, though nothing forbids it (RFC 9051 section 6.4.7)", func(g *sayings, f []string) bool {
			return (f[0] == "COPY" || f[0] == "MOVE") && f[2] == g.selected
		}},
		{"EXAMINE is not read-only (RFC 9051 section 6.3.3)", func(g *sayings, f []string) bool {
			return f[0] == "EXAMINE"
		}},
		{"a mailbox that is deleted stays open (RFC 2180 section 3.2 leaves that to the server)", func(g *sayings, f []string) bool {
			return f[0] == "DELETE" && f[1] == g.selected
		}},
	}
}

// differs tells whether a command touches what theirs does another way.
func differs(g *sayings, command string) bool {
	f := strings.Fields(strings.TrimPrefix(command, "UID "))
	return slices.ContainsFunc(theirHabits(), func(h habit) bool { return h.does(g, f) })
}
