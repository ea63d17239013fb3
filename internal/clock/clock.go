// Package clock is the source of the present. Components take a Clock in their
// options, so that schedules can be tested against clocks that jump; the
// default is package time. Inside testing/synctest the default is enough.
package clock

import "time"

// Clock tells the time and wakes its callers.
type Clock interface {
	Now() time.Time
	NewTimer(d time.Duration) Timer
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is a *time.Timer whose channel is behind a method.
type Timer interface {
	Chan() <-chan time.Time // nil for AfterFunc
	Stop() bool
	Reset(d time.Duration) bool
}

// System returns the clock of package time.
func System() Clock { return system{} }

type system struct{}

type systemTimer struct{ *time.Timer }

func (t systemTimer) Chan() <-chan time.Time { return t.C }

func (system) Now() time.Time                 { return time.Now() }
func (system) NewTimer(d time.Duration) Timer { return systemTimer{time.NewTimer(d)} }
func (system) AfterFunc(d time.Duration, f func()) Timer {
	return systemTimer{time.AfterFunc(d, f)}
}
