package imap

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"

	"postrider/imap/syntax"
	"postrider/mailstore"
	"postrider/mailstore/message"
	"postrider/mta"
)

// Why a URL leads nowhere.
var (
	errURLServer  = errors.New("the URL is of another server")
	errURLAccess  = errors.New("the URL does not give access")
	errURLContent = errors.New("the URL names nothing that is there")
)

func isURLError(err error) bool {
	return errors.Is(err, syntax.ErrURL) || errors.Is(err, errURLServer) || errors.Is(err, errURLAccess) || errors.Is(err, errURLContent)
}

// requester is who wants to have what a URL names.
type requester struct {
	account mailstore.AccountID
	submits bool // for a message that the account submits (RFC 4468); else in its session
}

// urlContent is what a URL names.
type urlContent struct {
	io.Reader
	io.Closer
	size   int64
	absent bool // the message has no such part: there is nothing to read
}

// here tells whether a host is this server: by its name, by that of a domain of ours or
// one below, or as the host itself is called.
func (s *Server) here(ctx context.Context, host string) (bool, error) {
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	switch {
	case err == nil:
		return addr.IsLoopback(), nil
	case host == "localhost", strings.EqualFold(host, s.o.Hostname):
		return true, nil
	}
	return s.o.Directory.Serves(ctx, host)
}

// openURL opens what an absolute URL names, with the access of the account in it. Errors:
// errURLServer, errURLAccess, errURLContent; others are the store's.
func (s *Server) openURL(ctx context.Context, who requester, u *syntax.URL) (*urlContent, error) {
	here, err := s.here(ctx, u.Host)
	if err != nil {
		return nil, err
	}
	if !here {
		return nil, errURLServer
	}
	owner := who.account
	if u.User != "" || u.Access != syntax.NoAccess {
		if owner, err = s.named(ctx, u.User); err != nil {
			return nil, err
		}
	}
	if u.Access == syntax.NoAccess {
		if owner != who.account {
			return nil, errURLAccess
		}
		return s.openOf(ctx, owner, u, 0)
	}
	box, err := s.authorize(ctx, who, owner, u)
	if err != nil {
		return nil, err
	}
	return s.openOf(ctx, owner, u, box)
}

// authorize validates a URL with URLAUTH (RFC 4467 section 6), and tells to which mailbox
// it gives access. It takes as long for one of a mailbox or an account that do not exist.
func (s *Server) authorize(ctx context.Context, who requester, owner mailstore.AccountID, u *syntax.URL) (mailstore.MailboxID, error) {
	key := s.plausible[:]
	var box mailstore.Mailbox
	err := s.o.Store.View(ctx, func(v *mailstore.View) (err error) {
		box, err = urlMailbox(v, owner, u.Mailbox)
		if err != nil {
			return err
		}
		found, err := v.URLKey(owner, box.ID)
		if err == nil {
			key = found
		}
		return err
	})
	if err != nil && !errors.Is(err, mailstore.ErrNotFound) && !errors.Is(err, mailstore.ErrName) {
		return 0, err
	}
	if signed := signedBy(key, u); !signed || err != nil {
		return 0, errURLAccess
	}
	user := mailstore.AccountID(0)
	if u.AccessUser != "" {
		if user, err = s.named(ctx, u.AccessUser); err != nil {
			return 0, err
		}
	}
	allowed := false
	switch u.Access {
	case syntax.Submit:
		allowed = who.submits && user == who.account
	case syntax.User:
		allowed = !who.submits && user == who.account
	case syntax.AuthUser, syntax.Anonymous: // there is no session of nobody here
		allowed = true
	}
	if !allowed || !u.Expire.IsZero() && s.o.Clock.Now().After(u.Expire) {
		return 0, errURLAccess
	}
	return box.ID, nil
}

// openOf opens what a URL names among the mailboxes of an account. Where one was signed
// for, it is that one: another can have got its name meanwhile.
func (s *Server) openOf(ctx context.Context, owner mailstore.AccountID, u *syntax.URL, signed mailstore.MailboxID) (*urlContent, error) {
	var m mailstore.Message
	err := s.o.Store.View(ctx, func(v *mailstore.View) error {
		box, err := urlMailbox(v, owner, u.Mailbox)
		switch {
		case err != nil:
			return err
		case u.Validity != 0 && u.Validity != box.UIDValidity, signed != 0 && signed != box.ID:
			return mailstore.ErrNotFound
		}
		m, err = v.Message(box.ID, mailstore.UID(u.UID))
		return err
	})
	if err != nil {
		if errors.Is(err, mailstore.ErrNotFound) || errors.Is(err, mailstore.ErrName) {
			err = errURLContent
		}
		return nil, err
	}
	return s.openPart(ctx, m, u)
}

// openPart opens the part of a message that a URL names. errURLContent: the message has
// gone.
func (s *Server) openPart(ctx context.Context, m mailstore.Message, u *syntax.URL) (*urlContent, error) {
	content, err := s.o.Store.OpenMessage(ctx, m)
	if errors.Is(err, mailstore.ErrNotFound) {
		return nil, errURLContent
	}
	if err != nil {
		return nil, err
	}
	x := message.Parse(content, content.Size())
	err = x.Err()
	if err == nil {
		r, failed := x.Section(&u.Section)
		if failed == nil {
			absent := len(u.Section.Part) > 0 && x.Find(u.Section.Part) == nil
			return &urlContent{Reader: r, Closer: content, size: r.Size(), absent: absent}, nil
		}
		err = failed
	}
	content.Close()
	return nil, err
}

// OpenURL opens what a URL names for a message that an account submits (RFC 4468): a
// URL with submit+ and its own name, or that of a message of its own without URLAUTH.
// Refusals are *mta.Reply.
func (s *Server) OpenURL(ctx context.Context, account mailstore.Account, url string) (io.ReadCloser, int64, error) {
	u, err := syntax.ParseURL(url)
	if err != nil || u.Host == "" {
		return nil, 0, mta.Errorf(501, "5.5.4", "That is not the IMAP URL of a message")
	}
	content, err := s.openURL(ctx, requester{account: account.ID, submits: true}, &u)
	if err == nil && content.absent {
		content.Close()
		err = errURLContent
	}
	switch {
	case errors.Is(err, errURLServer):
		return nil, 0, mta.Errorf(554, "5.7.8", "URL resolution requires trust relationship: only URLs of this server are resolved, which is %s", s.o.Hostname)
	case errors.Is(err, errURLAccess):
		return nil, 0, mta.Errorf(554, "5.7.0", "IMAP URL authorization failed")
	case errors.Is(err, errURLContent):
		return nil, 0, mta.Errorf(554, "5.6.6", "IMAP URL resolution failed: there is no such message or part")
	case err != nil:
		return nil, 0, err
	}
	return content, content.size, nil
}
