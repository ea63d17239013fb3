package directory

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"postrider/mailstore"
)

// Login verifies a name (address, or local part in the first domain) and
// password. It takes equally long for a wrong password and an unknown user, and
// waits out the penalty of earlier failures. The account comes without its
// credentials.
func (d *Directory) Login(ctx context.Context, p Peer, name, password string) (mailstore.Account, error) {
	return d.login(ctx, p, "", name, Password(password))
}

// login is Login with an authorization identity, which may only be the
// account's own (RFC 4616 section 2).
func (d *Directory) login(ctx context.Context, p Peer, authzid, name string, password Password) (mailstore.Account, error) {
	if !d.PlaintextAllowed(p) {
		return mailstore.Account{}, ErrPlaintext
	}
	w, first, err := d.who(ctx, p, name)
	if err != nil {
		return mailstore.Account{}, err
	}
	if err := d.throttle.wait(ctx, w); err != nil {
		return mailstore.Account{}, err
	}
	account, err := d.find(ctx, w)
	if err != nil {
		return mailstore.Account{}, err
	}
	if len(password) > maxPassword {
		password = "" // nobody has it
	}
	own := authzid == "" || loginAddress(authzid, first) == w.address
	if err := d.verify(ctx, p, w, account, password, own); err != nil {
		return mailstore.Account{}, err
	}
	return d.admit(p, w, account), nil
}

// who names an attempt.
func (d *Directory) who(ctx context.Context, p Peer, name string) (w who, firstDomain string, err error) {
	first, err := d.ourDomains(ctx)
	if err != nil {
		return who{}, "", err
	}
	return d.throttle.attempt(p.Addr, name, loginAddress(name, first)), first, nil
}

// find returns the account, or for nobody one with ID 0 and credentials that
// no password fits. Nobody logs in to an account that is shared.
func (d *Directory) find(ctx context.Context, w who) (mailstore.Account, error) {
	var found mailstore.Account
	err := d.store.View(ctx, func(v *mailstore.View) (err error) {
		found, err = v.AccountByAddress(key(w.address))
		return err
	})
	if errors.Is(err, mailstore.ErrNotFound) || found.Shared {
		return mailstore.Account{Credentials: d.dummy}, nil
	}
	return found, err
}

// verify checks a password and counts a failure.
func (d *Directory) verify(ctx context.Context, p Peer, w who, account mailstore.Account, password Password, own bool) error {
	c, err := parseCredentials(account.Credentials)
	if err != nil {
		return fmt.Errorf("account %s: %w", account.Address, err)
	}
	prepared := password.prepared()
	if d.verified.has(account, prepared) && own {
		return nil
	}
	release, err := d.turn(ctx, w)
	if err != nil {
		return err
	}
	defer release()
	if own && d.verified.has(account, prepared) {
		return nil // one of many that came at once, as after a restart, was before
	}
	// All is computed before anything is decided.
	fits := d.passwords.fits(prepared, c)
	if !fits || !own || account.ID == 0 || password == "" {
		return d.reject(p, w, account)
	}
	account = d.learn(ctx, w, account, c, prepared)
	d.verified.add(account, prepared)
	return nil
}

// learn makes the SCRAM keys that the credentials of an older postrider lack, now
// that the password is here, and returns the account with them. A failure is of no
// consequence for the login.
func (d *Directory) learn(ctx context.Context, w who, account mailstore.Account, c credentials, prepared string) mailstore.Account {
	complete := true
	for _, h := range scramHashes {
		if h.fits(h.of(&c)) {
			continue
		}
		complete = false
		// The salt that the name had before it had keys: nobody sees a change.
		v, err := h.derive(prepared, d.salt(h, w, ""), d.passwords.cost.iterations)
		if err != nil {
			return account
		}
		*h.of(&c) = v
	}
	if complete {
		return account
	}
	was := account.Credentials
	credentials, err := json.Marshal(c)
	if err != nil {
		return account
	}
	err = d.update(ctx, func(tx *mailstore.Tx) error {
		now, err := accountAt(&tx.View, w.address)
		if err != nil || now.ID != account.ID || !bytes.Equal(now.Credentials, was) {
			return err // gone, or another password since
		}
		now.Credentials = credentials
		return tx.UpdateAccount(now)
	})
	if err != nil {
		d.log.Warn("cannot keep the SCRAM keys of an account", "account", account.Address, "err", err)
		return account
	}
	account.Credentials = credentials
	return account
}

// turn waits for the right to hash, at a time when w may try: of many attempts
// that came at once, each sees the failures of those before.
func (d *Directory) turn(ctx context.Context, w who) (release func(), err error) {
	for {
		release, err := d.passwords.turn(ctx)
		if err != nil {
			return nil, err
		}
		delay, err := d.throttle.delay(w)
		if err == nil && delay == 0 {
			return release, nil
		}
		release()
		if err != nil {
			return nil, err
		}
		if err := d.throttle.wait(ctx, w); err != nil {
			return nil, err
		}
	}
}

// reject counts and logs a failure. The log names accounts only: what else is
// sent as a name may be a password in the wrong place.
func (d *Directory) reject(p Peer, w who, account mailstore.Account) error {
	name := account.Address
	if account.ID == 0 {
		name = "(unknown)"
	}
	if d.throttle.fail(w) {
		d.log.Warn("too many failed logins", "session", p.Session, "protocol", p.Protocol, "remote", p.Addr.String(), "account", name)
	} else {
		d.log.Info("login failed", "session", p.Session, "protocol", p.Protocol, "remote", p.Addr.String(), "account", name)
	}
	return ErrCredentials
}

// admit notes and logs a success.
func (d *Directory) admit(p Peer, w who, account mailstore.Account) mailstore.Account {
	d.throttle.succeed(w)
	d.log.Info("login", "session", p.Session, "protocol", p.Protocol, "remote", p.Addr.String(), "account", account.Address, "tls", p.TLS != nil)
	account.Credentials = nil
	return account
}
