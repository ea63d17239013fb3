package journey

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkRecord is the cost, on whoever records, of a usual event.
func BenchmarkRecord(b *testing.B) {
	for _, o := range []Options{{}, {Dir: "x"}, {Memory: 1000}} {
		b.Run(fmt.Sprintf("dir=%t,memory=%d", o.Dir != "", o.Memory), func(b *testing.B) {
			if o.Dir != "" {
				o.Dir = b.TempDir()
			}
			r := New(o)
			defer r.Close()
			b.ReportAllocs()
			for b.Loop() {
				r.Record(Event{Kind: MessageAccepted, Message: "0h3k5m7n9p1r3t5v7x", Session: "abcdefgh-1z", Peer: "192.0.2.1",
					Attrs: []Attr{{"from", "alice@crepes.fr"}, {"to", "bob@hamburger.edu"},
						{"message-id", "<20261127.1@crepes.fr>"}, {"size", "4096"}, {"tls", "TLS 1.3"}, {"protocol", "ESMTPS"}}})
			}
		})
	}
}

// BenchmarkFind is one trace among a million events.
func BenchmarkFind(b *testing.B) {
	r := New(Options{Dir: b.TempDir()})
	defer r.Close()
	const messages = 200_000
	for i := range messages {
		id := fmt.Sprint(i)
		letter(r, id, fmt.Sprintf("a%d@crepes.fr", i%1000), fmt.Sprintf("b%d@hamburger.edu", i%5000))
		for range 4 {
			r.Record(Event{Kind: DeliverCommand, Message: id, Time: time.Now(), Attrs: []Attr{{"verb", "MAIL"}}, Wire: []byte("MAIL FROM:<alice@crepes.fr>\r\n")})
		}
		if i%1000 == 0 {
			r.writer.flush()
		}
	}
	r.writer.flush()
	for name, q := range map[string]Query{
		"message": {Message: "777"}, "from": {From: "a7@crepes.fr"}, "to": {To: "b7@hamburger.edu"},
		"both": {From: "a7@crepes.fr", To: "b1007@hamburger.edu"}, "message-id": {MessageID: "<999@crepes.fr>"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if found, err := r.Find(q); err != nil || len(found.Events) == 0 {
					b.Fatal(found, err)
				}
			}
		})
	}
}
