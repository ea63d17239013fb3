package imap

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"postrider/mailstore"
)

var limitAnswer = regexp.MustCompile(`^OK \[MESSAGELIMIT (\d+) (\d+)\] `)

// downTo repeats a command for what is left, as RFC 9738 section 3.1 has a client do, and
// returns the untagged lines of all rounds. command has %d for the highest UID.
func (c *client) downTo(command string, limit int) (lines []string) {
	c.t.Helper()
	for top := math.MaxUint32; ; {
		answer := c.do(fmt.Sprintf(command, top))
		m := limitAnswer.FindStringSubmatch(answer)
		if m == nil {
			slices.Reverse(c.all) // the first ones come in order again
		}
		lines = append(lines, c.all...)
		if m == nil {
			if !strings.HasPrefix(answer, "OK") {
				c.t.Fatalf("%s: %s", command, answer)
			}
			return lines
		}
		var told, lowest int
		fmt.Sscan(m[1], &told)
		fmt.Sscan(m[2], &lowest)
		if told != limit || lowest > top || lowest < 2 {
			c.t.Fatalf("%s: %s", command, answer)
		}
		top = lowest - 1
	}
}

// TestMessageLimit: by going on below the lowest UID that was processed, a client gets or
// changes each message once, from the last to the first; what it gets is what it would
// get without a limit.
func TestMessageLimit(t *testing.T) {
	const messages, limit = 500, 150
	crowd := "From: a@b.example\r\nTo: " + strings.Repeat("Somebody Long <somebody.with.a.long.name@somewhere.example>,\r\n ", 60) + "z@b.example\r\nSubject: many\r\n\r\ntext\r\n"
	fill := func(w *world) *client {
		for i := range messages / 5 {
			w.deliver("bob", "INBOX", []byte(crowd), mailstore.Flags{}, 3) // records that are long
			w.deliver("bob", "INBOX", fmt.Appendf(nil, "Subject: %d\r\n\r\nshort\r\n", i), mailstore.Flags{}, 2)
		}
		return w.client("INBOX")
	}
	free := fill(newWorld(t, nil))
	bound := fill(newWorld(t, func(o *Options) { o.MessageLimit = limit }))
	for _, items := range []string{"FLAGS", "(UID RFC822.SIZE ENVELOPE)", "(ENVELOPE BODYSTRUCTURE FLAGS)", "(BODY.PEEK[HEADER.FIELDS (Subject)] ENVELOPE)", "PREVIEW"} {
		free.ok("UID FETCH 1:* " + items)
		got := bound.downTo("UID FETCH 1:%d "+items, limit)
		if slices.Reverse(got); !slices.Equal(free.all, got) {
			t.Errorf("%s: %d lines, want %d", items, len(got), len(free.all))
		}
	}
	if found := strings.Fields(strings.Join(bound.downTo("UID SEARCH UID 1:%d SUBJECT many", limit), " ")); len(found) != messages/5*3+2*((messages+limit-1)/limit) {
		t.Errorf("SEARCH finds %d", len(found))
	}
	stored := bound.downTo("UID STORE 1:%d +FLAGS (\\Flagged \\Deleted)", limit)
	if len(stored) != messages || !strings.HasPrefix(stored[0], "* 500 FETCH") || !strings.HasPrefix(stored[messages-1], "* 1 FETCH") {
		t.Errorf("STORE tells %d, %.80s", len(stored), stored)
	}
	// MOVE and UID EXPUNGE are repeated as they are, since what they did is gone.
	rounds := func(command string) int {
		for n := 1; ; n++ {
			if answer := bound.do(command); !limitAnswer.MatchString(answer) {
				if !strings.HasPrefix(answer, "OK") {
					t.Fatalf("%s: %s", command, answer)
				}
				return n
			}
		}
	}
	if n := rounds("UID MOVE 201:500 Trash"); n != 2 {
		t.Errorf("MOVE took %d rounds", n)
	}
	if n := rounds("UID EXPUNGE 1:*"); n != 2 {
		t.Errorf("UID EXPUNGE took %d rounds", n)
	}
	for name, want := range map[string]int{"INBOX": 0, "Trash": 300} {
		if bound.ok("STATUS " + name + " (MESSAGES)"); !strings.Contains(bound.all[0], fmt.Sprintf("(MESSAGES %d)", want)) {
			t.Errorf("%s: %q, want %d", name, bound.all, want)
		}
	}
	bound.ok("SELECT Trash")
	if bound.ok("EXPUNGE"); len(bound.all) != 300 {
		t.Errorf("EXPUNGE tells %d", len(bound.all))
	}
}
