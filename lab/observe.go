package lab

import (
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"postrider/dns/recursor"
	"postrider/internal/journey"
)

// observer tells the journey what a resolver does.
func (l *Lab) observer(h *Host) func(recursor.Step) {
	name := h.Name
	return func(s recursor.Step) {
		if e, ok := s.Event(); ok {
			e.Node = name
			l.journey.Record(e)
		}
	}
}

// lines writes whole lines for several goroutines.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// show prints what happens, a line each, until the lab ends: of messages, names
// and the lab itself. Lines of other sessions, and the keys and signatures that a
// resolver fetches to check what it was told, would hide the letter.
func (l *Lab) show() {
	f := l.journey.Follow(journey.Filter{})
	l.running.Go(func() {
		defer f.Close()
		for e := range f.All(l.ctx) {
			if t := e.Get("type"); (e.Kind == journey.DNSQuery || e.Kind == journey.DNSReply || e.Kind == journey.DNSAnswer) && (t == "DS" || t == "DNSKEY") {
				continue
			}
			at := e.Time
			if at.IsZero() {
				at = l.clock.Now()
			}
			node := e.Node
			if node == "" {
				node = "lab"
			}
			way := ""
			switch e.Kind {
			case journey.DeliverCommand, journey.DeliverContent:
				way = "-> "
			case journey.DeliverReply:
				way = "<- "
			}
			fmt.Fprintf(l.o.Out, "%s  %-18s  %s%s\n", at.Format(time.TimeOnly+".000"), node, way, oneLine(e.Text))
		}
	})
}

// logger has the warnings and errors of a server among what happens: the rest is in
// the journey.
func (l *Lab) logger(h *Host) *slog.Logger {
	return slog.New(slog.NewTextHandler(l.o.Out, &slog.HandlerOptions{Level: slog.LevelError})).With("host", h.Name)
}
