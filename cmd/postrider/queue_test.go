package main

import (
	"bytes"
	"encoding/json"
	"testing"
)

// The queue is printed message by message; the result is one JSON document, in
// the form of all others.
func TestQueueJSON(t *testing.T) {
	p := newBob(t)
	for _, to := range []string{"eve@example.net", "eve&co@example.com"} {
		p.want(exitDone, "", "", "Subject: x\n\n", "send", "-f", "bob@example.org", to)
	}
	_, text, _ := p.run("", "queue", "list", "--json")
	var items []any
	if err := json.Unmarshal([]byte(text), &items); err != nil || len(items) != 2 {
		t.Fatalf("%d items, %v:\n%s", len(items), err, text)
	}
	var want bytes.Buffer
	if err := json.Indent(&want, []byte(text), "", "  "); err != nil || want.String() != text {
		t.Errorf("%v, got:\n%s\nwant:\n%s", err, text, &want)
	}
}
