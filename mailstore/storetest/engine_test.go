package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"postrider/mailstore"
)

func TestModelEngine(t *testing.T) {
	disks := make(map[string]*Disk)
	Run(t, func(_ *testing.T, dir string) mailstore.Engine {
		if disks[dir] == nil {
			disks[dir] = NewDisk()
		}
		return disks[dir].Engine()
	})
}

// verifyWith gives what verify finds in a store of one account with an INBOX (1 and 7)
// and what put puts: each lost, and of one kind.
func verifyWith(t *testing.T, kind string, put func(w mailstore.Writer) error) (found []string) {
	t.Helper()
	e := NewEngine()
	w, err := e.Begin()
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(w.PutCounter("account", 2), w.PutCounter("mailbox", 8), w.PutAccount(mailstore.Account{ID: 1, Address: "bob@example.org"}),
		w.PutMailbox(mailstore.MailboxRow{Mailbox: mailstore.Mailbox{ID: 7, Account: 1, Name: "INBOX", UIDValidity: 1, UIDNext: 1, ModSeq: 1}}),
		w.PutCounter("uidvalidity", 1),
		put(w), w.Commit())
	if err != nil {
		t.Fatal(err)
	}
	snap, err := e.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	err = mailstore.VerifyEngine(context.Background(), e, snap, nil, func(f mailstore.Finding) {
		found = append(found, f.String())
		if f.Kind != kind || !f.Lost {
			t.Errorf("%+v", f)
		}
	})
	if err != nil {
		t.Error(err)
	}
	return found
}

// TestVerifyAnnotations: verify tells of annotations that the store would not have
// made.
func TestVerifyAnnotations(t *testing.T) {
	got := verifyWith(t, "annotation", func(w mailstore.Writer) (err error) {
		rows := []mailstore.AnnotationRow{
			{Account: 1, Mailbox: 7, User: 1, Annotation: mailstore.Annotation{Entry: "/private/Capital", Value: []byte("x")}},
			{Account: 1, Mailbox: 7, User: 1, Annotation: mailstore.Annotation{Entry: "/private/large", Value: make([]byte, mailstore.MaxAnnotationSize+1)}},
			{Account: 1, Mailbox: 7, Annotation: mailstore.Annotation{Entry: "/private/nobody", Value: []byte("x")}},
			{Account: 1, User: 1, Annotation: mailstore.Annotation{Entry: "/shared/mine", Value: []byte("x")}},
			{Account: 1, User: 1, Annotation: mailstore.Annotation{Entry: "/private/good", Value: []byte("x")}},
		}
		for i := range rows {
			err = errors.Join(err, w.PutAnnotation(&rows[i]))
		}
		return err
	})
	want := []string{
		`annotation: bob@example.org INBOX: "/private/Capital" has a name that cannot be`,
		`annotation: bob@example.org INBOX: "/private/large" has 65537 octets`,
		`annotation: bob@example.org INBOX: "/private/nobody" is private to nobody, or shared and somebody's`,
		`annotation: "/shared/mine" is private to nobody, or shared and somebody's`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
