package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"postrider/mailstore"
	"postrider/mailstore/storetest"
)

// lab is a store with accounts, and the server of its imports and exports.
type lab struct {
	t       *testing.T
	store   *mailstore.Store
	server  *Server
	maxSize int64
}

func newLab(t *testing.T) *lab {
	t.Helper()
	s, err := mailstore.Open(t.Context(), storetest.NewEngine(), mailstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	l := &lab{t: t, store: s}
	l.server = NewServer(ServerOptions{Store: s, Account: l.account, MaxSize: func() int64 { return l.maxSize }})
	for _, who := range []string{"a@x", "b@x", "c@x"} {
		l.update(func(tx *mailstore.Tx) error {
			id, err := tx.CreateAccount(mailstore.Account{Address: who})
			if err != nil {
				return err
			}
			if _, err := tx.CreateMailbox(id, "INBOX", ""); err != nil {
				return err
			}
			_, err = tx.CreateMailbox(id, "Sent", `\Sent`)
			return err
		})
	}
	return l
}

func (l *lab) update(fn func(tx *mailstore.Tx) error) {
	l.t.Helper()
	if err := l.store.Update(l.t.Context(), fn); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) account(ctx context.Context, address string) (a mailstore.Account, err error) {
	err = l.store.View(ctx, func(v *mailstore.View) error {
		a, err = v.AccountByAddress(address)
		return err
	})
	return a, err
}

// put appends messages to a mailbox, which it makes where it is missing.
func (l *lab) put(who, mailbox string, list ...sample) {
	l.t.Helper()
	a, err := l.account(l.t.Context(), who)
	if err != nil {
		l.t.Fatal(err)
	}
	l.update(func(tx *mailstore.Tx) error {
		_, err := tx.MailboxByName(a.ID, mailbox)
		if errors.Is(err, mailstore.ErrNotFound) {
			_, err = tx.CreateMailbox(a.ID, mailbox, "")
		}
		return err
	})
	for _, s := range list {
		w := l.store.NewBody()
		if _, err := io.WriteString(w, s.Text); err != nil {
			l.t.Fatal(err)
		}
		body, err := w.Commit()
		if err != nil {
			l.t.Fatal(err)
		}
		l.update(func(tx *mailstore.Tx) error {
			box, err := tx.MailboxByName(a.ID, mailbox)
			if err != nil {
				return err
			}
			_, err = tx.Append(box.ID, mailstore.NewMessage{Body: body, Flags: s.Flags, Internal: s.Internal})
			return err
		})
		body.Release()
	}
}

// mail is all that an account has, by mailbox.
func (l *lab) mail(who string) map[string][]sample {
	l.t.Helper()
	a, err := l.account(l.t.Context(), who)
	if err != nil {
		l.t.Fatal(err)
	}
	all := make(map[string][]sample)
	err = l.store.View(l.t.Context(), func(v *mailstore.View) error {
		boxes, err := v.Mailboxes(a.ID)
		if err != nil {
			return err
		}
		for _, b := range boxes {
			all[b.Name] = nil
			err := v.Messages(b.ID, 1, 0, func(m mailstore.Message) bool {
				c, err := l.store.OpenMessage(l.t.Context(), m)
				if err != nil {
					l.t.Fatal(err)
				}
				defer c.Close()
				text, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
				if err != nil {
					l.t.Fatal(err)
				}
				all[b.Name] = append(all[b.Name], sample{string(text), m.Flags, m.Internal})
				return true
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return all
}

// connect is a connection to the server, which ends when it is closed.
func (l *lab) connect() net.Conn {
	ours, theirs := net.Pipe()
	var serving sync.WaitGroup
	serving.Go(func() {
		defer theirs.Close()
		l.server.Serve(context.Background(), theirs)
	})
	l.t.Cleanup(func() {
		ours.Close()
		serving.Wait()
	})
	return &waitingConn{ours, &serving}
}

// waitingConn is a connection whose Close waits for the server to end.
type waitingConn struct {
	net.Conn
	serving *sync.WaitGroup
}

func (c *waitingConn) Close() error {
	err := c.Conn.Close()
	c.serving.Wait()
	return err
}

func (l *lab) mustImport(src Source, o ImportOptions) Summary {
	l.t.Helper()
	s, err := Import(l.t.Context(), l.connect(), src, o)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := src.Close(); err != nil {
		l.t.Fatal(err)
	}
	return s
}

func (l *lab) mustExport(o ExportOptions) Summary {
	l.t.Helper()
	o.Now = time.Unix(1700000000, 0)
	s, err := Export(l.t.Context(), l.connect(), o)
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// open opens what an export made.
func open(t *testing.T, format, name string) Source {
	t.Helper()
	var src Source
	var err error
	if format == "maildir" {
		src, err = OpenMaildir(name)
	} else {
		src, err = OpenMbox(name, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// letters has what a message can be, as the store has it.
func letters() []sample {
	day := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	var many []sample
	for i := range 30 { // more keywords than there are letters
		many = append(many, sample{fmt.Sprintf("Subject: %d\r\n\r\n", i), mailstore.Flags{Keywords: []string{fmt.Sprintf("k%02d", i), "Work"}}, day})
	}
	all := mailstore.Seen | mailstore.Answered | mailstore.Flagged | mailstore.Deleted | mailstore.Draft
	return append(many,
		sample{"Subject: plain\r\n\r\nFrom here\r\n>From there\r\n", mailstore.Flags{System: mailstore.Seen}, day},
		sample{"Subject: flags\r\n\r\nx\r\n", mailstore.Flags{System: all, Keywords: []string{"$Forwarded", "$Junk"}}, day.Add(-time.Hour)},
		sample{"Subject: spelling\r\n\r\nx\r\n", mailstore.Flags{Keywords: []string{"$FORWARDED"}}, day},
		sample{"Subject: cr\r\n\r\nbare \r in a line\r\n", mailstore.Flags{}, day},
		sample{"Subject: lf\n\nFrom x\n\nFrom a@b Tue Jan  2 03:04:05 2024\n", mailstore.Flags{}, day},
		sample{"Subject: mixed\r\n\nx\r\ny\n", mailstore.Flags{}, day},
		sample{"Subject: unended\r\n\r\nx", mailstore.Flags{}, day},
		sample{"Subject: no body\r\n", mailstore.Flags{}, day},
		sample{"Subject: twice\r\n\r\n", mailstore.Flags{}, day},
		sample{"Subject: twice\r\n\r\n", mailstore.Flags{}, day},
		sample{"", mailstore.Flags{}, day},
		sample{"Return-Path: <eve@far.example>\r\nStatus: RO\r\nX-Keywords: mine\r\n\r\nx\r\n", mailstore.Flags{}, time.Unix(0, 0).UTC()},
		sample{"X-Mozilla-Status: 0009\r\nSubject: y\r\n\r\nx\r\n", mailstore.Flags{}, day},
		sample{"Subject: eight bits\r\n\r\n\xff\x00\xfe\r\n", mailstore.Flags{}, day},
		sample{"Subject: middle\r\n\r\n" + strings.Repeat("0123456789abcdef\r\n", 10000), mailstore.Flags{}, day},
		sample{"Subject: large\r\n\r\n" + strings.Repeat(strings.Repeat("l", 70)+"\r\n", 30000), mailstore.Flags{}, day},
	)
}

// TestRoundTrip: an account's mail goes out and comes in again, in every form,
// and no byte, flag, keyword, date or name is another one.
func TestRoundTrip(t *testing.T) {
	for _, c := range []struct {
		format  string
		dialect Dialect
	}{{"mbox", ""}, {"mbox", MboxCL2}, {"maildir", ""}} {
		t.Run(c.format+string(c.dialect), func(t *testing.T) {
			l := newLab(t)
			l.put("a@x", "INBOX", letters()...)
			for _, name := range []string{"Sent", "A", "A/B", "A/B/c d", "B.mbox", "B.mbox/x", "Entwürfe & Ideen", "dot.in/name", ".hidden", "50%2E", "日本/語"} {
				l.put("a@x", name, sample{"Subject: in " + name + "\r\n\r\n", mailstore.Flags{}, time.Unix(1e9, 0).UTC()})
			}
			l.put("a@x", "dot.in") // the levels above are there, too, as IMAP makes them
			l.put("a@x", "日本")
			dest := filepath.Join(t.TempDir(), "out")
			want := l.mail("a@x")
			s := l.mustExport(ExportOptions{Account: "a@x", Format: c.format, Dialect: c.dialect, Dest: dest})
			if s.Failed != 0 || s.Messages != int64(len(letters())+11) || s.Mailboxes != len(want) {
				t.Errorf("export: %+v", s)
			}
			s = l.mustImport(open(t, c.format, dest), ImportOptions{Account: "b@x"})
			if s.Failed != 0 || s.Dropped != 0 || s.Messages != int64(len(letters())+11) {
				t.Errorf("import: %+v", s)
			}
			if diff := cmp.Diff(want, l.mail("b@x")); diff != "" {
				t.Errorf("-went +came:\n%s", diff)
			}
			// Again: nothing is new. Then once more, by wish.
			s = l.mustImport(open(t, c.format, dest), ImportOptions{Account: "b@x"})
			if s.Messages != 0 || s.Already != int64(len(letters())+11) {
				t.Errorf("the second import: %+v", s)
			}
			s = l.mustImport(open(t, c.format, dest), ImportOptions{Account: "b@x", Again: true, Only: []string{"A/B"}})
			if s.Messages != 1 || s.Already != 0 || len(l.mail("b@x")["A/B"]) != 2 {
				t.Errorf("the import again: %+v", s)
			}
			// Nothing is overwritten, and nothing is left beside it.
			if _, err := Export(t.Context(), l.connect(), ExportOptions{Account: "a@x", Format: c.format, Dest: dest}); err == nil {
				t.Error("an export went over another")
			}
			if names, err := os.ReadDir(filepath.Dir(dest)); err != nil || len(names) != 1 {
				t.Errorf("beside the export: %v, %v", names, err)
			}
		})
	}
}

// TestOneMailbox: one mailbox is one file, and what a dialect can not express
// is left out and said.
func TestOneMailbox(t *testing.T) {
	for _, d := range []Dialect{MboxO, MboxCL} {
		l := newLab(t)
		l.put("a@x", "A/B", sample{"a: b\r\n\r\nFrom x\r\n", mailstore.Flags{}, time.Unix(1, 0).UTC()}, sample{"a: b\r\n\r\n>From x\r\n", mailstore.Flags{}, time.Unix(1, 0).UTC()})
		dest := filepath.Join(t.TempDir(), "one.mbox")
		s := l.mustExport(ExportOptions{Account: "a@x", Mailbox: []string{"A/B"}, Format: "mbox", Dialect: d, Dest: dest})
		if s.Messages != 1 || s.Failed != 1 || !strings.Contains(s.Skipped[0].Where, "A/B: UID 2") || !strings.Contains(s.Skipped[0].Reason, "mboxrd") {
			t.Errorf("export: %+v", s)
		}
		l.mustImport(open(t, "mbox", dest), ImportOptions{Account: "b@x", Mailbox: "C"})
		if diff := cmp.Diff(l.mail("a@x")["A/B"][:1], l.mail("b@x")["C"]); diff != "" {
			t.Errorf("-went +came:\n%s", diff)
		}
	}
}

// settings counts what the store keeps of the imports of an account.
func (l *lab) settings(who string) int {
	l.t.Helper()
	a, err := l.account(l.t.Context(), who)
	if err != nil {
		l.t.Fatal(err)
	}
	n := 0
	err = l.store.View(l.t.Context(), func(v *mailstore.View) error {
		all, err := v.Setting(marksIndex(a.ID))
		for folder := range strings.Lines(string(all)) {
			n++
			rows := markRows{prefix: marksIndex(a.ID) + "/" + strings.TrimSpace(folder)}
			for i := 0; ; i++ {
				if _, err := v.Setting(rows.key(i)); err != nil {
					break
				}
				n++
			}
		}
		if errors.Is(err, mailstore.ErrNotFound) {
			err = nil
		}
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}

// TestForgetAccount: with an account goes what is known of its imports, and
// nothing of another's.
func TestForgetAccount(t *testing.T) {
	l := newLab(t)
	for i := range marksPerRow + 1 { // more marks than a row holds
		l.put("a@x", "Sent", sample{Text: fmt.Sprintf("a: %d\r\n", i)})
	}
	l.put("a@x", "INBOX", sample{Text: "a: b\r\n"})
	dest := filepath.Join(t.TempDir(), "out")
	l.mustExport(ExportOptions{Account: "a@x", Format: "maildir", Dest: dest})
	for _, who := range []string{"b@x", "c@x"} {
		l.mustImport(open(t, "maildir", dest), ImportOptions{Account: who})
		if n := l.settings(who); n != 2+1+2 {
			t.Errorf("%s: %d settings", who, n)
		}
	}
	b, err := l.account(t.Context(), "b@x")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := ForgetAccount(t.Context(), l.store, b.ID); err != nil {
			t.Fatal(err)
		}
	}
	if n, m := l.settings("b@x"), l.settings("c@x"); n != 0 || m != 5 {
		t.Errorf("%d and %d settings are left", n, m)
	}
}

// TestQuota: an account gets what it has room for, in order, and the rest when
// it has more.
func TestQuota(t *testing.T) {
	l := newLab(t)
	text := "a: b\r\n\r\n" + strings.Repeat("x\r\n", 100)
	for range 10 {
		l.put("a@x", "INBOX", sample{Text: text, Internal: time.Unix(1, 0).UTC()})
	}
	dest := filepath.Join(t.TempDir(), "out")
	l.mustExport(ExportOptions{Account: "a@x", Format: "maildir", Dest: dest})
	b, err := l.account(t.Context(), "b@x")
	if err != nil {
		t.Fatal(err)
	}
	b.Quota.Messages = 7
	l.update(func(tx *mailstore.Tx) error { return tx.UpdateAccount(b) })
	src := open(t, "maildir", dest)
	defer src.Close()
	s, err := Import(t.Context(), l.connect(), src, ImportOptions{Account: "b@x"})
	if err == nil || !strings.Contains(err.Error(), "postrider quota set") || s.Messages != 7 {
		t.Errorf("%+v, %v", s, err)
	}
	b.Quota.Messages = 10
	l.update(func(tx *mailstore.Tx) error { return tx.UpdateAccount(b) })
	if s := l.mustImport(open(t, "maildir", dest), ImportOptions{Account: "b@x"}); s.Messages != 3 || s.Already != 7 {
		t.Errorf("with more room: %+v", s)
	}
	if diff := cmp.Diff(l.mail("a@x"), l.mail("b@x")); diff != "" {
		t.Errorf("-went +came:\n%s", diff)
	}
}

// cutConn breaks a connection after some octets were written.
type cutConn struct {
	net.Conn
	left int
}

func (c *cutConn) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left < 0 {
		c.Close()
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(p)
}

// TestResume: an import that ends at any point is gone on with by the next,
// and every message comes in once.
func TestResume(t *testing.T) {
	var file strings.Builder
	const messages = 2*maxBatch + 100
	for i := range messages {
		fmt.Fprintf(&file, "From a Tue Jan  2 03:04:05 2024\nSubject: %d\n\n%s\n\n", i%700, strings.Repeat("x", 200))
	}
	name := filepath.Join(t.TempDir(), "mbox")
	if err := os.WriteFile(name, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	l := newLab(t)
	l.mustImport(open(t, "mbox", name), ImportOptions{Account: "a@x"})
	want := l.mail("a@x")["INBOX"]
	if len(want) != messages {
		t.Fatalf("%d messages came in", len(want))
	}
	l = newLab(t)
	cuts, kept := 0, int64(0)
	for left := 20000; ; left += 100000 {
		src := open(t, "mbox", name)
		s, err := Import(t.Context(), &cutConn{l.connect(), left}, src, ImportOptions{Account: "a@x"})
		src.Close()
		if s.Already != kept && err == nil {
			t.Errorf("%d were there, of %d", s.Already, kept)
		}
		// Octets that were cut off may have been committed, unheard.
		if n := int64(len(l.mail("a@x")["INBOX"])); n < kept+s.Messages {
			t.Fatalf("%d messages where %d had been, and %d more were said to be imported", n, kept, s.Messages)
		} else {
			kept = n
		}
		if err == nil {
			break
		}
		cuts++
	}
	if cuts < 2 {
		t.Errorf("the import was cut %d times only", cuts)
	}
	if diff := cmp.Diff(want, l.mail("a@x")["INBOX"]); diff != "" {
		t.Errorf("-whole +cut:\n%s", diff)
	}
}

// TestDryRun: nothing is changed, and the same is counted.
func TestDryRun(t *testing.T) {
	l := newLab(t)
	l.put("a@x", "New", letters()...)
	dest := filepath.Join(t.TempDir(), "out")
	l.mustExport(ExportOptions{Account: "a@x", Format: "maildir", Dest: dest})
	before := l.mail("b@x")
	var said []string
	o := ImportOptions{Account: "b@x", DryRun: true, Watch: func(f Folder, box string, created bool) {
		said = append(said, fmt.Sprint(f.Name, " ", box, " ", created))
	}}
	would := l.mustImport(open(t, "maildir", dest), o)
	if diff := cmp.Diff(before, l.mail("b@x")); diff != "" {
		t.Errorf("a dry run changed:\n%s", diff)
	}
	if diff := cmp.Diff([]string{dest + " INBOX false", ".New New true", ".Sent Sent false"}, said); diff != "" {
		t.Errorf("-want +said:\n%s", diff)
	}
	did := l.mustImport(open(t, "maildir", dest), ImportOptions{Account: "b@x"})
	if diff := cmp.Diff(would, did); diff != "" {
		t.Errorf("-would +did:\n%s", diff)
	}
}

// TestTooLarge: what the server would not take is skipped and named.
func TestTooLarge(t *testing.T) {
	for _, format := range []string{"mbox", "maildir"} {
		l := newLab(t)
		text := "a: b\r\n\r\n" + strings.Repeat("x\r\n", 100)
		l.put("a@x", "INBOX", sample{Text: text}, sample{Text: text + "y\r\n"}, sample{Text: text})
		dest := filepath.Join(t.TempDir(), "out")
		l.mustExport(ExportOptions{Account: "a@x", Format: format, Dest: dest})
		l.maxSize = int64(len(text))
		s := l.mustImport(open(t, format, dest), ImportOptions{Account: "b@x"})
		if s.Messages != 2 || s.Failed != 1 || !strings.Contains(s.Skipped[0].Reason, "message_size") {
			t.Errorf("%s: %+v", format, s)
		}
	}
}

// TestRefused: what the store's side says no to, in words for a person.
func TestRefused(t *testing.T) {
	l := newLab(t)
	name := filepath.Join(t.TempDir(), "mbox")
	if err := os.WriteFile(name, []byte("From a Tue Jan  2 03:04:05 2024\n\nx\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	src := open(t, "mbox", name)
	defer src.Close()
	if _, err := Import(t.Context(), l.connect(), src, ImportOptions{Account: "nobody@x"}); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("an unknown account: %v", err)
	}
	if _, err := Import(t.Context(), l.connect(), src, ImportOptions{Account: "a@x", Only: []string{"Work"}}); err == nil || !strings.Contains(err.Error(), `no folder "Work"`) {
		t.Errorf("an unknown folder: %v", err)
	}
	if _, err := Export(t.Context(), l.connect(), ExportOptions{Account: "a@x", Mailbox: []string{"Work"}, Format: "mbox", Dest: name + "2"}); err == nil || !strings.Contains(err.Error(), `no mailbox "Work"`) {
		t.Errorf("an unknown mailbox: %v", err)
	}
}

// TestImportOnce: of two imports of one source at a time, the second waits for
// the first, and not for ever.
func TestImportOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		name := filepath.Join(t.TempDir(), "mbox")
		if err := os.WriteFile(name, []byte("From a Tue Jan  2 03:04:05 2024\n\nx\n\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		src := open(t, "mbox", name)
		conn := l.connect()
		first := newFrames(conn)
		if err := first.answer(importKind, importRequest{Account: "a@x", Source: src.Identity()}); err != nil {
			t.Fatal(err)
		}
		if k, _, err := first.read(); err != nil || k != okKind {
			t.Fatalf("%q, %v", k, err)
		}
		if _, err := Import(t.Context(), l.connect(), src, ImportOptions{Account: "a@x"}); err == nil || !strings.Contains(err.Error(), "going on") {
			t.Errorf("a second import at a time: %v", err)
		}
		time.AfterFunc(importPatience/2, func() { conn.Close() })
		if s := l.mustImport(src, ImportOptions{Account: "a@x"}); s.Messages != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestProtocol: frames that are too long or out of order end the connection.
func TestProtocol(t *testing.T) {
	l := newLab(t)
	hello := func(f *frames) {
		if err := f.answer(importKind, importRequest{Account: "a@x", Source: "s"}); err != nil {
			t.Fatal(err)
		}
		f.read()
	}
	inbox := func(f *frames) {
		hello(f)
		if err := f.answer(folderKind, folderRequest{Folder: "f", Mailbox: "INBOX"}); err != nil {
			t.Fatal(err)
		}
		f.read()
	}
	for name, say := range map[string]func(f *frames){
		"no request":             func(f *frames) { f.write(syncKind, nil) },
		"a message, no folder":   func(f *frames) { hello(f); f.send(messageKind, messageHead{}) },
		"data, no message":       func(f *frames) { inbox(f); f.write(dataKind, []byte("x")) },
		"a message in a message": func(f *frames) { inbox(f); f.send(messageKind, messageHead{}); f.send(messageKind, messageHead{}) },
		"a frame too long":       func(f *frames) { f.bw.Write([]byte{'i', 0, 1, 0, 1}) },
	} {
		f := newFrames(l.connect())
		say(f)
		if err := f.flush(); err != nil {
			t.Fatal(err)
		}
		if k, b, err := f.read(); err != nil || k != errorKind || !strings.Contains(string(b), errFrame.Error()) {
			t.Errorf("%s: %q %s, %v", name, k, b, err)
		}
	}
}

// oddSource has one folder with a name that no frame has room for.
type oddSource struct{}

func (oddSource) Identity() string { return "odd" }
func (oddSource) Unit() string     { return "messages" }
func (oddSource) Close() error     { return nil }

func (oddSource) Folders(context.Context) ([]Folder, error) {
	return []Folder{{Name: strings.Repeat("x", 2*maxFrame), Mailbox: "INBOX"}}, nil
}

func (oddSource) Read(context.Context, Folder, Visitor) error { return nil }

// TestOverlongRequest: what can not be sent ends the import; it does not wait for
// an answer.
func TestOverlongRequest(t *testing.T) {
	l := newLab(t)
	if _, err := Import(t.Context(), l.connect(), oddSource{}, ImportOptions{Account: "a@x"}); !errors.Is(err, errFrame) {
		t.Errorf("%v, not %v", err, errFrame)
	}
}

// FuzzFrames: whatever a command sends, the server answers with frames, and
// ends.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("i\x00\x00\x00\x13{\"Account\":\"a@x\"}  f\x00\x00\x00\x02{}"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		l := newLab(t)
		ours, theirs := net.Pipe()
		go func() {
			ours.Write(sent)
			ours.Close()
		}()
		go io.Copy(io.Discard, ours)
		l.server.Serve(t.Context(), theirs)
		theirs.Close()
	})
}
