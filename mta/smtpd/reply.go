package smtpd

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"postrider/mta"
)

// newReply makes a reply from a fixed text.
func newReply(code int, status, text string) *mta.Reply {
	return &mta.Reply{Code: code, Status: status, Text: text}
}

// closing makes a reply after which the connection ends.
func closing(code int, status, text string) *mta.Reply {
	return &mta.Reply{Code: code, Status: status, Text: text, Close: true}
}

// appendReply writes r as RFC 5321 section 4.2.1 and RFC 2034 section 4 have
// it: one line for each of its text, each with the status, none longer than
// maxReplyLine and none with a control character, whatever the text holds.
func appendReply(b []byte, r *mta.Reply) []byte {
	text := strings.TrimRight(r.Text, "\r\n")
	for more := true; more; {
		var line string
		line, text, more = strings.Cut(text, "\n")
		start := len(b)
		b = strconv.AppendInt(b, int64(r.Code), 10)
		if more {
			b = append(b, '-')
		} else {
			b = append(b, ' ')
		}
		if r.Status != "" {
			b = append(b, r.Status...)
			b = append(b, ' ')
		}
		b = appendText(b, line, start+maxReplyLine-len("\r\n"))
		b = append(b, "\r\n"...)
	}
	return b
}

// appendText writes s up to the length limit of b, with "?" in the place of
// control characters and of what is not UTF-8.
func appendText(b []byte, s string, limit int) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if len(b) >= limit {
				break
			}
			if c < ' ' || c == 0x7f {
				c = '?'
			}
			b = append(b, c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || r < 0xa0 {
			r = '?'
		}
		if len(b)+utf8.RuneLen(r) > limit {
			break
		}
		b = utf8.AppendRune(b, r)
		i += n
	}
	return b
}

// shown is an address as a reply repeats it: with characters beyond US-ASCII
// only for a client that declared SMTPUTF8 (RFC 6531 section 3.7.4.2).
func shown(a mta.Address, utf8 bool) string {
	switch {
	case a.IsZero():
		return "<>"
	case utf8 || a.ASCII():
		return a.String()
	}
	return "(address)@" + a.Domain
}
