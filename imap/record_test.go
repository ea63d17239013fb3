package imap

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"postrider/mailstore"
	"postrider/mailstore/message"
)

// TestFetchByRecord: what FETCH says by the record of a body, behind a prefix or
// not, is what a parse of the whole message says.
func TestFetchByRecord(t *testing.T) {
	files, err := filepath.Glob("../mailstore/message/testdata/*.msg")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	const prefix = "Return-Path: <alice@crepes.fr>\r\n"
	w := newWorld(t, nil)
	c := w.client("INBOX")
	for i, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".msg")
		body := fixture(t, name)
		whole := append([]byte(prefix), body...)
		w.append("bob", "INBOX", body, mailstore.NewMessage{Prefix: prefix}, 1)
		w.deliver("bob", "INBOX", whole, mailstore.Flags{}, 1)
		x := message.Parse(bytes.NewReader(whole), int64(len(whole)))
		const items = "ENVELOPE BODYSTRUCTURE BODY.PEEK[1] BODY.PEEK[1.MIME] BODY.PEEK[2] BODY.PEEK[2.TEXT] BODY.PEEK[2.1] BODY.PEEK[HEADER] BODY.PEEK[TEXT] BODY.PEEK[]"
		var said [2]string
		for j := range said {
			c.ok("NOOP")
			c.ok(fmt.Sprintf("FETCH %d (%s)", 2*i+j+1, items))
			said[j] = strings.TrimPrefix(fetched(c), fmt.Sprintf("* %d FETCH ", 2*i+j+1))
		}
		if said[0] != said[1] {
			t.Errorf("%s: a prefix and a body say\n%s\nthe same as one body\n%s", name, said[0], said[1])
		}
		for _, section := range []struct {
			name string
			item imap.FetchItemBodySection
		}{
			{"1", imap.FetchItemBodySection{Part: []int{1}}},
			{"1.MIME", imap.FetchItemBodySection{Part: []int{1}, Specifier: imap.PartSpecifierMIME}},
			{"2", imap.FetchItemBodySection{Part: []int{2}}},
			{"2.TEXT", imap.FetchItemBodySection{Part: []int{2}, Specifier: imap.PartSpecifierText}},
			{"2.1", imap.FetchItemBodySection{Part: []int{2, 1}}},
			{"HEADER", imap.FetchItemBodySection{Specifier: imap.PartSpecifierHeader}},
			{"TEXT", imap.FetchItemBodySection{Specifier: imap.PartSpecifierText}},
			{"", imap.FetchItemBodySection{}},
		} {
			r, err := x.Section(&section.item)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("BODY[%s] {%d}\r\n%s", section.name, len(b), b); !strings.Contains(said[0], want) {
				t.Errorf("%s: no %q in %q", name, want, said[0])
			}
		}
	}
}

// fetched is the FETCH response of the last command.
func fetched(c *client) string {
	for _, line := range c.all {
		if strings.Contains(line, " FETCH (") {
			return line
		}
	}
	return ""
}
