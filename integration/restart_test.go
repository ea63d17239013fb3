package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// fillFolder gives bob a folder Big of so many messages, by copies of a
// thousand that differ.
func fillFolder(t *testing.T, s *server, messages int) {
	t.Helper()
	c, err := imap(s.addr["imap"], "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 1000 {
		text := letter("alice@crepes.fr", "bob@"+hostname, fmt.Sprint("m", i), strings.Repeat("All work and no play.\r\n", 1+i%100))
		if _, err := c.imapAppend("Archive", "", text); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.imapAsk("CREATE Big"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.imapAsk("SELECT Archive"); err != nil {
		t.Fatal(err)
	}
	for range messages / 1000 {
		if _, err := c.imapAsk("COPY 1:1000 Big"); err != nil {
			t.Fatal(err)
		}
	}
}

// fillQueue queues letters for so many recipients whose servers nobody finds.
func fillQueue(t *testing.T, s *server, recipients int) {
	t.Helper()
	c, err := smtp(s.addr["smtp"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for left := recipients; left > 0; left -= 500 {
		var to []string
		for i := range min(left, 500) {
			to = append(to, fmt.Sprintf("u%d@d%d.example", left-i, i%50))
		}
		text := letter("bob@"+hostname, to[0], "to many", "Do you like ketchup?\r\n")
		if _, err := c.mail("bob@"+hostname, to, text); err != nil {
			t.Fatal(err)
		}
	}
}

// used is the processor time of the server so far.
func (s *server) used() time.Duration {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid()))
	if err != nil {
		s.t.Fatal(err)
	}
	var user, system int64 // in hundredths, behind the name in parentheses
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if _, err := fmt.Sscan(fields[11], &user); err != nil {
		s.t.Fatal(err)
	}
	if _, err := fmt.Sscan(fields[12], &system); err != nil {
		s.t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// usable opens each mailbox, reads its last message and adds one.
func usable(t *testing.T, s *server, messages int) {
	t.Helper()
	c, err := imap(s.addr["imap"], "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, box := range []string{"INBOX", "Archive", "Drafts", "Sent", "Big"} {
		selected, err := c.imapAsk("SELECT " + box)
		if err != nil {
			t.Fatal(err)
		}
		if box == "Big" && !strings.Contains(strings.Join(selected, "\n"), fmt.Sprintf("* %d EXISTS", messages)) {
			t.Errorf("SELECT Big: %q", selected)
		}
		if box == "Big" || box == "Archive" {
			fetched, err := c.imapAsk("FETCH * (UID FLAGS ENVELOPE BODY.PEEK[])")
			if err != nil || len(fetched) != 2 {
				t.Errorf("FETCH in %s: %d responses, %v", box, len(fetched), err)
			}
		}
		if box != "Big" {
			if _, err := c.imapAppend(box, "", "Subject: one more\r\n\r\nA text.\r\n"); err != nil {
				t.Errorf("APPEND to %s: %v", box, err)
			}
		}
	}
}

// TestRestartR5: after kill -9 in the middle of work, with a large mailbox and a
// long queue, the server is ready in 2 seconds, and every mailbox usable (R6).
// A run that is not the full gate has small ones, and bounds processor time.
func TestRestartR5(t *testing.T) {
	messages, queued, bound := 20_000, 1000, 2*time.Second
	if os.Getenv("POSTRIDER_TORTURE") != "" {
		messages, queued = 1_000_000, 10_000
	}
	s := prepare(t, options{plain: true, quiet: true, config: crashConfig + "[smtp]\nrelay_networks = [\"127.0.0.0/8\"]\n"})
	s.init()
	s.mustWith(password+"\n", "user", "add", "carol@"+hostname, "--password-stdin")
	s.start()
	began := time.Now()
	fillFolder(t, s, messages)
	fillQueue(t, s, queued)
	t.Logf("filled in %v", time.Since(began).Round(time.Second))
	c := &crashLoop{t: t, s: s, rng: seeded(t), book: newBook(), boxes: []string{"alice/INBOX", "carol/Drafts"}}
	var most, mostUsed time.Duration
	for range rounds(t, 2, 50) {
		c.round([]worker{sendMail, sendMail, fileMail})
		began := time.Now()
		s.start()
		took, used := time.Since(began), s.used()
		most, mostUsed = max(most, took), max(mostUsed, used)
		usable(t, s, messages)
		length := s.must("queue", "list", "--json")
		if n := strings.Count(length, `"address"`); n < queued {
			t.Errorf("%d recipients in the queue, want %d", n, queued)
		}
		if used > bound || os.Getenv("POSTRIDER_TORTURE") != "" && took > bound {
			t.Errorf("ready after %v, with %v of processor time", took, used)
		}
	}
	t.Logf("%d messages in a mailbox, %d recipients in the queue: ready after at most %v, with %v of processor time",
		messages, queued, most.Round(time.Millisecond), mostUsed)
	s.stop()
}
