package transfer

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"postrider/mailstore"
)

// Dialect is a form of mbox. "" is found out from the file.
type Dialect string

const (
	MboxO   Dialect = "mboxo"
	MboxRD  Dialect = "mboxrd"
	MboxCL  Dialect = "mboxcl"
	MboxCL2 Dialect = "mboxcl2"
)

// ParseDialect reads a dialect's name; "" and "auto" are found out from the file.
func ParseDialect(s string) (Dialect, error) {
	switch d := Dialect(s); d {
	case "", "auto":
		return "", nil
	case MboxO, MboxRD, MboxCL, MboxCL2:
		return d, nil
	}
	return "", fmt.Errorf("no such dialect %q: mboxo, mboxrd, mboxcl or mboxcl2", s)
}

// sized tells whether messages have a Content-Length.
func (d Dialect) sized() bool { return d == MboxCL || d == MboxCL2 }

func (d Dialect) quote() quoting {
	switch d {
	case MboxRD:
		return quoteMore
	case MboxCL2:
		return noQuotes
	}
	return quoteFrom
}

func (d Dialect) unquote() quoting {
	switch d {
	case MboxRD:
		return unquoteMore
	case MboxCL2:
		return noQuotes
	}
	return unquoteFrom
}

// fields are the header fields at the end of a header that belong to the mbox
// and not to the message.
type fields struct {
	names   []string // seen, lower case
	start   int64    // offset of the first
	flags   mailstore.Flags
	dropped int
	length  int64 // Content-Length; -1 without one
	dialect Dialect
	exact   bool
	unended bool
}

// markField is the field that says how a message was written, where that is not
// what a reader would take for granted.
const markField = "X-Mbox"

// Letters of Status and X-Status.
const (
	statusLetters = "ROU" // read, old; U is of no meaning
	xLetters      = "AFTD"
)

// writeFields gives the fields of a message, from Status on. length < 0: none.
func writeFields(f mailstore.Flags, d Dialect, x facts, length int64) []byte {
	var b bytes.Buffer
	status := "O"
	if f.System&mailstore.Seen != 0 {
		status = "RO"
	}
	fmt.Fprintf(&b, "Status: %s\n", status)
	letters := ""
	for i, bit := range []mailstore.SystemFlags{mailstore.Answered, mailstore.Flagged, mailstore.Draft, mailstore.Deleted} {
		if f.System&bit != 0 {
			letters += xLetters[i : i+1]
		}
	}
	if letters != "" {
		fmt.Fprintf(&b, "X-Status: %s\n", letters)
	}
	if len(f.Keywords) > 0 {
		fmt.Fprintf(&b, "X-Keywords: %s\n", strings.Join(f.Keywords, " "))
	}
	if d != MboxRD || !x.clean {
		fmt.Fprintf(&b, "%s: %s", markField, d)
		if !x.clean {
			b.WriteString("; exact")
		}
		if x.unended {
			b.WriteString("; unended")
		}
		b.WriteByte('\n')
	}
	if length >= 0 {
		fmt.Fprintf(&b, "Content-Length: %d\n", length)
	}
	return b.Bytes()
}

// add takes a line of the header, whose offset is at, into the fields at its
// end. Any line that can not be one of them begins anew.
func (f *fields) add(line []byte, at int64) {
	name, value, ok := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(":"))
	key := strings.ToLower(string(name))
	if !ok || len(key) > 20 {
		f.reset()
		return
	}
	if key == "status" || f.seen(key) {
		f.reset() // Status is the first of those that we write
	}
	if !f.take(key, strings.TrimSpace(string(value))) {
		f.reset()
		return
	}
	if len(f.names) == 0 {
		f.start = at
	}
	f.names = append(f.names, key)
}

func (f *fields) reset() { *f = fields{length: -1} }

func (f *fields) seen(key string) bool {
	for _, n := range f.names {
		if n == key {
			return true
		}
	}
	return false
}

// take reads one field; it is false for what is no field of an mbox.
func (f *fields) take(key, value string) bool {
	switch key {
	case "status", "x-status":
		if strings.Trim(value, statusLetters+xLetters+"N") != "" {
			return false // a field of another meaning
		}
		f.flags.System |= letterFlags(value)
	case "x-keywords":
		kept, dropped := keepFlags(f.flags.System, strings.Fields(value))
		f.flags.Keywords, f.dropped = kept.Keywords, dropped
	case "content-length":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 {
			return false
		}
		f.length = n
	case "x-uid", "x-imap", "x-imapbase":
	case "x-mbox":
		return f.takeMark(value)
	default:
		return false
	}
	return true
}

func (f *fields) takeMark(value string) bool {
	parts := strings.Split(value, "; ")
	d, err := ParseDialect(parts[0])
	if err != nil || d == "" {
		return false
	}
	f.dialect = d
	for _, p := range parts[1:] {
		switch p {
		case "exact":
			f.exact = true
		case "unended":
			f.unended = true
		default:
			return false
		}
	}
	return true
}

func letterFlags(value string) mailstore.SystemFlags {
	var s mailstore.SystemFlags
	for _, c := range value {
		switch c {
		case 'R':
			s |= mailstore.Seen
		case 'A':
			s |= mailstore.Answered
		case 'F':
			s |= mailstore.Flagged
		case 'T':
			s |= mailstore.Draft
		case 'D':
			s |= mailstore.Deleted
		}
	}
	return s
}

// ours tells whether the fields belong to the mbox rather than, by chance, to
// the message: one of them is of flags or of an IMAP server.
func (f *fields) ours() bool {
	for _, n := range f.names {
		if n != "content-length" {
			return true
		}
	}
	return false
}

// maxFromLine is the longest From_ line that is told from text.
const maxFromLine = 1024

// fromTime finds the date of a From_ line: "Www Mmm dd hh:mm[:ss] yyyy", with
// names or offsets of zones anywhere behind the time. Without an offset it is
// UTC (RFC 4155).
func fromTime(line []byte) (time.Time, bool) {
	rest, ok := bytes.CutPrefix(line, []byte(fromPrefix))
	if !ok || len(line) > maxFromLine {
		return time.Time{}, false
	}
	words := strings.Fields(string(rest))
	for i := 0; i+4 < len(words); i++ {
		if !isDay(words[i]) {
			continue
		}
		if t, ok := fromDate(words[i+1:]); ok {
			return t, true
		}
	}
	return time.Time{}, false
}

func isDay(s string) bool {
	return len(s) == 3 && strings.Contains("Sun Mon Tue Wed Thu Fri Sat", s)
}

// fromDate reads "Mmm dd hh:mm[:ss] [zones] yyyy [zones]".
func fromDate(w []string) (time.Time, bool) {
	clock := w[2]
	if strings.Count(clock, ":") == 1 {
		clock += ":00"
	}
	year, zone := "", "+0000"
	for _, word := range w[3:min(len(w), 8)] {
		switch {
		case len(word) == 4 && year == "" && isDigits(word):
			year = word
		case len(word) == 5 && (word[0] == '+' || word[0] == '-') && isDigits(word[1:]):
			zone = word
		}
	}
	t, err := time.Parse("Jan 2 15:04:05 2006 -0700", strings.Join([]string{w[0], w[1], clock, year, zone}, " "))
	return t.UTC(), err == nil
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// mozilla are the fields that Thunderbird puts at the start of a header.
type mozilla struct {
	end     int64 // offset behind them; 0 without any
	closed  bool  // another line came
	flags   mailstore.Flags
	dropped int
	expunge bool // deleted, and not yet cut out of the file
}

// Bits of X-Mozilla-Status.
const (
	mozRead      = 0x0001
	mozReplied   = 0x0002
	mozFlagged   = 0x0004
	mozExpunged  = 0x0008
	mozForwarded = 0x1000
)

// add takes a line of the header whose offset behind it is end.
func (m *mozilla) add(line []byte, end int64) {
	if m.closed {
		return
	}
	name, value, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(": "))
	text := strings.TrimSpace(string(value))
	switch string(name) {
	case "X-Mozilla-Status":
		n, err := strconv.ParseUint(text, 16, 32)
		if err != nil {
			m.closed = true
			return
		}
		m.status(n)
	case "X-Mozilla-Status2":
	case "X-Mozilla-Keys":
		kept, dropped := keepFlags(0, append(m.flags.Keywords, strings.Fields(text)...))
		m.flags.Keywords, m.dropped = kept.Keywords, dropped
	default:
		m.closed = true
		return
	}
	m.end = end
}

func (m *mozilla) status(n uint64) {
	for bit, flag := range map[uint64]mailstore.SystemFlags{
		mozRead: mailstore.Seen, mozReplied: mailstore.Answered, mozFlagged: mailstore.Flagged,
	} {
		if n&bit != 0 {
			m.flags.System |= flag
		}
	}
	if n&mozForwarded != 0 && !m.flags.Has(0, forwarded) {
		m.flags.Keywords = append(m.flags.Keywords, forwarded)
	}
	m.expunge = n&mozExpunged != 0
}
