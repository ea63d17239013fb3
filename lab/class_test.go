package lab

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A class of thirty: each has an account with a password of its own, and all type
// the letter of the start-up text at once, each to the next.
func TestClass(t *testing.T) {
	const students = 30
	l, _ := start(t, Options{Listen: "127.0.0.1", Students: students})
	var accounts []*Account
	passwords := map[string]bool{}
	for i := range students {
		a := l.account(t, fmt.Sprintf("student%d@%s", i+1, []string{"crepes.fr", "hamburger.edu"}[i%2]))
		if passwords[a.Password] || len(a.Password) < 8 {
			t.Errorf("%s has the password %q", a.Address, a.Password)
		}
		passwords[a.Password] = true
		accounts = append(accounts, a)
	}
	var typing sync.WaitGroup
	for i, a := range accounts {
		typing.Go(func() {
			host := map[bool]string{true: "mx.crepes.fr", false: "mx.hamburger.edu"}[i%2 == 0]
			_, domain, _ := strings.Cut(a.Address, "@")
			talk(t, l.real(t, host, "smtp"), "220 "+host, typed(Toppings(a, accounts[(i+1)%students], domain))...)
		})
	}
	typing.Wait()
	for i, a := range accounts {
		if s := arrives(t, l, a.Address, 1); s[0].From != accounts[(i+students-1)%students].Address {
			t.Errorf("%s has a letter from %s", a.Address, s[0].From)
		}
	}
	user, _, _ := strings.Cut(accounts[1].Address, "@")
	talk(t, l.real(t, "mx.hamburger.edu", "pop3"), "+OK", "user "+user+"\t+OK", "pass "+accounts[1].Password+"\t+OK", "quit\t+OK")
	talk(t, l.real(t, "mx.hamburger.edu", "pop3"), "+OK", "user "+user+"\t+OK", "pass hungry\t-ERR")
}

// Whoever is in the local network may do what the world allows to you; an address
// that is not this machine's is refused.
func TestClassNetwork(t *testing.T) {
	for _, listen := range []string{"x", "0.0.0.0", "::", "192.0.2.1", "127.0.0.1:25"} {
		if _, err := Start(t.Context(), Options{Listen: listen, FreePorts: true}); err == nil || !strings.Contains(err.Error(), "--listen "+listen+": give an IP address") {
			t.Errorf("%s: %v", listen, err)
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		p := netip.MustParsePrefix(a.String())
		want := p.Masked()
		if p.Addr().IsLoopback() {
			want = netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
		}
		if got, err := neighbours(p.Addr()); err != nil || got != want {
			t.Errorf("%s is in %v, want %v, %v", p, got, want, err)
		}
	}
	l, _ := start(t, Options{Listen: "127.0.0.1"})
	l.class = netip.MustParsePrefix("192.0.2.0/24")
	for host, may := range map[string]bool{"mx.crepes.fr": true, "mx.relay.test": false} {
		m, err := l.machine(host)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(m.options().RelayNetworks, l.class); got != may {
			t.Errorf("%s relays for the class: %v", host, got)
		}
	}
}

// So many students, or fewer than none, are refused.
func TestStudents(t *testing.T) {
	for _, n := range []int{-1, maxAccounts} {
		if _, err := Start(t.Context(), Options{Students: n, FreePorts: true}); err == nil || !strings.Contains(err.Error(), "no room for") {
			t.Errorf("%d: %v", n, err)
		}
	}
}
