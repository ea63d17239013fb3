package transfer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"

	"postrider/mailstore"
)

// IMAPOptions says how another server is reached.
type IMAPOptions struct {
	URL      string // imaps://user@host[:port]/ or imap://...
	Password string
	CA       *x509.CertPool // whom to trust; nil = the system's
	Insecure bool           // do not check the certificate
	DryRun   bool           // do not fetch messages
	// Dial connects; nil means package net.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// dialPatience bounds the wait for a connection and its TLS handshake.
const dialPatience = 30 * time.Second

// fetchAtOnce is how many messages one FETCH asks for.
const fetchAtOnce = 200

// imapSource is another server.
type imapSource struct {
	c    *imapclient.Client
	conn net.Conn
	o    IMAPOptions
	id   string
	// end stops the watch of the context that Open got.
	end func() bool
}

// ParseIMAP reads a source's URL. A password in it is refused: others on the
// machine can see a command's arguments.
func ParseIMAP(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	_, hasPassword := u.User.Password()
	switch {
	case u.Scheme != "imap" && u.Scheme != "imaps":
		return nil, fmt.Errorf("%q: the scheme must be imaps or imap", s)
	case hasPassword:
		return nil, errors.New("leave the password out of the URL, where others see it")
	case u.User.Username() == "":
		return nil, fmt.Errorf("%s://HOST needs a user: %[1]s://USER@HOST (write @ in the user as %%40, or as it is)", u.Scheme)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q names no host", s)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%q: nothing may stand behind the host; --folder picks folders", s)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), map[string]string{"imap": "143", "imaps": "993"}[u.Scheme])
	}
	return u, nil
}

// OpenIMAP logs in at another server. Its folders are opened read-only: nothing
// changes there.
func OpenIMAP(ctx context.Context, o IMAPOptions) (Source, error) {
	u, err := ParseIMAP(o.URL)
	if err != nil {
		return nil, err
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	c, conn, err := dialIMAP(ctx, u, o)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", u.Host, err)
	}
	s := &imapSource{c: c, conn: conn, o: o, id: "imap:" + u.User.Username() + "@" + strings.ToLower(u.Host)}
	s.end = context.AfterFunc(ctx, func() { conn.Close() })
	if err := s.login(u.User.Username()); err != nil {
		s.end()
		c.Close()
		return nil, fmt.Errorf("log in at %s as %s: %w", u.Host, u.User.Username(), err)
	}
	return s, nil
}

// dialIMAP connects with TLS: from the start for imaps, by STARTTLS for imap.
// Only to this machine itself a connection without it is made, where nobody can
// listen.
func dialIMAP(ctx context.Context, u *url.URL, o IMAPOptions) (*imapclient.Client, net.Conn, error) {
	dialing, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	conn, err := o.Dial(dialing, "tcp", u.Host)
	if err != nil {
		return nil, nil, err
	}
	config := &tls.Config{ServerName: u.Hostname(), RootCAs: o.CA, InsecureSkipVerify: o.Insecure, NextProtos: []string{"imap"}}
	options := &imapclient.Options{TLSConfig: config}
	if u.Scheme == "imaps" {
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(dialing); err != nil {
			conn.Close()
			return nil, nil, explainTLS(err)
		}
		return imapclient.New(secure, options), conn, nil
	}
	if addr, ok := conn.RemoteAddr().(*net.TCPAddr); ok && addr.IP.IsLoopback() {
		return imapclient.New(conn, options), conn, nil
	}
	stop := context.AfterFunc(dialing, func() { conn.Close() })
	defer stop()
	c, err := imapclient.NewStartTLS(conn, options)
	if err != nil {
		return nil, nil, fmt.Errorf("no password goes over a connection without TLS: %w", explainTLS(err))
	}
	return c, conn, nil
}

// explainTLS says what to do about a certificate.
func explainTLS(err error) error {
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return fmt.Errorf("%w; --tls-ca FILE names the authority to trust", err)
	}
	return err
}

func (s *imapSource) login(user string) error {
	if err := s.c.WaitGreeting(); err != nil {
		return err
	}
	if s.c.State() == imap.ConnStateAuthenticated { // PREAUTH: who that is, nobody knows
		return errors.New("the server logs in whoever connects (PREAUTH)")
	}
	if s.c.Caps().Has("AUTH=PLAIN") {
		return s.c.Authenticate(sasl.NewPlainClient("", user, s.o.Password))
	}
	return s.c.Login(user, s.o.Password).Wait()
}

func (s *imapSource) Identity() string { return s.id }
func (s *imapSource) Unit() string     { return "messages" }

func (s *imapSource) Close() error {
	s.end()
	return s.c.Close()
}

func (s *imapSource) Folders(context.Context) ([]Folder, error) {
	caps := s.c.Caps()
	var options imap.ListOptions
	rev2 := caps.Has(imap.CapIMAP4rev2)
	options.ReturnSubscribed = rev2 || caps.Has(imap.CapListExtended)
	options.ReturnSpecialUse = options.ReturnSubscribed && (rev2 || caps.Has(imap.CapSpecialUse))
	boxes, err := s.c.List("", "*", &options).Collect()
	if err != nil {
		return nil, fmt.Errorf("list the folders: %w", err)
	}
	prefix := ""
	if caps.Has(imap.CapNamespace) || rev2 {
		if ns, err := s.c.Namespace().Wait(); err == nil && len(ns.Personal) > 0 {
			prefix = ns.Personal[0].Prefix
		}
	}
	var list []Folder
	for _, b := range boxes {
		if slices.Contains(b.Attrs, imap.MailboxAttrNoSelect) || slices.Contains(b.Attrs, imap.MailboxAttrNonExistent) {
			continue
		}
		f := imapFolder(b, prefix)
		if !options.ReturnSubscribed {
			f.Subscribed = true
		}
		status, err := s.c.Status(b.Mailbox, &imap.StatusOptions{NumMessages: true, UIDValidity: true}).Wait()
		if err := gone(err); err != nil {
			return nil, fmt.Errorf("status of %s: %w", b.Mailbox, err)
		}
		if err == nil && status.NumMessages != nil {
			f.Work = int64(*status.NumMessages)
			f.Validity = fmt.Sprint(status.UIDValidity)
		}
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b Folder) int { return strings.Compare(a.Mailbox, b.Mailbox) })
	return list, nil
}

// gone returns err unless it is a refusal, after which the connection is good.
func gone(err error) error {
	var no *imap.Error
	if errors.As(err, &no) {
		return nil
	}
	return err
}

// imapFolder turns a name of the other server into one of ours.
func imapFolder(b *imap.ListData, prefix string) Folder {
	f := Folder{Name: b.Mailbox, path: b.Mailbox}
	name := b.Mailbox
	if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" {
		name = rest
	}
	levels := []string{name}
	if b.Delim != 0 {
		levels = strings.Split(name, string(b.Delim))
	}
	f.Mailbox = mailboxName(levels)
	for _, a := range b.Attrs {
		switch a {
		case imap.MailboxAttrDrafts, imap.MailboxAttrSent, imap.MailboxAttrArchive, imap.MailboxAttrJunk, imap.MailboxAttrTrash:
			f.SpecialUse = string(a)
		case imap.MailboxAttrAll, imap.MailboxAttrFlagged:
			f.View = true
		case imap.MailboxAttrSubscribed:
			f.Subscribed = true
		}
	}
	return f
}

func (s *imapSource) Read(ctx context.Context, f Folder, v Visitor) error {
	box, err := s.c.Select(f.path, &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil {
		if err := gone(err); err != nil {
			return fmt.Errorf("open %s: %w", f.Name, err)
		}
		v.Skip(f.Name, err.Error())
		return nil
	}
	if fmt.Sprint(box.UIDValidity) != f.Validity {
		v.Skip(f.Name, "the folder was made anew meanwhile; give the command again")
		return nil
	}
	found, err := s.c.UIDSearch(&imap.SearchCriteria{}, nil).Wait()
	if err != nil {
		return fmt.Errorf("list the messages of %s: %w", f.Name, err)
	}
	uids := found.AllUIDs()
	slices.Sort(uids)
	var fresh []imap.UID
	for _, uid := range uids {
		if v.Known(imapMark(uid)) {
			v.Already(1)
			v.Done(1)
			continue
		}
		fresh = append(fresh, uid)
	}
	for part := range slices.Chunk(fresh, fetchAtOnce) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.part(f, part, v); err != nil {
			return fmt.Errorf("read %s: %w", f.Name, err)
		}
		v.Done(int64(len(part)))
	}
	return nil
}

// imapMark identifies a message within a UIDVALIDITY.
func imapMark(uid imap.UID) Mark { return markOf("imap", fmt.Sprint(uid)) }

// part imports some messages of the folder that is open: first what they are,
// so that none is fetched that would be refused, then their octets.
func (s *imapSource) part(f Folder, uids []imap.UID, v Visitor) error {
	about, err := s.c.Fetch(imap.UIDSetNum(uids...), &imap.FetchOptions{UID: true, Flags: true, InternalDate: true, RFC822Size: true}).Collect()
	if err != nil {
		return err
	}
	wanted := make(map[imap.UID]*Message)
	var fetch []imap.UID
	for _, a := range about {
		m := imapMessage(f, a)
		if _, twice := wanted[a.UID]; twice || !v.Fits(m.Where, m.Size) {
			continue
		}
		wanted[a.UID] = m
		fetch = append(fetch, a.UID)
	}
	if s.o.DryRun {
		for _, uid := range fetch {
			if err := v.Take(wanted[uid]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(fetch) == 0 {
		return nil
	}
	if err := s.bodies(fetch, wanted, v); err != nil {
		return err
	}
	for _, uid := range fetch {
		if m := wanted[uid]; m != nil {
			v.Skip(m.Where, "the server did not give it; it may have been deleted meanwhile")
		}
	}
	return nil
}

// imapMessage is a message as the other server describes it.
func imapMessage(f Folder, a *imapclient.FetchMessageBuffer) *Message {
	m := &Message{
		Where: fmt.Sprintf("%s: UID %d", f.Name, a.UID), Mark: imapMark(a.UID),
		Internal: a.InternalDate, Size: a.RFC822Size,
	}
	var system mailstore.SystemFlags
	var keywords []string
	for _, flag := range a.Flags {
		name := string(flag)
		bit, ok := systemFlags(name)
		switch {
		case ok:
			system |= bit
		case strings.HasPrefix(name, "\\"):
			m.Dropped++
		default:
			keywords = append(keywords, name)
		}
	}
	var bad int
	m.Flags, bad = keepFlags(system, keywords)
	m.Dropped += bad
	return m
}

// systemFlags is the bit of a system flag; \Recent has none, and is not missed.
func systemFlags(name string) (mailstore.SystemFlags, bool) {
	switch strings.ToLower(name) {
	case `\seen`:
		return mailstore.Seen, true
	case `\answered`:
		return mailstore.Answered, true
	case `\flagged`:
		return mailstore.Flagged, true
	case `\deleted`:
		return mailstore.Deleted, true
	case `\draft`:
		return mailstore.Draft, true
	case `\recent`:
		return 0, true
	}
	return 0, false
}

// bodies fetches messages and takes those that come out of wanted.
func (s *imapSource) bodies(uids []imap.UID, wanted map[imap.UID]*Message, v Visitor) error {
	cmd := s.c.Fetch(imap.UIDSetNum(uids...), &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{{Peek: true}}})
	for {
		data := cmd.Next()
		if data == nil {
			return cmd.Close()
		}
		var uid imap.UID
		for item := data.Next(); item != nil; item = data.Next() {
			switch item := item.(type) {
			case imapclient.FetchItemDataUID:
				uid = item.UID
			case imapclient.FetchItemDataBodySection:
				m := wanted[uid]
				if m == nil || item.Literal == nil {
					continue
				}
				delete(wanted, uid)
				if err := takeLiteral(item.Literal, m, v); err != nil {
					s.conn.Close() // so that the rest need not be read
					cmd.Close()
					return err
				}
			}
		}
	}
}

// takeLiteral hands over a message while it comes in.
func takeLiteral(lit imap.LiteralReader, m *Message, v Visitor) error {
	r := &wholeReader{r: lit, left: lit.Size()}
	m.Size = lit.Size()
	m.Open = func() (io.ReadCloser, error) { return io.NopCloser(r), nil }
	if err := v.Take(m); err != nil {
		return err
	}
	if r.cut {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// wholeReader makes an error of an end that comes too early. A literal whose
// connection broke ends like one that is complete.
type wholeReader struct {
	r    io.Reader
	left int64
	cut  bool
}

func (w *wholeReader) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.left -= int64(n)
	if errors.Is(err, io.EOF) && w.left > 0 {
		w.cut = true
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}
