package imap

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"strings"
	"testing"

	"postrider/mailstore"
)

// aclRun is alice's random commands on bob's mailboxes, in two worlds: in one he has
// mailboxes to which she has no right, in the other these do not exist. She must
// not be able to tell the worlds apart, and what she may do is what the rights say.
type aclRun struct {
	t      *testing.T
	rng    *rand.Rand
	worlds [2]*world
	conns  [2]net.Conn
	lines  [2]*bufio.Reader

	rights   map[string]mailstore.Rights // of alice, by mailbox
	selected string
	examined bool
	n        int
}

const bobsRoot = "Other Users/bob@hamburger.edu/"

// Of bob: mailboxes with changing rights, and those that one world has not.
func aclOpen() []string   { return []string{"INBOX", "Work", "Work/Plans", "Drafts"} }
func aclHidden() []string { return []string{"Secret", "Work/Hidden", "Secret/Deep"} }

// TestACLRandom: RFC 4314 section 4 and 6, with random rights.
func TestACLRandom(t *testing.T) {
	for seed := range uint64(16) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := &aclRun{t: t, rng: rand.New(rand.NewPCG(seed, 0)), rights: make(map[string]mailstore.Rights)}
			for i := range r.worlds {
				r.prepare(i)
			}
			r.login()
			for range 120 {
				r.step()
			}
			for _, c := range r.conns {
				c.Close()
			}
		})
	}
}

// prepare makes a world; every message names its mailbox.
func (r *aclRun) prepare(i int) {
	w := newWorld(r.t, nil)
	r.worlds[i] = w
	names := aclOpen()
	if i == 0 {
		names = append(names, aclHidden()...)
	}
	err := w.store.Update(r.t.Context(), func(tx *mailstore.Tx) error {
		for _, name := range names {
			_, err := tx.CreateMailbox(w.account("bob"), name, "")
			if err != nil && !errors.Is(err, mailstore.ErrExists) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, name := range names {
		w.deliver("bob", name, []byte("Subject: x\r\n\r\ntext-of-"+name+".\r\n"), mailstore.Flags{}, 2)
	}
	w.deliver("alice", "Archive", []byte("Subject: mine\r\n\r\nmine\r\n"), mailstore.Flags{System: mailstore.Seen | mailstore.Flagged}, 1)
}

// login opens alice's sessions.
func (r *aclRun) login() {
	for i, w := range r.worlds {
		r.conns[i] = w.dial()
		r.lines[i] = bufio.NewReader(r.conns[i])
		if _, err := r.lines[i].ReadString('\n'); err != nil {
			r.t.Fatal(err)
		}
	}
	r.selected = ""
	if got := r.say("LOGIN alice hungry"); !strings.Contains(got, " OK ") {
		r.t.Fatal(got)
	}
}

// say gives a command in both worlds and returns the answer, which has to be the
// same but for numbers that no two mailboxes share.
func (r *aclRun) say(command string) string {
	r.t.Helper()
	r.n++
	var said [2]string
	for i := range r.worlds {
		if _, err := fmt.Fprintf(r.conns[i], "t%d %s\r\n", r.n, command); err != nil {
			r.t.Fatal(err)
		}
		for {
			line, err := r.lines[i].ReadString('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				r.t.Fatal(err)
			}
			said[i] += line
			if err != nil || strings.HasPrefix(line, fmt.Sprintf("t%d ", r.n)) {
				break
			}
		}
	}
	numbers := regexp.MustCompile(`(UIDVALIDITY|HIGHESTMODSEQ|APPENDUID|COPYUID) \d+|MAILBOXID \(F\d+\)`)
	a, b := numbers.ReplaceAllString(said[0], "$1"), numbers.ReplaceAllString(said[1], "$1")
	if a != b {
		r.t.Fatalf("%s\nwith hidden mailboxes:\n%s\nwithout:\n%s", command, a, b)
	}
	for _, name := range append(aclOpen(), aclHidden()...) {
		if strings.Contains(a, "text-of-"+name+".") && !r.rights[name].Has(mailstore.RightRead) {
			r.t.Fatalf("%s tells of %s, with the rights %q:\n%s", command, name, r.rights[name], a)
		}
	}
	return a
}

// pick draws a name of bob's, hidden ones and such that are not there included.
func (r *aclRun) pick() string {
	names := append(append(aclOpen(), aclHidden()...), "Nowhere", "Work/Nowhere")
	return names[r.rng.IntN(len(names))]
}

// step does one thing.
func (r *aclRun) step() {
	switch n := r.rng.IntN(10); {
	case n < 2:
		r.change()
	case n < 6:
		r.named()
	case n < 7:
		r.list()
	default:
		r.inside()
	}
}

// change lets bob change alice's rights, in both worlds.
func (r *aclRun) change() {
	name := aclOpen()[r.rng.IntN(len(aclOpen()))]
	rights := mailstore.Rights(r.rng.IntN(int(mailstore.AllRights) + 1))
	switch r.rng.IntN(4) {
	case 0:
		rights = 0
	case 1:
		rights |= mailstore.RightLookup | mailstore.RightRead
	}
	if name == "Work" { // who can create there learns what is there
		rights &^= mailstore.RightCreate
	}
	for _, w := range r.worlds {
		w.allow("bob", name, "alice@hamburger.edu", rights.String())
	}
	r.rights[name] = rights
	if r.selected == name && !rights.Has(mailstore.RightRead) {
		if got := r.say("FETCH 1:* (FLAGS BODY.PEEK[])"); !strings.HasPrefix(got, "* BYE [NOPERM]") {
			r.t.Fatalf("without the right to read %s: %s", name, got)
		}
		r.login()
	}
}

// expect checks an answer by the rights that a command needs.
func (r *aclRun) expect(command, name string, need mailstore.Rights) {
	r.t.Helper()
	has := r.rights[name]
	want := "NO [NONEXISTENT]"
	switch {
	case has.Has(need):
		want = "OK "
	case has.Has(mailstore.RightLookup):
		want = "NO [NOPERM]"
	}
	if got := r.say(command); !strings.Contains(got, fmt.Sprintf("t%d %s", r.n, want)) {
		r.t.Fatalf("%s with the rights %q, want %s:\n%s", command, has, want, got)
	}
}

// named gives a command that names a mailbox.
func (r *aclRun) named() {
	name := r.pick()
	has, full := r.rights[name], `"`+bobsRoot+name+`"`
	switch r.rng.IntN(14) {
	case 0, 1:
		r.open(name)
	case 2:
		r.expect("STATUS "+full+" (MESSAGES UNSEEN UIDNEXT)", name, mailstore.RightRead)
	case 3:
		if has.Any(rightsVisible) {
			r.expect("MYRIGHTS "+full, name, 0)
		} else {
			r.expect("MYRIGHTS "+full, name, mailstore.RightLookup)
		}
	case 4:
		r.expect("GETACL "+full, name, mailstore.RightAdminister)
	case 5:
		r.expect("LISTRIGHTS "+full+" anyone", name, mailstore.RightAdminister)
	case 6:
		r.expect("SETACL "+full+" -anyone p", name, mailstore.RightAdminister)
		if has.Has(mailstore.RightAdminister) {
			r.expect("DELETEACL "+full+" -anyone", name, mailstore.RightAdminister)
		}
	case 7:
		r.expect("GETQUOTAROOT "+full, name, mailstore.RightRead)
	case 8:
		if has == 0 || has.Any(rightsToNote) {
			r.expect("SETMETADATA "+full+` (/private/comment "x")`, name, mailstore.RightLookup)
			r.expect("GETMETADATA "+full+" (/private/comment)", name, mailstore.RightLookup)
		}
	case 9:
		r.expect("APPEND "+full+" (\\Seen \\Deleted \\Flagged) {3+}\r\nabc", name, mailstore.RightInsert)
	case 10:
		// A name above one that she sees exists for her.
		above := !has.Has(mailstore.RightLookup) && r.rights[name+"/Plans"].Has(mailstore.RightLookup)
		if !has.Has(mailstore.RightDelete) && !above {
			r.expect("DELETE "+full, name, mailstore.RightDelete)
		}
	case 11:
		if got := r.say(`CREATE "` + bobsRoot + "Work/" + strings.ReplaceAll(name, "/", "-") + `"`); !strings.Contains(got, "NO [NOPERM]") {
			r.t.Fatal(got)
		}
	case 12:
		url := "/Other%20Users/bob%40hamburger.edu/" + name + "/;uid=1/;section=TEXT"
		if r.selected != name { // it may have been expunged
			_ = r.say(`APPEND Junk CATENATE (TEXT {3+}` + "\r\nabc URL " + url + ")")
		}
	default:
		_ = r.say("ESEARCH IN (mailboxes " + full + ") ALL")
	}
}

// open selects a mailbox.
func (r *aclRun) open(name string) {
	verb := []string{"SELECT", "EXAMINE"}[r.rng.IntN(2)]
	r.selected = ""
	r.expect(verb+` "`+bobsRoot+name+`"`, name, mailstore.RightRead)
	if r.rights[name].Has(mailstore.RightRead) {
		r.selected, r.examined = name, verb == "EXAMINE"
	}
}

// list asks for lists, which show what may be seen.
func (r *aclRun) list() {
	switch r.rng.IntN(4) {
	case 0:
		_ = r.say(`LSUB "" "Other Users/*"`)
		return
	case 1:
		_ = r.say(`SUBSCRIBE "` + bobsRoot + r.pick() + `"`)
		return
	case 2:
		_ = r.say(`ESEARCH IN (subtree "Other Users") ALL`)
		return
	}
	got := r.say(`LIST "" "Other Users/*" RETURN (MYRIGHTS STATUS (MESSAGES UNSEEN))`)
	for _, name := range append(aclOpen(), aclHidden()...) {
		has := r.rights[name]
		for kind, want := range map[string]bool{
			`(\HasNoChildren) "/" `:                 false,
			"MYRIGHTS ":                             has.Has(mailstore.RightLookup),
			"STATUS ":                               has.Has(mailstore.RightLookup | mailstore.RightRead),
			`(\HasNoChildren \Archive) "/" "Other `: false,
		} {
			line := kind + `"` + bobsRoot + name + `" `
			if strings.Contains(got, line) != want {
				r.t.Fatalf("%q with %q:\n%s", line, has, got)
			}
		}
	}
}

// inside gives a command to the selected mailbox.
func (r *aclRun) inside() {
	if r.selected == "" {
		return
	}
	has := r.rights[r.selected]
	may := func(rights mailstore.Rights) bool {
		return !r.examined && has.Any(rightsToWrite) && has.Has(rights)
	}
	check := func(command string, good bool) {
		r.t.Helper()
		got := r.say(command)
		if refused := strings.Contains(got, fmt.Sprintf("t%d NO [NOPERM]", r.n)); refused == good {
			r.t.Fatalf("%s in %s with the rights %q, examined %v:\n%s", command, r.selected, has, r.examined, got)
		}
	}
	switch r.rng.IntN(8) {
	case 0:
		before := strings.Count(r.say("UID FETCH 1:* FLAGS"), `\Seen`)
		_ = r.say("UID FETCH 1:* (FLAGS BODY[TEXT])")
		after := strings.Count(r.say("UID FETCH 1:* FLAGS"), `\Seen`)
		if before != after && !may(mailstore.RightSeen) {
			r.t.Fatalf("FETCH set \\Seen with the rights %q", has)
		}
	case 1:
		check(`UID STORE 1:* +FLAGS (\Seen)`, may(mailstore.RightSeen))
	case 2:
		check(`UID STORE 1:* -FLAGS (\Deleted)`, may(mailstore.RightTrash))
	case 3:
		check(`UID STORE 1:* +FLAGS.SILENT (\Flagged work)`, may(mailstore.RightWrite))
	case 4:
		check("EXPUNGE", may(mailstore.RightExpunge))
	case 5:
		check("UID MOVE 1000 Trash", may(mailstore.RightTrash|mailstore.RightExpunge))
	case 6:
		_ = r.say("UID SEARCH RETURN (ALL COUNT) UNSEEN")
	default:
		_ = r.say("UID COPY 1:* Trash")
	}
}
