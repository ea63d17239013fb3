package catch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"postrider/mailstore"
)

func start(t *testing.T, o Options) *Catcher {
	t.Helper()
	o.FreePorts = true
	c, err := Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// send delivers a message as a program under test would, without login.
func send(t *testing.T, c *Catcher, text string, to ...string) error {
	t.Helper()
	client, err := smtp.Dial(c.Addr("smtp"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	return client.SendMail("shop@example.org", to, strings.NewReader(text))
}

func call(t *testing.T, c *Catcher, method, path string, want int) string {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+c.Addr("http")+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != want {
		t.Errorf("%s %s: %d, want %d: %s", method, path, answer.StatusCode, want, text)
	}
	return string(text)
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

const letter = "From: =?utf-8?q?Caf=C3=A9?= <shop@example.org>\r\nTo: you@example.org\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMIME-Version: 1.0\r\n" +
	"Content-Type: multipart/mixed; boundary=b\r\n\r\n" +
	"--b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n" +
	"--c\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nS8OkdGUK\r\n" +
	"--c\r\nContent-Type: text/html; charset=iso-8859-1\r\n\r\n<p>K\xe4te</p><script>alert(1)</script><img src=http://example.org/x>\r\n--c--\r\n" +
	"--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=\"a \\\"b\\\".html\"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--b--\r\n"

// TestCatch: mail for anybody is there, once, with all recipients, and can be
// listed, read, taken apart and deleted.
func TestCatch(t *testing.T) {
	c := start(t, Options{})
	if err := send(t, c, letter, "you@example.org", "hidden@elsewhere.example", "x@[192.0.2.1]"); err != nil {
		t.Fatal(err)
	}
	list := decode[[]Summary](t, call(t, c, "GET", "/api/messages", 200))
	if len(list) != 1 {
		t.Fatalf("%d messages", len(list))
	}
	s := list[0]
	if got := fmt.Sprint(s.To, s.From, s.Sender, s.Subject); got != "[you@example.org hidden@elsewhere.example x@[192.0.2.1]]Café <shop@example.org>shop@example.orgGrüße" {
		t.Error(got)
	}
	path := fmt.Sprintf("/api/messages/%d", s.ID)
	m := decode[Message](t, call(t, c, "GET", path, 200))
	if m.Text != "Käte\n" || !strings.Contains(m.HTML, "<p>Käte</p>") {
		t.Errorf("%q, %q", m.Text, m.HTML)
	}
	var parts []string
	for _, p := range m.Parts {
		parts = append(parts, p.Number+" "+p.Type+" "+p.Filename)
	}
	if got := strings.Join(parts, ", "); got != `1.1 text/plain , 1.2 text/html , 2 application/pdf a "b".html` {
		t.Error(got)
	}
	if got := call(t, c, "GET", path+"/parts/2", 200); got != "\x00\x01\x02" {
		t.Errorf("%q", got)
	}
	call(t, c, "GET", path+"/parts/3", 404)
	if raw := call(t, c, "GET", path+"/raw", 200); !strings.HasSuffix(raw, letter) {
		t.Errorf("%q", raw)
	}
	call(t, c, "DELETE", path, 200)
	for _, gone := range []string{path, path + "/raw", path + "/html", path + "/parts/1"} {
		call(t, c, "GET", gone, 404)
	}
	call(t, c, "DELETE", path, 404)
}

// TestCatchLogin: after a login any sender will do.
func TestCatchLogin(t *testing.T) {
	c := start(t, Options{})
	client, err := smtp.Dial(c.Addr("submission"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Auth(sasl.NewPlainClient("", Account, Password)); err != nil {
		t.Fatal(err)
	}
	if err := client.SendMail("boss@company.example", []string{"you@example.org"}, strings.NewReader("Subject: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if got := decode[[]Summary](t, call(t, c, "GET", "/api/messages", 200)); len(got) != 1 || got[0].Sender != "boss@company.example" {
		t.Errorf("%+v", got)
	}
}

// TestCatchRefuses: names that fail do, and nothing is kept of them.
func TestCatchRefuses(t *testing.T) {
	c := start(t, Options{})
	for to, code := range map[string]int{"temperror@a.example": 451, "permerror@a.example": 550, "452@a.example": 452, "550+x@a.example": 550, "421@a.example": 421} {
		err := send(t, c, letter, to)
		if reply := new(smtp.SMTPError); !errors.As(err, &reply) || reply.Code != code {
			t.Errorf("%s: %v", to, err)
		}
	}
	if got := call(t, c, "GET", "/api/messages", 200); strings.TrimSpace(got) != "[]" {
		t.Error(got)
	}
}

// TestCatchHTMLIsHarmless: a letter's HTML comes with a policy under which it
// can do nothing, and a part never as what it says it is.
func TestCatchHTMLIsHarmless(t *testing.T) {
	c := start(t, Options{})
	if err := send(t, c, letter, "you@example.org"); err != nil {
		t.Fatal(err)
	}
	for path, kind := range map[string]string{"/api/messages/1/html": "text/html; charset=utf-8", "/api/messages/1/parts/1.2": "application/octet-stream"} {
		answer, err := http.Get("http://" + c.Addr("http") + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		h := answer.Header
		if policy := h.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "sandbox; default-src 'none';") || strings.Contains(policy, "allow-") || len(h.Values("Content-Security-Policy")) != 1 {
			t.Errorf("%s: policy %q", path, h.Values("Content-Security-Policy"))
		}
		if h.Get("Content-Type") != kind || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

// TestCatchWait: a message that comes ends the waiting, one that does not fit
// does not, and patience has an end.
func TestCatchWait(t *testing.T) {
	c := start(t, Options{})
	call(t, c, "GET", "/api/wait?timeout=1ms", 408)
	got := make(chan Summary, 1)
	go func() {
		q := query{to: "second@"}
		s, err := c.wait(context.Background(), q)
		if err != nil {
			t.Error(err)
		}
		got <- s
	}()
	for _, to := range []string{"first@example.org", "second@example.org"} {
		if err := send(t, c, letter, to); err != nil {
			t.Fatal(err)
		}
	}
	s := <-got
	if len(s.To) != 1 || s.To[0] != "second@example.org" {
		t.Errorf("%+v", s)
	}
	if w := decode[Summary](t, call(t, c, "GET", "/api/wait?to=EXAMPLE.ORG&timeout=1m", 200)); w.ID != 1 {
		t.Errorf("the first that fits is %+v", w)
	}
	if w := decode[Summary](t, call(t, c, "GET", "/api/wait?to=first@&timeout=1m", 200)); w.ID != 1 {
		t.Errorf("one that came before others is %+v", w)
	}
	call(t, c, "GET", fmt.Sprintf("/api/wait?after=%d&timeout=1ms", s.ID), 408)
	call(t, c, "GET", "/api/wait?after=4294967295&timeout=1ms", 408)
	for _, bad := range []string{"after=x", "after=-1", "timeout=6m", "timeout=-1s", "timeout=soon", "limit=1", "subjekt=x", "to=%zz"} {
		call(t, c, "GET", "/api/wait?"+bad, 400)
	}
	for _, bad := range []string{"limit=501", "limit=0", "timeout=1s"} {
		call(t, c, "GET", "/api/messages?"+bad, 400)
	}
	for range maxWaits {
		c.waits <- struct{}{}
	}
	call(t, c, "GET", "/api/wait", 503)
}

// TestCatchDelete: those that a query names go, and no others; many ask at once.
func TestCatchDelete(t *testing.T) {
	c := start(t, Options{})
	for i := range 20 {
		if err := send(t, c, letter, fmt.Sprintf("n%d@example.org", i%2)); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{"too=n1@", "limit=1", "after=3", "to=%"} {
		call(t, c, "DELETE", "/api/messages?"+bad, 400)
	}
	if got := decode[map[string]int](t, call(t, c, "DELETE", "/api/messages?to=nobody@", 200)); got["deleted"] != 0 {
		t.Errorf("%v", got)
	}
	var deleting sync.WaitGroup
	var gone atomic.Int64
	for range 4 {
		deleting.Go(func() {
			n, err := c.removeMatching(t.Context(), query{to: "N0@"})
			if err != nil {
				t.Error(err)
			}
			gone.Add(int64(n))
		})
	}
	deleting.Wait()
	left := decode[[]Summary](t, call(t, c, "GET", "/api/messages", 200))
	if gone.Load() != 10 || len(left) != 10 || slices.ContainsFunc(left, func(s Summary) bool { return s.To[0] != "n1@example.org" }) {
		t.Errorf("%d are gone, left: %+v", gone.Load(), left)
	}
	if got := decode[map[string]int](t, call(t, c, "DELETE", "/api/messages", 200)); got["deleted"] != 10 {
		t.Errorf("%v", got)
	}
	if got := decode[map[string]int](t, call(t, c, "DELETE", "/api/messages", 200)); got["deleted"] != 0 {
		t.Errorf("%v", got)
	}
}

// TestCatchBounds: the oldest mail goes when there is too much of it.
func TestCatchBounds(t *testing.T) {
	for name, o := range map[string]Options{"messages": {Messages: 3}, "octets": {Octets: 3 << 20}} {
		t.Run(name, func(t *testing.T) {
			c := start(t, o)
			text := letter
			if name == "octets" {
				text += strings.Repeat(strings.Repeat("x", 70)+"\r\n", 800_000/72)
			}
			for i := range 6 {
				if err := send(t, c, text, fmt.Sprintf("n%d@example.org", i)); err != nil {
					t.Fatal(err)
				}
			}
			for end := time.Now().Add(time.Minute); ; {
				list, err := c.list(t.Context(), query{limit: maxList})
				if err != nil {
					t.Fatal(err)
				}
				if len(list) == 3 && list[0].To[0] == "n5@example.org" && list[2].To[0] == "n3@example.org" {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%+v", list)
				}
			}
		})
	}
}

// TestCatchKept: with a folder, mail is there after a restart, under its id.
func TestCatchKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mail")
	c := start(t, Options{Keep: dir})
	if err := send(t, c, letter, "you@example.org"); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = start(t, Options{Keep: dir})
	m, err := c.parse(t.Context(), 1)
	if err != nil || m.Subject != "Grüße" {
		t.Error(m, err)
	}
	if _, err := c.parse(t.Context(), 2); !errors.Is(err, mailstore.ErrNotFound) {
		t.Error(err)
	}
}

// TestCatchPage: the page and its files are there, strict as the lab's.
func TestCatchPage(t *testing.T) {
	c := start(t, Options{})
	for path, part := range map[string]string{"/": "catches mail", "/static/catch.js": "import", "/static/catch.css": "#list", "/static/dom.js": "export", "/static/style.css": ":root"} {
		if got := call(t, c, "GET", path, 200); !strings.Contains(got, part) {
			t.Errorf("%s: %.100s", path, got)
		}
	}
	files, err := static.ReadDir("static")
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		text, err := static.ReadFile("static/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, never := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "srcdoc", "style=\"", "http://", "https://", "allow-"} {
			if bytes.Contains(text, []byte(never)) {
				t.Errorf("%s has %s", f.Name(), never)
			}
		}
	}
	var out bytes.Buffer
	c.o.Out = &out
	c.introduce()
	if !strings.Contains(out.String(), "smtp://"+c.Addr("smtp")) || !strings.HasSuffix(out.String(), "\nready\n") {
		t.Error(out.String())
	}
}
