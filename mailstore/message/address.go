package message

import (
	"strings"

	"github.com/emersion/go-imap/v2"
)

// Limits of address lists; what goes beyond them is left out.
const (
	MaxAddresses    = 10000 // of one envelope
	maxAddressWords = 1000  // atoms, quoted strings and at signs of one address
)

// What stands in an envelope where an address lacks a part. IMAP cannot say
// "no host": NIL there begins or ends a group (RFC 9051 section 7.5.2).
const (
	MissingMailbox = "MISSING_MAILBOX"
	MissingDomain  = "MISSING_DOMAIN"
)

// ParseAddresses reads an address list (RFC 5322 section 3.4) leniently: it
// makes something of every text. Groups have a start and an end marker as in
// IMAP; names keep their encoded words.
func ParseAddresses(v string) []imap.Address { return parseAddresses(v, MaxAddresses) }

func parseAddresses(v string, limit int) []imap.Address {
	var p addressParser
	p.parse(v, limit)
	return p.list
}

type addressParser struct {
	scanner
	list  []imap.Address
	group bool
	outer words // of the element in hand
	inner words // between its angle brackets
}

// parse adds the addresses of v to the list until it has that many.
func (p *addressParser) parse(v string, limit int) {
	p.scanner = scanner{s: v}
	p.group = false
	for !p.end() && len(p.list) < limit {
		p.element()
	}
	if p.group {
		p.list = append(p.list, imap.Address{})
	}
}

// words collects what stands before a special character.
type words struct {
	text    []string // atoms and quoted strings in order
	tight   []bool   // no space stood before text[i]
	comment string
	at      int // index in text of what follows the first "@"; -1 before it
}

// element reads one mailbox, group start or group end, and the separator.
func (p *addressParser) element() {
	w := &p.outer
	w.reset()
	for !p.end() {
		switch c := p.s[p.i]; c {
		case ',':
			p.i++
			p.bare(w)
			return
		case ';':
			p.i++
			p.bare(w)
			p.endGroup()
			return
		case ':':
			p.i++
			if !p.group && w.at < 0 {
				p.group = true
				p.list = append(p.list, imap.Address{Mailbox: orMissing(w.phrase(), MissingMailbox)})
				return
			}
		case '<':
			p.i++
			p.angle(w)
			return
		default:
			p.word(w)
		}
	}
	p.bare(w)
}

// word reads one atom, quoted string, comment or "@".
func (p *addressParser) word(w *words) {
	tight := p.i > 0 && p.s[p.i-1] != ' ' && p.s[p.i-1] != '\t'
	switch c := p.s[p.i]; c {
	case ' ', '\t':
		p.i++
	case '(':
		if text := strings.TrimSpace(p.comment()); w.comment == "" {
			w.comment = text
		}
	case '"':
		p.i++
		w.add(p.quoted(), tight)
	case '@':
		p.i++
		if w.at < 0 {
			w.at = len(w.text)
		} else {
			w.add("@", true)
		}
	default:
		start := p.i
		for !p.end() && !endsWord(p.s[p.i]) {
			p.i++
		}
		if p.i == start { // a stray ">"
			p.i++
			return
		}
		w.add(p.s[start:p.i], tight)
	}
}

// endsWord tells whether an octet cannot be in an atom, however lenient.
func endsWord(c byte) bool {
	switch c {
	case ' ', '\t', ',', ';', ':', '<', '>', '(', ')', '"', '@':
		return true
	}
	return false
}

func (w *words) add(s string, tight bool) {
	if len(w.text) == maxAddressWords {
		return
	}
	w.text = append(w.text, s)
	w.tight = append(w.tight, tight)
}

// reset empties w; the room for texts stays.
func (w *words) reset() { *w = words{text: w.text[:0], tight: w.tight[:0], at: -1} }

func (w *words) phrase() string { return join(w.text, nil) }

// join joins words by a space where there was one.
func join(text []string, tight []bool) string {
	if len(text) == 1 {
		return text[0]
	}
	n := 0
	for _, s := range text {
		n += len(s) + 1
	}
	var b strings.Builder
	b.Grow(n)
	for i, s := range text {
		if i > 0 && (tight == nil || !tight[i]) {
			b.WriteByte(' ')
		}
		b.WriteString(s)
	}
	return b.String()
}

// bare adds an address without angle brackets.
func (p *addressParser) bare(w *words) {
	switch {
	case len(w.text) == 0 && w.at < 0:
		return
	case w.at < 0:
		p.add(w.comment, w.phrase(), "")
	default:
		p.add(w.comment, join(w.text[:w.at], w.tight[:w.at]), join(w.text[w.at:], w.tight[w.at:]))
	}
}

// angle reads the rest of <address> and adds it; the words before it are the
// display name.
func (p *addressParser) angle(name *words) {
	w := &p.inner
	w.reset()
	for !p.end() && p.s[p.i] != '>' && p.s[p.i] != ';' {
		switch p.s[p.i] {
		case ':': // the end of a source route (RFC 5322 section 4.4)
			p.i++
			w.reset()
		case ',', '<':
			p.i++
		default:
			p.word(w)
		}
	}
	p.take('>')
	display := name.phrase()
	if name.at >= 0 { // the name is an address itself
		display = join(name.text[:name.at], name.tight[:name.at]) + "@" + join(name.text[name.at:], name.tight[name.at:])
	}
	// A comment after the angle brackets up to the separator.
	for !p.end() && p.s[p.i] != ',' && p.s[p.i] != ';' && p.s[p.i] != '<' {
		p.word(name)
	}
	p.take(',')
	if display == "" {
		display = name.comment
	}
	if w.at < 0 {
		p.add(display, w.phrase(), "")
		return
	}
	p.add(display, join(w.text[:w.at], w.tight[:w.at]), join(w.text[w.at:], w.tight[w.at:]))
}

func (p *addressParser) add(name, mailbox, host string) {
	p.list = append(p.list, imap.Address{
		Name:    legible(name),
		Mailbox: legible(orMissing(mailbox, MissingMailbox)),
		Host:    legible(orMissing(host, MissingDomain)),
	})
}

func (p *addressParser) endGroup() {
	if p.group {
		p.group = false
		p.list = append(p.list, imap.Address{})
	}
}

func orMissing(s, missing string) string {
	if s == "" {
		return missing
	}
	return s
}
