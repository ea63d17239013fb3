package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// collectorFloor is the heap that the garbage collector leaves alone. With the
// few megaoctets that an idle server holds it would else run tens of times a
// second under load, for a fifth of all processor time.
const collectorFloor = 48 << 20

// paceCollector has the garbage collector begin when the heap is twice what was
// alive the last time, as it does by itself, and not below collectorFloor. GOGC in
// the environment sets it otherwise.
func paceCollector() {
	if os.Getenv("GOGC") == "" {
		setPace(0)
	}
}

// setPace runs once after each collection: when what it made before that is found
// to be garbage.
func setPace(int) {
	const percent = 100
	of := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(of)
	live := int64(max(of[0].Value.Uint64(), 4<<20)) // the runtime's own floor, which percent multiplies too
	// The heap may grow by a percentage of all that is scanned: with the stacks of
	// thousands of idle connections it would grow far beyond the floor.
	scanned := live + int64(of[1].Value.Uint64()+of[2].Value.Uint64())
	debug.SetGCPercent(max(percent, int(percent*(collectorFloor-live)/scanned)))
	runtime.AddCleanup(new([64]byte), setPace, 0)
}
