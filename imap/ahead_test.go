package imap

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"postrider/mailstore"
)

// TestReadAhead: messages that are read while others are sent come whole and in
// order, one that is expunged meanwhile is told of, and a client that leaves
// in the middle leaves nothing behind.
func TestReadAhead(t *testing.T) {
	w := newWorld(t, nil)
	var texts []string
	for i := range 60 {
		texts = append(texts, fmt.Sprintf("Subject: %d\r\n\r\n%s", i, strings.Repeat("x", i*i*37%90000)))
		w.deliver("bob", "INBOX", []byte(texts[i]), mailstore.Flags{}, 1)
	}
	want := new(strings.Builder)
	for i, text := range texts {
		fmt.Fprintf(want, "* %d FETCH (BODY[] {%d}\r\n%s)\r\n", i+1, len(text), text)
	}
	said := w.raw("a LOGIN bob hungry\r\nb EXAMINE INBOX\r\nc FETCH 1:* BODY.PEEK[]\r\nd LOGOUT\r\n")
	if _, rest, _ := strings.Cut(said, "b OK"); !strings.Contains(rest, "\r\n"+want.String()+"c OK") {
		t.Errorf("%d octets, which are not the messages", len(said))
	}

	c := w.dial()
	defer c.Close()
	if _, err := io.WriteString(c, "a LOGIN bob hungry\r\nb SELECT INBOX\r\nc FETCH 1:* BODY.PEEK[]\r\nd LOGOUT\r\n"); err != nil {
		t.Fatal(err)
	}
	var head bytes.Buffer // the pipe holds little, so that the server waits for us
	for !bytes.Contains(head.Bytes(), []byte("* 3 FETCH ")) {
		if _, err := io.CopyN(&head, c, 1); err != nil {
			t.Fatal(err)
		}
	}
	err := w.store.Update(context.Background(), func(tx *mailstore.Tx) error {
		m, err := tx.MailboxByName(w.account("bob"), "INBOX")
		if err == nil {
			_, err = tx.Expunge(m.ID, []mailstore.UID{59})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(&head, c); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"* 58 FETCH ", "* 60 FETCH "} {
		if !bytes.Contains(head.Bytes(), []byte("\r\n"+want)) {
			t.Errorf("no %q", want)
		}
	}
	if bytes.Contains(head.Bytes(), []byte("\r\n* 59 FETCH ")) {
		t.Error("a message was sent that had been expunged before it was read")
	}

	c = w.dial()
	if _, err := io.WriteString(c, "a LOGIN bob hungry\r\nb SELECT INBOX\r\nc FETCH 1:* BODY.PEEK[]\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, c, 100<<10); err != nil {
		t.Fatal(err)
	}
	c.Close() // the end of the test waits for the session and for the store's snapshots
}
