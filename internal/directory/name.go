package directory

import (
	"fmt"
	"strings"

	"postrider/mta"
)

// maxLoginName is the longest name that anybody can log in with, in octets:
// the longest address with room for what normalisation takes away.
const maxLoginName = 1024

// parse reads an address with a domain, as commands get it.
func parse(address string) (mta.Address, error) {
	a, err := mta.ParseAddress(address)
	switch {
	case err != nil:
		return mta.Address{}, fmt.Errorf("address %q %w: %s", address, ErrInvalid, err)
	case a.Domain == "":
		return mta.Address{}, fmt.Errorf("address %q %w: it needs a domain, as in %s@example.com", address, ErrInvalid, address)
	}
	return a, nil
}

// parseAccount reads the address of an account. What would have to be quoted,
// means a subaddress, or looks like a route to other systems cannot be one.
func parseAccount(address string) (mta.Address, error) {
	a, err := parse(address)
	if err != nil {
		return mta.Address{}, err
	}
	a = a.Fold()
	if strings.HasPrefix(a.String(), `"`) || strings.ContainsAny(a.Local, "+%!") {
		return mta.Address{}, fmt.Errorf("account %q %w: the part before the @ may not have + %% ! or what needs quotes", address, ErrInvalid)
	}
	return a, nil
}

// parseAlias reads the address of an alias; "@domain" is a catch-all.
func parseAlias(address string) (mta.Address, error) {
	if domain, ok := strings.CutPrefix(address, "@"); ok {
		d, err := mta.NormalizeDomain(domain)
		if err != nil {
			return mta.Address{}, fmt.Errorf("catch-all %q %w: %s", address, ErrInvalid, err)
		}
		return mta.Address{Domain: d}, nil
	}
	a, err := parse(address)
	return a.Fold(), err
}

// key is the form of a in rows. That of a catch-all is "@domain".
func key(a mta.Address) string {
	if a.Local == "" {
		return "@" + a.Domain
	}
	return a.String()
}

// loginAddress is the address that a login name stands for: a full address, or
// a local part in the first domain. It is the zero Address for a name that no
// account can have.
func loginAddress(name, firstDomain string) mta.Address {
	if len(name) > maxLoginName {
		return mta.Address{}
	}
	if !strings.Contains(name, "@") {
		name += "@" + firstDomain
	}
	a, err := mta.ParseAddress(name)
	if err != nil {
		return mta.Address{}
	}
	return a.Fold()
}
