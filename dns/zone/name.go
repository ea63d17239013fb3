package zone

import "postrider/dns/names"

// maxLabels is the number of labels of a name, without the root's: 255 octets
// hold no more (RFC 1035 section 2.3.4).
const maxLabels = 127

// labels is a canonical name cut into its labels, the leftmost first.
type labels struct {
	name string
	n    int
	off  [maxLabels]uint16 // where each begins in name
}

// split cuts a canonical name. It tells false of what is none.
func (l *labels) split(name string) bool {
	l.name, l.n = name, 0
	if name == "." {
		return true
	}
	begin := 0
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '\\':
			i++ // an escaped dot is no border; of \DDD the digits are plain
		case '.':
			if i == begin || l.n == maxLabels {
				return false
			}
			l.off[l.n] = uint16(begin)
			l.n++
			begin = i + 1
		}
	}
	return l.n > 0 && begin == len(name)
}

// key is label i as the tree knows it: its octets, without escapes.
func (l *labels) key(i int) string {
	end := len(l.name) - 1
	if i+1 < l.n {
		end = int(l.off[i+1]) - 1
	}
	return names.Unescape(l.name[l.off[i]:end])
}

// from is the name that begins at label i.
func (l *labels) from(i int) string {
	if i == l.n {
		return "."
	}
	return l.name[l.off[i]:]
}

// below tells how many labels the name has more than origin, which has m; -1 if
// it is not at or below it.
func (l *labels) below(origin string, m int) int {
	d := l.n - m
	if d < 0 || l.from(d) != origin {
		return -1
	}
	return d
}
