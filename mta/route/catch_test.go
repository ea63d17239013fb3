package route

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"postrider/mta"
)

func catching(quit <-chan struct{}) *Router {
	bob := mta.Address{Local: "bob", Domain: "hamburger.edu"}
	return New(Options{Directory: fakeDirectory{}, Catch: &Catch{Account: bob, Quit: quit}})
}

// TestCatch: every address leads to the account, nothing leads away, and some
// names fail on purpose.
func TestCatch(t *testing.T) {
	r := catching(nil)
	for to, want := range map[string]string{
		"anybody@anywhere.example":      "",
		"bob@hamburger.edu":             "",
		"team@hamburger.edu":            "", // no alias counts: one target would be remote
		"a%b@c.example":                 "",
		"x@[192.0.2.1]":                 "",
		"postmaster":                    "",
		"temperror@a.example":           "451 4.3.0",
		"TempError+again@a.example":     "451 4.3.0",
		"permerror@a.example":           "550 5.0.0",
		"450@a.example":                 "450 4.0.0",
		"599@a.example":                 "599 5.0.0",
		"552+quota@a.example":           "552 5.0.0",
		"399@a.example":                 "",
		"600@a.example":                 "",
		"0550@a.example":                "",
		"-50@a.example":                 "",
		"421@a.example":                 "421 4.0.0",
		"temperror@temperror.a.example": "451 4.3.0",
	} {
		a, err := mta.ParseAddress(to)
		if err != nil {
			a = mta.Address{Local: to}
		}
		targets, err := r.Recipient(context.Background(), mta.Client{}, a)
		if want == "" {
			if err != nil || !slices.Equal(targets, []mta.Target{{Account: 2}}) {
				t.Errorf("%s: %v, %v", to, targets, err)
			}
			continue
		}
		var reply *mta.Reply
		if !errors.As(err, &reply) || reply.Error()[:9] != want || reply.Close != (reply.Code == 421) {
			t.Errorf("%s: %v, %v, want %s", to, targets, err, want)
		}
	}
}

// TestCatchRelaysNothing: reports to senders are caught as well, and there is
// no way out.
func TestCatchRelaysNothing(t *testing.T) {
	r := catching(nil)
	to := mta.Address{Local: "timeout", Domain: "a.example"}
	targets, err := r.Recipient(t.Context(), mta.Client{Ours: true}, to)
	if err != nil || !slices.Equal(targets, []mta.Target{{Account: 2}}) {
		t.Errorf("%v, %v", targets, err)
	}
	hops, err := r.Hops(t.Context(), "a.example")
	if reply := new(mta.Reply); !errors.As(err, &reply) || reply.Code/100 != 5 || len(hops) > 0 {
		t.Errorf("%v, %v", hops, err)
	}
}

// TestCatchSilence: it lasts longer than a client waits, ends with the server,
// and is bounded.
func TestCatchSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quit := make(chan struct{})
		r := catching(quit)
		to := mta.Address{Local: "timeout", Domain: "a.example"}
		begin := time.Now()
		_, err := r.Recipient(t.Context(), mta.Client{}, to)
		if reply := new(mta.Reply); !errors.As(err, &reply) || reply.Code != 421 || !reply.Close {
			t.Error(err)
		}
		if d := time.Since(begin); d <= 5*time.Minute {
			t.Errorf("silent for %v", d)
		}
		over := make(chan error, maxSilent)
		for range maxSilent {
			go func() {
				_, err := r.Recipient(context.Background(), mta.Client{}, to)
				over <- err
			}()
		}
		synctest.Wait()
		begin = time.Now()
		if _, err := r.Recipient(t.Context(), mta.Client{}, to); err == nil || time.Since(begin) > 0 {
			t.Errorf("one more waited for %v: %v", time.Since(begin), err)
		}
		close(quit)
		for range maxSilent {
			<-over
		}
		if d := time.Since(begin); d > 0 {
			t.Errorf("silence went on for %v", d)
		}
	})
}
