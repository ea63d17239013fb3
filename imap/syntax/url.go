package syntax

import (
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
)

// MaxURL bounds the octets of a URL.
const MaxURL = 4096

// URL names a message or a part of it (RFC 5092 sections 6 and 7). A relative one,
// which names no server, has no Host, no User and no Access.
type URL struct {
	User     string // whose mailbox it is, as the client writes it; "" = not said
	Host     string // of the server, in small letters and without its port
	Mailbox  string // UTF-8; "" is the selected one
	Validity uint32 // 0 = not said
	UID      uint32
	Section  imap.FetchItemBodySection // with ;PARTIAL

	// What URLAUTH adds (RFC 4467 section 3).
	Expire     time.Time // zero = never
	Access     Access
	AccessUser string // of Submit and User
	Mechanism  string // in capitals; "" where the URL has no token yet
	Token      string // hexadecimal, 128 bits at least
	Rump       string // the URL as it was written, without mechanism and token
}

// Access says who may use a URL.
type Access int

// The access identifiers (RFC 4467 section 3).
const (
	NoAccess  Access = iota // the URL has no URLAUTH
	Submit                  // submit+: who submits mail for a user
	User                    // user+: one user
	AuthUser                // authuser: every user
	Anonymous               // anonymous: everybody
)

// ErrURL is a URL that is none, or names something else than a message.
var ErrURL = errors.New("not the URL of a message")

// ParseURL reads one.
func ParseURL(s string) (URL, error) {
	var u URL
	if len(s) > MaxURL {
		return u, ErrURL
	}
	const scheme = "imap://"
	path := s
	if len(s) >= len(scheme) && strings.EqualFold(s[:len(scheme)], scheme) {
		server, rest, ok := strings.Cut(s[len(scheme):], "/")
		if !ok || strings.ContainsFunc(s, outsideURL) || !u.setServer(server) {
			return u, ErrURL
		}
		if path, ok = u.takeAuth(s, "/"+rest); !ok {
			return u, ErrURL
		}
	}
	return u, u.setPath(path)
}

// outsideURL tells whether a character cannot stand in a URL unencoded.
func outsideURL(r rune) bool { return r <= ' ' || r >= 0x7f }

// setServer reads iserver.
func (u *URL) setServer(server string) bool {
	at := strings.LastIndexByte(server, '@')
	host := server[at+1:]
	if at >= 0 {
		user, mechanism, _ := cutFold(server[:at], ";AUTH=") // how to log in, which says nothing here
		decoded, err := url.PathUnescape(user)
		if err != nil || strings.Contains(user, ";") || strings.Contains(mechanism, ";") {
			return false
		}
		u.User = decoded
	}
	if colon := strings.LastIndexByte(host, ':'); colon > strings.LastIndexByte(host, ']') {
		if _, ok := decimal([]byte(host[colon+1:]), 1<<16-1); !ok && host[colon+1:] != "" {
			return false
		}
		host = host[:colon]
	}
	u.Host = strings.ToLower(host)
	return u.Host != ""
}

// takeAuth reads iurlauth at the end of the path of s, and returns what is in front of
// it. Where there is none, that is all.
func (u *URL) takeAuth(s, path string) (front string, ok bool) {
	front, auth, has := cutFold(path, ";URLAUTH=")
	if !has {
		return path, true
	}
	u.Rump = s
	parts := strings.Split(auth, ":")
	switch len(parts) {
	case 1:
	case 3:
		u.Mechanism, u.Token = strings.ToUpper(parts[1]), parts[2]
		u.Rump = s[:len(s)-len(parts[1])-len(parts[2])-2]
		const hex = "0123456789abcdefABCDEF"
		if u.Mechanism == "" || strings.ContainsFunc(u.Mechanism, notMechanism) || len(u.Token) < 32 || strings.Trim(u.Token, hex) != "" {
			return "", false
		}
	default:
		return "", false
	}
	if !u.setAccess(parts[0]) {
		return "", false
	}
	rest, date, has := cutFold(front, ";EXPIRE=")
	if has {
		var err error
		if u.Expire, err = time.Parse(time.RFC3339, strings.ToUpper(date)); err != nil || u.Expire.IsZero() {
			return "", false
		}
	}
	return rest, true
}

func notMechanism(r rune) bool {
	return (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.'
}

// setAccess reads access.
func (u *URL) setAccess(s string) bool {
	switch word := strings.ToLower(s); {
	case word == "authuser":
		u.Access = AuthUser
		return true
	case word == "anonymous":
		u.Access = Anonymous
		return true
	case strings.HasPrefix(word, "submit+"):
		u.Access = Submit
	case strings.HasPrefix(word, "user+"):
		u.Access = User
	default:
		return false
	}
	user, err := url.PathUnescape(s[strings.IndexByte(s, '+')+1:])
	u.AccessUser = user
	return err == nil && user != "" && !strings.ContainsAny(s, ";/")
}

// setPath reads what names a message.
func (u *URL) setPath(s string) error {
	path, rest, ok := cutFold(s, ";UID=")
	if !ok || strings.HasPrefix(s, "//") || !strings.HasPrefix(path, "/") && path != "" {
		return ErrURL
	}
	if path != "" {
		if path = strings.TrimPrefix(strings.TrimSuffix(path, "/"), "/"); !u.setMailbox(path) {
			return ErrURL
		}
	}
	parts := strings.Split(rest, "/;")
	n, ok := decimal([]byte(parts[0]), 1<<32-1)
	if !ok || n == 0 {
		return ErrURL
	}
	u.UID = uint32(n)
	for i, part := range parts[1:] {
		name, value, _ := strings.Cut(part, "=")
		decoded, err := url.PathUnescape(value)
		switch {
		case err != nil:
			return ErrURL
		case strings.EqualFold(name, "SECTION") && i == 0:
			err = u.setSection(decoded)
		case strings.EqualFold(name, "PARTIAL") && i == len(parts)-2:
			err = u.setPartial(decoded)
		default:
			err = ErrURL
		}
		if err != nil {
			return err
		}
	}
	return nil
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
