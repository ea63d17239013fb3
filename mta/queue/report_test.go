package queue

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/netip"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postrider/mailstore"
	"postrider/mta"
)

// at is a fixed time in a fixed zone.
func at(minutes int) time.Time {
	zone := time.FixedZone("", 3600)
	return time.Date(2026, 11, 20, 12, 0, 0, 0, zone).Add(time.Duration(minutes) * time.Minute)
}

func reportFixture(change func(r *reportOf)) (*reportOf, string) {
	r := &reportOf{
		id:   "dsn0001",
		from: addr("alice@crepes.fr"),
		date: at(1),
		item: &mailstore.QueueItem{Envelope: "msg0001", From: "alice@crepes.fr", Accepted: at(0), Expires: at(5 * 24 * 60)},
		recipients: []reported{{
			action: failed, recipient: addr("bob@hamburger.edu"), remote: true, last: at(1), attempts: 1,
			reply: mta.Errorf(550, "5.1.1", "<bob@hamburger.edu>: Recipient address rejected:\nUser unknown in virtual mailbox table"),
			host:  "mx.hamburger.edu", addr: netip.MustParseAddrPort("192.0.2.25:25"),
		}},
	}
	if change != nil {
		change(r)
	}
	return r, letterText
}

func TestReportText(t *testing.T) {
	wide := strings.Replace(letterText, "Do you like ketchup?", "Grüße aus Köln", 1)
	eightBit := letterText + "Grüße\r\n"
	for _, c := range []struct {
		name   string
		text   string
		change func(r *reportOf)
	}{
		{"failed", "", nil},
		{"failed-full", "", func(r *reportOf) {
			r.item.Return, r.item.EnvID = "FULL", "QQ314159"
			r.recipients[0].orcpt = "rfc822;Bob@Hamburger.EDU"
		}},
		{"failed-domain", "", func(r *reportOf) {
			t := &r.recipients[0]
			t.host, t.addr = "", netip.AddrPort{}
			t.reply = mta.Errorf(550, "5.1.2", "The domain hamburger.edu does not exist")
		}},
		{"failed-expired", "", func(r *reportOf) {
			t := &r.recipients[0]
			t.host, t.addr, t.expired, t.attempts, t.last = "", netip.AddrPort{}, true, 35, at(5*24*60)
			t.reply = mta.Errorf(451, "4.4.1", "mx.hamburger.edu [192.0.2.25]: connection refused")
		}},
		{"failed-full-wide", eightBit, func(r *reportOf) { r.item.Return = "FULL" }},
		{"failed-full-wide-local", eightBit, func(r *reportOf) { r.item.Return, r.wide = "FULL", true }},
		{"failed-forwarded", "", func(r *reportOf) {
			t := &r.recipients[0]
			t.host, t.addr, t.forwarded = "", netip.AddrPort{}, true
			t.reply = mta.Errorf(550, "5.1.2", "The domain nowhere.example does not exist")
		}},
		{"failed-busy", "", func(r *reportOf) {
			t := &r.recipients[0]
			t.expired, t.attempts, t.last = true, 35, at(5*24*60)
			t.reply = mta.Errorf(421, "", "busy")
		}},
		{"failed-several", "", func(r *reportOf) {
			second := r.recipients[0]
			second.recipient = addr("carol@hamburger.edu")
			second.reply = mta.Errorf(552, "", "mailbox full")
			third := r.recipients[0]
			third.recipient, third.action = addr("dave@hamburger.edu"), delivered
			third.remote, third.reply, third.host = false, mta.Errorf(250, "2.0.0", "Delivered"), ""
			r.recipients = append(r.recipients, second, third)
		}},
		{"delayed", "", func(r *reportOf) {
			t := &r.recipients[0]
			t.action, t.until, t.attempts, t.last = delayed, at(5*24*60), 8, at(240)
			t.reply = mta.Errorf(450, "4.2.2", "Mailbox is full")
		}},
		{"delivered", "", func(r *reportOf) {
			r.recipients[0] = reported{action: delivered, recipient: addr("bob@hamburger.edu"), reply: mta.Errorf(250, "2.0.0", "Delivered"), last: at(0)}
		}},
		{"relayed", "", func(r *reportOf) {
			r.recipients[0].action, r.recipients[0].reply = relayed, mta.Errorf(250, "2.0.0", "queued as 12345")
		}},
		{"expanded", "", func(r *reportOf) {
			r.recipients[0] = reported{action: expanded, recipient: addr("team@hamburger.edu"), reply: mta.Errorf(250, "2.1.5", "Expanded"), last: at(0)}
		}},
		{"global", wide, func(r *reportOf) {
			r.item.UTF8, r.wide = true, true
			r.recipients[0].recipient = addr("jürgen@hamburger.edu")
			r.recipients[0].reply = mta.Errorf(550, "5.1.1", "<jürgen@hamburger.edu>: unbekannt")
		}},
		{"global-seven-bits", wide, func(r *reportOf) {
			r.item.UTF8, r.item.Return = true, "FULL"
			r.recipients[0].recipient = addr("jürgen@hamburger.edu")
			r.recipients[0].orcpt = "utf-8;jürgen@hamburger.edu"
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, text := reportFixture(c.change)
			if c.text != "" {
				text = c.text
			}
			got := compose(t, r, text)
			checkReport(t, r, got)
			golden(t, filepath.Join("testdata", c.name+".eml"), got)
		})
	}
}

func compose(t testing.TB, r *reportOf, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := writer{hostname: "mail.crepes.fr", postmaster: "postmaster@crepes.fr"}
	if _, err := w.report(&b, r, memContent{strings.NewReader(text), int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// golden compares with a file in which lines end in LF. With UPDATE_GOLDEN set
// it is written.
func golden(t *testing.T, path, got string) {
	t.Helper()
	got = strings.ReplaceAll(got, "\r\n", "\n")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", path, d)
	}
}

// checkReport checks what every report must be, with another parser than the one
// that wrote it.
func checkReport(t testing.TB, r *reportOf, s string) {
	t.Helper()
	checkLines(t, s)
	m, err := mail.ReadMessage(strings.NewReader(s))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("Content-Type %q, %v, %v", kind, params, err)
	}
	if _, err := mail.ParseAddress(m.Header.Get("From")); err != nil {
		t.Errorf("From: %v", err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	var kinds []string
	for {
		p, err := parts.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, strings.TrimPrefix(p.Header.Get("Content-Type"), "message/"))
		b, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		if len(kinds) == 2 && p.Header.Get("Content-Transfer-Encoding") == "" {
			checkStatus(t, r, string(b))
		}
	}
	if len(kinds) != 3 || !strings.HasSuffix(kinds[1], "delivery-status") {
		t.Errorf("parts: %q", kinds)
	}
}

// checkLines: only CRLF ends lines, and none is too long.
func checkLines(t testing.TB, s string) {
	t.Helper()
	if !strings.HasSuffix(s, "\r\n") {
		t.Error("the last line is not ended")
	}
	for line := range strings.SplitSeq(s, "\r\n") {
		if strings.ContainsAny(line, "\r\n\x00") {
			t.Errorf("bare line end or NUL in %q", line)
		}
	}
}

// checkStatus checks the fields that RFC 3464 demands.
func checkStatus(t testing.TB, r *reportOf, s string) {
	t.Helper()
	groups := strings.Split(strings.TrimSuffix(s, "\r\n"), "\r\n\r\n")
	if len(groups) != len(r.recipients)+1 {
		t.Fatalf("%d groups for %d recipients:\n%s", len(groups), len(r.recipients), s)
	}
	for i, g := range groups {
		h, err := mail.ReadMessage(strings.NewReader(g + "\r\n\r\n"))
		if err != nil {
			t.Fatalf("group %q: %v", g, err)
		}
		need := []string{"Final-Recipient", "Action", "Status"}
		if i == 0 {
			need = []string{"Reporting-MTA"}
		}
		for _, name := range need {
			if v := h.Header[textproto.CanonicalMIMEHeaderKey(name)]; len(v) != 1 || v[0] == "" {
				t.Errorf("%s: %q", name, v)
			}
		}
		if i > 0 && !validStatus(h.Header.Get("Status")) {
			t.Errorf("Status: %q", h.Header.Get("Status"))
		}
	}
}

// FuzzReport: whatever stands in a message and in a peer's reply, the report is
// well-formed MIME of three parts, and its status part has the fields it needs.
func FuzzReport(f *testing.F) {
	f.Add(letterText, "no such user\nreally", "5.1.1", "bob", "QQ+1", true, true)
	f.Add("Subject: =?utf-8?q?=ff?=\r\nMessage-ID: <a b@c>\r\n\r\n", "\x1b[2J\x00\xff\u2028x", "5.900.1", "j\u00fcrgen", "", false, true)
	f.Add("\r\nonly a body", strings.Repeat("x", 3000), "", "a b", "\r\nSubject: x", true, false)
	f.Add("Subject: "+strings.Repeat("long ", 500)+"\r\n", "\u00e9", "4.4.1", "x", "", false, false)
	f.Fuzz(func(t *testing.T, text, reply, status, local, envid string, full, utf bool) {
		text = strings.NewReplacer("\r\n", "\r\n", "\r", "?", "\n", "\r\n", "\x00", "?").Replace(text)
		r, _ := reportFixture(func(r *reportOf) {
			r.item.EnvID, r.item.UTF8 = envid, utf
			if full {
				r.item.Return = "FULL"
			}
			r.recipients[0].reply = &mta.Reply{Code: 550, Status: status, Text: reply}
			r.recipients[0].host = reply
			r.recipients[0].orcpt = "rfc822;" + envid
			if a, err := mta.ParseAddress(local + "@hamburger.edu"); err == nil {
				r.recipients[0].recipient = a
			}
		})
		got := compose(t, r, text)
		checkReport(t, r, got)
		if !strings.Contains(got, "To: <alice@crepes.fr>\r\n") {
			t.Error("not to the sender")
		}
	})
}
