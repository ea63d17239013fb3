package page

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dial opens a console at the fake's mail server.
func dial(t *testing.T, s *Server) string {
	t.Helper()
	return dialTo(t, s, "mx.hamburger.edu")
}

func dialTo(t *testing.T, s *Server, host string) string {
	t.Helper()
	var out struct{ ID string }
	if err := json.Unmarshal([]byte(post(t, s, "/api/console", `{"host":"`+host+`","port":25}`, 200)), &out); err != nil || out.ID == "" {
		t.Fatal(out, err)
	}
	return out.ID
}

func (r *reader) line() line {
	r.t.Helper()
	e := r.next()
	if e.name == "end" {
		return line{From: "end"}
	}
	var l line
	if err := json.Unmarshal([]byte(e.data), &l); err != nil {
		r.t.Fatal(err)
	}
	return l
}

// TestConsole: a dialogue with a host of the lab, each line explained; a
// browser that comes back sees what it missed.
func TestConsole(t *testing.T) {
	s, f, base := serve(t)
	id := dial(t, s)
	r := listen(t, base, "/api/console/"+id)
	if l := r.line(); l.From != "page" {
		t.Errorf("%+v", l)
	}
	if l := r.line(); l.Text != "220 mx.hamburger.edu ESMTP" || l.RFC != "RFC 5321 section 3.1" {
		t.Errorf("%+v", l)
	}
	post(t, s, "/api/console/"+id, `{"text":"MAIL FROM:<a@b>"}`, 200)
	if l := r.line(); l.From != "you" || l.RFC != "RFC 5321 section 4.1.1.2" {
		t.Errorf("%+v", l)
	}
	if l := r.line(); l.Text != "250 ok" || l.Say != smtpReplies["250 MAIL"].say {
		t.Errorf("%+v", l)
	}
	post(t, s, "/api/console/"+id, `{"text":"QUIT"}`, 200)
	for _, want := range []string{"QUIT", "221 bye", "The server closed the connection."} {
		if l := r.line(); l.Text != want {
			t.Errorf("%+v, want %s", l, want)
		}
	}
	if l := r.line(); l.From != "end" {
		t.Errorf("%+v", l)
	}
	if l := listen(t, base, "/api/console/"+id, "Last-Event-ID", "2").line(); l.Text != "MAIL FROM:<a@b>" {
		t.Errorf("again: %+v", l)
	}
	if fmt.Sprint(f.dialled) != "[mx.hamburger.edu 25]" {
		t.Error(f.dialled)
	}
}

// TestConsoleTLS: after STARTTLS and 220 the same dialogue goes on under TLS; what a
// server said before TLS began ends it, and so does a handshake that fails.
func TestConsoleTLS(t *testing.T) {
	s, f, base := serve(t)
	h := httptest.NewTLSServer(nil)
	defer h.Close()
	f.certificates = h.TLS.Certificates
	begin := func(host, command string) (id string, r *reader) {
		id = dialTo(t, s, host)
		r = listen(t, base, "/api/console/"+id)
		post(t, s, "/api/console/"+id, `{"text":"`+command+`"}`, 200)
		for r.line().Text != "220 go on" {
		}
		return id, r
	}
	id, r := begin("mx.hamburger.edu", "STARTTLS")
	if l := r.line(); l.From != "page" || !strings.HasPrefix(l.Text, "TLS 1.3, ") || !strings.Contains(l.Text, "certificate") {
		t.Errorf("%+v", l)
	}
	post(t, s, "/api/console/"+id, `{"text":"EHLO a"}`, 200)
	r.line()
	if l := r.line(); l.Text != "250 encrypted EHLO a" {
		t.Errorf("%+v", l)
	}
	_, r = begin("mx.hamburger.edu", "STARTTLS MORE")
	if l := r.line(); !strings.Contains(l.Text, "said more before TLS began") {
		t.Errorf("%+v", l)
	}
	_, r = begin("mx.crepes.fr", "STARTTLS")
	if l := r.line(); !strings.HasPrefix(l.Text, "TLS failed: ") {
		t.Errorf("%+v", l)
	}
	for _, c := range []struct {
		service, typed, said string
		want                 bool
	}{
		{"smtp", "NOOP\nSTARTTLS", "220 the greeting", false}, {"smtp", "NOOP\nSTARTTLS", "220 the greeting\n250 ok\n220 go on", true},
		{"smtp", "EHLO a\nSTARTTLS", "220 the greeting\n250-a\n250 b", false},
		{"pop3", "USER a\nSTLS", "+OK the greeting\n+OK", false}, {"pop3", "USER a\nSTLS", "+OK the greeting\n+OK\n+OK", true},
		{"imap", "a NOOP\nb STARTTLS", "* OK\na OK", false}, {"imap", "a NOOP\nb STARTTLS", "* OK\na OK\nb OK", true},
		{"smtp", "STARTTLS", "220 2.0.0 Ready", true}, {"smtp", "STARTTLS", "454 not now", false}, {"smtp", "NOOP", "220 x", false},
		{"pop3", "STLS", "+OK", true}, {"pop3", "STLS", "-ERR", false},
		{"imap", "a STARTTLS", "a OK begin", true}, {"imap", "a STARTTLS", "* OK news", false}, {"imap", "a STARTTLS", "a BAD", false}, {"dns", "STARTTLS", "220 x", false},
	} {
		d := &dialogue{service: c.service, due: strings.Count(c.said, "greeting")}
		for l := range strings.SplitSeq(c.typed, "\n") {
			d.typed(l)
		}
		got := false
		for l := range strings.SplitSeq(c.said, "\n") {
			d.said(l)
			got = d.startsTLS(l)
		}
		if got != c.want {
			t.Errorf("%s: %q, %q: %v", c.service, c.typed, c.said, got)
		}
	}
}

// TestConsoleRefuses: only the lab's hosts, only lines, only so many.
func TestConsoleRefuses(t *testing.T) {
	s, _ := open(t)
	post(t, s, "/api/console", `{"host":"www.example.org","port":25}`, 422)
	post(t, s, "/api/console", `{"host":"mx.hamburger.edu","port":0}`, 400)
	post(t, s, "/api/console", `{"host":"mx.hamburger.edu","port":65536}`, 400)
	id := dial(t, s)
	post(t, s, "/api/console/"+id, `{"text":"two\r\nlines"}`, 400)
	post(t, s, "/api/console/"+id, `{"text":"`+strings.Repeat("x", maxTyped+1)+`"}`, 400)
	post(t, s, "/api/console/"+id, `{"text":"`+strings.Repeat("x", maxTyped)+`"}`, 200)
	post(t, s, "/api/console/unknown", `{"text":"NOOP"}`, 404)
	for range maxConsoles - 1 {
		dial(t, s)
	}
	post(t, s, "/api/console", `{"host":"mx.hamburger.edu","port":25}`, 503)
	if w := answer(s.Handler(), request("DELETE", "/api/console/"+id, "")); w.Code != 200 {
		t.Error(w.Code)
	}
	dial(t, s)
	if w := answer(s.Handler(), request("DELETE", "/api/console/"+id, "")); w.Code != http.StatusNotFound {
		t.Error("hung up twice: ", w.Code)
	}
}

// TestConsoleFlood: a host that never stops, in lines or without any, fills a
// console and no more.
func TestConsoleFlood(t *testing.T) {
	s, _, base := serve(t)
	id := dial(t, s)
	post(t, s, "/api/console/"+id, `{"text":"FLOOD"}`, 200)
	r := listen(t, base, "/api/console/"+id)
	n := 0
	for {
		l := r.line()
		if l.From == "end" {
			break
		}
		if n++; len(l.Text) > maxConsoleLine {
			t.Fatalf("a line of %d octets", len(l.Text))
		}
	}
	if n > maxConsoleLines+1 {
		t.Errorf("%d lines are kept", n)
	}
}

// TestExplain: dialogues in testdata, each line with the section that the page
// names for it.
func TestExplain(t *testing.T) {
	files, err := filepath.Glob("testdata/explain/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no dialogues", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		d := &dialogue{service: strings.TrimSuffix(filepath.Base(name), ".txt")}
		for i, l := range strings.Split(strings.TrimRight(string(text), "\n"), "\n") {
			said, want, ok := strings.Cut(l, " | ")
			if !ok {
				t.Fatalf("%s:%d has no section", name, i+1)
			}
			var n note
			switch who, line, _ := strings.Cut(said, ": "); who {
			case "C":
				n = d.typed(line)
			case "S":
				n = d.said(line)
			}
			if got := strings.TrimPrefix(n.rfc, "RFC "); got != want {
				t.Errorf("%s:%d: %s\nfollows %s (%s), want %s", name, i+1, said, got, n.say, want)
			}
		}
	}
}

// FuzzExplain: no line of a peer breaks the explanation, and each has a
// sentence.
func FuzzExplain(f *testing.F) {
	f.Add("smtp", "250-SIZE 1\n354 go\n.\n", "DATA\n.\n..\nfrom: x\n\n")
	f.Add("pop3", "+OK\n1 2\n.", "LIST\nRETR 1")
	f.Add("imap", "* 1 FETCH\na OK\n+ go\n*\n", "a FETCH 1\nb\n")
	f.Fuzz(func(t *testing.T, service, server, client string) {
		d := &dialogue{service: service}
		typed := strings.Split(client, "\n")
		for i, l := range strings.Split(server, "\n") {
			if d.said(l).say == "" {
				t.Errorf("nothing about %q", l)
			}
			if i < len(typed) && d.typed(typed[i]).say == "" {
				t.Errorf("nothing about %q", typed[i])
			}
		}
	})
}
