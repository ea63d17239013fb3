package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postrider/mailstore"
)

// writeVersion names the environment variable with the directory to which
// TestVersions writes a data directory of the present version. Directories of
// released versions are never written again.
const writeVersion = "POSTRIDER_WRITE_VERSION"

// TestVersions opens a data directory of each version that there was.
func TestVersions(t *testing.T) {
	if dir := os.Getenv(writeVersion); dir != "" {
		writeSample(t, dir)
	}
	found, err := filepath.Glob("testdata/v*")
	if err != nil || len(found) != Version {
		t.Fatalf("%d versions in testdata, want %d", len(found), Version)
	}
	for _, from := range found {
		t.Run(filepath.Base(from), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			copyPrivately(t, from, dir)
			e, err := Open(context.Background(), dir, Options{Upgrade: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			checkSample(t, dir)
			checkNotes(t, dir, filepath.Base(from) >= "v3")
			checkRights(t, dir, filepath.Base(from) >= "v4")
			verify(t, dir)
		})
	}
}

// copyPrivately copies a data directory with the modes that it must have.
func copyPrivately(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Mkdir(filepath.Join(to, rel), 0o700)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func sampleTime() time.Time { return time.Date(2026, 11, 20, 12, 34, 56, 789, time.UTC) }

func sampleTexts() []string {
	return []string{"Subject: one\r\n\r\nsmall\r\n", "Subject: two\r\n\r\n" + strings.Repeat("large\r\n", 10000), "Subject: three\r\n\r\n"}
}

// writeSample makes a data directory with something of each kind.
func writeSample(t *testing.T, dir string) {
	s, err := mailstore.Open(context.Background(), open(t, dir), mailstore.Options{Compress: true})
	if err != nil {
		t.Fatal(err)
	}
	inbox := newInbox(t, s)
	for _, text := range sampleTexts() {
		if _, err := deliver(s, inbox, text); err != nil {
			t.Fatal(err)
		}
	}
	w := s.NewBody()
	if _, err := w.Write([]byte("queued\r\n")); err != nil {
		t.Fatal(err)
	}
	b, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Release()
	err = s.Update(context.Background(), func(tx *mailstore.Tx) error {
		sent, err1 := tx.CreateMailbox(1, "Sent", "\\Sent")
		_, _, err2 := tx.Copy(inbox, []mailstore.UID{1, 2}, sent.ID)
		_, _, err3 := tx.SetFlags(inbox, []mailstore.UID{2}, mailstore.AddFlags,
			mailstore.Flags{System: mailstore.Seen | mailstore.Flagged, Keywords: []string{"$Forwarded", "work"}}, 0)
		_, err4 := tx.Expunge(inbox, []mailstore.UID{1})
		_, _, err5 := tx.Enqueue(b, mailstore.QueueItem{Envelope: "sample", From: "bob@example.org", Accepted: sampleTime(), Expires: sampleTime()},
			[]mailstore.QueueRecipient{{Address: "a@example.net", Domain: "example.net", Next: sampleTime()}, {Address: "b@example.net", Held: true}})
		err6 := tx.Annotate(1, inbox, 1, nil, sampleNotes()[:2])
		err7 := tx.Annotate(1, 0, 1, nil, sampleNotes()[2:])
		err8 := sampleRights(tx, inbox)
		return errors.Join(err1, err2, err3, err4, err5, err6, err7, err8, tx.CreateDomain("example.org"), tx.Subscribe(1, "Sent", true),
			tx.PutAlias(mailstore.Alias{Address: "info@example.org", Targets: []string{"bob@example.org", "eve@example.net"}}),
			tx.PutSetting("key", []byte{0, 1, 2}))
	})
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	if err := errors.Join(os.Remove(filepath.Join(dir, "lock")), os.Remove(filepath.Join(dir, "bodies", "tmp")),
		os.Remove(filepath.Join(dir, "reserve"))); err != nil {
		t.Fatal(err)
	}
}

// checkSample opens the data directory and looks for what writeSample wrote.
func checkSample(t *testing.T, dir string) {
	t.Helper()
	s, _ := openStore(t, dir)
	defer closeStore(t, s)
	texts := sampleTexts()
	var got []string
	err := s.View(context.Background(), func(v *mailstore.View) error {
		a, err1 := v.AccountByAddress("bob@example.org")
		d, err2 := v.Domain("example.org")
		alias, err3 := v.Alias("info@example.org")
		setting, err4 := v.Setting("key")
		inbox, err5 := v.MailboxByName(a.ID, "INBOX")
		sent, err6 := v.MailboxByName(a.ID, "Sent")
		c, err7 := v.Changes(inbox.ID, 1)
		item, to, err8 := v.QueueItem(1)
		n, err9 := v.QueueLength()
		used, quota, err10 := v.Usage(a.ID)
		for _, p := range []any{
			d.Name, alias.Targets, setting, inbox.Messages, inbox.Unseen, inbox.UIDNext, inbox.ModSeq,
			sent.Messages, sent.SpecialUse, sent.Subscribed, c.Expunged, len(c.Arrived), c.Arrived[0].Flags,
			item.Envelope, item.Accepted.Equal(sampleTime()), to[0].Address, to[0].Next.Equal(sampleTime()), to[1].Held, n, used, quota,
		} {
			got = append(got, fmt.Sprint(p))
		}
		return errors.Join(err1, err2, err3, err4, err5, err6, err7, err8, err9, err10)
	})
	want := "example.org|[bob@example.org eve@example.net]|[0 1 2]|2|1|4|6|2|\\Sent|true|[1]|2|{5 [$Forwarded work]}|" +
		"sample|true|a@example.net|true|true|2|{140073 4}|{0 0}"
	if err != nil || strings.Join(got, "|") != want {
		t.Errorf("got  %s\nwant %s\n%v", strings.Join(got, "|"), want, err)
	}
	for m, want := range map[mailstore.MailboxID][]string{1: texts[1:], 2: texts[:2]} {
		if got := readMailbox(t, s, m); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("mailbox %d has other texts", m)
		}
	}
}

// sampleNotes are annotations of INBOX, and one of the account, since version 3.
func sampleNotes() []mailstore.Annotation {
	return []mailstore.Annotation{
		{Entry: "/private/comment", Value: []byte("two\r\nlines\x00")},
		{Entry: "/shared/vendor/example/color", Value: []byte{}},
		{Entry: "/private/vendor/example/key", Value: []byte(strings.Repeat("value ", 2000))},
	}
}

// sampleRights are rights to INBOX and the key of its URLs, since version 4.
func sampleRights(tx *mailstore.Tx, m mailstore.MailboxID) error {
	return errors.Join(tx.SetACL(m, mailstore.Anyone, mailstore.ReplaceRights, mailstore.RightLookup|mailstore.RightRead),
		tx.SetACL(m, "-@example.org", mailstore.ReplaceRights, mailstore.RightRead), tx.SetURLKey(1, m, []byte("a key of 16 bytes")))
}

func checkRights(t *testing.T, dir string, there bool) {
	t.Helper()
	s, _ := openStore(t, dir)
	defer closeStore(t, s)
	err := s.View(context.Background(), func(v *mailstore.View) error {
		box, err1 := v.MailboxByName(1, "INBOX")
		list, err2 := v.ACL(box.ID)
		key, err3 := v.URLKey(1, box.ID)
		a, err4 := v.Account(1)
		want := "[{-@example.org r} {anyone lr}] a key of 16 bytes"
		if !there {
			want = "[] "
			if errors.Is(err3, mailstore.ErrNotFound) {
				err3 = nil
			}
		}
		if got := fmt.Sprintf("%v %s", list, key); got != want || a.Shared {
			t.Errorf("rights %s, want %s", got, want)
		}
		return errors.Join(err1, err2, err3, err4)
	})
	if err != nil {
		t.Error(err)
	}
}

func checkNotes(t *testing.T, dir string, there bool) {
	t.Helper()
	s, _ := openStore(t, dir)
	defer closeStore(t, s)
	err := s.View(context.Background(), func(v *mailstore.View) error {
		box, err1 := v.MailboxByName(1, "INBOX")
		got, err2 := v.Annotations(1, box.ID, 1)
		own, err3 := v.Annotations(1, 0, 1)
		want := fmt.Sprint(sampleNotes())
		if !there {
			want = "[]"
		}
		if got := fmt.Sprint(append(got, own...)); got != want {
			t.Errorf("annotations %s, want %s", got, want)
		}
		return errors.Join(err1, err2, err3)
	})
	if err != nil {
		t.Error(err)
	}
}

// readMailbox reads all texts of a mailbox.
func readMailbox(t *testing.T, s *mailstore.Store, m mailstore.MailboxID) (texts []string) {
	t.Helper()
	var msgs []mailstore.Message
	err := s.View(context.Background(), func(v *mailstore.View) error {
		return v.Messages(m, 1, 0, func(msg mailstore.Message) bool {
			msgs = append(msgs, msg)
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, msg := range msgs {
		c, err := s.OpenMessage(context.Background(), msg)
		if err != nil {
			t.Fatal(err)
		}
		text := make([]byte, c.Size())
		if n, err := c.ReadAt(text, 0); n < len(text) {
			t.Error(err)
		}
		texts = append(texts, string(text))
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	return texts
}
