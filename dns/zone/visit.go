package zone

import miekg "github.com/miekg/dns"

// position is where a name stands in its zone.
type position int

const (
	missing    position = iota
	inside              // authoritative data, or an empty non-terminal above such
	delegation          // has NS records below the origin
	occluded            // below a delegation or a DNAME record: glue, or never seen
	redirected          // in a search: a DNAME record stands above the name
)

// visit yields every node of the tree, but those of NSEC3 records, in canonical
// order, and where it stands. The set of a node that is inside or a delegation is
// what an NSEC chain is made of; empty non-terminals have no sets.
func (z *Zone) visit(yield func(*node, position) bool) {
	var down func(n *node, p position) bool
	down = func(n *node, p position) bool {
		if p != occluded && n != z.apex && n.has&hasNS != 0 {
			p = delegation
		}
		if !yield(n, p) {
			return false
		}
		if p == delegation || n.has&hasDNAME != 0 {
			p = occluded
		}
		return n.kids.each(func(k *node) bool { return down(k, p) })
	}
	down(z.apex, inside)
}

// raw finds the node of a name in the zone, even one that is occluded.
func (z *Zone) raw(l *labels) (*node, position) {
	p := inside
	n := z.apex
	for i := l.n - z.labels - 1; i >= 0; i-- {
		if p == delegation || n.has&hasDNAME != 0 {
			p = occluded
		}
		if n = n.kids.get(l.key(i)); n == nil {
			return nil, missing
		}
		if p == inside && n.has&hasNS != 0 {
			p = delegation
		}
	}
	return n, p
}

// search matches a name down from the origin, label by label (RFC 1034 section
// 4.3.2 step 3), depth labels below it. It ends at the last node that matches,
// with the number of labels that are left: at a delegation, at a DNAME record
// above the name, at the name itself, or where the next label is missing. The
// question for DS at a delegation is answered at its parent's side (RFC 4035
// section 3.1.4.1).
func (z *Zone) search(l *labels, depth int, typ uint16) (n *node, left int, p position) {
	n = z.apex
	for i := depth; i > 0; {
		if n.has&hasDNAME != 0 {
			return n, i, redirected
		}
		k := n.kids.get(l.key(i - 1))
		if k == nil {
			return n, i, missing
		}
		n = k
		i--
		if n.has&hasNS != 0 && (i > 0 || typ != miekg.TypeDS) {
			return n, i, delegation
		}
	}
	return n, 0, inside
}
