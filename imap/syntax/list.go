package syntax

import "strings"

// Limits of LIST and STATUS.
const (
	MaxPatterns    = 32
	MaxStatusItems = 32
)

// List is the arguments of LIST (RFC 9051 section 6.3.9, RFC 5258).
type List struct {
	Select    []string // selection options in capitals
	Reference string
	Patterns  []string
	Extended  bool // options or several patterns were given
	Return    []string
	Status    []string // items of RETURN (STATUS (...)), RFC 5819
	Metadata  []string // entries of RETURN (METADATA (...)), RFC 9590
	HasReturn bool
}

// ListArgs reads them.
func (p *Parser) ListArgs() List { return p.list(true) }

// LSub reads the arguments of LSUB, which has neither options nor several
// patterns (RFC 3501 section 6.3.9).
func (p *Parser) LSub() List { return p.list(false) }

func (p *Parser) list(extended bool) List {
	var l List
	if extended && p.peek() == '(' {
		l.Extended = true
		p.List(func() { l.Select = append(l.Select, p.Keyword("a selection option")) })
		p.SP()
	}
	l.Reference = p.AString("a reference name")
	p.SP()
	if extended && p.peek() == '(' {
		l.Extended = true
		l.Patterns = items(p, MaxPatterns, "patterns", "a pattern", p.pattern)
	} else {
		l.Patterns = []string{p.pattern()}
	}
	if extended && p.More() {
		if p.Keyword("RETURN") != "RETURN" {
			p.fail("RETURN")
		}
		p.SP()
		l.Extended, l.HasReturn = true, true
		p.List(func() {
			option := p.Keyword("a return option")
			l.Return = append(l.Return, option)
			switch option {
			case "STATUS":
				p.SP()
				l.Status = p.StatusItems()
			case "METADATA":
				p.SP()
				l.Metadata = p.Entries()
			}
		})
	}
	return l
}

// pattern reads a list-mailbox.
func (p *Parser) pattern() string {
	switch p.peek() {
	case '"', '{', '~':
		return p.String("a pattern")
	}
	s := p.word(func(c byte) bool { return isAStringChar(c) || c == '%' || c == '*' })
	if s == "" {
		p.fail("a pattern")
	}
	return s
}

// StatusItems reads the items of STATUS in capitals.
func (p *Parser) StatusItems() []string {
	const want = "a STATUS item"
	return items(p, MaxStatusItems, "items", want, func() string { return p.Keyword(want) })
}

// Select is the parameters of SELECT and EXAMINE (RFC 7162).
type Select struct {
	CondStore bool
	QResync   *QResync
}

// QResync is what the client knows of the mailbox (RFC 7162 section 3.2.5).
type QResync struct {
	Validity uint32
	ModSeq   uint64
	Known    []Range // UIDs; nil = all
	Seqs     []Range // message numbers, and
	UIDs     []Range // the UIDs that they had; both nil for none
}

// SelectParams reads the parameters behind the mailbox.
func (p *Parser) SelectParams() Select {
	var s Select
	if !p.More() {
		return s
	}
	p.List(func() {
		switch p.Keyword("a SELECT parameter") {
		case "CONDSTORE":
			s.CondStore = true
		case "QRESYNC":
			p.SP()
			s.QResync = p.qresync()
		default:
			p.fail("CONDSTORE or QRESYNC")
		}
	})
	return s
}

func (p *Parser) qresync() *QResync {
	q := &QResync{}
	p.expect('(')
	q.Validity = p.NzNumber()
	p.SP()
	q.ModSeq = p.Number64()
	if p.More() && p.peek() != '(' {
		q.Known = p.UIDs()
		p.More()
	}
	if p.take('(') {
		q.Seqs = p.UIDs()
		p.SP()
		q.UIDs = p.UIDs()
		p.expect(')')
	}
	p.expect(')')
	return q
}

// Use reads the parameter of CREATE for special uses (RFC 6154 section 3).
func (p *Parser) Use() []string {
	var uses []string
	p.expect('(')
	if p.Keyword("USE") != "USE" {
		p.fail("USE")
	}
	p.SP()
	p.List(func() { uses = append(uses, p.Flag()) })
	p.expect(')')
	return uses
}

// Names reads atoms in capitals, one at least, up to the end (ENABLE).
func (p *Parser) Names(want string) []string {
	names := []string{p.Keyword(want)}
	for p.More() {
		names = append(names, p.Keyword(want))
	}
	return names
}

// MaxIDFields bounds the fields of ID (RFC 2971 section 3.3).
const MaxIDFields = 30

// ID reads the parameter list of ID: names and values in turn.
func (p *Parser) ID() []string {
	if p.takeWord("NIL") {
		return nil
	}
	var fields []string
	p.List(func() {
		if len(fields) == 2*MaxIDFields {
			p.limit("fields")
			return
		}
		name := p.String("the name of a field")
		p.SP()
		fields = append(fields, strings.ToLower(name), p.NString("a value or NIL"))
	})
	return fields
}

// Store is the arguments of STORE behind the set (RFC 9051 section 6.4.6,
// RFC 7162 section 3.1.3).
type Store struct {
	Sign      byte // '+', '-', or 0
	Silent    bool
	Flags     []string
	Unchanged uint64
	HasSince  bool
}

// Store reads them.
func (p *Parser) Store() Store {
	var s Store
	if p.take('(') {
		if p.Keyword("UNCHANGEDSINCE") != "UNCHANGEDSINCE" {
			p.fail("UNCHANGEDSINCE")
		}
		p.SP()
		s.Unchanged, s.HasSince = p.Number64(), true
		p.expect(')')
		p.SP()
	}
	for _, sign := range []byte("+-") {
		if p.take(sign) {
			s.Sign = sign
		}
	}
	switch p.letters() {
	case "FLAGS":
	case "FLAGS.SILENT":
		s.Silent = true
	default:
		p.fail("FLAGS or FLAGS.SILENT")
	}
	p.SP()
	s.Flags = p.Flags()
	return s
}
