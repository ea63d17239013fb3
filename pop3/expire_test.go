package pop3

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"postrider/internal/clock"
	"postrider/mailstore"
	"postrider/mailstore/storetest"
)

// expiring is a server whose messages expire.
func expiring(t testing.TB, days int) *stored {
	t.Helper()
	s := newStored(t, storetest.NewEngine())
	s.policy = Policy{Expires: true, ExpireDays: days}
	s.drops = storedDrops{store: s.store, policy: s.policy, clock: clock.System()}
	return s
}

func (s *stored) uids(t testing.TB) string {
	t.Helper()
	_, messages := s.view(t)
	uids := []mailstore.UID{}
	for _, m := range messages {
		uids = append(uids, m.UID)
	}
	return fmt.Sprint(uids)
}

const bobs = "USER bob\r\nPASS hungry\r\n"

// TestExpire: what was retrieved stays for its days and goes at the end of a
// session; what was not retrieved stays, and so does what a session without QUIT
// retrieved.
func TestExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := expiring(t, 30)
		s.append(t, "", letter(1, 498), 4)
		s.play(t, bobs+"RETR 1\r\nRETR 2\r\nTOP 3 1\r\nQUIT\r\n")
		s.play(t, bobs+"RETR 4\r\n")
		<-time.After(10 * 24 * time.Hour)
		s.append(t, "", letter(2, 498), 2)
		s.play(t, bobs+"RETR 5\r\nQUIT\r\n")
		if got := s.uids(t); got != "[1 2 3 4 5 6]" {
			t.Errorf("after 10 days: %s", got)
		}
		<-time.After(20*24*time.Hour + time.Second)
		s.play(t, bobs+"NOOP\r\n")
		if got := s.uids(t); got != "[1 2 3 4 5 6]" {
			t.Errorf("after a session without QUIT: %s", got)
		}
		said := s.play(t, bobs+"DELE 2\r\nQUIT\r\n")
		if got := s.uids(t); got != "[3 4 5 6]" || !strings.Contains(said, "(4 messages left)") {
			t.Errorf("after 30 days: %s, %q", got, said)
		}
		<-time.After(10 * 24 * time.Hour)
		s.play(t, bobs+"QUIT\r\n")
		if got := s.uids(t); got != "[3 4 6]" {
			t.Errorf("after 40 days: %s", got)
		}
		// Nothing is noted any more.
		if err := s.store.View(t.Context(), func(v *mailstore.View) error {
			_, err := v.Setting(retrievedSetting(s.account))
			return err
		}); !errors.Is(err, mailstore.ErrNotFound) {
			t.Errorf("what is noted: %v", err)
		}
		s.play(t, bobs+"RETR 1\r\nQUIT\r\n") // an old one, retrieved at last
		if got := s.uids(t); got != "[4 6]" {
			t.Errorf("an old one: %s", got)
		}
	})
}

// TestExpireAtOnce: EXPIRE 0 is an implicit DELE for each message that RETR sent.
func TestExpireAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := expiring(t, 0)
		s.append(t, "", letter(1, 498), 3)
		said := s.play(t, bobs+"CAPA\r\nRETR 1\r\nTOP 2 1\r\nDELE 3\r\nRSET\r\nQUIT\r\n")
		if got := s.uids(t); got != "[2 3]" || !strings.Contains(said, "\r\nEXPIRE 0\r\n") || !strings.Contains(said, "(2 messages left)") {
			t.Errorf("%s, %q", got, said)
		}
	})
}

// TestExpireBesideOthers: another program expunges what was retrieved, and the
// account goes.
func TestExpireBesideOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := expiring(t, 1)
		s.append(t, "", letter(1, 498), 3)
		s.play(t, bobs+"RETR 1\r\nRETR 2\r\nQUIT\r\n")
		if err := s.store.Update(t.Context(), func(tx *mailstore.Tx) error {
			_, err := tx.Expunge(s.inbox, []mailstore.UID{1})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		<-time.After(25 * time.Hour)
		s.play(t, bobs+"QUIT\r\n")
		if got := s.uids(t); got != "[3]" {
			t.Errorf("%s", got)
		}
		s.play(t, bobs+"RETR 1\r\n")
		if err := ForgetAccount(t.Context(), s.store, s.account); err != nil {
			t.Error(err)
		}
	})
}

// TestRetrievedUIDs: what is noted is read as it was written; what is damaged is
// less and never other.
func TestRetrievedUIDs(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		uids := rapid.SliceOfDistinct(rapid.Custom(func(r *rapid.T) mailstore.UID {
			return mailstore.UID(rapid.Uint32Range(1, 1<<32-1).Draw(r, "uid"))
		}), rapid.ID).Draw(r, "uids")
		slices.Sort(uids)
		validity := rapid.Uint32().Draw(r, "validity")
		b := encodeUIDs(uids, validity)
		if got := decodeUIDs(b, validity); !slices.Equal(got, uids) {
			r.Fatalf("%v is read as %v", uids, got)
		}
		if got := decodeUIDs(b, validity+1); len(got) > 0 {
			r.Fatalf("of another UIDVALIDITY: %v", got)
		}
		cut := rapid.IntRange(0, len(b)).Draw(r, "cut")
		if got := decodeUIDs(b[:cut], validity); len(got) > len(uids) || !slices.Equal(got, uids[:len(got)]) {
			r.Fatalf("cut at %d: %v", cut, got)
		}
	})
}

// TestLoginsAreBounded: the table for LOGIN-DELAY.
func TestLoginsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Policy: Policy{LoginDelay: time.Minute}})
		for id := range mailstore.AccountID(maxLogins) {
			s.loggedIn(id)
		}
		s.loggedIn(-1)
		if len(s.logins) != maxLogins || s.soon(-1) != time.Minute {
			t.Errorf("%d logins, %v", len(s.logins), s.soon(-1))
		}
		<-time.After(time.Minute)
		s.loggedIn(-2)
		if len(s.logins) != 1 || s.soon(-1) != 0 {
			t.Errorf("%d logins after the delay, %v", len(s.logins), s.soon(-1))
		}
	})
}
