package imap

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/xdg-go/scram"

	"postrider/internal/directory"
	"postrider/internal/wire/wiretest"
	"postrider/mailstore"
)

// login opens a session of go-imap's client.
func (w *world) login(options *imapclient.Options) *imapclient.Client {
	w.t.Helper()
	c := imapclient.New(w.dial(), options)
	w.t.Cleanup(func() { c.Close() })
	if err := c.Login("bob", "hungry").Wait(); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// TestClient: another program's client reads what we write.
func TestClient(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("bob", "INBOX", fixture(t, "alternative"), mailstore.Flags{}, 1)
	c := w.login(nil)
	data, err := c.Select("INBOX", nil).Wait()
	if err != nil || data.NumMessages != 1 {
		t.Fatalf("Select = %+v, %v", data, err)
	}
	list, err := c.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{
		Envelope: true, UID: true, Flags: true,
		BodyStructure: &imap.FetchItemBodyStructure{Extended: true},
		BodySection:   []*imap.FetchItemBodySection{{Part: []int{2}}},
	}).Collect()
	if err != nil || len(list) != 1 {
		t.Fatalf("Fetch = %v, %v", list, err)
	}
	m := list[0]
	if m.Envelope.Subject != "äöüß folded" || m.Envelope.From[0].Name != "Jörg Smith" || len(m.Envelope.Cc) != 5 {
		t.Errorf("envelope %+v", m.Envelope)
	}
	if got := m.BodyStructure.MediaType(); got != "multipart/alternative" {
		t.Errorf("structure %s", got)
	}
	if got := string(m.BodySection[0].Bytes); got != "<p>hi</p>\r\n" {
		t.Errorf("part 2 = %q", got)
	}
	if err := c.Store(imap.SeqSetNum(1), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
		t.Error(err)
	}
	if seqs, err := c.Expunge().Collect(); err != nil || len(seqs) != 1 {
		t.Errorf("Expunge = %v, %v", seqs, err)
	}
	if err := c.Logout().Wait(); err != nil {
		t.Error(err)
	}
}

// TestClientACL: another program's client shares a mailbox and reads who may do what.
func TestClientACL(t *testing.T) {
	w := newWorld(t, nil)
	c := w.login(nil)
	if caps, err := c.Capability().Wait(); err != nil || !caps.Has(imap.CapACL) {
		t.Fatal(caps, err)
	}
	alice := imap.RightsIdentifier("alice@hamburger.edu")
	for _, m := range []struct {
		how    imap.RightModification
		rights string
		fails  bool
	}{
		{imap.RightModificationReplace, "lrswt", false}, {imap.RightModificationRemove, "w", false}, {imap.RightModificationAdd, "k", false},
		{imap.RightModificationAdd, "q", true},
	} {
		if err := c.SetACL("INBOX", alice, m.how, imap.RightSet(m.rights)).Wait(); (err != nil) != m.fails {
			t.Errorf("%+v: %v", m, err)
		}
	}
	acl, err := c.GetACL("INBOX").Wait()
	if err != nil || string(acl.Rights[alice]) != "lrsktcd" || string(acl.Rights["bob@hamburger.edu"]) != "lrswipkxteacd" {
		t.Errorf("%+v, %v", acl, err)
	}
	hers := imapclient.New(w.dial(), nil)
	defer hers.Close()
	if err := hers.Login("alice", "hungry").Wait(); err != nil {
		t.Fatal(err)
	}
	const name = "Other Users/bob@hamburger.edu/INBOX"
	if mine, err := hers.MyRights(name).Wait(); err != nil || mine.Mailbox != name || string(mine.Rights) != "lrsktcd" {
		t.Errorf("%+v, %v", mine, err)
	}
	ns, err := hers.Namespace().Wait()
	if err != nil || len(ns.Other) != 1 || ns.Other[0].Prefix != otherUsers || len(ns.Shared) != 1 || ns.Shared[0].Prefix != shared {
		t.Errorf("%+v, %v", ns, err)
	}
	list, err := hers.List("", ns.Other[0].Prefix+"*", nil).Collect()
	if err != nil || len(list) != 2 || list[1].Mailbox != name {
		t.Errorf("%+v, %v", list, err)
	}
	if data, err := hers.Select(name, nil).Wait(); err != nil || len(data.PermanentFlags) != 2 {
		t.Errorf("%+v, %v", data, err)
	}
}

// TestFixturesOverIMAP: whatever is stored comes out exactly, and everything
// that we say of it is well-formed.
func TestFixturesOverIMAP(t *testing.T) {
	files, err := filepath.Glob("../mailstore/message/testdata/*.msg")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	w := newWorld(t, nil)
	var stored [][]byte
	add := func(b []byte) {
		w.deliver("bob", "INBOX", b, mailstore.Flags{}, 1)
		stored = append(stored, b)
	}
	for _, f := range files {
		if b := fixture(t, strings.TrimSuffix(filepath.Base(f), ".msg")); len(b) > 0 {
			add(b)
		}
	}
	for _, s := range hostileMessages() {
		add([]byte(s))
	}
	c := w.login(nil)
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	cmd := c.Fetch(imap.SeqSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{
		Envelope: true, RFC822Size: true,
		BodyStructure:     &imap.FetchItemBodyStructure{Extended: true},
		BodySection:       []*imap.FetchItemBodySection{{Peek: true}, {Part: []int{1}, Peek: true}, {Part: []int{1}, Specifier: imap.PartSpecifierMIME, Peek: true}},
		BinarySectionSize: []*imap.FetchItemBinarySectionSize{{Part: []int{9}}},
	})
	list, err := cmd.Collect()
	if err != nil || len(list) != len(stored) {
		t.Fatalf("%d of %d messages, %v", len(list), len(stored), err)
	}
	for i, m := range list {
		for _, s := range m.BodySection {
			if len(s.Section.Part) == 0 && !bytes.Equal(s.Bytes, stored[i]) {
				t.Errorf("message %d: %d octets are not the %d that were stored", i, len(s.Bytes), len(stored[i]))
			}
		}
		if m.RFC822Size != int64(len(stored[i])) || m.Envelope == nil || m.BodyStructure == nil {
			t.Errorf("message %d: size %d, envelope %v, structure %v", i, m.RFC822Size, m.Envelope, m.BodyStructure)
		}
	}
	found, err := c.Search(&imap.SearchCriteria{Text: []string{"no-such-text-anywhere"}}, nil).Wait()
	if err != nil || len(found.AllSeqNums()) != 0 {
		t.Errorf("Search = %v, %v", found, err)
	}
}

// hostileMessages are expensive or odd, though small enough for go-imap's
// client, which holds what it gets in memory.
func hostileMessages() []string {
	nested := ""
	for i := range 300 {
		nested += fmt.Sprintf("Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	return []string{
		nested,
		strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 300),
		"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + strings.Repeat("--x\r\n\r\n\r\n", 6000),
		"Subject: " + strings.Repeat("x", 200000) + "\r\n\r\nbody",
		"From: " + strings.Repeat("a,", 20000) + "\r\n\r\n",
		"Subject: \x00\xff\"\\{5}\r\nFrom: \"\\\"{3}\" <\x01@\x80>\r\nContent-Type: \"\\\"/x; a=\"\\\r\n {9}\"\r\n\r\n\x00",
		"Content-Disposition: attachment; filename=\"\xe4\r\n\t\xf6\"\r\nContent-Language: de,(x),en\r\nContent-Location: \x00x\r\n\r\nx",
		"\r\n", "\n", "\x00", "a", ":", "From: ", strings.Repeat("\r", 5000),
	}
}

// TestIdleLatency: a delivery is announced at once.
func TestIdleLatency(t *testing.T) {
	w := newWorld(t, nil)
	arrived := make(chan time.Time, 1)
	c := w.login(&imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(*imapclient.UnilateralDataMailbox) {
			select {
			case arrived <- time.Now():
			default:
			}
		},
	}})
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	idle, err := c.Idle()
	if err != nil {
		t.Fatal(err)
	}
	w.deliver("bob", "INBOX", fixture(t, "plain"), mailstore.Flags{}, 1)
	committed := time.Now()
	select {
	case at := <-arrived:
		if d := at.Sub(committed); d > 500*time.Millisecond {
			t.Errorf("announced after %v", d)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("not announced")
	}
	if err := idle.Close(); err != nil {
		t.Error(err)
	}
	if err := idle.Wait(); err != nil {
		t.Error(err)
	}
}

// TestAppendCutShort: a connection that is lost within an APPEND leaves nothing.
func TestAppendCutShort(t *testing.T) {
	w := newWorld(t, nil)
	w.raw("a LOGIN bob hungry\r\nb APPEND INBOX {4000+}\r\nonly this")
	w.raw("a LOGIN bob hungry\r\nb APPEND INBOX {4000+}\r\n")
	w.raw("a LOGIN bob hungry\r\nb APPEND INBOX {5+}\r\nhello")
	if said := w.raw("a LOGIN bob hungry\r\nb STATUS INBOX (MESSAGES)\r\n"); !strings.Contains(said, "* STATUS INBOX (MESSAGES 0)\r\n") {
		t.Errorf("%q", said)
	}
}

// TestLargeMessage streams through a session both ways.
func TestLargeMessage(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MaxSize = 32 << 20 })
	c := w.login(nil)
	text := "Subject: large\r\n\r\n" + strings.Repeat(strings.Repeat("0123456789abcdef", 4)+"\r\n", 20<<20/66)
	cmd := c.Append("INBOX", int64(len(text)), nil)
	if _, err := io.WriteString(cmd, text); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Close(); err != nil {
		t.Fatal(err)
	}
	if data, err := cmd.Wait(); err != nil || data.UID != 1 {
		t.Fatalf("Append = %v, %v", data, err)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	list, err := c.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{}}}).Collect()
	if err != nil || string(list[0].BodySection[0].Bytes) != text {
		t.Errorf("Fetch: %v", err)
	}
}

// TestShutdownFinishes: a command under way is finished before the goodbye, and
// a client that does not read does not keep the server.
func TestShutdownFinishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.deliver("bob", "INBOX", bytes.Repeat([]byte("0123456789abcde\r\n"), 50000), mailstore.Flags{}, 1)
		stuck := w.dial()
		defer stuck.Close()
		io.WriteString(stuck, "a LOGIN bob hungry\r\nb SELECT INBOX\r\nc FETCH 1 BODY[]\r\n")
		c := w.connect()
		c.ok("LOGIN bob hungry")
		io.WriteString(c.conn, "x APPEND INBOX {5}\r\n")
		if line := c.line(); !strings.HasPrefix(line, "+") {
			t.Fatal(line)
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- w.wire.Shutdown(ctx) }()
		synctest.Wait()
		io.WriteString(c.conn, "hello\r\n")
		if line := c.line(); !strings.HasPrefix(line, "x OK") {
			t.Error(line)
		}
		if line := c.line(); line != "* BYE The server is shutting down" {
			t.Error(line)
		}
		if err := <-done; err == nil {
			t.Error("the stuck client was not closed")
		}
	})
}

// TestCrowded: when connections run short, strangers have a minute.
func TestCrowded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		crowded := true
		w := newWorld(t, func(o *Options) { o.Crowded = func() bool { return crowded } })
		d := wiretest.Dialogue{Dial: w.listener.Dial}
		d.Run(t, "crowded", "S~ \\* OK .*\nwait 50s\nC: a NOOP\nS: a OK NOOP completed\nwait 11s\nS: * BYE Idle too long\nclosed\n")
	})
}

// damage changes the last octet of the body of bob's message uid.
func (w *world) damage(uid mailstore.UID) {
	w.t.Helper()
	var body mailstore.BodyID
	err := w.store.View(context.Background(), func(v *mailstore.View) error {
		box, err := v.MailboxByName(w.account("bob"), "INBOX")
		if err != nil {
			return err
		}
		m, err := v.Message(box.ID, uid)
		body = m.Body
		return err
	})
	if err == nil {
		err = w.engine.Damage(body, func(b []byte) { b[len(b)-1] ^= 1 })
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestDamaged: wrong octets never go out. Where that is found in time the
// answer is NO, and inside a literal the connection ends.
func TestDamaged(t *testing.T) {
	w := newWorld(t, nil)
	large := []byte("Subject: large\r\n\r\n" + strings.Repeat("0123456789abcde\r\n", 30000))
	w.deliver("bob", "INBOX", fixture(t, "plain"), mailstore.Flags{}, 1)
	w.deliver("bob", "INBOX", large, mailstore.Flags{}, 1)
	w.deliver("bob", "INBOX", fixture(t, "plain"), mailstore.Flags{}, 1)
	w.damage(1)
	w.damage(2)
	said := w.raw("a LOGIN bob hungry\r\nb SELECT INBOX\r\nc FETCH 1 BODY.PEEK[]\r\nd FETCH 2 BINARY.SIZE[1]\r\ne FETCH 1:2 FLAGS\r\ng FETCH 1:* BINARY.SIZE[1]\r\nh FETCH 1:* (ENVELOPE BODYSTRUCTURE)\r\ni FETCH 2 BODY.PEEK[1]<2.9>\r\nf LOGOUT\r\n")
	for _, want := range []string{"c NO [CORRUPTION]", "d NO [CORRUPTION]", "* 2 FETCH (FLAGS ())", "e OK", "* 3 FETCH (BINARY.SIZE[1] ", "g NO [CORRUPTION]",
		"* 2 FETCH (ENVELOPE (", "h OK", "* 2 FETCH (BODY[1]<2> {9}\r\n23456789a)", "f OK"} {
		if !strings.Contains(said, "\r\n"+want) {
			t.Errorf("no %q in %q", want, said)
		}
	}
	said = w.raw("a LOGIN bob hungry\r\nb SELECT INBOX\r\nc FETCH 2 BODY.PEEK[]\r\nd NOOP\r\n")
	_, literal, ok := strings.Cut(said, fmt.Sprintf("* 2 FETCH (BODY[] {%d}\r\n", len(large)))
	if !ok || len(literal) >= len(large) || !bytes.HasPrefix(large, []byte(literal)) {
		t.Errorf("%d octets after the literal's start", len(literal))
	}
}

// TestDirectory: with the real directory, over TLS from the first octet, SCRAM
// and LOGIN log in.
func TestDirectory(t *testing.T) {
	server, client := wiretest.TLS(t, "hamburger.edu")
	w := newWorld(t, func(o *Options) { o.TLS = server })
	d, err := directory.New(w.store, directory.Options{Plaintext: directory.PlaintextNever})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := errors.Join(d.AddDomain(ctx, "crepes.fr"), d.AddAccount(ctx, "carol@crepes.fr", "hungry")); err != nil {
		t.Fatal(err)
	}
	w.server.o.Directory = d
	l := wiretest.Listen()
	w.wire.Serve(l, w.server.Protocol("imaps", true))
	dial := func() *imapclient.Client {
		conn, err := l.Dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		c := imapclient.New(tls.Client(conn, client), nil)
		t.Cleanup(func() { c.Close() })
		return c
	}
	c := dial()
	if err := c.Authenticate(&scramClient{t: t, name: "carol@crepes.fr", password: "hungry"}); err != nil {
		t.Fatal(err)
	}
	boxes, err := c.List("", "*", nil).Collect()
	if err != nil || len(boxes) != 6 {
		t.Errorf("List = %v, %v", boxes, err)
	}
	if err := dial().Login("carol", "hungry").Wait(); err != nil {
		t.Error(err)
	}
	if err := dial().Authenticate(&scramClient{t: t, name: "carol", password: "full"}); err == nil {
		t.Error("a wrong password logs in")
	}
	plain := imapclient.New(w.dial(), nil)
	defer plain.Close()
	if caps := plain.Caps(); !caps.Has(imap.CapLoginDisabled) || !caps.Has(imap.CapStartTLS) {
		t.Errorf("without TLS: %v", caps)
	}
}

// scramClient is SCRAM-SHA-256 for go-imap's client.
type scramClient struct {
	t              testing.TB
	name, password string
	conversation   *scram.ClientConversation
}

func (c *scramClient) Start() (string, []byte, error) {
	client, err := scram.SHA256.NewClient(c.name, c.password, "")
	if err != nil {
		return "", nil, err
	}
	c.conversation = client.NewConversation()
	first, err := c.conversation.Step("")
	return "SCRAM-SHA-256", []byte(first), err
}

func (c *scramClient) Next(challenge []byte) ([]byte, error) {
	if c.conversation.Done() {
		return nil, errors.New("more than SCRAM has to say")
	}
	response, err := c.conversation.Step(string(challenge))
	return []byte(response), err
}
