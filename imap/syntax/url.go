package syntax

import (
	"errors"
	"net/url"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// URL is a relative IMAP URL of a message or a part of it (RFC 5092 sections 5
// and 7).
type URL struct {
	Mailbox  string // UTF-8; "" is the selected one
	Validity uint32 // 0 = not said
	UID      uint32
	Section  imap.FetchItemBodySection // with ;PARTIAL
}

// ErrURL is a URL that is none, or names something else than a message here.
var ErrURL = errors.New("not the URL of a message on this server")

// ParseURL reads one.
func ParseURL(s string) (URL, error) {
	var u URL
	path, rest, ok := cutFold(s, ";UID=")
	if !ok || strings.HasPrefix(s, "//") || !strings.HasPrefix(path, "/") && path != "" {
		return u, ErrURL
	}
	if path != "" {
		if path = strings.TrimPrefix(strings.TrimSuffix(path, "/"), "/"); !u.setMailbox(path) {
			return u, ErrURL
		}
	}
	parts := strings.Split(rest, "/;")
	n, ok := decimal([]byte(parts[0]), 1<<32-1)
	if !ok || n == 0 {
		return u, ErrURL
	}
	u.UID = uint32(n)
	for i, part := range parts[1:] {
		name, value, _ := strings.Cut(part, "=")
		decoded, err := url.PathUnescape(value)
		switch {
		case err != nil:
			return u, ErrURL
		case strings.EqualFold(name, "SECTION") && i == 0:
			err = u.setSection(decoded)
		case strings.EqualFold(name, "PARTIAL") && i == len(parts)-2:
			err = u.setPartial(decoded)
		default:
			err = ErrURL
		}
		if err != nil {
			return u, err
		}
	}
	return u, nil
}

// cutFold is strings.Cut without regard to case, behind the last separator.
func cutFold(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(strings.ToUpper(s), sep)
	if i < 0 || len(strings.ToUpper(s)) != len(s) {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func (u *URL) setMailbox(path string) bool {
	name, validity, has := cutFold(path, ";UIDVALIDITY=")
	if has {
		n, ok := decimal([]byte(validity), 1<<32-1)
		if !ok || n == 0 {
			return false
		}
		u.Validity = uint32(n)
	}
	decoded, err := url.PathUnescape(name)
	u.Mailbox = decoded
	return err == nil && decoded != "" && !strings.Contains(decoded, ";")
}

func (u *URL) setSection(s string) error {
	p := NewParser([]byte("[" + s + "]"))
	section := p.section()
	if p.End() != nil {
		return ErrURL
	}
	u.Section = *section
	return nil
}

func (u *URL) setPartial(s string) error {
	from, size, has := strings.Cut(s, ".")
	partial := &imap.SectionPartial{Size: 1<<63 - 1}
	n, ok := decimal([]byte(from), 1<<63-1)
	partial.Offset = int64(n)
	if has && ok {
		n, ok = decimal([]byte(size), 1<<63-1)
		partial.Size = int64(n)
	}
	if !ok || partial.Size == 0 {
		return ErrURL
	}
	u.Section.Partial = partial
	return nil
}
