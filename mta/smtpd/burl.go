package smtpd

import (
	"context"
	"errors"
	"io"
	"strings"

	"postrider/mailstore"
	"postrider/mta"
)

// URLs opens what IMAP URLs name. *imap.Server is one.
type URLs interface {
	// OpenURL opens for a submission of account the part of a message that url names:
	// size octets, as they are stored. A refusal is a *mta.Reply; any other error is
	// shown as 451 4.3.0. The caller closes the content.
	OpenURL(ctx context.Context, account mailstore.Account, url string) (content io.ReadCloser, size int64, err error)
}

// offersBURL tells whether BURL is for this client, after login at least: it is for
// submission alone (RFC 4468 section 3.1).
func (s *session) offersBURL() bool {
	return s.srv.o.URLs != nil && s.srv.o.Mode == Submission && !s.srv.o.Ours
}

// burlKeyword is the line of EHLO. Before login it says that login is needed; after
// it, that submit+ URLs and those of the user's own messages here are taken (RFC 4468
// section 3.3).
func (s *session) burlKeyword() string {
	if s.login == nil {
		return "BURL"
	}
	return "BURL imap imap://" + s.srv.o.Hostname
}

// burl is BURL (RFC 4468 section 3.2): a chunk of content that the server has already.
func (s *session) burl(ctx context.Context, arg string) *mta.Reply {
	url, marker := cutWord(arg)
	last := strings.EqualFold(marker, "LAST")
	switch {
	case !s.offersBURL():
		return newReply(502, "5.5.1", "BURL is not offered here")
	case s.login == nil:
		return newReply(530, "5.7.0", "Authentication required: say AUTH first")
	case url == "" || marker != "" && !last:
		return newReply(501, "5.5.4", "Say BURL url [LAST]")
	}
	if r := s.mayContent(); r != nil {
		r.Status = "5.5.0" // RFC 4468 section 6
		return r
	}
	m := s.txn.msg
	if m == nil {
		m = s.newMessage()
	}
	if m.urls++; m.urls > maxMessageURLs {
		defer s.drop()
		return s.refuseMessage(mta.Errorf(554, "5.3.4", "A message is made of %d URLs at most", maxMessageURLs), m)
	}
	content, size, err := s.srv.o.URLs.OpenURL(ctx, *s.login, url)
	if err != nil {
		defer s.drop() // RFC 4468 section 3.2
		r := s.failure("cannot open a URL", err)
		s.log.Info("refused: BURL", "id", s.txn.env.ID, "account", s.login.Address, "reply", r.Error())
		return r
	}
	defer content.Close()
	if r := s.takeURL(m, content, size); r != nil {
		defer s.drop()
		return s.refuseMessage(r, m)
	}
	if !last {
		return newReply(250, "2.5.0", "Waiting for additional BURL or BDAT commands")
	}
	defer s.drop()
	return s.conclude(ctx, m)
}

// takeURL makes size octets of content part of the message. The reply says why the
// message is refused.
func (s *session) takeURL(m *message, content io.Reader, size int64) *mta.Reply {
	if m.limit > 0 && size > m.limit-m.size {
		return mta.Errorf(554, "5.3.4", "Message too big for system: the limit is %d octets", m.limit)
	}
	b := s.srv.buffers.Get().(*[]byte)
	defer s.srv.buffers.Put(b)
	for {
		n, err := content.Read(*b)
		m.scan.scan((*b)[:n])
		switch {
		case m.scan.fault != noFault:
			// What no line of text can have (RFC 2045 section 2.9) would have to be
			// encoded (RFC 4468 section 4).
			return newReply(554, "5.6.3", "Conversion required but not supported: the message has binary data")
		case m.refusal != nil:
			return m.end()
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return s.failure("cannot read what a URL names", err)
		}
	}
}
