package imap

import (
	"context"
	"slices"

	"postrider/imap/syntax"
	"postrider/mailstore/search"
)

// A fuzzy key (RFC 6203) that looks for a text finds messages that have all of
// its words, in any order and without regard to diacritics. Other keys mean what
// they mean.

// fuzzy compiles a key for each word of a text.
func (cc *compiler) fuzzy(field search.Field, name, text string) node {
	words := search.Words(text)
	if len(words) == 0 {
		words = []string{text}
	}
	// What goes beyond is refused when all is compiled.
	q := make(all, 0, len(words))
	for _, word := range words[:min(len(words), syntax.MaxSearchKeys+1)] {
		s := scoring{key: cc.key(search.NewFuzzyKey(field, name, word)), exact: -1, subject: -1, subjectExact: -1}
		q = append(q, withText(s.key))
		if !cc.scored || len(cc.keys) > syntax.MaxSearchKeys {
			continue
		}
		s.exact = cc.key(search.NewKey(field, name, word))
		if field == search.Text {
			s.subject = cc.key(search.NewFuzzyKey(search.Subject, "", word))
			s.subjectExact = cc.key(search.NewKey(search.Subject, "", word))
		}
		cc.scoring = append(cc.scoring, s)
	}
	return q
}

// key notes a text to look for.
func (cc *compiler) key(k search.Key) int {
	cc.keys = append(cc.keys, k)
	return len(cc.keys) - 1
}

// scoring has the keys by which one word of a fuzzy key is scored; -1 for none.
type scoring struct {
	key          int // the word, without diacritics
	exact        int // with them
	subject      int // for TEXT: the same in the subject
	subjectExact int
}

// points are how well a message has the word, from 0 to 100.
func (q *scoring) points(has func(key int) bool) int {
	switch {
	case !has(q.key):
		return 0
	case q.subject < 0 && has(q.exact), q.subject >= 0 && has(q.subjectExact):
		return 100
	case q.subject >= 0 && has(q.subject):
		return 80
	case has(q.exact):
		return 60
	case q.subject >= 0:
		return 40
	}
	return 50
}

// score is the mean of what a message gets for each word, from 1 to 100.
func (f *finding) score(index int) int {
	if len(f.scoring) == 0 {
		return 100
	}
	sum := 0
	for i := range f.scoring {
		sum += f.scoring[i].points(func(key int) bool { return f.c.text(key, index) == yes })
	}
	return max(sum/len(f.scoring), 1)
}

// scores are the relevancy scores of messages (RFC 6203 section 4). Those of
// which the search index does not know enough are read.
func (f *finding) scores(ctx context.Context, found []int) ([]int, error) {
	limited, cancel := context.WithTimeout(ctx, searchTimeout)
	defer cancel()
	f.c.known = nil
	scores := make([]int, len(found))
	place := make(map[int]int) // in scores, of those that are read
	var unread []int
	for i, index := range found {
		if f.knows(index) {
			scores[i] = f.score(index)
		} else {
			unread, place[index] = append(unread, index), i
		}
	}
	slices.Sort(unread)
	for len(unread) > 0 {
		now := unread[:min(len(unread), batch)]
		unread = unread[len(now):]
		list, err := f.rows(ctx, spansAt(now))
		if err != nil {
			return nil, err
		}
		for _, index := range now {
			scores[place[index]] = 1 // as long as it is not read: it is gone
		}
		for i := range list {
			f.c.one(&list[i])
			if err := f.readInto(limited, list[i].Message, func() bool { return !f.knows(list[i].index) }); err != nil {
				return nil, err
			}
			scores[place[list[i].index]] = f.score(list[i].index)
		}
	}
	return scores, nil
}

// knows tells whether all is known of a message that its score needs.
func (f *finding) knows(index int) bool {
	for i := range f.scoring {
		q := &f.scoring[i]
		for _, key := range []int{q.key, q.exact, q.subject, q.subjectExact} {
			if key >= 0 && f.c.text(key, index) == maybe {
				return false
			}
		}
	}
	return true
}

// told are the messages of a result that have a place in its answer.
func (r *result) told(found []int) []int {
	if r.partial != nil && !r.all {
		return page(found, *r.partial)
	}
	return found
}

func appendScores(out []byte, scores []int) []byte {
	out = append(out, " RELEVANCY ("...)
	for i, score := range scores {
		if i > 0 {
			out = append(out, ' ')
		}
		out = syntax.AppendNumber(out, score)
	}
	return append(out, ')')
}
