package mailstore

import (
	"fmt"
	"slices"
	"strings"
)

// Limits of keywords.
const (
	MaxKeywords      = 64  // of one message
	MaxKeywordLength = 100 // octets
)

// clean sorts keywords and drops repetitions (RFC 9051 section 9, flag-keyword).
func (f Flags) clean() (Flags, error) {
	f.System &= Seen | Answered | Flagged | Deleted | Draft
	if len(f.Keywords) == 0 {
		f.Keywords = nil
		return f, nil
	}
	for _, k := range f.Keywords {
		if !IsKeyword(k) {
			return Flags{}, fmt.Errorf("%w: %.*q", ErrFlags, MaxKeywordLength, k)
		}
	}
	f.Keywords = union(nil, f.Keywords)
	if len(f.Keywords) > MaxKeywords {
		return Flags{}, fmt.Errorf("%w: more than %d", ErrFlags, MaxKeywords)
	}
	return f, nil
}

// IsKeyword tells whether s can be a keyword: an atom of at most MaxKeywordLength
// octets.
func IsKeyword(s string) bool {
	if s == "" || len(s) > MaxKeywordLength {
		return false
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("(){%*\"\\]", c) >= 0 {
			return false
		}
	}
	return true
}

// equal tells whether two clean sets are the same, spelling included.
func (f Flags) equal(g Flags) bool {
	return f.System == g.System && slices.Equal(f.Keywords, g.Keywords)
}

// combine applies a clean change to a clean set. Spellings that are there stay.
func (f Flags) combine(how FlagChange, g Flags) Flags {
	switch how {
	case AddFlags:
		return Flags{f.System | g.System, union(f.Keywords, g.Keywords)}
	case RemoveFlags:
		keep := slices.DeleteFunc(slices.Clone(f.Keywords), func(k string) bool { return hasKeyword(g.Keywords, k) })
		if len(keep) == 0 {
			keep = nil
		}
		return Flags{f.System &^ g.System, keep}
	default:
		var have []string
		for _, k := range f.Keywords {
			if hasKeyword(g.Keywords, k) {
				have = append(have, k)
			}
		}
		return Flags{g.System, union(have, g.Keywords)}
	}
}

// union adds keywords to a list, each once, and sorts it.
func union(have, more []string) []string {
	if len(more) == 0 {
		return have
	}
	all := slices.Clone(have)
	for _, k := range more {
		if !hasKeyword(all, k) {
			all = append(all, k)
		}
	}
	slices.SortFunc(all, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	return all
}

func hasKeyword(list []string, k string) bool {
	return slices.ContainsFunc(list, func(have string) bool { return strings.EqualFold(have, k) })
}

// Has tells whether the set has a system flag or, where it is none, a keyword.
func (f Flags) Has(s SystemFlags, keyword string) bool {
	if keyword != "" {
		return hasKeyword(f.Keywords, keyword)
	}
	return f.System&s == s
}
