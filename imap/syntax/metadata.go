package syntax

import (
	"math"
	"strings"
)

// MaxEntries bounds the entries that one command names, those of GETMETADATA and
// LIST as well as those of SETMETADATA.
const MaxEntries = 100

// Infinity is a DEPTH without a bound.
const Infinity = math.MaxInt

// GetMetadata is the arguments of GETMETADATA (RFC 5464 section 4.2).
type GetMetadata struct {
	MaxSize    uint32
	HasMaxSize bool
	Depth      int // 0, 1 or Infinity
	Mailbox    string
	Entries    []string // as the client writes them
}

// GetMetadata reads them. The options may stand before the mailbox, where the
// grammar has them, and behind it, where the examples do.
func (p *Parser) GetMetadata() GetMetadata {
	var g GetMetadata
	if p.peek() == '(' {
		p.metadataOptions(&g)
		p.SP()
	}
	g.Mailbox = p.AString("the name of a mailbox")
	p.SP()
	if p.atOptions() {
		p.metadataOptions(&g)
		p.SP()
	}
	g.Entries = p.Entries()
	return g
}

// atOptions tells options from entries, whose names begin with "/".
func (p *Parser) atOptions() bool {
	if p.peek() != '(' || p.pos+1 >= len(p.b) {
		return false
	}
	c := p.b[p.pos+1] | 0x20
	return c >= 'a' && c <= 'z'
}

func (p *Parser) metadataOptions(g *GetMetadata) {
	p.List(func() {
		switch p.Keyword("MAXSIZE or DEPTH") {
		case "MAXSIZE":
			p.SP()
			g.MaxSize, g.HasMaxSize = p.Number(), true
		case "DEPTH":
			p.SP()
			switch p.Keyword("0, 1 or infinity") {
			case "0":
				g.Depth = 0
			case "1":
				g.Depth = 1
			case "INFINITY":
				g.Depth = Infinity
			default:
				p.fail("a DEPTH of 0, 1 or infinity")
			}
		default:
			p.fail("MAXSIZE or DEPTH")
		}
	})
}

// Entries reads the name of an entry, or several in parentheses.
func (p *Parser) Entries() []string {
	const want = "the name of an entry"
	return oneOrMore(p, MaxEntries, "entries", want, func() string { return p.AString(want) })
}

// EntryValue is an entry that SETMETADATA sets; a nil value removes it.
type EntryValue struct {
	Entry string
	Value []byte
}

// EntryValues reads the entries of SETMETADATA (RFC 5464 section 4.3).
func (p *Parser) EntryValues() []EntryValue {
	return items(p, MaxEntries, "entries", "an entry and its value", func() EntryValue {
		e := EntryValue{Entry: p.AString("the name of an entry")}
		p.SP()
		if !p.takeWord("NIL") {
			e.Value = []byte(p.String("a value or NIL"))
		}
		return e
	})
}

// AppendValue appends the value of an entry: NIL for nil, and a literal8 where it
// holds NUL.
func AppendValue(dst []byte, value []byte) []byte {
	s := string(value)
	switch {
	case value == nil:
		return append(dst, "NIL"...)
	case strings.IndexByte(s, 0) >= 0:
		return append(AppendAnnouncement(dst, int64(len(s)), true), s...)
	}
	return AppendString(dst, s)
}
