package imap

import "slices"

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

// contains tells whether an index is in one of spans, which are in order.
func contains(spans []span, i int) bool {
	_, found := slices.BinarySearchFunc(spans, i, func(sp span, i int) int {
		switch {
		case sp.hi <= i:
			return -1
		case sp.lo > i:
			return 1
		}
		return 0
	})
	return found
}
