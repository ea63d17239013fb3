package lab

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A jump fires each timer in its turn, at its time, and the code that it wakes
// may set the next.
func TestClockJump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewClock(nil)
		defer c.close()
		began := time.Now()
		var at []time.Duration
		var again func()
		again = func() {
			at = append(at, c.Elapsed())
			c.AfterFunc(4*time.Hour, again)
		}
		c.AfterFunc(time.Hour, again)
		single := c.NewTimer(30 * time.Hour)
		settle := func(context.Context) error { synctest.Wait(); return nil }
		if err := c.jump(t.Context(), 5*24*time.Hour, settle); err != nil {
			t.Fatal(err)
		}
		if len(at) != 30 || at[0] != time.Hour || at[29] != 117*time.Hour {
			t.Errorf("fired at %v", at)
		}
		select {
		case fired := <-single.Chan():
			if fired.Sub(began) != 30*time.Hour {
				t.Errorf("fired at %v", fired.Sub(began))
			}
		default:
			t.Error("a timer did not fire")
		}
		if c.Ahead() != 120*time.Hour || time.Since(began) != 0 {
			t.Errorf("ahead by %v after %v", c.Ahead(), time.Since(began))
		}
	})
}

// Without a jump, timers fire as those of package time.
func TestClockTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewClock(nil)
		defer c.close()
		began := time.Now()
		late, soon, off := c.NewTimer(3*time.Second), c.NewTimer(time.Second), c.NewTimer(2*time.Second)
		if !off.Stop() || off.Stop() {
			t.Error("Stop")
		}
		<-soon.Chan()
		if d := time.Since(began); d != time.Second {
			t.Errorf("after %v", d)
		}
		if soon.Reset(5 * time.Second) {
			t.Error("a fired timer was active")
		}
		<-late.Chan()
		<-soon.Chan()
		if d := time.Since(began); d != 6*time.Second {
			t.Errorf("after %v", d)
		}
		select {
		case <-off.Chan():
			t.Error("a stopped timer fired")
		default:
		}
	})
}

// Deadlines of the lab's time and of package time both come when they should.
func TestClockReal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewClock(nil)
		defer c.close()
		c.advance(time.Hour)
		now := time.Now()
		for _, v := range []struct{ in, want time.Time }{
			{c.Now().Add(time.Minute), now.Add(time.Minute)},
			{now.Add(time.Minute), now.Add(time.Minute)}, // of a context
			{time.Time{}, time.Time{}},
		} {
			if got := c.Real(v.in); !got.Equal(v.want) {
				t.Errorf("%v: %v, want %v", v.in, got, v.want)
			}
		}
		if !c.Real(time.Unix(1, 0)).Before(now) {
			t.Error("a deadline of long ago is not over")
		}
	})
}
