package imap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postrider/imap/syntax"
	"postrider/mailstore"
	"postrider/mta"
)

// urls is a world in which bob has the message text with UID 1 in INBOX.
type urls struct {
	*world
	text string
}

func newURLs(t *testing.T) *urls {
	w := newWorld(t, nil)
	text := string(fixture(t, "plain"))
	w.deliver("bob", "INBOX", []byte(text), mailstore.Flags{}, 1)
	return &urls{w, text}
}

// sign has bob sign a URL of his server.
func (w *urls) sign(t *testing.T, rest string) string {
	t.Helper()
	said := w.raw("a LOGIN bob hungry\r\nb GENURLAUTH \"imap://bob@hamburger.edu" + rest + "\" INTERNAL\r\nc LOGOUT\r\n")
	m := regexp.MustCompile(`\* GENURLAUTH "(.*)"`).FindStringSubmatch(said)
	if m == nil {
		t.Fatalf("not signed: %s", said)
	}
	return m[1]
}

// fetched is what a user gets for a URL; "NIL" for nothing.
func (w *urls) fetched(t *testing.T, user, url string) string {
	t.Helper()
	said := w.raw("a LOGIN " + user + " hungry\r\nb URLFETCH \"" + url + "\"\r\nc LOGOUT\r\n")
	_, rest, ok := strings.Cut(said, "* URLFETCH \""+url+"\" ")
	if !ok || !strings.Contains(rest, "b OK URLFETCH completed") {
		t.Fatalf("URLFETCH says %s", said)
	}
	if strings.HasPrefix(rest, "NIL\r\n") {
		return "NIL"
	}
	var n int
	if _, err := fmt.Sscanf(rest, "{%d}\r\n", &n); err != nil {
		t.Fatal(err)
	}
	_, rest, _ = strings.Cut(rest, "}\r\n")
	return rest[:n]
}

// submitted is what a submission of a user gets for a URL: the content, or the
// status of the refusal.
func (w *urls) submitted(t *testing.T, user, url string) string {
	t.Helper()
	content, size, err := w.server.OpenURL(context.Background(), w.directory.accounts[user], url)
	var r *mta.Reply
	if errors.As(err, &r) {
		return fmt.Sprint(r.Code, " ", r.Status)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	b, err := io.ReadAll(content)
	if err != nil || int64(len(b)) != size {
		t.Errorf("%d octets of %d, %v", len(b), size, err)
	}
	return string(b)
}

// TestURLAccess: each access identifier lets in whom RFC 4467 section 3 says.
func TestURLAccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newURLs(t)
		const refused = "554 5.7.0"
		for access, want := range map[string]struct{ alice, bob, aliceSubmits, bobSubmits string }{
			"submit+bob":                      {"NIL", "NIL", refused, w.text},
			"submit+alice%40hamburger.edu":    {"NIL", "NIL", w.text, refused},
			"user+alice":                      {w.text, "NIL", refused, refused},
			"user+bob@hamburger.edu":          {"NIL", w.text, refused, refused},
			"user+nobody":                     {"NIL", "NIL", refused, refused},
			"authuser":                        {w.text, w.text, w.text, w.text},
			"anonymous":                       {w.text, w.text, w.text, w.text},
			"SUBMIT+bob":                      {"NIL", "NIL", refused, w.text},
			"submit+mallory%40elsewhere.test": {"NIL", "NIL", refused, refused},
		} {
			url := w.sign(t, "/INBOX/;uid=1;urlauth="+access)
			for i, got := range []string{w.fetched(t, "alice", url), w.fetched(t, "bob", url), w.submitted(t, "alice", url), w.submitted(t, "bob", url)} {
				if want := []string{want.alice, want.bob, want.aliceSubmits, want.bobSubmits}[i]; got != want {
					t.Errorf("%s, case %d: %q, want %q", access, i, got, want)
				}
			}
		}
	})
}

// TestURLTampered: one bit of the URL or of its token is enough.
func TestURLTampered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newURLs(t)
		good := w.sign(t, "/INBOX/;uid=1/;section=TEXT;EXPIRE=2100-01-01T00:00:00Z;urlauth=anonymous")
		u, err := syntax.ParseURL(good)
		if err != nil {
			t.Fatal(err)
		}
		open := func(u *syntax.URL) error {
			c, err := w.server.openURL(context.Background(), requester{account: w.account("alice")}, u)
			if err == nil {
				c.Close()
			}
			return err
		}
		if err := open(&u); err != nil {
			t.Fatalf("the good one: %v", err)
		}
		for i := range good {
			for _, bit := range []byte{1, 2, 4, 8, 16, 32, 64} {
				b := []byte(good)
				b[i] ^= bit
				bad, err := syntax.ParseURL(string(b))
				if err != nil || bad.Host == "" {
					continue
				}
				sameToken := strings.EqualFold(bad.Mechanism, u.Mechanism) && strings.EqualFold(bad.Token, u.Token) && bad.Rump == u.Rump
				if err := open(&bad); (err == nil) != sameToken {
					t.Fatalf("%s is taken: %v", b, err)
				}
			}
		}
		for _, token := range []string{strings.Repeat("0", 32), strings.Repeat("0", 66), u.Token[:64], u.Token + "00", "02" + u.Token[2:]} {
			bad := u
			bad.Token = token
			if err := open(&bad); !errors.Is(err, errURLAccess) {
				t.Errorf("token %s: %v", token, err)
			}
		}
	})
}

// TestURLEnds: what a URL gives ends with its date, its key, its message, its mailbox and
// its account, for IMAP and for submission alike.
func TestURLEnds(t *testing.T) {
	const anonymous = "/INBOX/;uid=1;urlauth=anonymous"
	update := func(w *urls, fn func(tx *mailstore.Tx, inbox mailstore.Mailbox) error) error {
		return w.store.Update(context.Background(), func(tx *mailstore.Tx) error {
			box, err := tx.MailboxByName(w.account("bob"), "INBOX")
			if err != nil {
				return err
			}
			return fn(tx, box)
		})
	}
	script := func(w *urls, line string) error {
		if said := w.raw("a LOGIN bob hungry\r\nb " + line + "\r\n"); !strings.Contains(said, "\r\nb OK ") {
			return errors.New(said)
		}
		return nil
	}
	for _, test := range []struct {
		name, url string
		end       func(w *urls) error
		want      string
	}{
		{"date", "/INBOX/;uid=1;expire=2000-01-01T00:10:00Z;urlauth=anonymous", func(*urls) error { time.Sleep(10*time.Minute + time.Second); return nil }, "554 5.7.0"},
		{"key", anonymous, func(w *urls) error { return script(w, "RESETKEY INBOX") }, "554 5.7.0"},
		{"all keys", anonymous, func(w *urls) error { return script(w, "RESETKEY") }, "554 5.7.0"},
		{"other key", anonymous, func(w *urls) error { return script(w, "RESETKEY Drafts") }, ""},
		{"message", anonymous, func(w *urls) error {
			return update(w, func(tx *mailstore.Tx, box mailstore.Mailbox) error {
				_, err := tx.Expunge(box.ID, []mailstore.UID{1})
				return err
			})
		}, "554 5.6.6"},
		{"mailbox", "/Archive/;uid=1;urlauth=anonymous", func(w *urls) error { return script(w, "DELETE Archive") }, "554 5.7.0"},
		{"new mailbox of the name", "/Archive/;uid=1;urlauth=anonymous", func(w *urls) error {
			return errors.Join(script(w, "RENAME Archive Old"), script(w, "CREATE Archive"), script(w, "SELECT INBOX\r\nb COPY 1 Archive"))
		}, "554 5.7.0"},
		{"account", anonymous, func(w *urls) error {
			delete(w.directory.accounts, "bob")
			return nil
		}, "554 5.7.0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newURLs(t)
				if err := script(w, "SELECT INBOX\r\nb COPY 1 Archive"); err != nil {
					t.Fatal(err)
				}
				url := w.sign(t, test.url)
				if got := w.fetched(t, "alice", url) + w.submitted(t, "alice", url); got != w.text+w.text {
					t.Fatalf("before: %q", got)
				}
				if err := test.end(w); err != nil {
					t.Fatal(err)
				}
				fetched, submitted := w.fetched(t, "alice", url), w.submitted(t, "alice", url)
				if test.want == "" && fetched+submitted != w.text+w.text || test.want != "" && (fetched != "NIL" || submitted != test.want) {
					t.Errorf("after: %q, %q", fetched, submitted)
				}
			})
		})
	}
}

// TestURLParts: sections and ranges; what a stale URL names is nothing.
func TestURLParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newURLs(t)
		header, body, _ := strings.Cut(w.text, "\r\n\r\n")
		for part, want := range map[string]string{
			"/INBOX/;uid=1/;section=HEADER":               header + "\r\n\r\n",
			"/INBOX/;uid=1/;section=TEXT":                 body,
			"/INBOX/;uid=1/;partial=3.10":                 w.text[3:13],
			"/inbox/;uid=1/;section=TEXT/;partial=2":      body[2:],
			"/INBOX/;uid=1/;section=9":                    "", // as FETCH says
			"/INBOX/;uid=2":                               "NIL",
			"/INBOX;uidvalidity=7/;uid=1":                 "NIL",
			"/INBOX/;uid=1/;section=TEXT/;partial=900000": "",
		} {
			url := w.sign(t, part+";urlauth=authuser")
			if got := w.fetched(t, "alice", url); got != want {
				t.Errorf("%s is %q, want %q", part, got, want)
			}
		}
		for url, want := range map[string]string{
			"imap://bob@hamburger.edu/INBOX/;uid=1":            w.text, // his own
			"imap://hamburger.edu/INBOX/;uid=1":                w.text,
			"imap://alice@hamburger.edu/INBOX/;uid=1":          "554 5.7.0",
			"imap://bob@hamburger.edu/INBOX/;uid=9":            "554 5.6.6",
			"imap://bob@hamburger.edu/Nowhere/;uid=1":          "554 5.6.6",
			"imap://bob@hamburger.edu/INBOX/;uid=1/;section=9": "554 5.6.6",
			"imap://bob@evil.org/INBOX/;uid=1":                 "554 5.7.8",
			"imap://bob@203.0.113.1/INBOX/;uid=1":              "554 5.7.8",
			"imap://bob@[::1]/INBOX/;uid=1":                    w.text,
			"imap://bob@127.0.0.1:10143/INBOX/;uid=1":          w.text,
			"/INBOX/;uid=1":         "501 5.5.4",
			"http://hamburger.edu/": "501 5.5.4",
		} {
			if got := w.submitted(t, "bob", url); got != want {
				t.Errorf("bob submits %s: %q, want %q", url, got, want)
			}
		}
	})
}

// TestURLCatenate: an absolute URL of one's own and one that gives access are what a
// relative one is; one that gives none is refused.
func TestURLCatenate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newURLs(t)
		url := w.sign(t, "/INBOX/;uid=1;urlauth=user+alice")
		for user, want := range map[string]string{"alice": "b OK [APPENDUID", "bob": "b NO [BADURL"} {
			if said := w.raw("a LOGIN " + user + " hungry\r\nb APPEND Drafts CATENATE (URL \"" + url + "\")\r\n"); !strings.Contains(said, want) {
				t.Errorf("%s: %s", user, said)
			}
		}
		own := "imap://bob@hamburger.edu/INBOX/;uid=1"
		for user, want := range map[string]string{"bob": "b OK [APPENDUID", "alice": "b NO [BADURL"} {
			if said := w.raw("a LOGIN " + user + " hungry\r\nb APPEND Drafts CATENATE (URL " + own + ")\r\n"); !strings.Contains(said, want) {
				t.Errorf("%s: %s", user, said)
			}
		}
	})
}

// TestURLLimits: one more URL than one command takes.
func TestURLLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newURLs(t)
		one := " imap://bob@hamburger.edu/INBOX/;uid=1;urlauth=anonymous INTERNAL"
		for n, want := range map[int]string{maxURLs: "b OK", maxURLs + 1: "b NO [LIMIT]"} {
			for _, command := range []string{"GENURLAUTH" + strings.Repeat(one, n), "URLFETCH" + strings.Repeat(" x", n)} {
				if said := w.raw("a LOGIN bob hungry\r\nb " + command + "\r\n"); !strings.Contains(said, want) {
					t.Errorf("%d: %.200s", n, said)
				}
			}
		}
		long := "imap://bob@hamburger.edu/" + strings.Repeat("x", syntax.MaxURL)
		if said := w.raw("a LOGIN bob hungry\r\nb GENURLAUTH \"" + long + "/;uid=1;urlauth=anonymous\" INTERNAL\r\n"); !strings.Contains(said, "b BAD") {
			t.Errorf("%.200s", said)
		}
	})
}

// TestURLOfOthers: a URL of somebody else's mailbox has the rights of who signed it, as
// they are when it is used (RFC 4467 section 7), and a key of its own.
func TestURLOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newURLs(t)
		do := func(user, line, want string) {
			t.Helper()
			if said := w.raw("a LOGIN " + user + " hungry\r\nb " + line + "\r\n"); !strings.Contains(said, want) {
				t.Fatalf("%s: %s: %s", user, line, said)
			}
		}
		const url = "imap://alice@hamburger.edu/Other%20Users/bob%40hamburger.edu/INBOX/;uid=1;urlauth=anonymous"
		const gen = "GENURLAUTH \"" + url + "\" INTERNAL"
		do("alice", gen, "b BAD")
		do("bob", "SETACL INBOX alice@hamburger.edu l", "b OK")
		do("alice", gen, "b BAD")
		do("bob", "SETACL INBOX alice@hamburger.edu lr", "b OK")
		said := w.raw("a LOGIN alice hungry\r\nb " + gen + "\r\n")
		m := regexp.MustCompile(`\* GENURLAUTH "(.*)"`).FindStringSubmatch(said)
		if m == nil {
			t.Fatalf("not signed: %s", said)
		}
		both := func(want string) {
			t.Helper()
			if got := w.fetched(t, "bob", m[1]); got != want {
				t.Errorf("URLFETCH: %q, want %q", got, want)
			}
			if got := w.submitted(t, "alice", m[1]); (got == w.text) != (want == w.text) {
				t.Errorf("BURL: %q, want %q", got, want)
			}
		}
		both(w.text)
		do("bob", "RESETKEY INBOX", "b OK") // his is another key
		both(w.text)
		do("bob", "SETACL INBOX alice@hamburger.edu l", "b OK")
		both("NIL")
		do("bob", "SETACL INBOX alice@hamburger.edu lr", "b OK")
		both(w.text)
		do("alice", "RESETKEY \"Other Users/bob@hamburger.edu/INBOX\"", "b OK [URLMECH INTERNAL]")
		both("NIL")
	})
}

// TestURLRenamed: a signature is for one mailbox, not for another that gets its name
// between the look at the signature and that at the message.
func TestURLRenamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newURLs(t)
		u, err := syntax.ParseURL(w.sign(t, "/INBOX/;uid=1;urlauth=anonymous"))
		if err != nil {
			t.Fatal(err)
		}
		bob := w.account("bob")
		box, err := w.server.authorize(t.Context(), requester{account: bob}, bob, &u)
		if err != nil {
			t.Fatal(err)
		}
		for signed, want := range map[mailstore.MailboxID]error{box: nil, 0: nil, box + 1: errURLContent} {
			content, err := w.server.openOf(t.Context(), bob, &u, signed)
			if err == nil {
				content.Close()
			}
			if !errors.Is(err, want) {
				t.Errorf("of mailbox %d, signed for %d: %v", box, signed, err)
			}
		}
	})
}
