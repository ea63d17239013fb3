package main

import (
	"runtime/metrics"
	"testing"
)

// TestPace: a small heap is left alone until it reaches the floor.
func TestPace(t *testing.T) {
	t.Setenv("GOGC", "")
	paceCollector()
	var keep [][]byte
	for range 4 {
		keep = append(keep, make([]byte, 1<<20))
	}
	goal := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(goal)
	if g, live := goal[0].Value.Uint64(), goal[1].Value.Uint64(); g < collectorFloor*3/4 || g > max(3*live, collectorFloor*5/4) {
		t.Errorf("the goal is %d octets with %d alive", g, live)
	}
	_ = keep
}
