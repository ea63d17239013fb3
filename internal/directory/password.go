package directory

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/xdg-go/stringprep"
	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"
)

// maxPassword bounds a password, in octets.
const maxPassword = 512

// hidden is what a Password shows of itself.
const hidden = "***"

// Password is a password in clear. It prints, logs and encodes as "***".
type Password string

func (Password) String() string               { return hidden }
func (Password) LogValue() slog.Value         { return slog.StringValue(hidden) }
func (Password) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Format prints "***" for every verb.
func (Password) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// prepared is the password as it goes into verifiers (RFC 4013). What SASLprep
// does not know, such as characters newer than it, is taken as it is, in NFC.
func (p Password) prepared() string {
	s, err := stringprep.SASLprep.Prepare(string(p))
	if err != nil || s == "" {
		return norm.NFC.String(string(p))
	}
	return s
}

// cost is what a guess costs.
type cost struct {
	time, memoryKiB uint32 // of argon2id
	threads         uint8
	iterations      int // of SCRAM's PBKDF2; borne by the client at login
}

// defaultCost is argon2id as OWASP recommends it, some 20 ms of one processor,
// and for SCRAM as many iterations of each hash as clients do: Cyrus SASL, which
// isync uses, refuses more than 65,536 (RFC 7677 section 4 wants 4,096 at least).
func defaultCost() cost {
	return cost{time: 2, memoryKiB: 19 << 10, threads: 1, iterations: 1 << 16}
}

// leastCost is what clients put up with (RFC 7677 section 4), for passwords that
// guard nothing.
func leastCost() cost { return cost{time: 1, memoryKiB: 8, threads: 1, iterations: 1 << 12} }

const (
	credentialsVersion = 1
	saltSize           = 16
	hashSize           = 32
)

// credentials is what Account.Credentials holds, as JSON.
type credentials struct {
	Version int           `json:"version"`
	Argon2  argon2Secret  `json:"argon2id"`
	SCRAM   scramVerifier `json:"scram_sha_256"`
	// SCRAM1 has no keys where a postrider that did not know them set the
	// password, and the account has not logged in with it since.
	SCRAM1 scramVerifier `json:"scram_sha_1,omitzero"`
}

type argon2Secret struct {
	Time      uint32 `json:"time"`
	MemoryKiB uint32 `json:"memory_kib"`
	Threads   uint8  `json:"threads"`
	Salt      []byte `json:"salt"`
	Hash      []byte `json:"hash"`
}

type scramVerifier struct {
	Iterations int    `json:"iterations"`
	Salt       []byte `json:"salt"`
	StoredKey  []byte `json:"stored_key"`
	ServerKey  []byte `json:"server_key"`
}

// LogValue keeps verifiers out of logs.
func (credentials) LogValue() slog.Value { return slog.StringValue(hidden) }

func parseCredentials(b []byte) (credentials, error) {
	var c credentials
	if err := json.Unmarshal(b, &c); err != nil {
		return credentials{}, errors.New("credentials are damaged; set a new password")
	}
	switch {
	case c.Version > credentialsVersion:
		return credentials{}, fmt.Errorf("credentials of version %d: this postrider knows version %d", c.Version, credentialsVersion)
	case c.Version < 1, c.Argon2.Time < 1, c.Argon2.Threads < 1, len(c.Argon2.Hash) != hashSize,
		!scramHashes[0].fits(&c.SCRAM):
		return credentials{}, errors.New("credentials are damaged; set a new password")
	}
	return c, nil
}

const (
	// maxHashWaiting is how many logins may wait for their turn to be hashed.
	maxHashWaiting = 128
	// maxHashWait is how long each waits.
	maxHashWait = 15 * time.Second
)

// verifier makes and checks verifiers of passwords, few at a time.
type verifier struct {
	cost    cost
	turns   chan struct{} // one element for each hash that is computed now
	waiting atomic.Int32
	// derive is argon2.IDKey, or what a test counts with.
	derive func(password, salt []byte, time, memory uint32, threads uint8, keyLen uint32) []byte
}

func newVerifier(c cost, atOnce int) *verifier {
	return &verifier{cost: c, turns: make(chan struct{}, atOnce), derive: argon2.IDKey}
}

// turn waits for the right to hash, which release gives back.
func (v *verifier) turn(ctx context.Context) (release func(), err error) {
	release = func() { <-v.turns }
	select {
	case v.turns <- struct{}{}:
		return release, nil
	default:
	}
	if v.waiting.Add(1) > maxHashWaiting {
		v.waiting.Add(-1)
		return nil, ErrBusy
	}
	defer v.waiting.Add(-1)
	bounded, cancel := context.WithTimeout(ctx, maxHashWait)
	defer cancel()
	select {
	case v.turns <- struct{}{}:
		return release, nil
	case <-bounded.Done():
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return nil, ErrBusy
	}
}

// enrol makes the credentials of a new password.
func (v *verifier) enrol(ctx context.Context, p Password) ([]byte, error) {
	switch {
	case p == "":
		return nil, fmt.Errorf("an empty password is %w", ErrInvalid)
	case len(p) > maxPassword:
		return nil, fmt.Errorf("a password of more than %d octets is %w", maxPassword, ErrInvalid)
	case !utf8.ValidString(string(p)):
		return nil, fmt.Errorf("a password that is not UTF-8 is %w", ErrInvalid)
	}
	for _, r := range p {
		if r < ' ' || r == 0x7f {
			return nil, fmt.Errorf("a password with control characters is %w", ErrInvalid)
		}
	}
	release, err := v.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return v.make(p)
}

func (v *verifier) make(p Password) ([]byte, error) {
	prepared := p.prepared()
	c := credentials{Version: credentialsVersion, Argon2: argon2Secret{
		Time: v.cost.time, MemoryKiB: v.cost.memoryKiB, Threads: v.cost.threads, Salt: random(saltSize),
	}}
	c.Argon2.Hash = v.hash(prepared, c.Argon2)
	for _, h := range scramHashes {
		keys, err := h.derive(prepared, random(saltSize), v.cost.iterations)
		if err != nil {
			return nil, err
		}
		*h.of(&c) = keys
	}
	return json.Marshal(c)
}

// nobody makes credentials that no password fits, for users who do not exist.
func (v *verifier) nobody() ([]byte, error) {
	c := credentials{
		Version: credentialsVersion,
		Argon2: argon2Secret{
			Time: v.cost.time, MemoryKiB: v.cost.memoryKiB, Threads: v.cost.threads,
			Salt: random(saltSize), Hash: random(hashSize),
		},
	}
	for _, h := range scramHashes {
		*h.of(&c) = scramVerifier{
			Iterations: v.cost.iterations, Salt: random(saltSize), StoredKey: random(h.size), ServerKey: random(h.size),
		}
	}
	return json.Marshal(c)
}

func (v *verifier) hash(prepared string, a argon2Secret) []byte {
	return v.derive([]byte(prepared), a.Salt, a.Time, a.MemoryKiB, a.Threads, hashSize)
}

// fits tells whether the password is the one of the credentials. The caller
// has a turn.
func (v *verifier) fits(prepared string, c credentials) bool {
	return subtle.ConstantTimeCompare(v.hash(prepared, c.Argon2), c.Argon2.Hash) == 1
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}
