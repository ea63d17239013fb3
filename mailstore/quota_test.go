package mailstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"postrider/mailstore"
	"postrider/mailstore/storetest"
)

// TestQuotaAfterFailedCommit: what was not committed is not used.
func TestQuotaAfterFailedCommit(t *testing.T) {
	f := setUp(t) // two messages
	f.store.SetQuota(mailstore.Quota{Messages: 3})
	f.fail(storetest.OpCommit, mailstore.ErrFull)
	for range 3 {
		if err := f.add("three"); !errors.Is(err, mailstore.ErrFull) {
			t.Fatal(err)
		}
	}
	f.engine.SetFault(nil)
	f.must(f.store.Room(t.Context(), 1, 5))
	f.must(f.add("three"))
	if err := f.add("four"); !errors.Is(err, mailstore.ErrQuota) {
		t.Error(err)
	}
	if err := f.store.Room(t.Context(), 1, 0); !errors.Is(err, mailstore.ErrQuota) {
		t.Error(err)
	}
	f.verify()
}

// TestNearlyFull: the log hears once of an account that fills up, and again when
// it was emptied meanwhile; refusals are counted.
func TestNearlyFull(t *testing.T) {
	var log bytes.Buffer
	refused := prometheus.NewCounter(prometheus.CounterOpts{Name: "refused"})
	s, err := mailstore.Open(t.Context(), storetest.NewEngine(), mailstore.Options{
		Log: slog.New(slog.NewTextHandler(&log, nil)), Metrics: mailstore.Metrics{Refused: refused}, Quota: mailstore.Quota{Messages: 10},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var box mailstore.Mailbox
	update := func(fn func(tx *mailstore.Tx) error) error { return s.Update(context.Background(), fn) }
	err = update(func(tx *mailstore.Tx) error {
		a, err1 := tx.CreateAccount(mailstore.Account{Address: "bob@example.org"})
		var err2 error
		box, err2 = tx.CreateMailbox(a, "INBOX", "")
		return errors.Join(err1, err2)
	})
	if err != nil {
		t.Fatal(err)
	}
	add := func(n int) (failed int) {
		for range n {
			body, err := s.NewBody().Commit()
			if err != nil {
				t.Fatal(err)
			}
			err = update(func(tx *mailstore.Tx) error {
				_, err := tx.Append(box.ID, mailstore.NewMessage{Body: body})
				return err
			})
			body.Release()
			if err != nil {
				failed++
			}
		}
		return failed
	}
	check := func(logged, full int) {
		t.Helper()
		if n := strings.Count(log.String(), `msg="an account is nearly full" account=bob@example.org`); n != logged || s.NearlyFull() != full {
			t.Errorf("logged %d times, want %d; %d are nearly full, want %d\n%s", n, logged, s.NearlyFull(), full, log.String())
		}
	}
	add(8)
	check(0, 0)
	add(1)
	check(1, 1)
	if failed := add(3); failed != 2 {
		t.Errorf("%d refused, want 2", failed)
	}
	check(1, 1)
	err = update(func(tx *mailstore.Tx) error {
		_, err := tx.Expunge(box.ID, []mailstore.UID{1, 2, 3, 4})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	check(1, 0)
	add(3)
	check(2, 1)
	var m dto.Metric
	if err := refused.Write(&m); err != nil || m.GetCounter().GetValue() != 2 {
		t.Errorf("%v refusals were counted: %v", m.GetCounter().GetValue(), err)
	}
}

// TestQuotaBounds: limits and sizes at the end of what a number can be.
func TestQuotaBounds(t *testing.T) {
	for _, c := range []struct {
		quota  mailstore.Quota
		used   mailstore.Usage
		nearly bool
	}{
		{mailstore.Quota{}, mailstore.Usage{Storage: math.MaxInt64, Messages: math.MaxInt64}, false},
		{mailstore.Quota{Storage: mailstore.Unlimited}, mailstore.Usage{Storage: math.MaxInt64}, false},
		{mailstore.Quota{Storage: math.MaxInt64}, mailstore.Usage{Storage: math.MaxInt64 / 100 * 89}, false},
		{mailstore.Quota{Storage: math.MaxInt64}, mailstore.Usage{Storage: math.MaxInt64 / 100 * 91}, true},
		{mailstore.Quota{Storage: 1000}, mailstore.Usage{Storage: 899}, false},
		{mailstore.Quota{Storage: 1000}, mailstore.Usage{Storage: 900}, true},
		{mailstore.Quota{Storage: 1000, Messages: 1}, mailstore.Usage{Messages: 1}, true},
		{mailstore.Quota{Messages: 10}, mailstore.Usage{Messages: 8}, false},
		{mailstore.Quota{Messages: 10}, mailstore.Usage{Messages: 9}, true},
	} {
		if got := c.quota.Nearly(c.used); got != c.nearly {
			t.Errorf("%+v of %+v: nearly full is %v", c.used, c.quota, got)
		}
	}
	f := setUp(t)
	f.store.SetQuota(mailstore.Quota{Storage: math.MaxInt64})
	for _, size := range []int64{-1, 0, math.MaxInt64 - 6, math.MaxInt64 - 5, math.MaxInt64} { // six octets are used
		err := f.store.Room(t.Context(), 1, size)
		if want := size > math.MaxInt64-6; errors.Is(err, mailstore.ErrQuota) != want {
			t.Errorf("%d octets: %v", size, err)
		}
		var full *mailstore.QuotaError
		if errors.As(err, &full) && (full.Room() != math.MaxInt64-6 || !strings.Contains(fmt.Sprint(err), "account 1")) {
			t.Errorf("%v: room for %d", err, full.Room())
		}
	}
}
