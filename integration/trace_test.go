package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestReadmeTrace: the commands of "What became of a letter", on a server that runs,
// after kill -9, after its journey was damaged, and with none running.
func TestReadmeTrace(t *testing.T) {
	s := newServer(t, options{domain: "example.org"})
	s.mustWith("hungry\n", "user", "add", "you@example.org", "--password-stdin")

	letter := "Message-ID: <1@example.org>\nSubject: x\n\nDo you like ketchup?\n"
	text := s.followed("message.accepted", func() { s.mustWith(letter, "send", "you@example.org") })
	if !strings.Contains(text, "for you@example.org") {
		t.Errorf("followed %q", text)
	}
	traced := func(when string) {
		t.Helper()
		got := s.must("trace", "--to", "you@example.org")
		if !strings.Contains(got, "into the mailbox INBOX of you@example.org") || strings.Contains(got, "ketchup") {
			t.Errorf("%s: %s", when, got)
		}
		if byID := s.must("trace", "--message-id", "1@example.org", "--last", "1"); !strings.Contains(byID, "accepted from") {
			t.Errorf("%s: %s", when, byID)
		}
	}
	traced("at once")
	s.kill()
	traced("after kill -9, with no server")
	s.start()
	traced("after kill -9")
	s.stop()
	files, err := filepath.Glob(filepath.Join(s.dir, "data", "journey", "*.journey"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if err := os.WriteFile(f, []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	if _, stderr, code := s.run("", "trace", "--to", "you@example.org"); code != 1 || !strings.Contains(stderr, "nothing is known") {
		t.Errorf("of a damaged journey: %d, %s", code, stderr)
	}
	s.mustWith(letter, "send", "you@example.org")
	traced("after the damage")

	file := writeFile(t, "letter.eml", "Received: from a.example (a.example [192.0.2.1]) by mx.example.org (Postfix) with ESMTPS id 7; Mon, 2 Nov 2026 09:15:41 +0100\n"+letter)
	if got := s.must("trace", "--explain", file); !strings.Contains(got, "a.example [192.0.2.1] -> mx.example.org") || !strings.Contains(got, "Subject: x") {
		t.Error(got)
	}
}

// TestTraceNameServer: whoever follows sessions sees what the name server is asked,
// and what it says.
func TestTraceNameServer(t *testing.T) {
	s := prepare(t, options{config: "[listen]\ndns = [\"127.0.0.1:0\"]\n[dns]\nresolver = \"127.0.0.1:9\"\nhosts = \"\"\nzones = [\"plain.test.zone\"]\n"})
	writeFile(t, filepath.Join(s.dir, "plain.test.zone"), fmt.Sprintf(organisation, 1))
	s.init()
	s.start()
	text := s.followed("nameserver.reply", func() {
		s.must("dns", "query", "mail.plain.test", "A", "--server", "127.0.0.1:"+s.port("dns"))
	})
	if text != "we tell 127.0.0.1 about mail.plain.test A: NOERROR 192.0.2.25 (by authority for plain.test, TTL 3600)" {
		t.Errorf("followed %q", text)
	}
}

// followed is what trace --follow --sessions says of the first event of a kind
// that comes of what is done, again and again: the follower may come late.
func (s *server) followed(kind string, do func()) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	follow := s.command()
	follow.Args = append(follow.Args[:1], "--config", s.configFile(), "trace", "--follow", "--sessions", "--json")
	out, err := follow.StdoutPipe()
	if err == nil {
		err = follow.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	seen := make(chan string, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var e struct{ Kind, Text string }
			if json.Unmarshal(lines.Bytes(), &e) == nil && e.Kind == kind {
				select {
				case seen <- e.Text:
				default:
				}
			}
		}
	}()
	text := ""
	for text == "" {
		do()
		select {
		case text = <-seen:
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			s.t.Fatal("nothing was followed")
		}
	}
	if err := follow.Process.Signal(os.Interrupt); err != nil {
		s.t.Fatal(err)
	}
	<-ended // the pipe is read to its end before Wait closes it
	if err := follow.Wait(); err != nil {
		s.t.Errorf("trace --follow: %v", err)
	}
	return text
}
