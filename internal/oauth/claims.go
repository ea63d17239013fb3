package oauth

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// claims is what a token, or the answer about it, says (RFC 7519 section 4.1,
// RFC 7662 section 2.2).
type claims map[string]json.RawMessage

// text is a claim that is a string; "" without it.
func (c claims) text(name string) string {
	var s string
	if json.Unmarshal(c[name], &s) != nil {
		return ""
	}
	return s
}

// texts is a claim that is a string or a list of them.
func (c claims) texts(name string) []string {
	var list []string
	if json.Unmarshal(c[name], &list) == nil {
		return list
	}
	if s := c.text(name); s != "" {
		return []string{s}
	}
	return nil
}

// maxSeconds is the largest time that is one: in the year 9999.
const maxSeconds = 253402300799

// time is a claim that is a time. A claim that is there and is no time is an
// error: it must not pass for one that is not there.
func (c claims) time(name string) (at time.Time, there bool, err error) {
	raw, there := c[name]
	if !there {
		return at, false, nil
	}
	var seconds float64
	if string(raw) == "null" || json.Unmarshal(raw, &seconds) != nil || math.IsNaN(seconds) || seconds < 0 || seconds > maxSeconds {
		return at, true, fmt.Errorf("%w: %s is no time", ErrToken, name)
	}
	return time.Unix(int64(seconds), 0), true, nil
}

// scopes is what the token may be used for: scope (RFC 8693 section 4.2), or scp
// as some issuers name it.
func (c claims) scopes() []string {
	list := c.texts("scope")
	if list == nil {
		list = c.texts("scp")
	}
	return strings.Fields(strings.Join(list, " "))
}

// name judges what a token says and returns whom it speaks for. Its signature is
// good, or the issuer calls it active.
func (j *Judge) name(c claims) (string, error) {
	if err := j.checkTimes(c); err != nil {
		return "", err
	}
	asked := j.asker != nil
	if _, there := c["iss"]; (there || !asked) && j.o.Issuer != "" && c.text("iss") != j.o.Issuer {
		return "", fmt.Errorf("%w: of another issuer", ErrToken)
	}
	if j.o.Audience != "" && !slices.Contains(c.texts("aud"), j.o.Audience) {
		return "", fmt.Errorf("%w: for another audience", ErrToken)
	}
	have := c.scopes()
	for _, s := range j.o.Scopes {
		if !slices.Contains(have, s) {
			return "", ErrScope
		}
	}
	name := c.text(j.o.Claim)
	if name == "" {
		return "", fmt.Errorf("%w: without a name in %s", ErrToken, j.o.Claim)
	}
	// An address that the issuer only heard of may be anybody's.
	if raw, there := c["email_verified"]; there && j.o.Claim == "email" && string(raw) != "true" && string(raw) != `"true"` {
		return "", fmt.Errorf("%w: of an address that is not verified", ErrToken)
	}
	return name, nil
}

// checkTimes is RFC 7519 sections 4.1.4 to 4.1.6. A token must end some time; in
// an answer about it that may be left out.
func (j *Judge) checkTimes(c claims) error {
	now := j.o.Clock.Now()
	end, there, err := c.time("exp")
	switch {
	case err != nil:
		return err
	case !there && j.asker == nil:
		return fmt.Errorf("%w: without an end", ErrToken)
	case there && !now.Before(end.Add(j.o.Leeway)):
		return ErrExpired
	}
	for _, name := range []string{"nbf", "iat"} {
		begin, there, err := c.time(name)
		if err != nil {
			return err
		}
		if there && now.Before(begin.Add(-j.o.Leeway)) {
			return fmt.Errorf("%w: not good yet", ErrToken)
		}
	}
	return nil
}
