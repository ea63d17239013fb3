package server

import (
	"crypto/subtle"
	"encoding/binary"
	"io"
	"net/netip"
	"sync"
	"time"
)

const (
	// secretLife is how long a secret makes cookies. The one before it is
	// believed as long again (RFC 9018 section 5).
	secretLife = 24 * time.Hour
	// cookieLife, cookieAhead: how old a cookie may be, and how far in the
	// future (RFC 9018 section 4.3).
	cookieLife  = time.Hour
	cookieAhead = 5 * time.Minute
	// cookieRenew: a younger cookie is given back as it came.
	cookieRenew = 30 * time.Minute

	cookieVersion = 1
)

// cookies makes and knows the cookies that a server gives to clients, by which
// it knows later that an address is not forged (RFC 7873, RFC 9018).
type cookies struct {
	rand io.Reader

	mu      sync.RWMutex
	secrets [2][16]byte // present, previous
	made    time.Time   // the present one
}

// newCookies takes two secrets from rand; its error is rand's.
func newCookies(rand io.Reader, now time.Time) (*cookies, error) {
	c := &cookies{rand: rand, made: now}
	for i := range c.secrets {
		if _, err := io.ReadFull(rand, c.secrets[i][:]); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// secretsAt returns the secrets of the time, and changes them when it is due.
func (c *cookies) secretsAt(now time.Time) [2][16]byte {
	c.mu.RLock()
	s, age := c.secrets, now.Sub(c.made)
	c.mu.RUnlock()
	if age < secretLife {
		return s
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.made) < secretLife {
		return c.secrets
	}
	var fresh [16]byte
	if _, err := io.ReadFull(c.rand, fresh[:]); err == nil {
		c.secrets[1], c.secrets[0] = c.secrets[0], fresh
	} // else the old one goes on, which is weaker and works
	c.made = now
	return c.secrets
}

// hash is the last field of a server cookie: of the client's cookie, the other
// fields and the client's address (RFC 9018 section 4.4).
func cookieHash(secret *[16]byte, client, fields []byte, from netip.Addr) [8]byte {
	var in [clientCookieSize + 8 + 16]byte
	copy(in[:], client)
	copy(in[clientCookieSize:], fields)
	n := clientCookieSize + 8
	if from.Is4() {
		a := from.As4()
		n += copy(in[n:], a[:])
	} else {
		a := from.As16()
		n += copy(in[n:], a[:])
	}
	var out [8]byte
	binary.LittleEndian.PutUint64(out[:], sipHash(secret, in[:n]))
	return out
}

// check reads the cookie option of a query and writes the server cookie for the
// answer. valid means that this server gave the cookie to that address.
func (c *cookies) check(option []byte, from netip.Addr, now time.Time) (server [serverCookieSize]byte, valid bool) {
	secrets := c.secretsAt(now)
	client, theirs := option[:clientCookieSize], option[clientCookieSize:]
	present := uint32(now.Unix())
	if len(theirs) == serverCookieSize && theirs[0] == cookieVersion {
		age := time.Duration(int32(present-binary.BigEndian.Uint32(theirs[4:]))) * time.Second
		fresh := false // made with the present secret
		for i := range secrets {
			h := cookieHash(&secrets[i], client, theirs[:8], from)
			match := subtle.ConstantTimeCompare(h[:], theirs[8:]) == 1
			valid, fresh = valid || match, fresh || match && i == 0
		}
		valid = valid && age <= cookieLife && age >= -cookieAhead
		if valid && fresh && age < cookieRenew {
			copy(server[:], theirs)
			return server, true
		}
	}
	server[0] = cookieVersion
	binary.BigEndian.PutUint32(server[4:], present)
	h := cookieHash(&secrets[0], client, server[:8], from)
	copy(server[8:], h[:])
	return server, valid
}
