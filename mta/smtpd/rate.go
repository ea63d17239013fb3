package smtpd

import (
	"net/netip"
	"sync"
	"time"

	"postrider/internal/wire"
)

// rateWindow is the minute of messages_per_minute.
const rateWindow = time.Minute

// rateKey is whose messages are counted: an account's, or else a network's.
type rateKey struct {
	account int64
	network netip.Prefix
}

// The client of LMTP is a mail server of the same house and is not counted.
func (s *session) rateKey() rateKey {
	switch {
	case s.srv.o.Mode == LMTP:
		return rateKey{}
	case s.login != nil:
		return rateKey{account: int64(s.login.ID)}
	}
	return rateKey{network: wire.Network(s.conn.Remote)}
}

// rate counts messages per sender within a minute that begins with the
// sender's first one. Its zero value is ready to use.
type rate struct {
	mu     sync.Mutex
	counts map[rateKey]*rateCount
	swept  time.Time // when ended minutes were last forgotten
}

type rateCount struct {
	begin time.Time
	n     int
}

// over tells whether the minute has ended. A clock that went back ends it too.
func (c *rateCount) over(now time.Time) bool {
	passed := now.Sub(c.begin)
	return passed >= rateWindow || passed < 0
}

// allow counts one message of k and tells whether it is within limit. A client
// without an address (a UNIX socket) is not limited, nor is any with limit 0.
func (r *rate) allow(k rateKey, limit int, now time.Time) bool {
	if limit <= 0 || k == (rateKey{}) {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweepLocked(now)
	c := r.counts[k]
	if c == nil || c.over(now) {
		c = &rateCount{begin: now}
		r.counts[k] = c
	}
	if c.n >= limit {
		return false
	}
	c.n++
	return true
}

// sweepLocked forgets once a minute whose minute has ended, so that the table
// is bounded by the senders of two minutes.
func (r *rate) sweepLocked(now time.Time) {
	if r.counts == nil {
		r.counts = make(map[rateKey]*rateCount)
	}
	if now.Sub(r.swept) < rateWindow {
		return
	}
	r.swept = now
	for k, c := range r.counts {
		if c.over(now) {
			delete(r.counts, k)
		}
	}
}
