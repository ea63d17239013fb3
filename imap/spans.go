package imap

import (
	"slices"

	"postrider/mailstore"
)

// merge sorts spans, joins what touches and drops what is empty.
func merge(list []span) []span {
	slices.SortFunc(list, func(a, b span) int { return a.lo - b.lo })
	out := list[:0]
	for _, sp := range list {
		switch n := len(out); {
		case sp.lo >= sp.hi:
		case n > 0 && sp.lo <= out[n-1].hi:
			out[n-1].hi = max(out[n-1].hi, sp.hi)
		default:
			out = append(out, sp)
		}
	}
	return out
}

// intersect is what two lists of spans, each in order, have in common.
func intersect(a, b []span) []span {
	var out []span
	for len(a) > 0 && len(b) > 0 {
		sp := span{max(a[0].lo, b[0].lo), min(a[0].hi, b[0].hi)}
		if sp.lo < sp.hi {
			out = append(out, sp)
		}
		if a[0].hi < b[0].hi {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// total is how many messages spans have.
func total(spans []span) int {
	n := 0
	for _, sp := range spans {
		n += sp.hi - sp.lo
	}
	return n
}

// split cuts n messages off the front of spans.
func split(spans []span, n int) (front, rest []span) {
	for i, sp := range spans {
		if size := sp.hi - sp.lo; size < n {
			n -= size
			continue
		}
		front = append(slices.Clone(spans[:i]), span{sp.lo, sp.lo + n})
		rest = slices.Clone(spans[i:])
		rest[0].lo += n
		if rest[0].lo == rest[0].hi {
			rest = rest[1:]
		}
		return front, rest
	}
	return spans, nil
}

// reader reads the messages with these UIDs in order, as View.DescribeOnly does, or
// all from the first of them to the last, as View.Describe does.
type reader func(uids []mailstore.UID, fn func(*mailstore.Described) bool) error

// ranged reads all from one message to another.
func ranged(read func(from, to mailstore.UID, fn func(*mailstore.Described) bool) error) reader {
	return func(uids []mailstore.UID, fn func(*mailstore.Described) bool) error {
		return read(uids[0], uids[len(uids)-1], fn)
	}
}

// rows reads without records.
func rows(v *mailstore.View, m mailstore.MailboxID) reader {
	return ranged(func(from, to mailstore.UID, fn func(*mailstore.Described) bool) error {
		var d mailstore.Described
		return v.Messages(m, from, to, func(m mailstore.Message) bool {
			d.Message = m
			return fn(&d)
		})
	})
}

// described reads with records.
func described(v *mailstore.View, m mailstore.MailboxID) reader {
	return func(uids []mailstore.UID, fn func(*mailstore.Described) bool) error {
		first, last := uids[0], uids[len(uids)-1]
		if int(last-first) == len(uids)-1 {
			return v.Describe(m, first, last, fn)
		}
		return v.DescribeOnly(m, uids, fn)
	}
}

// scan reads the messages of spans in order and calls fn with the index of each
// until it returns false; those that there are no more it leaves out. Neighbours,
// and what is nearly so, are read at once.
func (b *selection) scan(read reader, spans []span, fn func(i int, d *mailstore.Described) bool) error {
	more := true
	for i := 0; i < len(spans) && more; {
		j := i + 1
		for j < len(spans) && spans[j].lo-spans[j-1].hi <= maxGap {
			j++
		}
		group := spans[i:j]
		i = j
		at := group[0].lo
		err := read(b.uidsOf(group), func(d *mailstore.Described) bool {
			for b.uids[at] < d.UID {
				at++
			}
			for at >= group[0].hi {
				group = group[1:]
			}
			if b.uids[at] == d.UID && at >= group[0].lo {
				more = fn(at, d)
			}
			return more
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// numbered is one message with its index in the selection.
type numbered struct {
	index int
	mailstore.Message
}
