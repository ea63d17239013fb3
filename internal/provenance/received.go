package provenance

import (
	"fmt"
	"net/mail"
	"net/netip"
	"regexp"
	"strings"
	"time"
)

// Hop is one Received field (RFC 5321 section 4.4), however it is written.
type Hop struct {
	Number    int       `json:"number"`            // 1 is the oldest
	From      string    `json:"from,omitempty"`    // the other side, by its own word or by its address's name
	Helo      string    `json:"helo,omitempty"`    // what it called itself
	Reverse   string    `json:"reverse,omitempty"` // the name of its address, as the server looked it up
	Address   string    `json:"address,omitempty"`
	By        string    `json:"by,omitempty"`
	ByAddress string    `json:"byAddress,omitempty"`
	With      string    `json:"with,omitempty"`
	ID        string    `json:"id,omitempty"`
	For       string    `json:"for,omitempty"`
	TLS       string    `json:"tls,omitempty"`
	Software  string    `json:"software,omitempty"`
	Time      time.Time `json:"time,omitzero"`
	Delay     Duration  `json:"delay,omitempty"` // since the hop before
	Trusted   bool      `json:"trusted"`
	Notes     []string  `json:"notes,omitempty"`
}

const maxTokens = 400

// token is a word or a comment, without its parentheses.
type token struct {
	text    string
	comment bool
}

// parseReceived reads a Received field without its name.
func parseReceived(value string) Hop {
	tokens, date := tokenize(value)
	h := Hop{Time: parseDate(date)}
	if h.Time.IsZero() { // some write no semicolon
		h.Time = findDate(value)
	}
	clause := ""
	for _, t := range tokens {
		word := strings.ToLower(t.text)
		switch {
		case t.comment:
			h.comment(clause, t.text)
		case clauses[word]:
			clause = word
		case clause == "":
			h.stray(t.text)
		default:
			h.word(clause, t.text)
		}
	}
	h.finish()
	return h
}

// clauses begin the parts of the field; tls is Exim's.
var clauses = map[string]bool{"from": true, "by": true, "with": true, "id": true, "for": true, "via": true, "tls": true}

// tokenize splits at white space outside of comments, up to the last semicolon
// that is outside of them; what follows it is the date.
func tokenize(s string) (tokens []token, date string) {
	semicolon, depth := -1, 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			depth = max(0, depth-1)
		case ';':
			if depth == 0 {
				semicolon = i
			}
		}
	}
	if semicolon >= 0 {
		s, date = s[:semicolon], s[semicolon+1:]
	}
	for s = strings.TrimLeft(s, " \t"); s != "" && len(tokens) < maxTokens; s = strings.TrimLeft(s, " \t") {
		if s[0] == '(' {
			inner, rest := cutComment(s)
			tokens = append(tokens, token{inner, true})
			s = rest
			continue
		}
		end := strings.IndexAny(s, " \t(")
		if end < 0 {
			end = len(s)
		}
		tokens = append(tokens, token{s[:end], false})
		s = s[end:]
	}
	return tokens, date
}

// cutComment takes a comment off, nested ones included; one that does not end goes
// to the end.
func cutComment(s string) (inner, rest string) {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return strings.TrimSpace(s[1:i]), s[i+1:]
			}
		}
	}
	return strings.TrimSpace(s[1:]), ""
}

// word takes a word of a clause.
func (h *Hop) word(clause, w string) {
	switch clause {
	case "from":
		switch a := address(w); {
		case h.From == "" && a != "":
			h.From, h.Address = w, a
		case h.From == "":
			h.From = w
		case a != "" && h.Address == "": // fetchmail
			h.Address = a
		}
	case "by":
		if h.By == "" {
			h.By, h.ByAddress = w, address(w)
		}
	case "with", "via":
		if strings.HasPrefix(strings.ToLower(w), "cipher") {
			return
		}
		h.With = strings.TrimSpace(h.With + " " + w)
	case "id":
		if h.ID == "" {
			h.ID = w
		}
	case "for":
		if h.For == "" {
			h.For = strings.Trim(w, "<>,")
		}
	case "tls":
		h.TLS = strings.TrimSpace(h.TLS + " " + w)
	}
}

var (
	heloWord  = regexp.MustCompile(`(?i)^(?:helo|ehlo)[ =]+(\S+)`)
	tlsWords  = regexp.MustCompile(`(?i)\S+ encrypted$|\bTLS[ v]?1[._]?\d?\S*|version=\S+|\bSSLv\d\S*`)
	bracketed = regexp.MustCompile(`\[([^\]\s]+)\]`)
	invoked   = regexp.MustCompile(`(?i)^(qmail \d+) (invoked (?:by|from|for) .*)`)
)

// comment takes what stands in parentheses, after the clause that it is about.
func (h *Hop) comment(clause, c string) {
	lower := strings.ToLower(c)
	switch {
	case invoked.MatchString(c):
		m := invoked.FindStringSubmatch(c)
		h.Software = "qmail"
		h.With = strings.TrimSpace(h.With + " " + m[2])
	case strings.HasPrefix(lower, "using tls"), strings.HasPrefix(lower, "version=") && tlsWords.MatchString(c), clause != "from" && clause != "by" && tlsWords.MatchString(c):
		if h.TLS == "" || strings.HasPrefix(lower, "tls") {
			h.TLS = strings.TrimSuffix(strings.TrimPrefix(tlsWords.FindString(c), "version="), ",")
		}
	case strings.Contains(lower, "authenticated") || strings.HasPrefix(lower, "auth"):
		if !strings.Contains(h.With, "login") {
			h.With = strings.TrimSpace(h.With + " after login")
		}
	case clause == "from":
		h.peer(c)
	case clause == "by" && address(c) != "":
		h.ByAddress = address(c)
	case h.Software == "" && software(c):
		h.Software = c
	}
}

// peer takes what a server says of the other side, in its own words.
func (h *Hop) peer(c string) {
	if m := heloWord.FindStringSubmatch(c); m != nil {
		h.Helo = m[1]
		if _, rest, ok := strings.Cut(c, m[1]); ok {
			c = rest
		}
	}
	if m := bracketed.FindStringSubmatch(c); m != nil && h.Address == "" {
		h.Address = address(m[1])
		if h.Address == "" {
			h.note("%s is no address that a host can have", shown(m[1], 60))
		}
		c, _, _ = strings.Cut(c, "[")
	}
	for _, w := range strings.Fields(c) {
		switch a := address(w); {
		case a != "" && h.Address == "":
			h.Address = a
		case a == "" && h.Reverse == "" && hostLike(w):
			h.Reverse = strings.TrimSuffix(w, ".")
		}
	}
}

// stray takes a word before any clause.
func (h *Hop) stray(w string) {
	if a := address(w); a != "" && h.Address == "" {
		h.Address = a
	}
}

// software tells whether a comment may name a program.
func software(c string) bool {
	lower := strings.ToLower(c)
	for _, not := range []string{"envelope-from", "no client", "client ", "helo", "single-drop", "multi-drop", "sender:", "not verified", "bits", "cipher"} {
		if strings.Contains(lower, not) {
			return false
		}
	}
	return c != "" && len(c) <= 80 && !strings.ContainsAny(c, "<>@=")
}

// finish fills in what follows from the rest.
func (h *Hop) finish() {
	h.From, h.By = trimHost(h.From), trimHost(h.By)
	if h.Helo == "" && address(h.From) == "" {
		h.Helo = h.From
	}
	h.Helo, h.ID = strings.Trim(h.Helo, "<>[];,"), strings.Trim(h.ID, "<>;,")
	if strings.EqualFold(h.Reverse, "unknown") {
		h.Reverse = ""
	}
	if strings.EqualFold(h.From, "unknown") && h.Helo != "" {
		h.From = h.Helo
	}
	if h.Software == "" {
		switch {
		case strings.HasPrefix(h.With, "Microsoft SMTP Server"), strings.EqualFold(h.With, "mapi"):
			h.Software = "Exchange"
		case strings.HasSuffix(strings.ToLower(h.By), ".google.com"), strings.HasPrefix(h.By, "2002:a05:"), strings.HasPrefix(h.By, "2002:a17:"), strings.HasPrefix(h.By, "2002:ac"):
			h.Software = "Gmail"
		}
	}
	for _, s := range []*string{&h.From, &h.Helo, &h.Reverse, &h.By, &h.With, &h.ID, &h.For, &h.TLS, &h.Software} {
		*s = shown(*s, 255)
	}
}

func trimHost(s string) string {
	if address(s) != "" {
		return address(s)
	}
	return strings.TrimSuffix(strings.Trim(s, "<>;,"), ".")
}

// note adds what is odd about a hop.
func (h *Hop) note(format string, args ...any) {
	if len(h.Notes) < 10 {
		h.Notes = append(h.Notes, fmt.Sprintf(format, args...))
	}
}

func (x *Explanation) note(format string, args ...any) {
	if len(x.Notes) < maxNotes {
		x.Notes = append(x.Notes, fmt.Sprintf(format, args...))
	}
}

// address reads an IP address as servers write it: in brackets, with IPv6:, with a
// zone ("fe80::1%eth0", or %25 where somebody took it for a URL); "" if it is none.
func address(s string) string {
	s = strings.Trim(s, "[]<>;,")
	if len(s) > 100 {
		return ""
	}
	if len(s) > 5 && strings.EqualFold(s[:5], "ipv6:") {
		s = s[5:]
	}
	s = strings.Replace(s, "%25", "%", 1)
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().String()
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().String()
	}
	return ""
}

func hostLike(w string) bool {
	w = strings.TrimSuffix(w, ".")
	return strings.Contains(w, ".") && !strings.ContainsAny(w, "@=/:<>()\"")
}

// itself tells whether a server says that it had the message from its own machine.
func (h *Hop) itself() bool {
	if a, err := netip.ParseAddr(h.Address); err == nil {
		return a.IsLoopback()
	}
	return h.internal()
}

// internal tells whether the hop is within one machine or network.
func (h *Hop) internal() bool {
	if a, err := netip.ParseAddr(h.Address); err == nil {
		return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast()
	}
	from := strings.ToLower(h.From)
	return from == "localhost" || strings.HasPrefix(from, "localhost.") || strings.EqualFold(h.From, h.By)
}

func sameHost(a, b string) bool {
	return a != "" && strings.EqualFold(strings.TrimSuffix(a, "."), strings.TrimSuffix(b, "."))
}

// sameSite tells whether two hosts are of one organisation, as far as names tell:
// their last two labels, or three behind a short one such as co.uk, are the same.
func sameSite(a, b string) bool {
	return sameHost(a, b) || a != "" && b != "" && address(a) == "" && strings.Contains(a, ".") && strings.EqualFold(site(a), site(b))
}

func site(host string) string {
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	n := 2
	if len(labels) > 2 && len(labels[len(labels)-2]) <= 3 && len(labels[len(labels)-1]) == 2 {
		n = 3
	}
	return strings.Join(labels[max(0, len(labels)-n):], ".")
}

// known names a server.
func known(s string) string {
	if s == "" {
		return "a server without a name"
	}
	return s
}

// dates are forms beside those of RFC 5322 that servers write.
var dates = []string{
	"2 Jan 2006 15:04:05", "Mon, 2 Jan 2006 15:04:05", "2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05", time.RFC3339,
	"Mon Jan _2 15:04:05 2006", "Mon Jan _2 15:04:05 MST 2006", "Mon, 2 Jan 2006 15:04:05.999999999 -0700", "2 Jan 2006 15:04:05.999999999 -0700",
	"Mon, 2 Jan 2006 3:04:05 PM -0700", "1/2/2006 3:04:05 PM",
}

// parseDate reads a date; the zero time if it is none.
func parseDate(s string) time.Time {
	s = strings.TrimSpace(s)
	if len(s) > 200 {
		return time.Time{}
	}
	if t, err := mail.ParseDate(s); err == nil {
		return plausible(t)
	}
	plain := s
	for i := strings.IndexByte(plain, '('); i >= 0; i = strings.IndexByte(plain, '(') {
		_, rest := cutComment(plain[i:])
		plain = plain[:i] + rest
	}
	plain = strings.Join(strings.Fields(plain), " ")
	if t, err := mail.ParseDate(plain); err == nil {
		return plausible(t)
	}
	for _, layout := range dates {
		if t, err := time.Parse(layout, plain); err == nil {
			return plausible(t)
		}
	}
	return time.Time{}
}

// plausible drops times that cannot be printed.
func plausible(t time.Time) time.Time {
	if t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}

var dateWords = regexp.MustCompile(`(?:[A-Z][a-z]{2}, +)?\d{1,2} [A-Z][a-z]{2} \d{2,4} \d{1,2}:\d{2}(?::\d{2})?(?: [+-]\d{4}| [A-Z]{2,5})?`)

// findDate looks for a date anywhere.
func findDate(s string) time.Time {
	for _, m := range dateWords.FindAllString(s, 5) {
		if t := parseDate(m); !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}
