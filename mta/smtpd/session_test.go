package smtpd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"postrider/internal/wire"
	"postrider/mailstore"
	"postrider/mailstore/storetest"
	"postrider/mta"
)

// script is a connection whose peer has written down all that it will send: a
// Read gets one piece. It waits for the greeting before the first piece.
type script struct {
	pieces func() []byte // the next piece; nil at the end
	rest   []byte
	spoke  bool
	out    io.Writer
}

func (c *script) Read(p []byte) (int, error) {
	if !c.spoke {
		return 0, os.ErrDeadlineExceeded
	}
	for len(c.rest) == 0 {
		if c.rest = c.pieces(); c.rest == nil {
			return 0, io.EOF
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *script) Write(p []byte) (int, error) {
	c.spoke = true
	return c.out.Write(p)
}

func (c *script) Close() error                     { return nil }
func (c *script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *script) SetDeadline(time.Time) error      { return nil }
func (c *script) SetReadDeadline(time.Time) error  { return nil }
func (c *script) SetWriteDeadline(time.Time) error { return nil }

// play has a server carry out one session.
func (c *script) play(s *Server) {
	conn := &wire.Conn{Conn: c, Remote: netip.MustParseAddr("127.0.0.1")}
	s.serve(context.Background(), conn, make(chan struct{}))
}

func inPieces(pieces ...[]byte) func() []byte {
	return func() []byte {
		if len(pieces) == 0 {
			return nil
		}
		p := pieces[0]
		pieces = pieces[1:]
		return p
	}
}

var replyLine = regexp.MustCompile(`^[2-5][0-9][0-9][ -][^\x00-\x1f\x7f]*$`)

// checkReplies holds the server's output to RFC 5321 section 4.2.
func checkReplies(t *testing.T, in []byte, out string) {
	t.Helper()
	if out == "" || !strings.HasSuffix(out, "\r\n") || !utf8.ValidString(out) {
		t.Fatalf("%q: output %q", in, out)
	}
	code := ""
	for line := range strings.SplitSeq(strings.TrimSuffix(out, "\r\n"), "\r\n") {
		if !replyLine.MatchString(line) || len(line)+2 > maxReplyLine && !strings.HasPrefix(line, "334 ") {
			t.Fatalf("%q: reply line %q", in, line)
		}
		if code != "" && line[:3] != code {
			t.Fatalf("%q: a reply of several lines changes its code at %q", in, line)
		}
		if code = ""; line[3] == '-' {
			code = line[:3]
		}
	}
	if code != "" {
		t.Fatalf("%q: the last reply has no end: %q", in, out)
	}
}

// FuzzSession plays whole sessions; octet 0xff in the input stands between what
// the client sends at once. Every reply is well formed, and each message that is
// accepted stands in the input, stuffed and with CRLF.CRLF behind it.
func FuzzSession(f *testing.F) {
	const hello = "EHLO crepes.fr\r\n\xffMAIL FROM:<alice@crepes.fr>\r\nRCPT TO:<bob@hamburger.edu>\r\n"
	for _, s := range []string{
		hello + "DATA\r\n\xffSubject: x\r\n\r\n..\r\n.\r\nQUIT\r\n",
		hello + "DATA\r\n\xffa\n.\n\r\n.\xff\r\nNOOP\r\n",
		hello + "BDAT 3\r\na\r\n\xffBDAT 0 LAST\r\n",
		"HELO x\r\n\xffMAIL FROM:<\"a b\"@c.org> SIZE=3\r\nVRFY x\r\nHELP\r\nRSET\r\n",
		"AUTH SCRAM-TEST Og==\r\n\xffcHJvb2Y=\r\n\xff\r\n",
		"EHLO x\r\nAUTH SCRAM-TEST Og==\r\n\xffcHJvb2Y=\r\n\xff\r\nMAIL FROM:<>\r\nRCPT TO:<bob@hamburger.edu>\r\nBURL imap://alice@hamburger.edu/Drafts/;UID=letter\r\nBDAT 3\r\na\r\nBURL imap://alice@hamburger.edu/Drafts/;UID=part LAST\r\n",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	w := newWorld(f)
	f.Fuzz(func(t *testing.T, in []byte, submission bool) {
		o := w.options()
		o.MaxSize, o.MaxRecipients = 10000, 3
		if submission {
			o.Mode = Submission
		}
		var out bytes.Buffer
		c := &script{pieces: inPieces(bytes.Split(in, []byte{0xff})...), out: &out}
		c.play(New(o))
		checkReplies(t, in, out.String())
		sent := bytes.ReplaceAll(in, []byte{0xff}, nil)
		for len(w.taken) > 0 {
			checkTaken(t, sent, <-w.taken, submission)
		}
	})
}

func checkTaken(t *testing.T, sent []byte, m taken, submission bool) {
	t.Helper()
	if rest := strings.ReplaceAll(m.content, "\r\n", ""); strings.ContainsAny(rest, "\r\n\x00") {
		t.Fatalf("%q: accepted %q", sent, m.content)
	}
	if n := len(m.env.To); n == 0 || n > 3 {
		t.Fatalf("%q: accepted for %d recipients", sent, n)
	}
	if submission || bytes.Contains(bytes.ToUpper(sent), []byte("BDAT")) {
		return
	}
	// The trace field ends with the first line that is not folded.
	content := m.content
	for {
		i := strings.Index(content, "\r\n")
		content = content[i+2:]
		if !strings.HasPrefix(content, "\t") {
			break
		}
	}
	stuffed := strings.ReplaceAll("\r\n"+content, "\r\n.", "\r\n..")
	if !bytes.Contains(sent, []byte(stuffed+".\r\n")) && !looseContains(sent, content) {
		t.Fatalf("%q: accepted %q", sent, content)
	}
}

// looseContains finds content in what was sent when the client stuffed dots
// that it need not have, or when the field before it looks like a part of it.
func looseContains(sent []byte, content string) bool {
	for i := range sent {
		if i > 0 && !bytes.HasSuffix(sent[:i], crlf) {
			continue
		}
		s := plainScan(string(sent[i:]), true, false)
		if s.done && s.fault == noFault && (s.content == content || strings.HasSuffix(s.content, content)) {
			return true
		}
	}
	return false
}

func FuzzParams(f *testing.F) {
	f.Add("SIZE=3 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=a+2Bb AUTH=<>", true)
	f.Add("NOTIFY=SUCCESS,DELAY ORCPT=rfc822;bob@c.org", false)
	f.Fuzz(func(t *testing.T, in string, mail bool) {
		params, r := parseParams(in)
		if r == nil && mail {
			var err *mta.Reply
			o, err := mailOptions(params)
			if err == nil && (o.Size < 0 || strings.ContainsAny(o.EnvelopeID, "\r\n\x00")) {
				t.Errorf("%q: %+v", in, o)
			}
			r = err
		} else if r == nil {
			o, err := rcptOptions(params, true)
			if err == nil && (len(o.Notify) > 3 || strings.ContainsAny(o.OriginalRecipient, "\r\n\x00")) {
				t.Errorf("%q: %+v", in, o)
			}
			r = err
		}
		if r != nil && r.Code != 501 && r.Code != 555 {
			t.Errorf("%q: %v", in, r)
		}
	})
}

// FuzzSubmission: the edited header has a Date and a Message-ID and no Bcc, is
// not edited again, and the user's text comes through.
func FuzzSubmission(f *testing.F) {
	f.Add("From: a@b.org\r\nBcc: c@d.org\r\n\te@f.org\r\n\r\n")
	f.Add("hello\r\nBcc: x\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		if strings.ContainsAny(strings.ReplaceAll(in, "\r\n", ""), "\r\n") {
			return // the scanner lets none of these through
		}
		if i := strings.Index("\r\n"+in, "\r\n\r\n"); i >= 0 {
			in = in[:i+2] // a header ends with its empty line
		}
		fix := &submission{date: "today", messageID: "<x@y>"}
		once, authors, r := fix.apply([]byte(in))
		if r != nil {
			return
		}
		for _, a := range authors {
			if b, err := mta.ParseAddress(a.String()); err != nil || a != b {
				t.Errorf("%q: author %#v", in, a)
			}
		}
		head := once
		if i := bytes.Index(once, []byte("\r\n\r\n")); i >= 0 {
			head = once[:i+4]
		}
		lower := "\r\n" + strings.ToLower(string(head))
		if !strings.Contains(lower, "\r\ndate") || !strings.Contains(lower, "\r\nmessage-id") || strings.Contains(lower, "\r\nbcc:") {
			t.Errorf("%q became %q", in, once)
		}
		if twice, _, r := fix.apply(head); r != nil || !bytes.Equal(head, twice) {
			t.Errorf("%q became %q, and then %q", in, once, twice)
		}
	})
}

func TestAppendReply(t *testing.T) {
	for _, tt := range []struct {
		r    mta.Reply
		want string
	}{
		{mta.Reply{Code: 250, Text: "ok"}, "250 ok\r\n"},
		{mta.Reply{Code: 250, Status: "2.0.0", Text: ""}, "250 2.0.0 \r\n"},
		{mta.Reply{Code: 550, Status: "5.1.1", Text: "a\nb\r\n"}, "550-5.1.1 a\r\n550 5.1.1 b\r\n"},
		{mta.Reply{Code: 550, Status: "5.1.1", Text: "a\rb\x00\x85\u0085é"}, "550 5.1.1 a?b???é\r\n"},
		{mta.Reply{Code: 550, Text: strings.Repeat("é", 300)}, "550 " + strings.Repeat("é", 253) + "\r\n"},
	} {
		if got := string(appendReply(nil, &tt.r)); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.r, got, tt.want)
		}
	}
}

// TestLogHoldsNoSecrets reads the log of a session with a login and a message.
func TestLogHoldsNoSecrets(t *testing.T) {
	w := newWorld(t)
	var log, out bytes.Buffer
	o := w.options()
	o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o.Mode = Submission
	const proof = "cHJvb2Y="
	c := &script{out: &out, pieces: inPieces(
		[]byte("EHLO crepes.fr\r\n"), []byte("AUTH LOGIN\r\n"), []byte("YWxpY2U=\r\n"), []byte("c2VjcmV0\r\n"),
		[]byte("AUTH SCRAM-TEST Og==\r\n"), []byte(proof+"\r\n"), []byte("\r\n"),
		[]byte("MAIL FROM:<alice@hamburger.edu>\r\nRCPT TO:<carol@example.com>\r\nDATA\r\n"),
		[]byte("Subject: classified\r\n\r\nburn after reading\r\n.\r\n"))}
	c.play(New(o))
	for _, want := range []string{"message accepted", "logged in", "carol@example.com"} {
		if strings.Contains(log.String(), want) == (want == "carol@example.com") {
			t.Errorf("log and %q:\n%s", want, log.String())
		}
	}
	for _, secret := range []string{"secret", "c2VjcmV0", "proof", proof, "classified", "burn"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log has %q:\n%s", secret, log.String())
		}
	}
	if len(w.taken) != 1 {
		t.Errorf("%d messages; dialogue:\n%s", len(w.taken), out.String())
	}
}

// TestErrorsStayInside: what goes wrong inside is in the log and not in the
// reply, and a full disk is told apart.
func TestErrorsStayInside(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errors.New("open /var/lib/postrider: burnt"), "451 4.3.0 Local error in processing, please try again later\r\n"},
		{errors.Join(errors.New("insert"), mailstore.ErrFull), "452 4.3.1 Out of storage, please try again later\r\n"},
		{mta.Errorf(554, "5.6.0", "No thanks"), "554 5.6.0 No thanks\r\n"},
	} {
		w := newWorld(t)
		w.refusal = tt.err
		var log, out bytes.Buffer
		o := w.options()
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		c := &script{out: &out, pieces: inPieces([]byte(
			"HELO x\r\nMAIL FROM:<a@b.org>\r\nRCPT TO:<bob@hamburger.edu>\r\nDATA\r\n"), []byte(".\r\n"))}
		c.play(New(o))
		if !strings.HasSuffix(out.String(), tt.want+"421 4.4.2") && !strings.HasSuffix(out.String(), tt.want) {
			t.Errorf("%v: dialogue\n%s", tt.err, out.String())
		}
		if !strings.Contains(log.String(), "message refused") {
			t.Errorf("%v: log\n%s", tt.err, log.String())
		}
	}
}

// fullDisk is an engine on which no file can be made.
type fullDisk struct{ mailstore.Engine }

func (fullDisk) CreateFile() (mailstore.BodyFile, error) { return nil, mailstore.ErrFull }

// TestFullDisk: a message that cannot be stored is read to its end and refused
// for now, and the session goes on.
func TestFullDisk(t *testing.T) {
	store, err := mailstore.Open(t.Context(), fullDisk{storetest.NewEngine()}, mailstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	w := newWorld(t)
	o := w.options()
	o.Queue = &world{store: store, taken: w.taken}
	var out bytes.Buffer
	const mail = "MAIL FROM:<a@b.org>\r\nRCPT TO:<bob@hamburger.edu>\r\nDATA\r\n"
	c := &script{out: &out, pieces: inPieces([]byte("HELO x\r\n"+mail),
		[]byte(strings.Repeat("0123456789\r\n", 2*mailstore.InlineSize/12)+".\r\n"),
		[]byte(mail), []byte("small\r\n.\r\n"), []byte("QUIT\r\n"))}
	c.play(New(o))
	lines := strings.Split(strings.TrimSpace(out.String()), "\r\n")
	got := ""
	for _, line := range lines {
		got += line[:3] + " "
	}
	if want := "220 250 250 250 354 452 250 250 354 250 221 "; got != want || len(w.taken) != 1 {
		t.Errorf("%d messages; replies %s, want %s", len(w.taken), got, want)
	}
}

// benchQueue takes messages and keeps none.
type benchQueue struct{ *world }

func (benchQueue) Accept(context.Context, *mta.Envelope, *mailstore.Body) error { return nil }

// BenchmarkSession receives messages of 4 KiB on one connection, by pipelining.
func BenchmarkSession(b *testing.B) {
	w := newWorld(b)
	o := w.options()
	o.Queue = benchQueue{w}
	server := New(o)
	line := strings.Repeat("All work and no play makes Jack a dull boy. ", 2)[:74] + "\r\n"
	body := []byte("Subject: bench\r\nFrom: a@b.org\r\nTo: bob@hamburger.edu\r\n\r\n" + strings.Repeat(line, 4096/len(line)) + ".\r\n")
	commands := []byte("MAIL FROM:<alice@crepes.fr> SIZE=4096\r\nRCPT TO:<bob@hamburger.edu>\r\nDATA\r\n")
	left := 2 * b.N
	started := false
	c := &script{out: io.Discard, pieces: func() []byte {
		if !started {
			started = true
			return []byte("EHLO crepes.fr\r\n")
		}
		if left--; left < 0 {
			return nil
		}
		if left%2 == 1 {
			return commands
		}
		return body
	}}
	b.ReportAllocs()
	b.ResetTimer()
	c.play(server)
}
