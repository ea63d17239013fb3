package message

import (
	"mime"
	"strconv"

	"github.com/emersion/go-imap/v2"
)

// maxQuoted is the longest text that goes out between quotes.
const maxQuoted = 4096

// appendString appends an IMAP string (RFC 3501 section 4.3): quoted where
// every client can read it so, else a literal, in which any octet may stand.
func appendString(dst []byte, s string) []byte {
	escapes := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == 0 || c == '\r' || c == '\n' || c >= 0x80:
			return appendLiteral(dst, s)
		case c == '"' || c == '\\':
			escapes++
		}
	}
	if len(s) > maxQuoted {
		return appendLiteral(dst, s)
	}
	dst = append(dst, '"')
	if escapes == 0 {
		dst = append(dst, s...)
		return append(dst, '"')
	}
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}

func appendLiteral(dst []byte, s string) []byte {
	dst = append(dst, '{')
	dst = strconv.AppendInt(dst, int64(len(s)), 10)
	dst = append(dst, "}\r\n"...)
	return append(dst, s...)
}

// appendNString is appendString, but what is empty is NIL.
func appendNString(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "NIL"...)
	}
	return appendString(dst, s)
}

// AppendWords appends a subject or a display name: encoded words as they
// stand, and words made of what is not ASCII; nothing is NIL.
func AppendWords(dst []byte, s string) []byte {
	return appendNString(dst, mime.QEncoding.Encode("utf-8", s))
}

// AppendAddresses appends a list of addresses as ENVELOPE has it (RFC 9051
// section 7.5.2); none is NIL.
func AppendAddresses(dst []byte, l []imap.Address) []byte {
	if len(l) == 0 {
		return append(dst, "NIL"...)
	}
	dst = append(dst, '(')
	for i := range l {
		dst = append(dst, '(')
		dst = AppendWords(dst, l[i].Name)
		dst = append(dst, " NIL "...)
		dst = appendNString(dst, l[i].Mailbox)
		dst = append(dst, ' ')
		dst = appendNString(dst, l[i].Host)
		dst = append(dst, ')')
	}
	return append(dst, ')')
}

// appendParams appends each parameter once; the first of a name wins.
func appendParams(dst []byte, ps params) []byte {
	if len(ps) == 0 {
		return append(dst, "NIL"...)
	}
	dst = append(dst, '(')
	for i := range ps {
		if ps.before(i) {
			continue
		}
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = appendString(dst, legible(ps[i].name))
		dst = append(dst, ' ')
		dst = appendString(dst, legible(ps[i].value))
	}
	return append(dst, ')')
}

// before tells whether the parameter at i has a namesake before it.
func (ps params) before(i int) bool {
	for j := range i {
		if ps[j].name == ps[i].name {
			return true
		}
	}
	return false
}

func appendDisposition(dst []byte, v string) []byte {
	d, ps := parseDisposition(v)
	if d == "" {
		return append(dst, "NIL"...)
	}
	dst = append(dst, '(')
	dst = appendString(dst, d)
	dst = append(dst, ' ')
	dst = appendParams(dst, ps)
	return append(dst, ')')
}

func appendLanguages(dst []byte, v string) []byte {
	l := languages(v)
	if len(l) == 0 {
		return append(dst, "NIL"...)
	}
	dst = append(dst, '(')
	for i, tag := range l {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = appendString(dst, tag)
	}
	return append(dst, ')')
}

// plainEnvelope is the ENVELOPE of a message without any field.
const plainEnvelope = "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"

// envelopeLists are the address lists of an ENVELOPE in their order.
var envelopeLists = [...]fieldID{idFrom, idSender, idReplyTo, idTo, idCc, idBcc}

// appendEnvelope appends an ENVELOPE (RFC 9051 section 7.5.2) of at most about
// limit octets: one that is longer is not whole.
func (d *Describer) appendEnvelope(dst []byte, f *fields, limit int) []byte {
	start := len(dst)
	dst = append(dst, '(')
	dst = appendNString(dst, legible(f.text(idDate)))
	dst = append(dst, ' ')
	subject := f.text(idSubject)
	if len(subject) > limit {
		return append(dst, subject...)
	}
	dst = AppendWords(dst, legible(subject))
	var from []byte
	for _, id := range envelopeLists {
		dst = append(dst, ' ')
		begin := len(dst)
		d.addresses.list = d.addresses.list[:0]
		if f.have(id) {
			d.addresses.parse(f.text(id), limit/shortestAddress+1)
		}
		switch {
		case len(d.addresses.list) == 0 && (id == idSender || id == idReplyTo):
			dst = append(dst, from...) // RFC 9051 section 7.5.2: they default to From
		default:
			dst = AppendAddresses(dst, d.addresses.list)
		}
		if id == idFrom {
			from = dst[begin:len(dst):len(dst)]
		}
		if len(dst)-start > limit {
			return dst
		}
	}
	dst = append(dst, ' ')
	dst = appendIDs(dst, f.text(idInReplyTo))
	dst = append(dst, ' ')
	dst = appendIDs(dst, f.text(idMessageID))
	return append(dst, ')')
}

// shortestAddress is what an address takes at least in an ENVELOPE.
const shortestAddress = len("(NIL NIL NIL NIL)")

func appendIDs(dst []byte, v string) []byte {
	ids := messageIDs(v)
	if ids == "" {
		return append(dst, "NIL"...)
	}
	return appendString(dst, "<"+ids+">")
}
