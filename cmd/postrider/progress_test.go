package main

import (
	"testing"
	"time"
)

func TestProgressText(t *testing.T) {
	for _, c := range []struct {
		done, total, messages int64
		took                  time.Duration
		want                  string
	}{
		{0, 0, 0, 0, "0 messages  0/s"},
		{0, 10, 0, time.Second, "[........................]   0 %  0 messages  0/s"},
		{25, 100, 500, 10 * time.Second, "[######..................]  25 %  500 messages  50/s  30s left"},
		{100, 100, 500, 10 * time.Second, "[########################] 100 %  500 messages  50/s"},
		{120, 100, 500, 10 * time.Second, "[########################] 100 %  500 messages  50/s"}, // the source grew
	} {
		if got := progressText(c.done, c.total, c.messages, c.took); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
	if got, want := octetsText(3<<20, 12<<20, 2*time.Second), "[######..................]  25 %  3.0 MiB  1.5 MiB/s  6s left"; got != want {
		t.Errorf("%q", got)
	}
}
