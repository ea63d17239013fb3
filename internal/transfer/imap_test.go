package transfer

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postrider/mailstore"
)

// peerMessage is a message of another server: flags and date as it writes them.
type peerMessage struct {
	uid               int
	flags, date, text string
}

// peer is another IMAP server, of an older kind: IMAP4rev1 with NAMESPACE.
type peer struct {
	caps     string
	list     []string // LIST responses
	validity int
	boxes    map[string][]peerMessage
	cut      int // octets after which its connections break; 0 = never
	addr     net.Addr

	mu   sync.Mutex
	seen []string // commands
}

func (p *peer) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go p.serve(theirs)
	return &addrConn{ours, p.addr}, nil
}

// addrConn is a connection that comes from an address.
type addrConn struct {
	net.Conn
	addr net.Addr
}

func (c *addrConn) RemoteAddr() net.Addr { return c.addr }

// saw tells whether a command with that beginning came.
func (p *peer) saw(prefix string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.seen, func(s string) bool { return strings.HasPrefix(s, prefix) })
}

func (p *peer) serve(conn net.Conn) {
	defer conn.Close()
	var out io.Writer = conn
	if p.cut > 0 {
		out = &cutConn{conn, p.cut}
	}
	fmt.Fprintf(out, "* OK [CAPABILITY %s] hello\r\n", p.caps)
	box := ""
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		tag, command, _ := strings.Cut(lines.Text(), " ")
		p.mu.Lock()
		p.seen = append(p.seen, command)
		p.mu.Unlock()
		var answer strings.Builder
		ok := p.answer(&answer, command, &box)
		if _, err := fmt.Fprintf(out, "%s%s %s\r\n", answer.String(), tag, ok); err != nil {
			return
		}
	}
}

func (p *peer) answer(w io.Writer, command string, box *string) string {
	words := strings.Fields(command)
	name := func(i int) string { // also one with spaces
		if quoted := strings.Split(command, `"`); len(quoted) > 2*i {
			return quoted[2*i-1]
		} else if len(quoted) > 1 && i == 1 {
			return quoted[1]
		}
		return strings.Trim(words[i], `"`)
	}
	switch {
	case words[0] == "CAPABILITY":
		fmt.Fprintf(w, "* CAPABILITY %s\r\n", p.caps)
	case words[0] == "LOGIN":
		if name(2) != "secret" {
			return "NO [AUTHENTICATIONFAILED] no"
		}
	case words[0] == "NAMESPACE":
		fmt.Fprint(w, "* NAMESPACE ((\"INBOX.\" \".\")) NIL NIL\r\n")
	case words[0] == "LIST":
		for _, l := range p.list {
			fmt.Fprintf(w, "* LIST %s\r\n", l)
		}
	case words[0] == "STATUS":
		if _, ok := p.boxes[name(1)]; !ok {
			return "NO no such mailbox"
		}
		fmt.Fprintf(w, "* STATUS %q (MESSAGES %d UIDVALIDITY %d)\r\n", name(1), len(p.boxes[name(1)]), p.validity)
	case words[0] == "EXAMINE":
		*box = name(1)
		if _, ok := p.boxes[*box]; !ok {
			return "NO no such mailbox"
		}
		fmt.Fprintf(w, "* FLAGS ()\r\n* %d EXISTS\r\n* OK [UIDVALIDITY %d] x\r\n", len(p.boxes[*box]), p.validity)
		return "OK [READ-ONLY] done"
	case strings.HasPrefix(command, "UID SEARCH"):
		fmt.Fprint(w, "* SEARCH")
		for _, m := range p.boxes[*box] {
			fmt.Fprintf(w, " %d", m.uid)
		}
		fmt.Fprint(w, "\r\n")
	case strings.HasPrefix(command, "UID FETCH"):
		for i, m := range p.boxes[*box] {
			if !inSet(words[2], m.uid) {
				continue
			}
			if strings.Contains(command, "BODY.PEEK[]") {
				fmt.Fprintf(w, "* %d FETCH (UID %d BODY[] {%d}\r\n%s)\r\n", i+1, m.uid, len(m.text), m.text)
			} else {
				fmt.Fprintf(w, "* %d FETCH (UID %d FLAGS (%s) INTERNALDATE %q RFC822.SIZE %d)\r\n", i+1, m.uid, m.flags, m.date, len(m.text))
			}
		}
	default:
		return "BAD unknown"
	}
	return "OK done"
}

func inSet(set string, uid int) bool {
	for part := range strings.SplitSeq(set, ",") {
		var from, to int
		if n, _ := fmt.Sscanf(part, "%d:%d", &from, &to); n == 1 {
			to = from
		}
		if uid >= from && uid <= to {
			return true
		}
	}
	return false
}

func newPeer() *peer {
	const date = "17-Jul-1996 02:44:25 -0700"
	p := &peer{
		caps:     "IMAP4rev1 NAMESPACE",
		validity: 7,
		addr:     &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)},
		list: []string{
			`() "." INBOX`, `(\HasChildren \Sent) "." "INBOX.Sent Items"`, `(\Noselect) "." INBOX.Lists`, `() "." INBOX.Lists.a/b`,
			`(\All) "." "INBOX.All Mail"`, `() "." INBOX.Lost`, `() "." INBOX.Entw&APw-rfe`,
		},
		boxes: map[string][]peerMessage{
			"INBOX": {
				{3, `\Seen \Recent work $Junk`, date, "a: 3\r\n\r\nx\r\n"},
				{5, `\Answered \Flagged \Deleted \Draft \Strange`, " 1-Jan-2020 00:00:00 +0000", "a: 5\n\nbare\rends"},
				{9, ``, date, "large: x\r\n\r\n" + strings.Repeat("large\r\n", 20000)},
			},
			"INBOX.Sent Items":     {{1, `\Seen`, date, "s: 1\r\n\r\n"}},
			"INBOX.Lists.a/b":      {{1, ``, date, "l: 1\r\n\r\n"}},
			"INBOX.All Mail":       {{1, ``, date, "all: 1\r\n\r\n"}},
			"INBOX.Entw&APw-rfe":   nil,
			"INBOX.Lists.untaught": {{1, ``, date, "never listed\r\n"}},
		},
	}
	for i := range 450 { // more than one FETCH asks for
		p.boxes["INBOX"] = append(p.boxes["INBOX"], peerMessage{100 + 2*i, ``, date, fmt.Sprintf("n: %d\r\n\r\n", i)})
	}
	return p
}

func (p *peer) open(t *testing.T, o IMAPOptions) (Source, error) {
	o.URL, o.Password, o.Dial = "imap://ann@peer.example", "secret", p.dial
	return OpenIMAP(t.Context(), o)
}

func (p *peer) mustOpen(t *testing.T) Source {
	t.Helper()
	src, err := p.open(t, IMAPOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// importFrom imports and closes; the end of a server's connection is no fault.
func (l *lab) importFrom(src Source, o ImportOptions) (Summary, error) {
	s, err := Import(l.t.Context(), l.connect(), src, o)
	src.Close()
	return s, err
}

// wanted is what newPeer's account becomes.
func (p *peer) wanted() map[string][]sample {
	day := time.Date(1996, 7, 17, 9, 44, 25, 0, time.UTC)
	want := map[string][]sample{
		"Sent":      {{"s: 1\r\n\r\n", mailstore.Flags{System: mailstore.Seen}, day}},
		"Lists":     nil,
		"Lists/a_b": {{"l: 1\r\n\r\n", mailstore.Flags{}, day}},
		"Entwürfe":  nil,
	}
	for _, m := range p.boxes["INBOX"] {
		s := sample{Text: m.text, Internal: day}
		switch m.uid {
		case 3:
			s.Flags = mailstore.Flags{System: mailstore.Seen, Keywords: []string{"$Junk", "work"}}
		case 5:
			s.Flags.System = mailstore.Answered | mailstore.Flagged | mailstore.Deleted | mailstore.Draft
			s.Internal = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
		}
		want["INBOX"] = append(want["INBOX"], s)
	}
	return want
}

// TestIMAP: folders, flags, dates and octets of another server; a second run
// brings in nothing, and a third what is new.
func TestIMAP(t *testing.T) {
	p, l := newPeer(), newLab(t)
	s, err := l.importFrom(p.mustOpen(t), ImportOptions{Account: "a@x"})
	// INBOX.Lost is listed and can not be opened.
	if err != nil || s.Messages != 455 || s.Dropped != 1 || s.Failed != 1 || s.Skipped[0].Where != "INBOX.Lost" || !slices.Equal(s.Views, []string{"INBOX.All Mail"}) {
		t.Errorf("%+v, %v", s, err)
	}
	want := p.wanted()
	want["Lost"] = nil
	if diff := cmp.Diff(want, l.mail("a@x")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if p.saw("SELECT") || p.saw("UID STORE") || !p.saw("UID FETCH") {
		t.Error("the source was not only read")
	}
	if s, err := l.importFrom(p.mustOpen(t), ImportOptions{Account: "a@x"}); err != nil || s.Messages != 0 || s.Already != 455 {
		t.Errorf("the second run: %+v, %v", s, err)
	}
	p.boxes["INBOX"] = append(p.boxes["INBOX"], peerMessage{5000, "", "17-Jul-1996 02:44:25 -0700", "new: 1\r\n"})
	if s, err := l.importFrom(p.mustOpen(t), ImportOptions{Account: "a@x", Only: []string{"INBOX", "INBOX.All Mail"}}); err != nil || s.Messages != 2 || s.Already != 453 {
		t.Errorf("the third run: %+v, %v", s, err)
	}
	// A folder that was made anew has other messages under the same UIDs.
	p.validity++
	if s, err := l.importFrom(p.mustOpen(t), ImportOptions{Account: "a@x", Only: []string{"Sent Items"}}); err != nil || s.Messages != 1 {
		t.Errorf("after a new UIDVALIDITY: %+v, %v", s, err)
	}
}

// TestIMAPCut: a connection that breaks anywhere, within a message, too: no
// part of a message is taken for the whole, and the next run goes on.
func TestIMAPCut(t *testing.T) {
	p, l := newPeer(), newLab(t)
	cuts := 0
	for p.cut = 500; ; p.cut += 29000 {
		src, err := p.open(t, IMAPOptions{})
		if err == nil {
			_, err = l.importFrom(src, ImportOptions{Account: "a@x"})
		}
		if err == nil {
			break
		}
		cuts++
	}
	if cuts < 4 {
		t.Errorf("cut %d times only", cuts)
	}
	want := p.wanted()
	want["Lost"] = nil
	if diff := cmp.Diff(want, l.mail("a@x")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestIMAPLimits: what is too large is not fetched; a dry run fetches nothing.
func TestIMAPLimits(t *testing.T) {
	p, l := newPeer(), newLab(t)
	src, err := p.open(t, IMAPOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := l.importFrom(src, ImportOptions{Account: "a@x", DryRun: true}); err != nil || s.Messages != 455 || p.saw("UID FETCH 3 (UID BODY") {
		t.Errorf("dry run: %+v, %v", s, err)
	}
	for _, command := range p.seen {
		if strings.Contains(command, "BODY") {
			t.Errorf("a dry run asked %q", command)
		}
	}
	l.maxSize = 1000
	s, err := l.importFrom(p.mustOpen(t), ImportOptions{Account: "a@x", Only: []string{"INBOX"}})
	if err != nil || s.Messages != 452 || s.Failed != 1 || s.Skipped[0].Where != "INBOX: UID 9" {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestIMAPPassword: no password leaves without TLS but for this machine, and
// none is put into a URL.
func TestIMAPPassword(t *testing.T) {
	p := newPeer()
	p.addr = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}
	if _, err := p.open(t, IMAPOptions{}); err == nil || !strings.Contains(err.Error(), "without TLS") {
		t.Errorf("a server without STARTTLS: %v", err)
	}
	if p.saw("LOGIN") || !p.saw("STARTTLS") {
		t.Errorf("it was told %q", p.seen)
	}
	p = newPeer()
	if _, err := OpenIMAP(t.Context(), IMAPOptions{URL: "imap://ann@peer.example", Password: "guess", Dial: p.dial}); err == nil || !strings.Contains(err.Error(), "log in at peer.example:143 as ann") || strings.Contains(err.Error(), "guess") {
		t.Errorf("a wrong password: %v", err)
	}
	for _, s := range []string{"imap://ann:secret@host", "imap://host", "http://ann@host", "imaps://ann@", "imaps://ann@host/INBOX", "%"} {
		if u, err := ParseIMAP(s); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, %v", s, u, err)
		}
	}
	if u, err := ParseIMAP("imaps://ann%40x.example@host"); err != nil || u.Host != "host:993" || u.User.Username() != "ann@x.example" {
		t.Errorf("%v, %v", u, err)
	}
}
