package lab

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"postrider/internal/clock"
)

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

// steps tells what happens, a line each.
type steps struct {
	out   io.Writer
	clock clock.Clock
}

func newSteps(out io.Writer, c clock.Clock) *steps {
	if _, ok := out.(*lines); !ok {
		out = &lines{w: out}
	}
	return &steps{out: out, clock: c}
}

func (s *steps) line(at time.Time, who, what string) {
	fmt.Fprintf(s.out, "%s  %-13s  %s\n", at.Format("15:04:05.000"), who, what)
}

// logger makes a server's log part of the steps.
func (s *steps) logger(server string) *slog.Logger {
	return slog.New(&handler{steps: s, server: server})
}

// handler prints a server's log records, the steps of a letter as sentences.
type handler struct {
	steps  *steps
	server string
	attrs  []slog.Attr // of WithAttrs
}

func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	e := event{name: r.Message}
	r.Attrs(func(a slog.Attr) bool {
		e.add(a)
		return true
	})
	for _, a := range h.attrs {
		e.add(a)
	}
	if text := e.sentence(); text != "" {
		h.steps.line(r.Time, h.server, text)
	}
	return nil
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.steps, h.server, slices.Concat(h.attrs, attrs)}
}

func (h *handler) WithGroup(string) slog.Handler { return h }

// event is a log record as text.
type event struct {
	name  string
	attrs [][2]string
}

func (e *event) add(a slog.Attr) {
	value := oneLine(a.Value.Resolve().String())
	if value != "" && a.Key != "session" {
		e.attrs = append(e.attrs, [2]string{a.Key, value})
	}
}

func (e *event) get(key string) string {
	for _, a := range e.attrs {
		if a[0] == key {
			return a[1]
		}
	}
	return ""
}

// sentence is what to print: the steps of a letter in words, anything else as
// it was logged, and nothing of what another line says already.
func (e *event) sentence() string {
	switch e.name {
	case "login", "session ended":
		return ""
	case "message accepted":
		from := e.get("from")
		if from == "" {
			from = "<>"
		}
		where := "into the mailbox"
		if e.get("onward") != "0" {
			where = "to send it on"
		}
		return fmt.Sprintf("accepted a letter from %s (%s octets) %s, id %s", from, e.get("size"), where, e.get("id"))
	case "delivered":
		tls := "without TLS"
		if v := e.get("tls"); v != "" {
			tls = "under " + v
		}
		return fmt.Sprintf("delivered to %s: %s took it %s and said %s", e.get("to"), e.get("host"), tls, e.get("reply"))
	}
	var b strings.Builder
	b.WriteString(e.name)
	mark := ": "
	for _, a := range e.attrs {
		b.WriteString(mark + a[0] + " " + a[1])
		mark = ", "
	}
	return b.String()
}

// oneLine keeps what peers said from looking like lines of ours.
func oneLine(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, s)
}
