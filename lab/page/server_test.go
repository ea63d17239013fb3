package page

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"postrider/internal/journey"
)

// reader reads a stream of server-sent events.
type reader struct {
	t    *testing.T
	body *bufio.Reader
}

type event struct{ id, name, data string }

// listen opens a stream at a real server.
func listen(t *testing.T, base, path string, headers ...string) *reader {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s: %s", path, answer.Status)
	}
	return &reader{t, bufio.NewReader(answer.Body)}
}

func (r *reader) next() event {
	r.t.Helper()
	var e event
	for {
		text, err := r.body.ReadString('\n')
		if err != nil {
			r.t.Fatal(err)
		}
		text = strings.TrimSuffix(text, "\n")
		switch name, value, _ := strings.Cut(text, ": "); name {
		case "id":
			e.id = value
		case "event":
			e.name = value
		case "data":
			e.data = value
		case "":
			if e.name != "" {
				return e
			}
		}
	}
}

// step is the next step of the stream.
func (r *reader) step() *Step {
	r.t.Helper()
	for {
		e := r.next()
		if e.name != "step" {
			continue
		}
		s := new(Step)
		if err := json.Unmarshal([]byte(e.data), s); err != nil {
			r.t.Fatal(err)
		}
		if e.id != fmt.Sprint(s.Seq) {
			r.t.Errorf("id %s of step %d", e.id, s.Seq)
		}
		return s
	}
}

func serve(t *testing.T) (*Server, *fakeLab, string) {
	t.Helper()
	s, f := open(t)
	h := httptest.NewServer(s.Handler())
	t.Cleanup(h.Close)
	t.Cleanup(func() { s.cancel() }) // first, or the streams keep h
	return s, f, h.URL
}

// TestEvents: a letter's steps come in order; a browser that comes back goes on
// after the last step that it saw, and one from an earlier lab begins anew.
func TestEvents(t *testing.T) {
	_, f, base := serve(t)
	r := listen(t, base, "/api/events")
	if e := r.next(); e.name != "hello" {
		t.Errorf("first %+v", e)
	}
	f.play()
	var said []string
	for range 12 {
		s := r.step()
		said = append(said, fmt.Sprintf("%d %s > %s %s: %s", s.Seq, s.From, s.To, s.Via, s.Label))
	}
	want := []string{
		"1 pc.crepes.fr > mx.crepes.fr smtp: RCPT TO:<bob@hamburger.edu>",
		"2 mx.crepes.fr > pc.crepes.fr smtp: 250 2.1.5 Recipient ok",
		"3 mx.crepes.fr > mx.crepes.fr queue: letter accepted",
		"4 resolver.crepes.fr > a.root-servers.net dns: MX hamburger.edu ?",
		"5 a.root-servers.net > resolver.crepes.fr dns: ask ns.edu (for edu)",
		"6 resolver.crepes.fr > ns1.hamburger.edu dns: MX hamburger.edu ?",
		"7 ns1.hamburger.edu > resolver.crepes.fr dns: MX 10 mx.hamburger.edu.",
		"8 mx.crepes.fr > mx.hamburger.edu smtp: MAIL FROM:<alice@crepes.fr>",
		"9 mx.hamburger.edu > mx.crepes.fr smtp: 250 2.1.0 alice@crepes.fr... Sender ok",
		"10 mx.crepes.fr > mx.hamburger.edu smtp: the letter",
		"11 mx.hamburger.edu > mx.crepes.fr smtp: 250 2.0.0 accepted",
		"12 mx.hamburger.edu > mx.hamburger.edu mailbox: into INBOX of bob@hamburger.edu <script>alert(1)</script>",
	}
	for i := range want {
		if said[i] != want[i] {
			t.Errorf("step %d is\n%s, want\n%s", i+1, said[i], want[i])
		}
	}
	if s := listen(t, base, "/api/events", "Last-Event-ID", "10").step(); s.Seq != 11 {
		t.Errorf("after 10 comes %d", s.Seq)
	}
	if s := listen(t, base, "/api/events?after=11").step(); s.Seq != 12 {
		t.Errorf("after 11 comes %d", s.Seq)
	}
	if s := listen(t, base, "/api/events", "Last-Event-ID", "4711").step(); s.Seq != 1 {
		t.Errorf("after a number of another lab comes %d", s.Seq)
	}
}

// TestEventsGone: steps are bounded, and who misses some is told.
func TestEventsGone(t *testing.T) {
	s, _, base := serve(t)
	for range maxSteps + 1 {
		s.log.add(&Step{})
	}
	r := listen(t, base, "/api/events", "Last-Event-ID", "3")
	r.next() // hello
	if e := r.next(); e.name != "gone" || e.data != fmt.Sprintf(`{"first":%d}`, maxSteps/10+1) {
		t.Errorf("%+v", e)
	}
	if got := r.step().Seq; got != maxSteps/10+1 {
		t.Errorf("the first that is kept is %d", got)
	}
	if n := len(s.log.steps); n > maxSteps {
		t.Errorf("%d steps are kept", n)
	}
}

// TestStreamsBounded: one stream more than allowed is refused, and a place is
// free again when one ends.
func TestStreamsBounded(t *testing.T) {
	s, _, base := serve(t)
	for range maxStreams {
		s.streams <- struct{}{}
	}
	answer, err := http.Get(base + "/api/events")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one more: %s", answer.Status)
	}
	<-s.streams
	listen(t, base, "/api/events").next()
}

// TestSceneEvent: flipping a switch tells every page, and the scene has it.
func TestSceneEvent(t *testing.T) {
	s, f, base := serve(t)
	r := listen(t, base, "/api/events")
	r.next()
	post(t, s, "/api/fault", `{"id":"down mx.hamburger.edu","on":true}`, 200)
	if e := r.next(); e.name != "scene" {
		t.Errorf("%+v", e)
	}
	if !f.Scene().Faults[0].On {
		t.Error("the switch is off")
	}
	post(t, s, "/api/fault", `{"id":"flood","on":true}`, 422)
}

func post(t *testing.T, s *Server, path, body string, want int) string {
	t.Helper()
	w := answer(s.Handler(), request("POST", path, body))
	if w.Code != want {
		t.Errorf("POST %s %s: %d, want %d: %s", path, body, w.Code, want, w.Body)
	}
	return w.Body.String()
}

// TestActions: what a page may ask for, and what is refused before the lab
// hears of it.
func TestActions(t *testing.T) {
	s, f := open(t)
	post(t, s, "/api/letter", `{"from":"alice@crepes.fr","to":["bob@hamburger.edu"],"subject":"s","body":"b"}`, 200)
	post(t, s, "/api/letter", `{"to":["bob@hamburger.edu"]}`, 422)
	post(t, s, "/api/letter", `{"from":"alice@crepes.fr"}`, 400)
	post(t, s, "/api/letter", `{"from":"alice@crepes.fr\r\nRCPT","to":["bob@hamburger.edu"]}`, 400)
	post(t, s, "/api/letter", `{"from":"a@b","to":["c@d"],"subject":"x\nBcc: e@f"}`, 400)
	post(t, s, "/api/letter", `{"from":"a@b","to":[`+strings.Repeat(`"c@d",`, maxLetterRecipients)+`"c@d"]}`, 400)
	post(t, s, "/api/letter", `{"from":"a@b","to":["c@d"],"subject":"`+strings.Repeat("x", maxField+1)+`"}`, 400)
	post(t, s, "/api/letter", `{"form":"a@b"}`, 400)
	post(t, s, "/api/letter", `no JSON`, 400)
	if len(f.letters) != 1 {
		t.Errorf("%d letters", len(f.letters))
	}
	post(t, s, "/api/jump", `{"seconds":432000}`, 200)
	post(t, s, "/api/jump", `{"seconds":0}`, 400)
	post(t, s, "/api/jump", `{"seconds":-5}`, 400)
	post(t, s, "/api/jump", `{"seconds":9223372036854775807}`, 400)
	if f.jumped != 5*24*time.Hour {
		t.Errorf("jumped %v", f.jumped)
	}
	post(t, s, "/api/collect", `{"account":"bob@hamburger.edu","protocol":"imap"}`, 200)
	post(t, s, "/api/collect", `{"account":"bob@hamburger.edu","protocol":"uucp"}`, 400)
	if got := post(t, s, "/api/ask", `{"resolver":"r","name":"hamburger.edu","type":"MX"}`, 200); !strings.Contains(got, "MX of hamburger.edu") {
		t.Error(got)
	}
	if got := post(t, s, "/api/register", `{"domain":"networkutopia.com"}`, 200); !strings.Contains(got, "glue of networkutopia.com") {
		t.Error(got)
	}
	if w := answer(s.Handler(), request("POST", "/api/jump", `{"seconds":1}`, "Content-Type", "text/plain")); w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("a form of another site would pass: %d", w.Code)
	}
	if w := answer(s.Handler(), request("GET", "/api/jump", "")); w.Code != http.StatusMethodNotAllowed && w.Code != 404 {
		t.Errorf("GET jumps: %d", w.Code)
	}
}

// TestStatic: the files are served under their types, and nothing else is.
func TestStatic(t *testing.T) {
	s, _ := open(t)
	for path, want := range map[string]string{
		"/": "text/html", "/static/app.js": "text/javascript", "/static/style.css": "text/css", "/static/icon.svg": "image/svg+xml",
	} {
		w := answer(s.Handler(), request("GET", path, ""))
		if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), want) {
			t.Errorf("%s: %d %s", path, w.Code, w.Header())
		}
	}
	for _, path := range []string{"/static/..%2fdoc.go", "/static/", "/static/nothing.js", "/doc.go"} {
		if w := answer(s.Handler(), request("GET", path, "")); w.Code == 200 {
			t.Errorf("%s is served: %s", path, w.Body)
		}
	}
}

// TestStaticIsStrict: no file makes markup or code of text, has anything
// inline, or asks for anything from elsewhere.
func TestStaticIsStrict(t *testing.T) {
	files, err := fs.Glob(static, "static/*")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	never := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|createContextualFragment|setHTML|srcdoc|javascript:|\son[a-z]+="|\sstyle="|<script>|@import|url\(`)
	outside := regexp.MustCompile(`https?://[^"' )]*`)
	for _, name := range files {
		text, err := fs.ReadFile(static, name)
		if err != nil {
			t.Fatal(err)
		}
		if found := never.Find(text); found != nil {
			t.Errorf("%s has %q", name, found)
		}
		for _, address := range outside.FindAllString(string(text), -1) {
			// A namespace's name, and the links to RFCs, which only a click follows.
			if address != "http://www.w3.org/2000/svg" && address != "https://www.rfc-editor.org/rfc/rfc" {
				t.Errorf("%s names %s", name, address)
			}
		}
	}
}

// TestClose: streams and consoles end with the page.
func TestClose(t *testing.T) {
	s, _, base := serve(t)
	r := listen(t, base, "/api/events")
	r.next()
	id := dial(t, s)
	s.Close()
	if _, err := io.ReadAll(r.body); err != nil {
		t.Error(err)
	}
	s.console.mu.Lock()
	c := s.console.byID[id]
	s.console.mu.Unlock()
	if _, ended, _ := c.after(0); !ended {
		t.Error("the console is open")
	}
}

// TestStepReplies: a reply of several lines is one step, with all of them; the
// reply to the letter is told from that to DATA.
func TestStepReplies(t *testing.T) {
	s, f, base := serve(t)
	r := listen(t, base, "/api/events")
	say := func(kind journey.Kind, text, verb string) {
		f.event("mx.crepes.fr", kind, "mx.hamburger.edu", text, "verb", verb)
	}
	say(journey.DeliverCommand, "EHLO mx.crepes.fr", "EHLO")
	for _, l := range []string{"250-mx.hamburger.edu Hello", "250-PIPELINING", "250-SIZE 1", "250 HELP"} {
		say(journey.DeliverReply, l, "EHLO")
	}
	say(journey.DeliverCommand, "DATA", "DATA")
	say(journey.DeliverReply, "354 go on", "DATA")
	say(journey.DeliverContent, "", "")
	say(journey.DeliverReply, "250 taken", "DATA")
	r.step()
	reply := r.step()
	if reply.Label != "250 mx.hamburger.edu Hello, and more" || len(reply.Fields) != 5 || !strings.Contains(reply.Fields[2][1], "PIPELINING   (Commands may") || reply.Tone != "ok" {
		t.Errorf("%+v", reply)
	}
	r.step()
	if got := r.step(); got.RFC != "RFC 5321 section 4.1.1.4" {
		t.Errorf("354: %+v", got)
	}
	r.step()
	if got := r.step(); got.RFC != "RFC 5321 section 6.1" {
		t.Errorf("250: %+v", got)
	}
	if len(s.log.steps) != 6 {
		t.Errorf("%d steps", len(s.log.steps))
	}
}
