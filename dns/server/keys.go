package server

import (
	"errors"
	"fmt"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
)

// KeyChange is what ChangeKeys is to do; the zero value changes nothing.
type KeyChange struct {
	Roll dnssec.Role // replace the key of this role now; "" = none
	// Unsign begins to make the zone unsigned, Sign ends that.
	Unsign, Sign bool
}

var errNotSigned = errors.New("this server does not sign it")

// ChangeKeys begins a change of the keys of a zone that is signed here, and says
// in sentences where its keys are and what a person has to do next. An error
// wraps ErrNoZone if the zone is not served.
func (s *Server) ChangeKeys(name string, c KeyChange) (advice []string, err error) {
	z := s.setup.Load().zones[miekg.CanonicalName(name)]
	if z == nil {
		return nil, fmt.Errorf("keys of %s: %w", shown(name), ErrNoZone)
	}
	if z.left && c == (KeyChange{}) {
		return z.abandonedAdvice(), nil
	}
	if z.signer == nil {
		return nil, fmt.Errorf("keys of %s: %w", shown(name), errNotSigned)
	}
	ring := z.signer.ring
	switch {
	case c.Sign && c.Unsign:
		return nil, errors.New("sign or unsign, not both")
	case c.Sign || c.Unsign:
		err = ring.Unsign(c.Unsign)
	case c.Roll != "":
		err = ring.Roll(c.Roll)
	}
	if err != nil {
		return nil, err
	}
	if c != (KeyChange{}) {
		if err := z.signAgain(); err != nil {
			return nil, fmt.Errorf("keys of %s: %w", shown(name), err)
		}
	}
	return ring.Advice(), nil
}
