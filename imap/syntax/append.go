package syntax

import "time"

// Append is what stands before the message in APPEND and REPLACE (RFC 9051
// section 6.3.12, RFC 3502, RFC 4469, RFC 6855).
type Append struct {
	Flags    []string
	Date     time.Time // zero for none
	UTF8     bool      // "UTF8 (" stands before the message
	Catenate bool      // "CATENATE (" stands before the parts
}

// AppendOptions reads flags and date, up to the message.
func (p *Parser) AppendOptions() Append {
	var a Append
	if p.peek() == '(' {
		a.Flags = p.FlagList()
		p.SP()
	}
	if p.peek() == '"' {
		a.Date = p.DateTime()
		p.SP()
	}
	switch {
	case p.takeWord("UTF8"):
		p.SP()
		p.expect('(')
		a.UTF8 = true
	case p.takeWord("CATENATE"):
		p.SP()
		p.expect('(')
		a.Catenate = true
	}
	return a
}

// AtMessage checks that the announcement of a literal is all that is left.
func (p *Parser) AtMessage() error {
	if p.err == nil {
		if _, n, ok := p.announced(); !ok || p.pos+n != len(p.b) {
			p.fail("a message as a literal")
		}
	}
	return p.err
}

// Close consumes the parenthesis that UTF8 and CATENATE opened.
func (p *Parser) Close() { p.expect(')') }

// Closes consumes it where it is next, and tells whether.
func (p *Parser) Closes() bool { return p.take(')') }

// messageFirst tells whether the arguments of APPEND, from the mailbox on, end
// at the announcement of a message.
func (p *Parser) messageFirst() bool {
	p.AString("a mailbox")
	p.SP()
	return p.toMessage(false)
}

// messageNext tells the same of what follows a message, or a text of CATENATE.
func (p *Parser) messageNext() bool {
	if p.peek() == ' ' {
		save := *p
		p.SP()
		if p.toMessage(true) {
			return true
		}
		*p = save
	}
	p.take(')')
	p.SP()
	return p.toMessage(false)
}

// toMessage reads on to the announcement of a message or a text; inside: from a
// part of CATENATE on.
func (p *Parser) toMessage(inside bool) bool {
	for p.err == nil {
		if !inside {
			if inside = p.AppendOptions().Catenate; !inside {
				return p.AtMessage() == nil
			}
		}
		if p.Part().Text {
			return p.AtMessage() == nil
		}
		inside = !p.take(')')
		p.SP()
	}
	return false
}

// CatPart is a part of CATENATE (RFC 4469 section 5).
type CatPart struct {
	Text bool   // a literal follows
	URL  string // else
}

// Part reads a part, up to the literal of a text.
func (p *Parser) Part() CatPart {
	switch {
	case p.takeWord("TEXT"):
		p.SP()
		return CatPart{Text: true}
	case p.takeWord("URL"):
		p.SP()
		return CatPart{URL: p.AString("a URL")}
	}
	p.fail("URL or TEXT")
	return CatPart{}
}
