package syntax

import (
	"slices"
	"strconv"
)

// Range is a range of numbers, its ends included; 0 stands for "*". Its ends may
// be in any order.
type Range struct{ First, Last uint32 }

// Set is a sequence-set (RFC 9051 section 9), or the saved result "$"
// (RFC 5182).
type Set struct {
	Saved  bool
	Ranges []Range
}

// Set reads a sequence set.
func (p *Parser) Set() Set {
	if p.take('$') {
		return Set{Saved: true}
	}
	return Set{Ranges: p.ranges("message numbers")}
}

// UIDs reads a set of UIDs without "*" and "$" (known-uids, RFC 7162).
func (p *Parser) UIDs() []Range {
	at := p.pos
	ranges := p.ranges("UIDs")
	if slices.ContainsFunc(ranges, func(r Range) bool { return r.First == 0 || r.Last == 0 }) {
		p.pos = at
		p.fail("UIDs without *")
	}
	return ranges
}

func (p *Parser) ranges(want string) []Range {
	var ranges []Range
	for {
		r := Range{First: p.seqNumber(want)}
		r.Last = r.First
		if p.take(':') {
			r.Last = p.seqNumber(want)
		}
		if p.err != nil {
			return nil
		}
		ranges = append(ranges, r)
		if !p.take(',') {
			return ranges
		}
	}
}

// SeqNumber reads a number or "*", which is 0.
func (p *Parser) SeqNumber() uint32 { return p.seqNumber("a number") }

func (p *Parser) seqNumber(want string) uint32 {
	if p.take('*') {
		return 0
	}
	return p.nzNumber(want)
}

// startsSet tells whether a sequence set may be next.
func (p *Parser) startsSet() bool {
	c := p.peek()
	return c >= '0' && c <= '9' || c == '*' || c == '$'
}

// AppendRange appends a range as it is written.
func AppendRange(dst []byte, first, last uint32) []byte {
	dst = strconv.AppendUint(dst, uint64(first), 10)
	if last != first {
		dst = append(dst, ':')
		dst = strconv.AppendUint(dst, uint64(last), 10)
	}
	return dst
}

// AppendNumbers appends a set of numbers, neighbours in the order given joined
// where each is one more than the one before.
func AppendNumbers[N ~uint32](dst []byte, list []N) []byte {
	for i := 0; i < len(list); {
		j := i + 1
		for j < len(list) && list[j] == list[j-1]+1 {
			j++
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendRange(dst, uint32(list[i]), uint32(list[j-1]))
		i = j
	}
	return dst
}

// PartialRange is the range of PARTIAL (RFC 9394 section 3.1): places in a
// result, counted from 1, or from its end where Last is so.
type PartialRange struct {
	First, Last uint32 // First <= Last
	FromEnd     bool   // "-1:-100"
}

// Partial reads a range of PARTIAL.
func (p *Parser) Partial() PartialRange {
	var r PartialRange
	r.FromEnd = p.take('-')
	r.First = p.NzNumber()
	p.expect(':')
	if r.FromEnd {
		p.expect('-')
	}
	r.Last = p.NzNumber()
	if r.First > r.Last {
		r.First, r.Last = r.Last, r.First
	}
	return r
}

// Of finds the range in a result of n: from place lo, counted from 0, up to but
// without hi. lo == hi where there is nothing in it.
func (r PartialRange) Of(n int) (lo, hi int) {
	first, last, all := int64(r.First)-1, int64(r.Last), int64(n)
	if r.FromEnd {
		first, last = all-last, all-first
	}
	first, last = max(first, 0), min(last, all)
	if first >= last {
		return 0, 0
	}
	return int(first), int(last)
}

// AppendPartial appends a range of PARTIAL.
func AppendPartial(dst []byte, r PartialRange) []byte {
	sign := ""
	if r.FromEnd {
		sign = "-"
	}
	dst = append(dst, sign...)
	dst = strconv.AppendUint(dst, uint64(r.First), 10)
	dst = append(dst, ':')
	dst = append(dst, sign...)
	return strconv.AppendUint(dst, uint64(r.Last), 10)
}
