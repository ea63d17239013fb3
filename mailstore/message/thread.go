package message

import (
	"encoding/binary"
	"iter"
	"strings"
	"unicode/utf8"
)

// Limits of what is kept for threading.
const (
	MaxThreadID   = 512  // octets; longer message ids are left out
	MaxReferences = 21   // the first, and the last 20
	MaxSubject    = 1024 // octets of a base subject; the rest is cut off
)

// maxSubjectField is how much of a subject is looked at.
const maxSubjectField = 4 * MaxSubject

// eachID calls f for each message id in a field (RFC 5322 section 3.6.4),
// without its angle brackets and the white space that folding put inside.
// What is not between brackets is no id.
func eachID(v string, f func(id string)) {
	for {
		i := strings.IndexByte(v, '<')
		if i < 0 {
			return
		}
		v = v[i+1:]
		j := strings.IndexAny(v, "<>")
		if j < 0 {
			return
		}
		if v[j] == '<' {
			v = v[j:]
			continue
		}
		id := v[:j]
		v = v[j+1:]
		if strings.ContainsAny(id, " \t") {
			id = strings.Join(strings.Fields(id), "")
		}
		if id != "" && len(id) <= MaxThreadID {
			f(id)
		}
	}
}

// oneID is the message's own id; some programs write it without brackets.
func oneID(v string) []byte {
	var first string
	eachID(v, func(id string) {
		if first == "" {
			first = id
		}
	})
	if v = strings.Trim(v, "<> \t"); first == "" && v != "" && len(v) <= MaxThreadID && !strings.ContainsAny(v, " \t<>") {
		first = v
	}
	return []byte(first)
}

// appendReferences appends the ids that a message refers to, oldest first,
// each after its length: those of References, then those of In-Reply-To that
// are not among them.
func appendReferences(dst []byte, references, inReplyTo string) []byte {
	var room [2 * MaxReferences]string
	list := room[:0]
	shorten := func() {
		n := copy(list[1:], list[len(list)-(MaxReferences-1):])
		list = list[:1+n]
	}
	add := func(id string) {
		for _, have := range list {
			if have == id {
				return
			}
		}
		if len(list) == cap(list) {
			shorten()
		}
		list = append(list, id)
	}
	eachID(references, add)
	eachID(inReplyTo, add)
	if len(list) > MaxReferences {
		shorten()
	}
	for _, id := range list {
		dst = binary.AppendUvarint(dst, uint64(len(id)))
		dst = append(dst, id...)
	}
	return dst
}

// References iterates over the ids in References and In-Reply-To, without
// angle brackets, each once: the first and the last ones where there are more
// than MaxReferences.
func (s *Stored) References() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for b := s.refs; len(b) > 0; {
			n, k := binary.Uvarint(b)
			if k <= 0 || n > uint64(len(b)-k) {
				return
			}
			if !yield(b[k : k+int(n) : k+int(n)]) {
				return
			}
			b = b[k+int(n):]
		}
	}
}

// BaseSubject takes from a Subject field what makes no difference to the
// thread: RFC 5256 section 2.1. It is UTF-8, in the case in which it stands:
// compare it without regard to case and, after RFC 8621 section 3, to spaces.
func BaseSubject(v string) []byte {
	v = DecodeWords(v[:min(len(v), maxSubjectField)])
	v = strings.Join(strings.Fields(v), " ")
	if len(v) > MaxSubject {
		n := MaxSubject
		for n > 0 && !utf8.RuneStart(v[n]) {
			n--
		}
		v = v[:n]
	}
	for {
		v = cutTrailer(v)
		v = cutLeaders(v)
		inner, ok := cutFwdHeader(v)
		if !ok {
			return []byte(v)
		}
		v = inner
	}
}

// IsReply tells whether a Subject field is that of a reply or a forward: whether
// BaseSubject takes more from it than names of lists (RFC 5256 section 3, THREAD).
func IsReply(v string) bool {
	v = DecodeWords(v[:min(len(v), maxSubjectField)])
	v = strings.Join(strings.Fields(v), " ")
	if len(cutTrailer(v)) < len(v) {
		return true
	}
	for {
		if leaderLen(v) > 0 {
			return true
		}
		n := blobLen(v)
		if n == 0 || n == len(v) {
			break
		}
		v = v[n:]
	}
	_, forwarded := cutFwdHeader(v)
	return forwarded
}

// cutTrailer removes every "(fwd)" at the end.
func cutTrailer(v string) string {
	for {
		v = strings.TrimRight(v, " ")
		n := len(v) - len("(fwd)")
		if n < 0 || !strings.EqualFold(v[n:], "(fwd)") {
			return v
		}
		v = v[:n]
	}
}

// cutLeaders removes "Re:", "Fwd:", and "[list]" where a text remains.
func cutLeaders(v string) string {
	for {
		v = strings.TrimLeft(v, " ")
		if n := leaderLen(v); n > 0 {
			v = v[n:]
			continue
		}
		n := blobLen(v)
		if n == 0 || n == len(v) {
			return v
		}
		v = v[n:]
	}
}

// leaderLen is the length of blobs, if any, with a "re:" or "fwd:" after them.
func leaderLen(v string) int {
	i := 0
	for n := blobLen(v); n > 0; n = blobLen(v[i:]) {
		i += n
	}
	rest := v[i:]
	switch {
	case len(rest) >= 3 && strings.EqualFold(rest[:3], "fwd"):
		i += 3
	case len(rest) >= 2 && (strings.EqualFold(rest[:2], "re") || strings.EqualFold(rest[:2], "fw")):
		i += 2
	default:
		return 0
	}
	i += len(v[i:]) - len(strings.TrimLeft(v[i:], " "))
	i += blobLen(v[i:])
	if i == len(v) || v[i] != ':' {
		return 0
	}
	return i + 1
}

// blobLen is the length of "[text]" and the spaces after it.
func blobLen(v string) int {
	if v == "" || v[0] != '[' {
		return 0
	}
	n := strings.IndexAny(v[1:], "[]")
	if n < 0 || v[1+n] == '[' {
		return 0
	}
	n += 2
	for n < len(v) && v[n] == ' ' {
		n++
	}
	return n
}

// cutFwdHeader removes "[fwd:" and the "]" at the end.
func cutFwdHeader(v string) (string, bool) {
	const head = "[fwd:"
	if len(v) <= len(head) || !strings.EqualFold(v[:len(head)], head) || v[len(v)-1] != ']' {
		return v, false
	}
	return v[len(head) : len(v)-1], true
}
