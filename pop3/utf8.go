package pop3

import (
	"bytes"
	"context"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/xdg-go/stringprep"

	"postrider/mailstore/message"
)

// cmdUTF8 is RFC 6856 section 2.1: from now on the client takes UTF-8 in headers.
func (s *session) cmdUTF8(context.Context, string) error {
	s.utf8 = true
	s.out.line("+OK UTF-8 it is")
	return nil
}

// language is the one in which we speak.
const language = "en"

// cmdLang is RFC 6856 section 3. A range is matched by lookup (RFC 4647 section
// 3.4): en-GB gets en.
func (s *session) cmdLang(_ context.Context, arg string) error {
	arg = strings.TrimSpace(arg)
	if arg == "" {
		s.out.line("+OK language listing follows")
		s.out.line(language, " English")
		s.out.line(".")
		return nil
	}
	if first, _, _ := strings.Cut(arg, "-"); arg != "*" && (!strings.EqualFold(first, language) || !isLanguage(arg)) {
		return &refusal{text: "no such language here, there is " + language, blameless: true}
	}
	s.out.line("+OK ", language, " English it is")
	return nil
}

// isLanguage tells whether s has the form of a language range (RFC 4647 section
// 2.1).
func isLanguage(s string) bool {
	for part := range strings.SplitSeq(s, "-") {
		if part == "" || len(part) > 8 || strings.ContainsFunc(part, func(r rune) bool {
			return !(r >= '0' && r <= '9' || (r|0x20) >= 'a' && (r|0x20) <= 'z')
		}) {
			return false
		}
	}
	return true
}

// prohibited are the characters of RFC 4013 section 2.3 beyond ASCII; spaces are
// mapped before that section is applied.
func prohibited(r rune) bool {
	for _, table := range [...]stringprep.Set{stringprep.TableC2_2, stringprep.TableC3, stringprep.TableC4, stringprep.TableC5,
		stringprep.TableC6, stringprep.TableC7, stringprep.TableC8, stringprep.TableC9} {
		if table.Contains(r) {
			return true
		}
	}
	return false
}

// plainText refuses what cannot be an argument of USER or PASS (RFC 6856 section
// 2.2). The directory does the rest of SASLprep, for all mechanisms alike.
func plainText(what, s string) error {
	if !utf8.ValidString(s) {
		return refuse("the %s is not UTF-8", what)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 && prohibited(r) }) {
		return refuse("the %s has a character that SASLprep forbids", what)
	}
	return nil
}

// headerScan looks through the header of a message, in pieces, for UTF-8 beyond
// ASCII. A header with octets that are no UTF-8 is not one of RFC 6532: such mail
// is of old and broken programs, and goes to old clients as it always did.
type headerScan struct {
	line    bool   // the current line has an octet other than CR
	beyond  bool   // an octet beyond ASCII was seen
	broken  bool   // and one that is not UTF-8
	partial []byte // the beginning of a character
	seen    int    // octets
}

// feed takes the next piece; done tells that the header is over.
func (h *headerScan) feed(p []byte) (done bool) {
	for len(p) > 0 && !done {
		n := bytes.IndexByte(p, '\n') + 1
		if n == 0 {
			n = len(p)
		}
		h.text(p[:n])
		h.line = h.line || len(bytes.Trim(p[:n], "\r\n")) > 0
		if p[n-1] == '\n' {
			done = !h.line
			h.line = false
		}
		p = p[n:]
		h.seen += n
		done = done || h.broken || h.seen >= message.MaxHeader
	}
	return done
}

// text judges the characters of a part of a line.
func (h *headerScan) text(p []byte) {
	var joined [2 * utf8.UTFMax]byte
	for len(p) > 0 && !h.broken {
		next := p
		if len(h.partial) > 0 {
			next = append(append(joined[:0], h.partial...), p[:min(len(p), utf8.UTFMax)]...)
		} else if i := bytes.IndexFunc(p, func(r rune) bool { return r >= utf8.RuneSelf }); i >= 0 {
			h.beyond = true
			p = p[i:]
			next = p
		} else {
			return
		}
		if !utf8.FullRune(next) {
			h.partial = bytes.Clone(next)
			return
		}
		r, size := utf8.DecodeRune(next)
		h.broken = r == utf8.RuneError && size == 1
		p = p[max(0, size-len(h.partial)):]
		h.partial = nil
	}
}

// international tells whether a message with this header is for clients that have
// said UTF8.
func (h *headerScan) international() bool { return h.beyond && !h.broken && len(h.partial) == 0 }

// isInternational looks at the header of a message whose first octets are at hand.
func (s *session) isInternational(content io.ReaderAt, size int64, first []byte) (bool, error) {
	var h headerScan
	if h.feed(first) || int64(len(first)) == size {
		return h.international(), nil
	}
	pooled := s.srv.buffers.Get().(*[]byte)
	defer s.srv.buffers.Put(pooled)
	for off := int64(len(first)); off < size; {
		buf := (*pooled)[:min(int64(len(*pooled)), size-off)]
		n, err := content.ReadAt(buf, off)
		if n < len(buf) {
			return false, err
		}
		if h.feed(buf) {
			break
		}
		off += int64(n)
	}
	return h.international(), nil
}
