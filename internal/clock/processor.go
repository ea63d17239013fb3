package clock

import (
	"syscall"
	"time"
)

// Processor is the time that the processors have worked for this process, of all
// its goroutines. What other programs do does not add to it, which tests that
// bound work rely on.
func Processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic("clock: getrusage: " + err.Error()) // there is no other reason than a bad call
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
