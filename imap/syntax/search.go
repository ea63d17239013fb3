package syntax

import (
	"math"
	"slices"
	"time"
)

// MaxSearchKeys bounds the keys of one SEARCH.
const MaxSearchKeys = 500

// Key is a search key (RFC 9051 section 6.4.4). Name is the key in capitals:
//
//	AND            Keys, all of them; none is ALL
//	OR             two Keys
//	NOT            one Key
//	SEQ            Set of message numbers
//	UID            Set of UIDs
//	KEYWORD        Text; UNKEYWORD likewise
//	HEADER         Field and Text
//	BCC ... TEXT   Text
//	BEFORE ...     Date; also SENT... and SAVED... (RFC 8514)
//	LARGER, SMALLER, OLDER, YOUNGER (RFC 5032), MODSEQ (RFC 7162)
//	               Number
//	EMAILID, THREADID (RFC 8474)
//	               Text
//	FUZZY          one Key (RFC 6203)
//	ANSWERED ...   nothing
type Key struct {
	Name   string
	Keys   []Key
	Set    Set
	Field  string
	Text   string
	Date   time.Time
	Number uint64
}

// Search is the arguments of SEARCH.
type Search struct {
	Extended bool     // RETURN was given (RFC 4731)
	Return   []string // options in capitals
	Partial  *PartialRange
	Update   []FetchItem // of UPDATE, where it has any (RFC 5465 section 7)
	Charset  string      // as given; "" for none
	Key      Key
}

// Search reads them.
func (p *Parser) Search() Search {
	var s Search
	p.searchOptions(&s)
	if p.takeWord("CHARSET") {
		p.SP()
		p.searchProgram(&s)
		return s
	}
	s.Key = p.SearchKeys()
	return s
}

// SortKey is a sort criterion (RFC 5256, RFC 5957).
type SortKey struct {
	Name    string // in capitals
	Reverse bool
}

// MaxSortKeys bounds the criteria of one SORT.
const MaxSortKeys = 16

// Sort reads the arguments of SORT.
func (p *Parser) Sort() ([]SortKey, Search) {
	var s Search
	p.searchOptions(&s)
	keys := items(p, MaxSortKeys, "sort criteria", "a sort criterion", p.sortKey)
	p.SP()
	p.searchProgram(&s)
	return keys, s
}

func (p *Parser) sortKey() SortKey {
	k := SortKey{Name: p.Keyword("a sort criterion")}
	if k.Name == "REVERSE" {
		p.SP()
		k.Reverse, k.Name = true, p.Keyword("a sort criterion")
	}
	switch k.Name {
	case "ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO", "RELEVANCY":
	default:
		p.fail("ARRIVAL, CC, DATE, FROM, SIZE, SUBJECT, TO, DISPLAYFROM, DISPLAYTO or RELEVANCY")
	}
	return k
}

// searchProgram reads a character set and the keys.
func (p *Parser) searchProgram(s *Search) {
	s.Charset = p.AString("a character set")
	p.SP()
	s.Key = p.SearchKeys()
}

// Thread reads the arguments of THREAD (RFC 5256).
func (p *Parser) Thread() (algorithm string, s Search) {
	algorithm = p.Keyword("a threading algorithm")
	p.SP()
	p.searchProgram(&s)
	return algorithm, s
}

// searchOptions reads RETURN (...) where it is next.
func (p *Parser) searchOptions(s *Search) {
	if p.takeWord("RETURN") {
		p.SP()
		s.Extended = true
		p.List(func() { p.searchReturn(s) })
		if s.Partial != nil && slices.Contains(s.Return, "ALL") { // RFC 9394 section 3.1
			p.fail("ALL or one PARTIAL, not both, before what follows")
		}
		p.SP()
	}
}

func (p *Parser) searchReturn(s *Search) {
	option := p.Keyword("a return option")
	switch option {
	case "MIN", "MAX", "ALL", "COUNT", "SAVE", "RELEVANCY", "CONTEXT":
	case "UPDATE":
		if p.takeBefore('(') || p.peek() == '(' {
			s.Update = p.fetchItems()
		}
	case "PARTIAL":
		if s.Partial != nil {
			p.fail("one PARTIAL")
		}
		p.SP()
		r := p.Partial()
		s.Partial = &r
	default:
		p.fail("MIN, MAX, ALL, COUNT, SAVE, PARTIAL, RELEVANCY, CONTEXT or UPDATE")
	}
	s.Return = append(s.Return, option)
}

// SearchKeys reads keys up to the end or a closing parenthesis.
func (p *Parser) SearchKeys() Key {
	n := 0
	return p.searchKeys(&n)
}

func (p *Parser) searchKeys(n *int) Key {
	k := p.searchKey(n)
	if p.peek() != ' ' {
		return k
	}
	all := Key{Name: "AND", Keys: []Key{k}}
	for p.More() {
		all.Keys = append(all.Keys, p.searchKey(n))
	}
	return all
}

func (p *Parser) searchKey(n *int) Key {
	if *n++; *n > MaxSearchKeys {
		p.limit("search keys")
	}
	if p.depth++; p.depth > MaxDepth {
		p.limit("search keys within each other")
	}
	defer func() { p.depth-- }()
	switch {
	case p.err != nil:
		return Key{}
	case p.take('('):
		k := p.searchKeys(n)
		p.expect(')')
		return k
	case p.startsSet():
		return Key{Name: "SEQ", Set: p.Set()}
	}
	at := p.pos
	k := Key{Name: p.Keyword("a search key")}
	switch k.Name {
	case "ALL":
		return Key{Name: "AND"}
	case "ANSWERED", "DELETED", "DRAFT", "FLAGGED", "SEEN", "UNANSWERED", "UNDELETED", "UNDRAFT", "UNFLAGGED", "UNSEEN",
		"NEW", "OLD", "RECENT", "SAVEDATESUPPORTED":
	case "NOT", "FUZZY":
		p.SP()
		k.Keys = []Key{p.searchKey(n)}
	case "OR":
		p.SP()
		k.Keys = []Key{p.searchKey(n)}
		p.SP()
		k.Keys = append(k.Keys, p.searchKey(n))
	case "UID":
		p.SP()
		k.Set = p.Set()
	default:
		if !p.searchValue(&k) {
			p.pos = at
			p.fail("a search key")
		}
	}
	return k
}

// searchValue reads the value of a key that has one.
func (p *Parser) searchValue(k *Key) bool {
	switch k.Name {
	case "BEFORE", "ON", "SINCE", "SENTBEFORE", "SENTON", "SENTSINCE", "SAVEDBEFORE", "SAVEDON", "SAVEDSINCE":
		p.SP()
		k.Date = p.Date()
	case "LARGER", "SMALLER":
		p.SP()
		k.Number = p.Number64()
	case "UIDAFTER", "UIDBEFORE": // RFC 9738 section 3.2
		p.SP()
		k.Set.Ranges = uidsBeside(p.NzNumber(), k.Name == "UIDAFTER")
		k.Name = "UID"
	case "OLDER", "YOUNGER":
		p.SP()
		k.Number = uint64(p.NzNumber())
	case "MODSEQ":
		p.SP()
		if p.peek() == '"' {
			p.quoted() // one entry has the mod-sequence of all (RFC 7162 section 3.1.5)
			p.SP()
			p.Keyword("priv, shared or all")
			p.SP()
		}
		k.Number = p.number(math.MaxInt64, "a mod-sequence")
	case "KEYWORD", "UNKEYWORD":
		p.SP()
		k.Text = p.Flag()
	case "EMAILID", "THREADID":
		p.SP()
		k.Text = p.Atom("an object identifier")
	case "HEADER":
		p.SP()
		k.Field = p.AString("the name of a header field")
		p.SP()
		k.Text = p.AString("a text")
	case "BCC", "BODY", "CC", "FROM", "SUBJECT", "TEXT", "TO":
		p.SP()
		k.Text = p.AString("a text")
	default:
		return false
	}
	return true
}

// uidsBeside are the UIDs above or below one. There may be none: unlike "*", the upper
// end is not the last message wherever that is.
func uidsBeside(uid uint32, above bool) []Range {
	switch {
	case above && uid < math.MaxUint32:
		return []Range{{First: uid + 1, Last: math.MaxUint32}}
	case !above && uid > 1:
		return []Range{{First: 1, Last: uid - 1}}
	}
	return nil
}
