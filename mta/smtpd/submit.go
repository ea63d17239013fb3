package smtpd

import (
	"bytes"
	"context"
	"io"
	"mime"
	"net/mail"
	"strings"
	"time"

	"postrider/mta"
)

// submission is what the message of a user gets where it has none (RFC 6409
// section 8).
type submission struct {
	date      string
	messageID string
}

func (s *session) submission() *submission {
	return &submission{
		date:      s.srv.o.Clock.Now().Format(time.RFC1123Z),
		messageID: "<" + s.txn.env.ID + "@" + s.srv.o.Hostname + ">",
	}
}

// ownsSender tells whether a user may send as from, which stands in MAIL or in
// the header. Strangers may give anything, and everybody the null path.
func (s *session) ownsSender(ctx context.Context, from mta.Address) *mta.Reply {
	if s.login == nil || from.IsZero() {
		return nil
	}
	ok, err := s.srv.o.Directory.Owns(ctx, int64(s.login.ID), from)
	switch {
	case err != nil:
		return s.failure("cannot look up a sender", err)
	case !ok:
		s.log.Info("refused: not the sender's address", "account", s.login.Address, "address", from.String())
		return newReply(550, "5.7.1", shown(from, false)+" is not an address of yours")
	}
	return nil
}

// ownsAuthors tells whether a user may send as everybody that the header names
// as author or sender (RFC 6409 section 6.1).
func (s *session) ownsAuthors(ctx context.Context, authors []mta.Address) *mta.Reply {
	for _, a := range authors {
		if r := s.ownsSender(ctx, a); r != nil {
			return r
		}
	}
	return nil
}

// apply edits a whole header: Bcc goes, Date and Message-ID come where they
// are missing. It returns the authors and senders named there too.
func (f *submission) apply(kept []byte) (edited []byte, authors []mta.Address, refusal *mta.Reply) {
	const headroom = 128
	fields := make([]byte, 0, len(kept)+headroom)
	hasDate, hasID := false, false
	rest := kept
	for len(rest) > 0 {
		var field []byte
		field, rest = cutField(rest)
		name := fieldName(field)
		if name == "" && len(fields) == 0 && !bytes.Equal(field, crlf) {
			// The message has no header at all: what stands here is its text.
			fields = append(append(fields, crlf...), kept...)
			break
		}
		switch name {
		case "date":
			hasDate = true
		case "message-id":
			hasID = true
		case "bcc", "resent-bcc":
			continue
		case "from", "sender":
			list, r := readAuthors(field)
			if r != nil {
				return nil, nil, r
			}
			if authors = append(authors, list...); len(authors) > maxAuthors {
				return nil, nil, mta.Errorf(550, "5.6.0", "From and Sender name more than %d addresses", maxAuthors)
			}
		}
		fields = append(fields, field...)
	}
	edited = make([]byte, 0, len(fields)+headroom)
	if !hasDate {
		edited = append(edited, "Date: "+f.date+"\r\n"...)
	}
	if !hasID {
		edited = append(edited, "Message-ID: "+f.messageID+"\r\n"...)
	}
	return append(edited, fields...), authors, nil
}

// cutField splits b after its first field, continuation lines included.
func cutField(b []byte) (field, rest []byte) {
	n := 0
	for {
		i := bytes.IndexByte(b[n:], '\n')
		if i < 0 {
			return b, nil
		}
		n += i + 1
		if n == len(b) || b[n] != ' ' && b[n] != '\t' {
			return b[:n], b[n:]
		}
	}
}

// fieldName is the name of a field in small letters; "" when it is not one
// (RFC 5322 sections 2.2 and 4.5).
func fieldName(field []byte) string {
	name, _, ok := bytes.Cut(field, []byte(":"))
	if !ok {
		return ""
	}
	name = bytes.TrimRight(name, " \t")
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return ""
		}
	}
	return strings.ToLower(string(name))
}

// readAuthors reads the addresses of a From or Sender field. A field that
// cannot be read is refused: nobody knows whom it names.
func readAuthors(field []byte) ([]mta.Address, *mta.Reply) {
	name, value, _ := strings.Cut(string(field), ":")
	name = strings.TrimRight(name, " \t")
	bad := newReply(550, "5.6.0", "The field "+name+" cannot be read: it must be like "+name+": Alice <alice@crepes.fr>")
	parser := mail.AddressParser{WordDecoder: &mime.WordDecoder{
		// Only the addresses are of interest, whatever the names are written in.
		CharsetReader: func(_ string, in io.Reader) (io.Reader, error) { return in, nil },
	}}
	value = strings.TrimSpace(strings.ReplaceAll(value, "\r\n", ""))
	list, err := parser.ParseList(value)
	if err != nil || len(list) == 0 {
		return nil, bad
	}
	authors := make([]mta.Address, 0, len(list))
	for _, entry := range list {
		at := strings.LastIndexByte(entry.Address, '@')
		if at < 0 {
			return nil, bad
		}
		spelled := mta.Address{Local: entry.Address[:at], Domain: entry.Address[at+1:]}
		a, err := mta.ParseAddress(spelled.String())
		if err != nil {
			return nil, bad
		}
		authors = append(authors, a)
	}
	return authors, nil
}
