// Package provenance reads the header of any message and says of each field who
// wrote it, when and why, which way the message came, where it waited longest, and
// what in it looks forged.
//
// It believes nothing but order: servers put their fields on top, and so what
// stands below the fields of a server was there before. Only the fields of one's own
// servers, on top, can be relied on; what is below may be the sender's invention.
// It reads whatever servers write, and fails on nothing.
package provenance

import (
	"bytes"
	"strings"
	"time"
)

const (
	// MaxHeader is how much of a message is looked at, in octets.
	MaxHeader = 1 << 20
	maxFields = 2000
	maxValue  = 16 << 10 // octets of one field that are looked at
	maxNotes  = 100
)

// Options has what is known beside the message.
type Options struct {
	// Trust names the last server, from the top, whose Received field is believed;
	// "" = the one on top.
	Trust string
}

// Explanation is what a header tells.
type Explanation struct {
	Path    []Hop    `json:"path"`              // the oldest first
	Slowest int      `json:"slowest,omitempty"` // number of the hop that took longest; 0 = no hop has a time
	Total   Duration `json:"total,omitempty"`   // from the first time to the last
	Notes   []string `json:"notes,omitempty"`   // what is odd
	Fields  []Field  `json:"fields"`            // as they stand
}

// Duration is written in JSON as Go's notation.
type Duration time.Duration

// MarshalText writes 1m2s.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Field is one field of the header.
type Field struct {
	Name  string    `json:"name"`
	Value string    `json:"value"` // unfolded, of what may be shown
	Who   string    `json:"who"`
	When  time.Time `json:"when,omitzero"` // about
	Why   string    `json:"why"`

	hop int // number of the hop that wrote it; 0 = the author's side
}

// Explain reads the header at the beginning of text.
func Explain(text []byte, o Options) *Explanation {
	x := &Explanation{}
	for _, r := range split(text) {
		name, value, ok := strings.Cut(string(r), ":")
		name = strings.TrimRight(name, " \t")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			x.note("a line that is no field: %s", shown(string(r), 60))
			continue
		}
		x.Fields = append(x.Fields, Field{Name: shown(name, 80), Value: shown(strings.TrimSpace(value), maxValue)})
	}
	x.follow()
	x.trust(o.Trust)
	x.measure()
	for i := range x.Fields {
		x.attribute(&x.Fields[i])
	}
	return x
}

// split returns the fields, unfolded: a line that begins with a space goes on the
// one before. Lines end in LF, CRLF or CR; the line of an mbox file is no field.
func split(text []byte) (list [][]byte) {
	if len(text) > MaxHeader {
		text = text[:MaxHeader]
	}
	for len(text) > 0 && len(list) < maxFields {
		line := text
		if i := bytes.IndexAny(text, "\r\n"); i >= 0 {
			line = text[:i]
			if text = text[i:]; bytes.HasPrefix(text, []byte("\r\n")) {
				text = text[1:]
			}
			text = text[1:]
		} else {
			text = nil
		}
		switch {
		case len(bytes.TrimSpace(line)) == 0 && (len(line) == 0 || len(list) == 0):
			return list
		case len(list) == 0 && (bytes.HasPrefix(line, []byte("From ")) || bytes.HasPrefix(line, []byte(">From "))):
		case (line[0] == ' ' || line[0] == '\t') && len(list) > 0:
			if last := &list[len(list)-1]; len(*last) < maxValue {
				*last = append(append(*last, ' '), bytes.TrimSpace(line)...)
			}
		default:
			list = append(list, bytes.Clone(line[:min(len(line), maxValue)]))
		}
	}
	return list
}

// follow makes the path of the Received fields and says of each field between
// which of them it stands.
func (x *Explanation) follow() {
	total := 0
	for _, f := range x.Fields {
		if isReceived(f.Name) {
			total++
		}
	}
	x.Path = make([]Hop, total)
	number := total // of the hop whose Received comes next, from the top
	author := false // fields of the author were met
	for i := range x.Fields {
		f := &x.Fields[i]
		switch lower := strings.ToLower(f.Name); {
		case isReceived(f.Name):
			h := parseReceived(f.Value)
			h.Number, f.hop = number, number
			if author {
				h.note("it stands below fields of the author, where no server writes")
			}
			x.Path[number-1] = h
			number--
		case ofAuthor[lower]:
			author = true
		default:
			// Written after the Received below it, by the same server as a rule.
			f.hop = number
		}
	}
}

func isReceived(name string) bool { return strings.EqualFold(name, "Received") }

// ofAuthor are fields of those who write a message: servers put theirs above.
var ofAuthor = map[string]bool{"from": true, "to": true, "subject": true, "date": true, "cc": true}

// trust marks the hops whose fields are believed.
func (x *Explanation) trust(host string) {
	last := len(x.Path) - 1
	if host != "" {
		found := last
		for found >= 0 && !sameHost(x.Path[found].By, host) {
			found--
		}
		if found < 0 {
			x.note("no Received field is of %s: only the one on top is believed", shown(host, 80))
		} else {
			last = found
		}
		// A server may have handed it to itself, through a filter, say. Further down
		// its name proves nothing: anybody can write it.
		for last > 0 && x.Path[last].itself() && sameHost(x.Path[last-1].By, host) {
			last--
		}
	}
	for i := last; i >= 0 && i < len(x.Path); i++ {
		x.Path[i].Trusted = true
	}
}

// measure compares the times and names of neighbouring hops.
func (x *Explanation) measure() {
	var longest Duration
	var before *Hop // the last one with a time
	for i := range x.Path {
		h := &x.Path[i]
		if h.Time.IsZero() {
			h.note("it has no time that can be read")
		} else {
			if before != nil {
				x.delay(before, h)
			}
			if before == nil || h.Delay > longest {
				longest, x.Slowest = h.Delay, h.Number
			}
			before = h
		}
		if i > 0 {
			x.link(&x.Path[i-1], h)
		}
	}
	x.written()
	if x.Slowest > 0 && before != nil {
		first := x.Path[0].Time
		for i := 0; first.IsZero(); i++ {
			first = x.Path[i].Time
		}
		x.Total = Duration(max(0, before.Time.Sub(first)))
	}
}

// skew is how much two clocks may differ without a word.
const skew = 2 * time.Second

func (x *Explanation) delay(before, h *Hop) {
	d := h.Time.Sub(before.Time)
	if d >= 0 {
		h.Delay = Duration(d)
		return
	}
	if -d < skew {
		return
	}
	h.note("by its clock it came %s before %s had it: one of the two clocks is wrong", -d, known(before.By))
	if !before.Trusted && -d > time.Hour {
		before.note("its time is later than that of the server that came after it: it may be forged")
	}
}

// written compares the time at which the message was written with the first hop.
func (x *Explanation) written() {
	if len(x.Path) == 0 || x.Path[0].Time.IsZero() {
		return
	}
	for _, f := range x.Fields {
		if !strings.EqualFold(f.Name, "Date") {
			continue
		}
		date := parseDate(f.Value)
		if date.IsZero() {
			x.note("Date cannot be read")
			return
		}
		switch d := x.Path[0].Time.Sub(date); {
		case d < -skew:
			x.note("Date is %s after the first server had the message: the author's clock is wrong, or the date is forged", -d)
		case d > 10*time.Minute:
			x.note("it was written %s before the first server had it: it waited with the author, or his clock is wrong", d)
		}
		return
	}
}

// link asks whether a server got the message from the one that wrote the field
// below its own.
func (x *Explanation) link(older, h *Hop) {
	if h.Trusted && h.Helo != "" && h.Reverse != "" && !sameHost(h.Helo, h.Reverse) {
		h.note("the other side called itself %s, but its address is that of %s", shown(h.Helo, 80), shown(h.Reverse, 80))
	}
	if older.By == "" || h.From == "" && h.Reverse == "" && h.Address == "" {
		return // handed over within one machine, without a name
	}
	if h.internal() || sameSite(h.From, older.By) || sameSite(h.Helo, older.By) || sameSite(h.Reverse, older.By) ||
		sameSite(h.By, older.By) || h.Address != "" && h.Address == older.ByAddress {
		return
	}
	if !older.Trusted {
		older.note("%s says that it got the message from %s, but this field is of %s: it may be forged, or a server between them wrote none",
			known(h.By), known(h.From), known(older.By))
	}
}
