package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postrider/mailstore"
)

// letters is what each mailbox of the corrupted database has: small ones, and
// some of several pages.
func letters(name string) (texts []string) {
	for i := range 12 {
		texts = append(texts, fmt.Sprintf("Subject: %s %d\r\n\r\n%s", name, i, strings.Repeat(fmt.Sprintf("Text of %s, %d.\r\n", name, i), 1+i*i*8)))
	}
	return texts
}

// corruptible makes a data directory with the mailboxes of two accounts.
func corruptible(t *testing.T, dir string) (boxes []mailstore.MailboxID) {
	s, _ := openStore(t, dir)
	for _, name := range []string{"alice", "bob"} {
		var box mailstore.Mailbox
		err := s.Update(t.Context(), func(tx *mailstore.Tx) error {
			a, err := tx.CreateAccount(mailstore.Account{Address: name + "@example.org"})
			if err != nil {
				return err
			}
			box, err = tx.CreateMailbox(a, "INBOX", "")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		boxes = append(boxes, box.ID)
		for _, text := range letters(name) {
			if _, err := deliver(s, box.ID, text); err != nil {
				t.Fatal(err)
			}
		}
	}
	closeStore(t, s)
	return boxes
}

// whole reads a mailbox and tells whether it is as it was; what is read must be.
func whole(t *testing.T, s *mailstore.Store, m mailstore.MailboxID, texts []string) bool {
	t.Helper()
	good := 0
	var list []mailstore.Message
	err := s.View(context.Background(), func(v *mailstore.View) error {
		return v.Messages(m, 1, 0, func(msg mailstore.Message) bool {
			list = append(list, msg)
			return true
		})
	})
	for _, msg := range list {
		if int(msg.UID) > len(texts) || msg.Flags.System != 0 || len(msg.Flags.Keywords) > 0 {
			t.Errorf("a message that never was: %+v", msg)
			continue
		}
		c, err := s.OpenMessage(context.Background(), msg)
		if err != nil {
			continue
		}
		text, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
		if cerr := c.Close(); err != nil || cerr != nil {
			continue
		}
		if string(text) != texts[msg.UID-1] {
			t.Errorf("message %d has wrong octets", msg.UID)
		}
		good++
	}
	if together := wholeTogether(t, s, list, texts); together != good {
		t.Errorf("%d messages can be read one by one, %d together", good, together)
	}
	if err != nil && !errors.Is(err, mailstore.ErrDamaged) && !errors.Is(err, mailstore.ErrNotFound) {
		t.Errorf("list: %v", err)
	}
	return err == nil && good == len(texts)
}

// wholeTogether opens messages together and counts those that are as they were.
func wholeTogether(t *testing.T, s *mailstore.Store, list []mailstore.Message, texts []string) (good int) {
	t.Helper()
	list = slices.DeleteFunc(slices.Clone(list), func(m mailstore.Message) bool { return int(m.UID) > len(texts) })
	if len(list) == 0 {
		return 0
	}
	opened, err := s.OpenMessages(context.Background(), list, math.MaxInt64)
	if err != nil {
		return 0
	}
	for i, c := range opened {
		if c.Err != nil {
			continue
		}
		text, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
		if cerr := c.Close(); err != nil || cerr != nil {
			continue
		}
		if string(text) != texts[list[i].UID-1] {
			t.Errorf("message %d has wrong octets when others are read with it", list[i].UID)
		}
		good++
	}
	return good
}

// TestCorruptPages: whatever page of the database is damaged, no wrong octet is
// read and nothing panics; who is not concerned goes on reading and writing.
func TestCorruptPages(t *testing.T) {
	root := t.TempDir()
	boxes := corruptible(t, filepath.Join(root, "data"))
	const page = 4096
	sound, err := os.ReadFile(filepath.Join(root, "data", "postrider.db"))
	if err != nil {
		t.Fatal(err)
	}
	pages := len(sound) / page
	rng := rand.New(rand.NewPCG(1, 1))
	noise := make([]byte, page)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	opened, wholeBoxes, written := 0, 0, 0
	for n := range 2 * pages {
		bad := noise
		if n%2 == 1 {
			bad = make([]byte, page)
		}
		at := n / 2 * page
		if n < 2 { // spare the version of the format, which says what it is
			at, bad = 100, bad[:page-100]
		}
		dir := filepath.Join(root, fmt.Sprint(n))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		data := bytes.Clone(sound)
		copy(data[at:], bad)
		if err := os.WriteFile(filepath.Join(dir, "postrider.db"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		ok, wholes, wrote := tryCorrupt(t, dir, boxes)
		if ok {
			opened++
		}
		wholeBoxes += wholes
		written += wrote
		if t.Failed() {
			t.Fatalf("page %d of %d, damage %d", n/2+1, pages, n%2)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d pages in two ways: opened %d times, %d mailboxes of two whole, %d written to", pages, opened, wholeBoxes, written)
	// A page belongs to one message, mostly: one mailbox is whole then.
	if tries := 2 * pages; opened < tries*6/10 || wholeBoxes < opened || written < opened {
		t.Errorf("of %d: opened %d, whole mailboxes %d, written to %d", tries, opened, wholeBoxes, written)
	}
}

// tryCorrupt opens a store with a damaged page and counts the mailboxes that are
// whole, and those that take a message.
func tryCorrupt(t *testing.T, dir string, boxes []mailstore.MailboxID) (opened bool, wholes, wrote int) {
	t.Helper()
	e, err := Open(context.Background(), dir, Options{})
	if err != nil {
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("open: %v", err)
		}
		return false, 0, 0
	}
	s, err := mailstore.Open(context.Background(), e, mailstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"alice", "bob"} {
		if whole(t, s, boxes[i], letters(name)) {
			wholes++
		}
	}
	for _, box := range boxes {
		_, err := deliver(s, box, "one more\r\n")
		if err == nil {
			wrote++
		}
		if errors.Is(err, mailstore.ErrFailed) {
			t.Errorf("a damaged page ended the store: %v", err)
		}
	}
	_ = s.Close() // SQLite may refuse to move what it cannot understand
	return true, wholes, wrote
}
