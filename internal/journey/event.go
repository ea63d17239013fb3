package journey

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of one event. What is longer is cut, so that no peer fills the journey
// with one line; TestRecordCuts has one of each.
const (
	maxText  = 1024 // octets of Text, and of one value
	maxName  = 255  // octets of the other names
	maxAttrs = 32
	maxWire  = 4096
)

// Event is one thing that happened. It is not changed once it is recorded.
type Event struct {
	Seq     uint64    `json:"seq"`            // grows within one recorder, without gaps but for what was dropped
	Time    time.Time `json:"time"`           // the recorder's clock, if zero
	Node    string    `json:"node,omitempty"` // hostname of the server or name server on which it happened; the recorder's, if ""
	Kind    Kind      `json:"kind"`
	Message string    `json:"message,omitempty"` // id of the message (mta.NewID); "" = none
	Session string    `json:"session,omitempty"` // id of the session; "" = none
	Peer    string    `json:"peer,omitempty"`    // the other end: host name or address
	Text    string    `json:"text,omitempty"`    // one line for people, secrets masked
	Attrs   []Attr    `json:"attrs,omitempty"`   // a key may be there more than once
	Wire    []byte    `json:"wire,omitempty"`    // what was sent or received, secrets masked, without message text
	RFC     string    `json:"rfc,omitempty"`     // what the line follows, such as "RFC 5321 section 4.1.1.2"
}

// Attr is a fact of an event. The keys of each kind are listed in kind.go.
type Attr struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Get returns the first value of a key; "" without one.
func (e *Event) Get(key string) string {
	for i := range e.Attrs {
		if e.Attrs[i].Key == key {
			return e.Attrs[i].Value
		}
	}
	return ""
}

// All returns the values of a key.
func (e *Event) All(key string) []string {
	var list []string
	for i := range e.Attrs {
		if e.Attrs[i].Key == key {
			list = append(list, e.Attrs[i].Value)
		}
	}
	return list
}

// kept is the event as it is kept: within the bounds, complete, and sharing nothing
// with e. It is read from its record: no pointer of e outlives the call, so that
// the attributes of most events are on the stacks of those who record them.
func (e *Event) kept() Event {
	k, _, _ := readRecord(appendRecord(nil, e)) // which was written just now
	k.fill()
	return k
}

// size is about the memory that an event takes.
func (e *Event) size() int {
	n := 200 + len(e.Text) + len(e.Wire) + len(e.Peer) + len(e.RFC)
	for i := range e.Attrs {
		n += 32 + len(e.Attrs[i].Value)
	}
	return n
}

// cut shortens s to limit octets, not within a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return strings.Clone(s[:limit])
}
