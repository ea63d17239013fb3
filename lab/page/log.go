package page

import (
	"slices"
	"sync"
)

// maxSteps is how many steps are kept for browsers that were away, for replay
// and for the export.
const maxSteps = 5000

// log keeps the last steps and wakes those who wait for more.
type log struct {
	mu    sync.Mutex
	steps []*Step       // in order of Seq, without gaps
	last  uint64        // Seq of the latest step; 0 before the first
	more  chan struct{} // closed by the next step
}

func newLog() *log { return &log{more: make(chan struct{})} }

// add numbers the step and keeps it.
func (l *log) add(s *Step) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	s.Seq = l.last
	if len(l.steps) == maxSteps {
		l.steps = slices.Delete(l.steps, 0, maxSteps/10)
	}
	l.steps = append(l.steps, s)
	close(l.more)
	l.more = make(chan struct{})
}

// after returns the steps that are kept after seq, whether some between are
// gone, and what closes when there is another. A seq from the future is one of
// an earlier lab: it counts as 0.
func (l *log) after(seq uint64) (steps []*Step, gone bool, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if seq > l.last {
		seq = 0
	}
	i, _ := slices.BinarySearchFunc(l.steps, seq+1, func(s *Step, want uint64) int {
		switch {
		case s.Seq < want:
			return -1
		case s.Seq > want:
			return 1
		}
		return 0
	})
	steps = slices.Clone(l.steps[i:])
	gone = len(steps) > 0 && steps[0].Seq > seq+1
	return steps, gone, l.more
}
