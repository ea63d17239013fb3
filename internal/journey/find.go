package journey

import (
	"cmp"
	"slices"
	"strings"
)

// Bounds of one answer.
const (
	defaultMessages = 20
	maxFound        = 20_000 // events
)

// Query names messages or a session. From, To and MessageID hold for messages
// together, whatever the case of their letters.
type Query struct {
	Message, Session    string
	From, To, MessageID string
	Messages            int // at most so many, the newest; 0 means 20
}

// Found is the answer to a Query.
type Found struct {
	// Events are in the order in which they happened, those of one message
	// together.
	Events []Event `json:"events"`
	// More tells that there are older messages, or events, than these.
	More bool `json:"more"`
}

// Find looks up what is known, up to this moment, about what a query names. A
// recorder without a directory knows what is in its memory.
func (r *Recorder) Find(q Query) (Found, error) {
	if r == nil {
		return Found{}, nil
	}
	if q.Messages == 0 {
		q.Messages = defaultMessages
	}
	s := search{find: r.findRecent}
	if r.store != nil {
		r.writer.flush()
		s.find = r.store.find
	}
	return s.run(q)
}

// findRecent is store.find of what is in memory.
func (r *Recorder) findRecent(prefix byte, value string, fn func(Event) bool) error {
	for _, e := range slices.Backward(r.Recent(Filter{Sessions: true})) {
		if e.has(prefix, value) && !fn(e) {
			break
		}
	}
	return nil
}

// search is one Find under way.
type search struct {
	find func(prefix byte, value string, fn func(Event) bool) error
	out  Found
}

func (s *search) run(q Query) (Found, error) {
	if q.Session != "" {
		err := s.collect(bySession, q.Session)
		return s.out, err
	}
	ids := []string{q.Message}
	if q.Message == "" {
		var err error
		if ids, err = s.messages(q); err != nil {
			return Found{}, err
		}
	}
	for _, id := range ids {
		if err := s.collect(byMessage, id); err != nil {
			return Found{}, err
		}
	}
	return s.out, nil
}

// messages are those that have all facts of q, the newest last.
func (s *search) messages(q Query) ([]string, error) {
	type want struct {
		prefix byte
		value  string
	}
	var wants []want
	for _, w := range []want{{byMessageID, q.MessageID}, {byTo, q.To}, {byFrom, q.From}} {
		if w.value != "" {
			wants = append(wants, w)
		}
	}
	if len(wants) == 0 {
		return nil, nil
	}
	var ids []string
	var failed error
	seen := map[string]bool{}
	err := s.find(wants[0].prefix, wants[0].value, func(e Event) bool {
		if e.Message == "" || seen[e.Message] {
			return true
		}
		seen[e.Message] = true
		for _, w := range wants[1:] {
			has := false
			failed = s.find(byMessage, e.Message, func(e Event) bool {
				has = e.has(w.prefix, w.value)
				return !has
			})
			if failed != nil || !has {
				return failed == nil
			}
		}
		if len(ids) == q.Messages {
			s.out.More = true
			return false
		}
		ids = append(ids, e.Message)
		return true
	})
	slices.Reverse(ids)
	return ids, cmp.Or(failed, err)
}

// collect adds the events with a value, and what clients did with the content
// that they delivered.
func (s *search) collect(prefix byte, value string) error {
	var list []Event
	contents := map[string]bool{}
	err := s.find(prefix, value, func(e Event) bool {
		if len(s.out.Events)+len(list) >= maxFound {
			s.out.More = true
			return false
		}
		list = append(list, e)
		if c := e.Get("content"); c != "" && e.Kind == MailboxDelivered {
			contents[c] = true
		}
		return true
	})
	if err != nil {
		return err
	}
	fetched := map[string]Event{} // the first time of each client
	for c := range contents {
		err := s.find(byContent, c, func(e Event) bool {
			if e.Kind == MailboxFetched {
				fetched[strings.Join([]string{c, e.Get("account"), e.Get("client")}, "\x00")] = e
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	for _, e := range fetched {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b Event) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Seq, b.Seq)) })
	s.out.Events = append(s.out.Events, list...)
	return nil
}
