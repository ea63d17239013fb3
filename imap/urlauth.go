package imap

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"postrider/imap/syntax"
	"postrider/internal/directory"
	"postrider/mailstore"
)

const (
	maxURLs      = 100 // of one GENURLAUTH or URLFETCH
	urlKeyLength = 32  // octets of a mailbox access key (RFC 4467 section 2.2: 16 at least)
)

// internal is the one mechanism that there is (RFC 4467 section 2.4.1). Its tokens begin
// with the number of their algorithm, so that another one can follow: 01 is HMAC with
// SHA-256 of the URL as far as the access identifier.
const (
	internal       = "INTERNAL"
	tokenAlgorithm = "01"
)

// urlToken signs a URL without a token.
func urlToken(key []byte, rump string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(rump))
	return tokenAlgorithm + hex.EncodeToString(mac.Sum(nil))
}

// signedBy tells in constant time whether the token of a URL was made with a key.
func signedBy(key []byte, u *syntax.URL) bool {
	want := urlToken(key, u.Rump)
	return hmac.Equal([]byte(want), []byte(strings.ToLower(u.Token))) && u.Mechanism == internal
}

// newURLKey makes a mailbox access key.
func newURLKey() []byte {
	key := make([]byte, urlKeyLength)
	rand.Read(key) // it never fails
	return key
}

// resets counts the changes of mailbox access keys, for the sessions that are to hear of
// them. Several mailboxes share a counter: some sessions then hear of what is not theirs,
// which tells them nothing.
type resets [1024]atomic.Uint32

func (r *resets) counter(a mailstore.AccountID, m mailstore.MailboxID) *atomic.Uint32 {
	mixed := uint64(a)*0x9e3779b97f4a7c15 ^ uint64(m)*0xbf58476d1ce4e5b9
	return &r[mixed>>32%uint64(len(r))]
}

// of is the number of resets of the key of one mailbox, those of all keys of the account
// among them.
func (r *resets) of(a mailstore.AccountID, m mailstore.MailboxID) uint32 {
	return r.counter(a, m).Load() + r.counter(a, 0).Load()
}

// idlers are the sessions in IDLE with a selected mailbox, by their account.
type idlers struct {
	mu       sync.Mutex
	accounts map[mailstore.AccountID]map[*input]bool
}

// add makes wake of the account wake in, until remove is called.
func (x *idlers) add(a mailstore.AccountID, in *input) (remove func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.accounts == nil {
		x.accounts = make(map[mailstore.AccountID]map[*input]bool)
	}
	if x.accounts[a] == nil {
		x.accounts[a] = make(map[*input]bool)
	}
	x.accounts[a][in] = true
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		if delete(x.accounts[a], in); len(x.accounts[a]) == 0 {
			delete(x.accounts, a)
		}
	}
}

func (x *idlers) wake(a mailstore.AccountID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for in := range x.accounts[a] {
		in.wake()
	}
}

// keysReset counts a reset, of all keys of the user's for mailbox 0, and tells sessions
// in IDLE.
func (s *session) keysReset(m mailstore.MailboxID) {
	s.srv.resets.counter(s.account.ID, m).Add(1)
	s.srv.idle.wake(s.account.ID)
}

// tellReset says that the access key of the selected mailbox was changed (RFC 4467
// section 7, RESETKEY).
func (s *session) tellReset() {
	if s.box == nil {
		return
	}
	if now := s.srv.resets.of(s.account.ID, s.box.id); now != s.box.resets {
		s.box.resets = now
		s.out.line("* OK [URLMECH ", internal, "] The access key of the mailbox was changed")
	}
}

// mechanism reads the name of a mechanism; only INTERNAL is known.
func (s *session) mechanism(c *call) {
	if name := c.p.Keyword("a mechanism of URLAUTH"); c.p.Err() == nil && name != internal {
		c.p.Fail(refuse("CANNOT", internal+" is the mechanism here"))
	}
}

// cmdResetKey is RESETKEY (RFC 4467 section 7).
func (s *session) cmdResetKey(ctx context.Context, c *call) error {
	if len(c.Args) == 0 {
		if err := c.p.End(); err != nil {
			return err
		}
		err := s.change(ctx, "resetkey", func(tx *mailstore.Tx) error { return tx.DeleteURLKeys(s.account.ID) })
		if err == nil {
			s.keysReset(0)
		}
		return err
	}
	name := s.name(c)
	for c.p.More() {
		s.mechanism(c)
	}
	if err := c.p.End(); err != nil {
		return err
	}
	var id mailstore.MailboxID
	err := s.change(ctx, "resetkey", func(tx *mailstore.Tx) error {
		box, err := urlMailbox(&tx.View, s.account.ID, name)
		if err != nil {
			return err
		}
		id = box.ID
		return tx.SetURLKey(s.account.ID, id, newURLKey())
	})
	if err != nil {
		return err
	}
	s.keysReset(id)
	if s.box != nil && s.box.id == id { // the tagged response tells it
		s.box.resets = s.srv.resets.of(s.account.ID, id)
	}
	c.code = "URLMECH " + internal
	return nil
}

// urlMailbox is what a name in a URL of an account means, which the account can read.
func urlMailbox(v *mailstore.View, a mailstore.AccountID, name string) (mailstore.Mailbox, error) {
	m, err := v.MailboxByName(a, name)
	if err == nil || !reserved(normal(name)) {
		return m, err
	}
	o := others{user: a}
	if err := o.fill(v); err != nil {
		return m, err
	}
	b, err := o.lookup(v, name, mailstore.RightRead, err)
	var no *refusal
	if errors.As(err, &no) {
		err = mailstore.ErrNotFound
	}
	return b.Mailbox, err
}

// cmdGenURLAuth is GENURLAUTH (RFC 4467 section 7): it signs URLs of the user's own.
func (s *session) cmdGenURLAuth(ctx context.Context, c *call) error {
	var urls []syntax.URL
	for first := true; first || c.p.More(); first = false {
		if len(urls) == maxURLs {
			return refuse("LIMIT", fmt.Sprintf("One command takes %d URLs", maxURLs))
		}
		raw := c.p.AString("a URL")
		c.p.SP()
		s.mechanism(c)
		if err := c.p.Err(); err != nil {
			return err
		}
		u, err := s.ownRump(ctx, raw)
		if err != nil {
			return err
		}
		urls = append(urls, u)
	}
	if err := c.p.End(); err != nil {
		return err
	}
	keys, err := s.urlKeys(ctx, urls)
	if err != nil {
		return err
	}
	out := append(s.out.beginLarge(), "* GENURLAUTH"...)
	for i := range urls {
		out = append(out, ' ')
		out = syntax.AppendString(out, urls[i].Rump+":internal:"+urlToken(keys[i], urls[i].Rump))
	}
	s.out.end(append(out, '\r', '\n'))
	return s.out.err
}

// ownRump reads a URL that the user may have signed.
func (s *session) ownRump(ctx context.Context, raw string) (syntax.URL, error) {
	const token = len(":internal:") + len(tokenAlgorithm) + 2*sha256.Size
	u, err := syntax.ParseURL(raw)
	switch {
	case err != nil || len(raw)+token > syntax.MaxURL:
		return u, bad("That is not the URL of a message")
	case u.Access == syntax.NoAccess:
		return u, bad("The URL needs an access identifier, such as ;URLAUTH=submit+you")
	case u.Mechanism != "":
		return u, bad("The URL has a token already")
	case u.User == "":
		return u, bad("The URL needs your name in front of the server's")
	}
	here, err := s.srv.here(ctx, u.Host)
	if err != nil {
		return u, s.fault(ctx, "genurlauth", err)
	}
	owner, err := s.srv.named(ctx, u.User)
	switch {
	case err != nil:
		return u, s.fault(ctx, "genurlauth", err)
	case !here:
		return u, bad("The URL is not of this server, which is " + s.srv.o.Hostname)
	case owner != s.account.ID:
		return u, bad("The URL is not of your mailboxes")
	}
	return u, nil
}

// urlKeys finds the key for each URL of the user's, or makes one.
func (s *session) urlKeys(ctx context.Context, urls []syntax.URL) ([][]byte, error) {
	keys := make([][]byte, len(urls))
	errNoKey := errors.New("no key yet")
	look := func(v *mailstore.View, missing func(mailstore.MailboxID) ([]byte, error)) error {
		for i := range urls {
			box, err := urlMailbox(v, s.account.ID, urls[i].Mailbox)
			if errors.Is(err, mailstore.ErrNotFound) {
				return bad("The URL is of a mailbox that does not exist")
			}
			if err == nil {
				keys[i], err = v.URLKey(s.account.ID, box.ID)
			}
			if errors.Is(err, mailstore.ErrNotFound) {
				keys[i], err = missing(box.ID)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	err := s.srv.o.Store.View(ctx, func(v *mailstore.View) error {
		return look(v, func(mailstore.MailboxID) ([]byte, error) { return nil, errNoKey })
	})
	if errors.Is(err, errNoKey) {
		err = s.srv.o.Store.Update(ctx, func(tx *mailstore.Tx) error {
			return look(&tx.View, func(m mailstore.MailboxID) ([]byte, error) {
				key := newURLKey()
				return key, tx.SetURLKey(s.account.ID, m, key)
			})
		})
	}
	return keys, s.fault(ctx, "genurlauth", err)
}

// cmdURLFetch is URLFETCH (RFC 4467 section 7). What a URL does not lead to is NIL, and
// nothing says why.
func (s *session) cmdURLFetch(ctx context.Context, c *call) error {
	urls := []string{c.p.AString("a URL")}
	for c.p.More() {
		if len(urls) == maxURLs {
			return refuse("LIMIT", fmt.Sprintf("One command takes %d URLs", maxURLs))
		}
		urls = append(urls, c.p.AString("a URL"))
	}
	if err := c.p.End(); err != nil {
		return err
	}
	for _, raw := range urls {
		if err := s.tellURL(ctx, raw); err != nil {
			return err
		}
	}
	return nil
}

// tellURL writes the URLFETCH response for one URL.
func (s *session) tellURL(ctx context.Context, raw string) error {
	u, err := syntax.ParseURL(raw)
	var content *urlContent
	if err == nil && u.Access == syntax.NoAccess {
		err = errURLAccess
	}
	if err == nil {
		content, err = s.srv.openURL(ctx, requester{account: s.account.ID}, &u)
	}
	if err != nil && !isURLError(err) {
		return s.fault(ctx, "urlfetch", err)
	}
	out := append(s.out.beginLarge(), "* URLFETCH "...)
	out = append(syntax.AppendString(out, raw), ' ')
	if err != nil {
		s.out.end(append(out, "NIL\r\n"...))
		return s.out.err
	}
	defer content.Close()
	s.out.end(syntax.AppendAnnouncement(out, content.size, false))
	if err := s.out.copyFrom(content.Reader, content.size); err != nil {
		s.log.Error("message could not be sent whole", "err", err)
		s.broken = true // inside a literal nothing else can be said
		return err
	}
	s.out.end(append(s.out.beginLarge(), '\r', '\n'))
	return s.out.err
}

// named is the account that logs in by a name; 0 for none.
func (s *Server) named(ctx context.Context, name string) (mailstore.AccountID, error) {
	a, err := s.o.Directory.Named(ctx, name)
	if errors.Is(err, directory.ErrNoUser) {
		return 0, nil
	}
	return a.ID, err
}
