package syntax

import (
	"math"

	"github.com/emersion/go-imap/v2"
)

// FetchItem is one data item of FETCH (RFC 9051 section 6.4.5).
type FetchItem struct {
	// Name is the item as it stands in the command, in capitals and without
	// section: "FLAGS", "BODY", "BODY.PEEK", "RFC822.TEXT", "BINARY.SIZE".
	Name string
	// Section is that of BODY[...] and BINARY[...], also of RFC822 and its like;
	// nil for other items.
	Section *imap.FetchItemBodySection
	// Lazy is PREVIEW (LAZY) (RFC 8970).
	Lazy bool
}

// Fetch is the arguments of FETCH behind the set.
type Fetch struct {
	Items        []FetchItem
	ChangedSince uint64 // RFC 7162 section 3.1.4.1
	HasSince     bool
	Vanished     bool          // RFC 7162 section 3.2.6
	Partial      *PartialRange // RFC 9394
}

// MaxFetchItems bounds the items of one FETCH.
const MaxFetchItems = 100

// MaxPartNumbers bounds the levels of a part number.
const MaxPartNumbers = 100

// macro is what a name stands for (RFC 9051 section 6.4.5); nil for an item.
func macro(name string) []FetchItem {
	fast := []FetchItem{{Name: "FLAGS"}, {Name: "INTERNALDATE"}, {Name: "RFC822.SIZE"}}
	switch name {
	case "FAST":
		return fast
	case "ALL":
		return append(fast, FetchItem{Name: "ENVELOPE"})
	case "FULL":
		return append(fast, FetchItem{Name: "ENVELOPE"}, FetchItem{Name: "BODY"})
	}
	return nil
}

// Fetch reads what follows the set.
func (p *Parser) Fetch() Fetch {
	var f Fetch
	if p.peek() == '(' {
		f.Items = p.fetchItems()
	} else {
		at := p.pos
		if f.Items = macro(p.letters()); f.Items == nil {
			p.pos = at
			f.Items = []FetchItem{p.fetchItem()}
		}
	}
	if p.More() {
		p.List(func() { p.fetchModifier(&f) })
	}
	return f
}

// fetchItems reads a list of items in parentheses.
func (p *Parser) fetchItems() []FetchItem {
	return items(p, MaxFetchItems, "items", "a FETCH item", p.fetchItem)
}

func (p *Parser) fetchModifier(f *Fetch) {
	switch p.Keyword("a FETCH modifier") {
	case "CHANGEDSINCE":
		p.SP()
		f.ChangedSince, f.HasSince = p.Number64(), true
	case "VANISHED":
		f.Vanished = true
	case "PARTIAL":
		p.SP()
		r := p.Partial()
		f.Partial = &r
	default:
		p.fail("CHANGEDSINCE, VANISHED or PARTIAL")
	}
}

func (p *Parser) fetchItem() FetchItem {
	at := p.pos
	item := FetchItem{Name: p.letters()}
	switch item.Name {
	case "FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "MODSEQ",
		"EMAILID", "THREADID", "SAVEDATE":
		return item
	case "PREVIEW":
		item.Lazy = p.preview()
		return item
	case "RFC822":
		item.Section = &imap.FetchItemBodySection{}
		return item
	case "RFC822.HEADER":
		item.Section = &imap.FetchItemBodySection{Specifier: imap.PartSpecifierHeader, Peek: true}
		return item
	case "RFC822.TEXT":
		item.Section = &imap.FetchItemBodySection{Specifier: imap.PartSpecifierText}
		return item
	case "BODY", "BODY.PEEK":
		if item.Name == "BODY" && p.peek() != '[' {
			return item
		}
		item.Section = p.section()
	case "BINARY", "BINARY.PEEK", "BINARY.SIZE":
		p.expect('[')
		item.Section = &imap.FetchItemBodySection{Part: p.part()}
		p.expect(']')
	default:
		p.pos = min(at, len(p.b))
		p.fail("a FETCH item")
		return item
	}
	item.Section.Peek = item.Name == "BODY.PEEK" || item.Name == "BINARY.PEEK" || item.Name == "BINARY.SIZE"
	if item.Name != "BINARY.SIZE" && p.take('<') {
		item.Section.Partial = &imap.SectionPartial{Offset: int64(p.Number64())}
		p.expect('.')
		item.Section.Partial.Size = int64(p.Number64())
		if item.Section.Partial.Size == 0 && p.err == nil {
			p.fail("a size above 0")
		}
		p.expect('>')
	}
	return item
}

// preview reads the modifiers of PREVIEW; parentheses with others are those of FETCH.
func (p *Parser) preview() (lazy bool) {
	at := p.pos
	if p.takeBefore('(') {
		p.take('(')
		for p.takeWord("LAZY") {
			lazy = true
			p.take(' ')
		}
		if !p.take(')') {
			p.pos, lazy = at, false
		}
	}
	return lazy
}

// part reads a part number; none is nil.
func (p *Parser) part() []int {
	var part []int
	for c := p.peek(); c >= '0' && c <= '9'; c = p.peek() {
		if len(part) == MaxPartNumbers {
			p.limit("levels of a part number")
			return nil
		}
		part = append(part, int(p.number(math.MaxInt32, "a part number")))
		if part[len(part)-1] == 0 {
			p.fail("a part number above 0")
		}
		if p.peek() != '.' {
			break
		}
		if next := p.b[p.pos+1:]; len(next) == 0 || next[0] < '0' || next[0] > '9' {
			break // ".TEXT"
		}
		p.pos++
	}
	return part
}

// section reads "[...]" of BODY.
func (p *Parser) section() *imap.FetchItemBodySection {
	s := &imap.FetchItemBodySection{}
	p.expect('[')
	s.Part = p.part()
	if len(s.Part) > 0 {
		if p.take(']') {
			return s
		}
		p.expect('.')
	}
	if len(s.Part) == 0 && p.take(']') {
		return s
	}
	switch p.letters() {
	case "HEADER":
		s.Specifier = imap.PartSpecifierHeader
	case "HEADER.FIELDS":
		s.Specifier = imap.PartSpecifierHeader
		s.HeaderFields = p.fieldNames()
	case "HEADER.FIELDS.NOT":
		s.Specifier = imap.PartSpecifierHeader
		s.HeaderFieldsNot = p.fieldNames()
	case "TEXT":
		s.Specifier = imap.PartSpecifierText
	case "MIME":
		s.Specifier = imap.PartSpecifierMIME
		if len(s.Part) == 0 {
			p.fail("a part number before MIME")
		}
	default:
		p.fail("HEADER, TEXT, MIME or a part number")
	}
	p.expect(']')
	return s
}

// MaxFieldNames bounds the names of HEADER.FIELDS.
const MaxFieldNames = 500

func (p *Parser) fieldNames() []string {
	p.SP()
	const want = "the name of a header field"
	return items(p, MaxFieldNames, "field names", want, func() string { return p.AString(want) })
}

// AppendName appends the name of an item as the response has it: the section as
// it was asked for, without PEEK and the size of a partial range.
func (item *FetchItem) AppendName(dst []byte) []byte {
	switch item.Name {
	case "BODY", "BODY.PEEK":
		dst = append(dst, "BODY"...)
		if item.Section == nil {
			return dst
		}
		dst = appendSection(dst, item.Section)
	case "BINARY", "BINARY.PEEK":
		dst = append(dst, "BINARY"...)
		dst = appendSection(dst, item.Section)
	case "BINARY.SIZE":
		dst = append(dst, "BINARY.SIZE"...)
		return appendSection(dst, item.Section)
	default:
		return append(dst, item.Name...)
	}
	if item.Section.Partial != nil {
		dst = append(dst, '<')
		dst = AppendNumber(dst, item.Section.Partial.Offset)
		dst = append(dst, '>')
	}
	return dst
}

func appendSection(dst []byte, s *imap.FetchItemBodySection) []byte {
	dst = append(dst, '[')
	for i, n := range s.Part {
		if i > 0 {
			dst = append(dst, '.')
		}
		dst = AppendNumber(dst, int64(n))
	}
	if s.Specifier != imap.PartSpecifierNone {
		if len(s.Part) > 0 {
			dst = append(dst, '.')
		}
		dst = append(dst, s.Specifier...)
	}
	names := s.HeaderFields
	if len(names) > 0 {
		dst = append(dst, ".FIELDS "...)
	} else if names = s.HeaderFieldsNot; len(names) > 0 {
		dst = append(dst, ".FIELDS.NOT "...)
	}
	if len(names) > 0 {
		dst = append(dst, '(')
		for i, name := range names {
			if i > 0 {
				dst = append(dst, ' ')
			}
			dst = AppendAString(dst, name)
		}
		dst = append(dst, ')')
	}
	return append(dst, ']')
}
