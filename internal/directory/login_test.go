package directory

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/argon2"

	"postrider/internal/clock"
	"postrider/mailstore"
)

func overTLS(a string) Peer {
	return Peer{Addr: netip.MustParseAddr(a), TLS: new(tls.ConnectionState), Protocol: "test"}
}

// countHashes counts the runs of argon2id.
func countHashes(d *Directory) *atomic.Int32 {
	n := new(atomic.Int32)
	d.passwords.derive = func(password, salt []byte, time, memory uint32, threads uint8, keyLen uint32) []byte {
		n.Add(1)
		return argon2.IDKey(password, salt, time, memory, threads, keyLen)
	}
	return n
}

func TestLogin(t *testing.T) {
	d := demo(t, Options{})
	for _, tt := range []struct {
		name, password, want string
	}{
		{"bob@hamburger.edu", "hungry", "bob@hamburger.edu"},
		{"BOB@Hamburger.EDU", "hungry", "bob@hamburger.edu"},
		{"bob", "hungry", "bob@hamburger.edu"},
		{"Bob", "hungry", "bob@hamburger.edu"},
		{"zoë@crêpes.example", "sucré", "zoë@xn--crpes-isa.example"},
		{"zoe\u0308@CRÊPES.example", "sucre\u0301", "zoë@xn--crpes-isa.example"},
		{"zoë", "sucré", ""}, // not in the first domain
		{"bob", "Hungry", ""},
		{"bob", "", ""},
		{"bob", "hungry\x00", ""},
		{"bob", strings.Repeat("hungry", 1000), ""},
		{"bob+x", "hungry", ""},
		{"", "hungry", ""},
		{"@", "hungry", ""},
		{"@hamburger.edu", "hungry", ""},
		{"carol", "hungry", ""},
		{"bob@example.com", "hungry", ""},
		{"postmaster", "wonderland", ""},
		{"bob\r\n", "hungry", ""},
		{strings.Repeat("b", 100_000), "hungry", ""},
	} {
		account, err := d.Login(t.Context(), overTLS("192.0.2.1"), tt.name, tt.password)
		if account.Address != tt.want || account.Credentials != nil || (tt.want == "") != errors.Is(err, ErrCredentials) {
			t.Errorf("Login(%.20q, %.20q) = %q, %v", tt.name, tt.password, account.Address, err)
		}
	}
	if _, err := d.Login(t.Context(), Peer{Addr: netip.MustParseAddr("192.0.2.1")}, "bob", "hungry"); err != ErrPlaintext {
		t.Errorf("without TLS: %v", err)
	}
}

// TestUnknownUserLooksTheSame looks at the structure instead of the time: one
// hash of the same cost in each case, the same error, the same penalty.
func TestUnknownUserLooksTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var costs []string
		d := demo(t, Options{FailedLoginsPerMinute: 4})
		d.passwords.derive = func(password, salt []byte, time, memory uint32, threads uint8, keyLen uint32) []byte {
			costs = append(costs, fmt.Sprint(len(salt), time, memory, threads, keyLen))
			return argon2.IDKey(password, salt, time, memory, threads, keyLen)
		}
		type outcome struct {
			err   string
			took  time.Duration
			costs string
		}
		var outcomes [][]outcome
		for i, name := range []string{"bob@hamburger.edu", "nobody@hamburger.edu", "bob@example.com", "not a name", ""} {
			var list []outcome
			for attempt := range 5 {
				costs = nil
				start := time.Now()
				peer := overTLS(fmt.Sprintf("192.0.2.%d", 10*i+attempt)) // only the name is counted
				_, err := d.Login(t.Context(), peer, name, "wrong")
				list = append(list, outcome{fmt.Sprint(err), time.Since(start), fmt.Sprint(costs)})
			}
			outcomes = append(outcomes, list)
		}
		for i, list := range outcomes[1:] {
			if fmt.Sprint(list) != fmt.Sprint(outcomes[0]) {
				t.Errorf("unknown name %d: %v\nknown name: %v", i, list, outcomes[0])
			}
		}
		if outcomes[0][0].costs == "[]" || outcomes[0][4].err != ErrTooManyLogins.Error() {
			t.Errorf("outcomes %v", outcomes[0])
		}
	})
}

func TestVerifiedLogins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := demo(t, Options{})
		hashes := countHashes(d)
		peer := overTLS("192.0.2.1")
		login := func(password string, want error, runs int32) {
			t.Helper()
			hashes.Store(0)
			if _, err := d.Login(t.Context(), peer, "bob", password); !errors.Is(err, want) {
				t.Errorf("Login with %q: %v", password, err)
			}
			if n := hashes.Load(); n != runs {
				t.Errorf("%q: %d hashes, want %d", password, n, runs)
			}
		}
		login("hungry", nil, 1)
		login("hungry", nil, 0)
		login("wrong", ErrCredentials, 1)
		login("hungry", nil, 0)
		time.Sleep(verifiedFor)
		login("hungry", nil, 1)
		must(t, d.SetPassword(t.Context(), "bob@hamburger.edu", "thirsty"))
		login("hungry", ErrCredentials, 1)
		login("thirsty", nil, 1)
		login("thirsty", nil, 0)
		must(t, d.RemoveAccount(t.Context(), "bob@hamburger.edu"))
		login("thirsty", ErrCredentials, 1)
		must(t, d.AddAccount(t.Context(), "bob@hamburger.edu", "hungry"))
		login("thirsty", ErrCredentials, 1)
		login("hungry", nil, 1)
	})
}

// TestVerifiedTogether: of many logins with one password that come at once, as
// those of a mail program after a restart, none hashes again what another did.
func TestVerifiedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := demo(t, Options{})
		d.passwords.turns = make(chan struct{}, 1)
		var hashes atomic.Int32
		d.passwords.derive = func(password, salt []byte, rounds, memory uint32, threads uint8, keyLen uint32) []byte {
			hashes.Add(1)
			time.Sleep(time.Second)
			return argon2.IDKey(password, salt, rounds, memory, threads, keyLen)
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, err := d.Login(t.Context(), overTLS("192.0.2.1"), "bob", "hungry"); err != nil {
					t.Errorf("Login: %v", err)
				}
			})
		}
		wg.Wait()
		if n := hashes.Load(); n != 1 {
			t.Errorf("%d hashes, want 1", n)
		}
	})
}

// TestBusy: hashes run few at a time, and no more than a bounded number wait.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := demo(t, Options{})
		d.passwords.turns = make(chan struct{}, 2)
		var running, most atomic.Int32
		d.passwords.derive = func(password, salt []byte, _, memory uint32, threads uint8, keyLen uint32) []byte {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			time.Sleep(time.Second)
			return argon2.IDKey(password, salt, 1, memory, threads, keyLen)
		}
		var wg sync.WaitGroup
		var busy, bad atomic.Int32
		for i := range 2 + maxHashWaiting + 20 {
			wg.Go(func() {
				start := time.Now()
				_, err := d.Login(t.Context(), overTLS(fmt.Sprintf("192.0.2.%d", i)), fmt.Sprint("user", i), "x")
				switch {
				case errors.Is(err, ErrBusy):
					busy.Add(1)
				case errors.Is(err, ErrCredentials):
					bad.Add(1)
				default:
					t.Errorf("Login: %v", err)
				}
				if took := time.Since(start); took > maxHashWait+time.Second {
					t.Errorf("one waited %v", took)
				}
			})
		}
		wg.Wait()
		if most.Load() != 2 || bad.Load() < 30 || bad.Load() > 34 || busy.Load() < 100 {
			t.Errorf("%d at once, %d judged, %d refused as busy", most.Load(), bad.Load(), busy.Load())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		d.passwords.turns <- struct{}{}
		d.passwords.turns <- struct{}{}
		if _, err := d.Login(ctx, overTLS("192.0.2.1"), "bob", "hungry"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a login whose client went away: %v", err)
		}
	})
}

// TestFailuresAreSlowed: up to half of the limit there is no delay, then
// growing ones, then refusal until the minute is over, per network and per
// account.
func TestFailuresAreSlowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := demo(t, Options{FailedLoginsPerMinute: 10})
		hashes := countHashes(d)
		for what, attempt := range map[string]func(i int) (Peer, string){
			"one address": func(i int) (Peer, string) { return overTLS("192.0.2.1"), fmt.Sprint("user", i) },
			"one /64":     func(i int) (Peer, string) { return overTLS(fmt.Sprintf("2001:db8::%d", i)), fmt.Sprint("other", i) },
			"loopback": func(i int) (Peer, string) {
				return Peer{Addr: netip.MustParseAddr("127.0.0.1")}, fmt.Sprint("third", i)
			},
			"one account": func(i int) (Peer, string) { return overTLS(fmt.Sprintf("198.51.100.%d", i)), "bob" },
			"one name":    func(i int) (Peer, string) { return overTLS(fmt.Sprintf("203.0.113.%d", i)), "carol" },
		} {
			begin := time.Now()
			var delays []time.Duration
			for i := range 10 {
				start := time.Now()
				peer, name := attempt(i)
				if _, err := d.Login(t.Context(), peer, name, "wrong"); !errors.Is(err, ErrCredentials) {
					t.Errorf("%s, attempt %d: %v", what, i, err)
				}
				delays = append(delays, time.Since(start))
			}
			if got := fmt.Sprint(delays); got != "[0s 0s 0s 0s 0s 0s 1s 2s 4s 8s]" {
				t.Errorf("%s: delays %s", what, got)
			}
			hashes.Store(0)
			peer, name := attempt(10)
			if _, err := d.Login(t.Context(), peer, name, "hungry"); err != ErrTooManyLogins {
				t.Errorf("%s, one more: %v", what, err)
			}
			if hashes.Load() != 0 {
				t.Errorf("%s: the password was looked at", what)
			}
			time.Sleep(time.Minute - time.Since(begin))
			if _, err := d.Login(t.Context(), peer, name, "wrong"); !errors.Is(err, ErrCredentials) {
				t.Errorf("%s, a minute later: %v", what, err)
			}
			time.Sleep(time.Hour)
		}
	})
}

// TestParallelGuesses: attempts that come at once see each other's failures.
func TestParallelGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := demo(t, Options{FailedLoginsPerMinute: 10})
		hashes := countHashes(d)
		var wg sync.WaitGroup
		var judged atomic.Int32
		for range 100 {
			wg.Go(func() {
				if _, err := d.Login(t.Context(), overTLS("192.0.2.1"), "bob", "wrong"); errors.Is(err, ErrCredentials) {
					judged.Add(1)
				}
			})
		}
		wg.Wait()
		if judged.Load() != 10 || hashes.Load() != 10 {
			t.Errorf("%d judged, %d hashes", judged.Load(), hashes.Load())
		}
		d.SetFailedLoginsPerMinute(0)
		if _, err := d.Login(t.Context(), overTLS("192.0.2.1"), "bob", "hungry"); err != nil {
			t.Errorf("with the limit off: %v", err)
		}
	})
}

// TestOwnerIsNotLockedOut: failures from elsewhere do not hold up the network
// from which the owner logs in.
func TestOwnerIsNotLockedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := demo(t, Options{FailedLoginsPerMinute: 4})
		home := overTLS("198.51.100.1")
		if _, err := d.Login(t.Context(), home, "bob", "hungry"); err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			d.Login(t.Context(), overTLS(fmt.Sprintf("192.0.2.%d", i)), "bob", "wrong")
		}
		start := time.Now()
		if _, err := d.Login(t.Context(), home, "bob", "hungry"); err != nil || time.Since(start) != 0 {
			t.Errorf("the owner: %v after %v", err, time.Since(start))
		}
		if _, err := d.Login(t.Context(), overTLS("198.51.100.2"), "bob", "hungry"); err != ErrTooManyLogins {
			t.Errorf("from elsewhere: %v", err)
		}
		d.Login(t.Context(), home, "bob", "wrong") // ends the trust
		if _, err := d.Login(t.Context(), home, "bob", "hungry"); err != ErrTooManyLogins {
			t.Errorf("after a failure at home: %v", err)
		}
	})
}

func TestThrottleIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newThrottle(clock.System(), 4)
		victim := th.attempt(netip.MustParseAddr("203.0.113.1"), "bob", loginAddress("bob", "hamburger.edu"))
		for range 3 {
			th.fail(victim)
		}
		for i := range 3 * maxPenalties {
			a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			w := th.attempt(a, fmt.Sprint("name", i), loginAddress(fmt.Sprint("name", i), "hamburger.edu"))
			th.fail(w)
			th.succeed(w)
		}
		if len(th.names) > maxPenalties || len(th.networks) > maxPenalties || len(th.trusted) > maxTrusted {
			t.Errorf("%d names, %d networks, %d trusted", len(th.names), len(th.networks), len(th.trusted))
		}
		if d, _ := th.delay(victim); d == 0 {
			t.Error("names made up washed away the failures of one that is guessed at")
		}
	})
}

// TestClockJumps: a clock that is set back or forward locks nobody out.
func TestClockJumps(t *testing.T) {
	th := newThrottle(clock.System(), 4)
	w := th.attempt(netip.MustParseAddr("192.0.2.1"), "bob", loginAddress("bob", "hamburger.edu"))
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	p := &penalty{}
	for range 4 {
		th.punishLocked(p, now)
	}
	th.names[w.name] = p
	if _, err := th.delayLocked(p, now.Add(-24*time.Hour)); err != ErrTooManyLogins {
		t.Errorf("set back by a day: %v", err)
	}
	if d, err := th.delayLocked(p, now.Add(-24*time.Hour+time.Minute)); d != 0 || err != nil {
		t.Errorf("a minute after that: %v, %v", d, err)
	}
}

func TestPasswordIsHidden(t *testing.T) {
	p := Password("hungry")
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "p", p, "s", struct{ P Password }{p}, "c", credentials{})
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "p", p, "s", struct{ P Password }{p})
	text, err := json.Marshal(map[string]any{"p": p, "l": []Password{p}})
	must(t, err)
	all := log.String() + string(text) + fmt.Sprintf("%v %s %q %x %X %d %#v %+v", p, p, p, p, p, p, p, struct{ P Password }{p})
	for _, secret := range []string{"hungry", fmt.Sprintf("%x", "hungry"), fmt.Sprintf("%X", "hungry")} {
		if strings.Contains(all, secret) {
			t.Errorf("%q is in %s", secret, all)
		}
	}
	if p.String() != "***" || p.LogValue().String() != "***" {
		t.Error("String or LogValue is not ***")
	}
}

// TestLogsHoldNoSecrets: neither a password nor a name that may be one.
func TestLogsHoldNoSecrets(t *testing.T) {
	var log bytes.Buffer
	d := demo(t, Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	for _, name := range []string{"bob", "hunter2", "alice@hamburger.edu"} {
		d.Login(t.Context(), overTLS("192.0.2.1"), name, "hungry")
	}
	text := log.String()
	if strings.Contains(text, "hungry") || strings.Contains(text, "hunter2") {
		t.Errorf("log: %s", text)
	}
	for _, want := range []string{"account=bob@hamburger.edu", "account=alice@hamburger.edu", "account=(unknown)", "remote=192.0.2.1"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in the log: %s", want, text)
		}
	}
}

func TestCredentialsVersions(t *testing.T) {
	d := demo(t, Options{})
	accounts, err := d.Accounts(t.Context())
	must(t, err)
	for _, tt := range []struct{ credentials, says string }{
		{`{"version":2}`, "version 2"},
		{`{"version":1}`, "damaged"},
		{`nonsense`, "damaged"},
		{``, "damaged"},
	} {
		a := accounts[1]
		a.Credentials = []byte(tt.credentials)
		must(t, d.store.Update(t.Context(), func(tx *mailstore.Tx) error { return tx.UpdateAccount(a) }))
		_, err := d.Login(t.Context(), overTLS("192.0.2.1"), "bob", "hungry")
		if err == nil || errors.Is(err, ErrCredentials) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("credentials %q: %v", tt.credentials, err)
		}
	}
}

// TestDefaultCost holds the parameters to what OWASP and RFC 7677 ask for, and
// sees a login through with them.
func TestDefaultCost(t *testing.T) {
	c := defaultCost()
	if c.memoryKiB < 19<<10 || c.time < 2 || c.iterations < 4096 {
		t.Errorf("%+v", c)
	}
	v := newVerifier(c, 1)
	secret, err := v.enrol(t.Context(), "hungry")
	must(t, err)
	parsed, err := parseCredentials(secret)
	must(t, err)
	if !v.fits("hungry", parsed) || v.fits("thirsty", parsed) {
		t.Error("the wrong password fits, or the right one does not")
	}
}
