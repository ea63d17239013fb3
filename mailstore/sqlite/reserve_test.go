package sqlite

import (
	"bytes"
	"cmp"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postrider/mailstore"
)

// pretend makes the disk look as if so much were free beside the reserve as it
// is now; what is given back of it counts.
func (r *reserve) pretend(free int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := r.held
	r.statfs = func() (int64, error) { return free + held - r.held, nil }
}

// TestReserveSize: the options say how much is kept, also where more was kept
// before.
func TestReserveSize(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	for _, size := range []int64{0, 1 << 20, 4 << 20} {
		e, err := Open(t.Context(), dir, Options{Reserve: size})
		if err != nil {
			t.Fatal(err)
		}
		if want := cmp.Or(size, reserveSize); e.reserve.size > want || e.reserve.held > e.reserve.size || size > 0 && e.reserve.size != want {
			t.Errorf("asked for %d: %d of %d are kept", size, e.reserve.held, e.reserve.size)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReserve: when the disk is nearly full, what adds is refused, the rest goes
// on, and the reserve is given back for it, until there is space again.
func TestReserve(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, e := openStore(t, dir)
	inbox := newInbox(t, s)
	var text bytes.Buffer
	e.reserve.log = slog.New(slog.NewTextHandler(&text, nil))
	size := e.reserve.size
	held := func() int64 {
		t.Helper()
		info, err := os.Stat(filepath.Join(dir, "reserve"))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	large, small := strings.Repeat("x", mailstore.InlineSize+1), "text"
	try := func(want error) {
		t.Helper()
		for _, text := range []string{large, small} {
			if _, err := deliver(s, inbox, text); !errors.Is(err, want) {
				t.Fatalf("%d octets: %v, want %v", len(text), err, want)
			}
		}
	}
	mark := func(uid mailstore.UID) {
		t.Helper()
		err := s.Update(t.Context(), func(tx *mailstore.Tx) error {
			_, _, err := tx.SetFlags(inbox, []mailstore.UID{uid}, mailstore.AddFlags, mailstore.Flags{System: mailstore.Deleted}, 0)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	expunge := func(uid mailstore.UID) {
		t.Helper()
		mark(uid)
		err := s.Update(t.Context(), func(tx *mailstore.Tx) error {
			_, err := tx.Expunge(inbox, []mailstore.UID{uid})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	try(nil)
	if held() != size {
		t.Fatalf("the reserve has %d octets of %d", held(), size)
	}
	e.reserve.pretend(size / 3)
	try(mailstore.ErrFull)
	if held() != size || !e.Low() {
		t.Errorf("%d octets held of %d, low is %v", held(), size, e.Low())
	}
	e.reserve.pretend(0)
	expunge(1)
	if held() != size-size/reserveSteps {
		t.Errorf("%d octets held of %d", held(), size)
	}
	try(mailstore.ErrFull)
	closeStore(t, s)
	// It stays so over a start, which the real disk ends here.
	s, e = openStore(t, dir)
	if e.Low() || held() != size {
		t.Errorf("%d octets held of %d, low is %v", held(), size, e.Low())
	}
	e.reserve.log = slog.New(slog.NewTextHandler(&text, nil))
	e.reserve.pretend(0)
	expunge(2)
	try(mailstore.ErrFull)
	e.reserve.pretend(size) // a little, which is not enough to begin again
	try(mailstore.ErrFull)
	e.reserve.pretend(2 * size)
	try(nil)
	if held() != size || e.Low() {
		t.Errorf("%d octets held of %d, low is %v", held(), size, e.Low())
	}
	for _, want := range []string{"the disk is nearly full", "there is space on the disk again"} {
		if strings.Count(text.String(), want) == 0 {
			t.Errorf("the log says nothing of %q:\n%s", want, &text)
		}
	}
	closeStore(t, s)
	verify(t, dir)
}

// TestReserveReuse: while space is low, new mail may use what deleting has left
// in the database.
func TestReserveReuse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, e := openStore(t, dir)
	inbox := newInbox(t, s)
	e.reserve.mu.Lock()
	e.reserve.size, e.reserve.held = 8*reserveGrain, 8*reserveGrain // 2 MiB
	e.reserve.mu.Unlock()
	text := strings.Repeat("x", 60_000)
	var all []mailstore.UID
	for range 40 {
		uid, err := deliver(s, inbox, text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, uid)
	}
	e.reserve.pretend(0)
	if _, err := deliver(s, inbox, text); !errors.Is(err, mailstore.ErrFull) {
		t.Fatalf("error %v", err)
	}
	err := s.Update(t.Context(), func(tx *mailstore.Tx) error {
		_, err := tx.Expunge(inbox, all)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for ; taken < 40; taken++ {
		if _, err := deliver(s, inbox, text); errors.Is(err, mailstore.ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if taken < 10 || taken == 40 {
		t.Errorf("%d messages of 60 kB were taken where 40 were deleted", taken)
	}
	closeStore(t, s)
	verify(t, dir)
}
