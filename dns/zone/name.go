package zone

import (
	"strings"

	miekg "github.com/miekg/dns"
)

// maxLabels is the number of labels of a name, without the root's: 255 octets
// hold no more (RFC 1035 section 2.3.4).
const maxLabels = 127

// maxWire is the number of octets of a name on the wire.
const maxWire = 255

// canonical gives the one spelling by which names are compared: lower case,
// final dot, and escapes as miekg unpacks them. It allocates only if name is
// spelled otherwise. A name that is none, or too long, is "".
func canonical(name string) string {
	plain := len(name) > 0 && name[len(name)-1] == '.' && len(name) < maxWire
	for i := 0; plain && i < len(name); i++ {
		c := name[i]
		plain = c != '\\' && (c < 'A' || c > 'Z')
	}
	if plain {
		return name
	}
	var wire [maxWire + 1]byte
	n, err := miekg.PackDomainName(miekg.Fqdn(name), wire[:], 0, nil, false)
	if err != nil || n > maxWire {
		return ""
	}
	out, _, err := miekg.UnpackDomainName(wire[:n], 0)
	if err != nil {
		return ""
	}
	return miekg.CanonicalName(out)
}

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
	return unescape(l.name[l.off[i]:end])
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

// unescape turns \DDD and \X into octets.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out = append(out, s[i])
			continue
		}
		if i+3 < len(s) && isDigit(s[i+1]) && isDigit(s[i+2]) && isDigit(s[i+3]) {
			out = append(out, (s[i+1]-'0')*100+(s[i+2]-'0')*10+(s[i+3]-'0'))
			i += 3
			continue
		}
		i++
		out = append(out, s[i])
	}
	return string(out)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
