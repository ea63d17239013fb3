package directory

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"postrider/internal/clock"
	"postrider/mailstore"
)

const (
	// verifiedFor is how long a verified login is good without hashing again.
	verifiedFor = 5 * time.Minute
	maxVerified = 16_384
)

// verifiedLogins remembers which passwords were right, as an HMAC under a key
// of this process over the account, its credentials and the password. A new
// password changes the credentials, so that the old one is forgotten with them.
type verifiedLogins struct {
	clock clock.Clock
	key   []byte

	mu     sync.Mutex
	logins map[mailstore.AccountID]verifiedLogin
}

type verifiedLogin struct {
	mac   [sha256.Size]byte
	until time.Time
}

func newVerifiedLogins(c clock.Clock) *verifiedLogins {
	return &verifiedLogins{clock: c, key: random(sha256.Size), logins: make(map[mailstore.AccountID]verifiedLogin)}
}

func (v *verifiedLogins) mac(a mailstore.Account, prepared string) (mac [sha256.Size]byte) {
	h := hmac.New(sha256.New, v.key)
	var lengths [16]byte
	binary.BigEndian.PutUint64(lengths[:8], uint64(a.ID))
	binary.BigEndian.PutUint64(lengths[8:], uint64(len(a.Credentials)))
	h.Write(lengths[:])
	h.Write(a.Credentials)
	h.Write([]byte(prepared))
	h.Sum(mac[:0])
	return mac
}

// has tells whether this password of this account was verified lately.
func (v *verifiedLogins) has(a mailstore.Account, prepared string) bool {
	mac := v.mac(a, prepared)
	v.mu.Lock()
	defer v.mu.Unlock()
	known := v.logins[a.ID]
	return hmac.Equal(known.mac[:], mac[:]) && v.clock.Now().Before(known.until)
}

func (v *verifiedLogins) add(a mailstore.Account, prepared string) {
	login := verifiedLogin{v.mac(a, prepared), v.clock.Now().Add(verifiedFor)}
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.logins[a.ID]; !ok && len(v.logins) >= maxVerified {
		for any := range v.logins {
			delete(v.logins, any)
			break
		}
	}
	v.logins[a.ID] = login
}
