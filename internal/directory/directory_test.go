package directory

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"postrider/mailstore"
	"postrider/mailstore/storetest"
	"postrider/mta"
)

// cheap makes tests fast; what they promise does not depend on the cost.
func cheap() cost { return cost{time: 1, memoryKiB: 8, threads: 1, iterations: 10} }

// open returns a directory over a store in memory.
func open(t testing.TB, o Options) *Directory {
	t.Helper()
	store, err := mailstore.Open(context.Background(), storetest.NewEngine(), mailstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	d, err := newDirectory(store, o, cheap())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// demo is a directory with two domains and three accounts.
func demo(t testing.TB, o Options) *Directory {
	t.Helper()
	d := open(t, o)
	ctx := context.Background()
	for _, name := range []string{"hamburger.edu", "crêpes.example"} {
		must(t, d.AddDomain(ctx, name))
	}
	for _, a := range [][2]string{
		{"alice@hamburger.edu", "wonderland"}, {"bob@hamburger.edu", "hungry"}, {"Zoë@crêpes.example", "sucré"},
	} {
		must(t, d.AddAccount(ctx, a[0], a[1]))
	}
	return d
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func addr(t testing.TB, s string) mta.Address {
	t.Helper()
	if s == "postmaster" {
		return mta.Address{Local: s}
	}
	a, err := mta.ParseAddress(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return a
}

// where is the outcome of Resolve as words: account addresses, remote
// addresses, or an error.
func where(t testing.TB, d *Directory, a mta.Address) string {
	t.Helper()
	targets, err := d.Resolve(t.Context(), a)
	switch {
	case errors.Is(err, ErrNoDomain):
		return "no domain"
	case errors.Is(err, ErrNoUser):
		return "no user"
	case err != nil:
		return err.Error()
	}
	accounts, err := d.Accounts(t.Context())
	must(t, err)
	var names []string
	for _, target := range targets {
		if target.Account == 0 {
			names = append(names, "to "+target.Remote.String())
		}
		for _, a := range accounts {
			if int64(a.ID) == target.Account {
				names = append(names, a.Address)
			}
		}
	}
	return strings.Join(names, " ")
}

func TestResolve(t *testing.T) {
	d := demo(t, Options{})
	ctx := t.Context()
	for _, a := range []struct {
		alias   string
		targets []string
	}{
		{"sales@hamburger.edu", []string{"bob@hamburger.edu", "Alice@Hamburger.EDU"}},
		{"all@hamburger.edu", []string{"sales@hamburger.edu", "bob@hamburger.edu", "Carol@Example.COM"}},
		{"away@hamburger.edu", []string{"Bob@remote.example"}},
		{"list+x@hamburger.edu", []string{"alice@hamburger.edu"}},
		{"@crêpes.example", []string{"zoë@crêpes.example"}},
		{"abuse@crêpes.example", []string{"bob@hamburger.edu"}},
	} {
		must(t, d.AddAlias(ctx, a.alias, a.targets))
	}
	for in, want := range map[string]string{
		"bob@hamburger.edu":           "bob@hamburger.edu",
		"BOB@HAMBURGER.EDU":           "bob@hamburger.edu",
		`"bob"@hamburger.edu`:         "bob@hamburger.edu",
		"bob+list@hamburger.edu":      "bob@hamburger.edu",
		"bob+@hamburger.edu":          "bob@hamburger.edu",
		"+bob@hamburger.edu":          "no user",
		"carol@hamburger.edu":         "no user",
		"bob@example.com":             "no domain",
		"bob@sub.hamburger.edu":       "no domain",
		"bob@[127.0.0.1]":             "no domain",
		"bob%crepes@hamburger.edu":    "no user",
		"crepes!bob@hamburger.edu":    "no user",
		`"bob@x.com"@hamburger.edu`:   "no user",
		"sales@hamburger.edu":         "bob@hamburger.edu alice@hamburger.edu",
		"Sales+x@hamburger.edu":       "bob@hamburger.edu alice@hamburger.edu",
		"all@hamburger.edu":           "bob@hamburger.edu alice@hamburger.edu to Carol@example.com",
		"away@hamburger.edu":          "to Bob@remote.example",
		"list@hamburger.edu":          "no user",
		"list+x@hamburger.edu":        "alice@hamburger.edu",
		"list+y@hamburger.edu":        "no user",
		"postmaster":                  "alice@hamburger.edu",
		"Postmaster@hamburger.edu":    "alice@hamburger.edu",
		"postmaster+x@crêpes.example": "alice@hamburger.edu",
		"abuse@hamburger.edu":         "alice@hamburger.edu",
		"abuse@crêpes.example":        "bob@hamburger.edu",
		"zoe\u0308@crêpes.example":    "zoë@xn--crpes-isa.example", // not composed
		"ZOË@XN--CRPES-ISA.example":   "zoë@xn--crpes-isa.example",
		"anybody@crêpes.example":      "zoë@xn--crpes-isa.example",
	} {
		for range 2 { // looked up, and remembered
			if got := where(t, d, addr(t, in)); got != want {
				t.Errorf("%s leads to %q, want %q", in, got, want)
			}
		}
	}
}

func TestResolveFollowsChanges(t *testing.T) {
	d := demo(t, Options{})
	ctx := t.Context()
	check := func(in, want string) {
		t.Helper()
		if got := where(t, d, addr(t, in)); got != want {
			t.Errorf("%s leads to %q, want %q", in, got, want)
		}
	}
	check("carol@hamburger.edu", "no user")
	must(t, d.AddAccount(ctx, "carol@hamburger.edu", "x"))
	check("carol@hamburger.edu", "carol@hamburger.edu")
	must(t, d.AddAlias(ctx, "info@hamburger.edu", []string{"carol@hamburger.edu", "bob@hamburger.edu"}))
	check("info@hamburger.edu", "carol@hamburger.edu bob@hamburger.edu")
	must(t, d.RemoveAccount(ctx, "Carol@Hamburger.edu"))
	check("carol@hamburger.edu", "no user")
	check("info@hamburger.edu", "bob@hamburger.edu")
	must(t, d.RemoveAlias(ctx, "info@hamburger.edu", []string{"BOB@hamburger.edu"}))
	check("info@hamburger.edu", "no user") // only carol is left of it
	must(t, d.RemoveAlias(ctx, "info@hamburger.edu", nil))
	must(t, d.AddAlias(ctx, "postmaster@hamburger.edu", []string{"bob@hamburger.edu"}))
	check("postmaster", "bob@hamburger.edu")
	check("bob@new.example", "no domain")
	must(t, d.AddDomain(ctx, "New.Example"))
	check("bob@new.example", "no user")
	must(t, d.RemoveDomain(ctx, "new.example"))
	check("bob@new.example", "no domain")
}

// TestNothingStaleIsRemembered: what a change did is seen by whoever asks
// after it, however many others ask meanwhile.
func TestNothingStaleIsRemembered(t *testing.T) {
	d := demo(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	a := addr(t, "carol@hamburger.edu")
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := d.Resolve(context.Background(), a); err != nil && err != ErrNoUser {
					t.Errorf("Resolve: %v", err)
				}
			}
		})
	}
	for range 200 {
		must(t, d.AddAccount(ctx, "carol@hamburger.edu", "x"))
		if _, err := d.Resolve(ctx, a); err != nil {
			t.Fatalf("after AddAccount: %v", err)
		}
		must(t, d.RemoveAccount(ctx, "carol@hamburger.edu"))
		if _, err := d.Resolve(ctx, a); err != ErrNoUser {
			t.Fatalf("after RemoveAccount: %v", err)
		}
	}
	cancel()
	wg.Wait()
}

func TestResolveWithoutAnybody(t *testing.T) {
	d := open(t, Options{})
	if got := where(t, d, mta.Address{Local: "postmaster"}); got != "no user" {
		t.Errorf("without a domain postmaster leads to %q", got)
	}
	must(t, d.AddDomain(t.Context(), "hamburger.edu"))
	if got := where(t, d, addr(t, "postmaster@hamburger.edu")); got != "no user" {
		t.Errorf("without an account postmaster leads to %q", got)
	}
}

func TestAliasBounds(t *testing.T) {
	d := demo(t, Options{})
	ctx := t.Context()
	name := func(i int) string { return fmt.Sprintf("a%d@hamburger.edu", i) }
	must(t, d.AddAlias(ctx, name(1), []string{"bob@hamburger.edu"}))
	for i := 2; i <= maxAliasDepth; i++ {
		must(t, d.AddAlias(ctx, name(i), []string{name(i - 1)}))
	}
	if got := where(t, d, addr(t, name(maxAliasDepth))); got != "bob@hamburger.edu" {
		t.Errorf("%d aliases deep: %q", maxAliasDepth, got)
	}
	if err := d.AddAlias(ctx, name(maxAliasDepth+1), []string{name(maxAliasDepth)}); !errors.Is(err, errAliasTooLarge) {
		t.Errorf("one deeper: %v", err)
	}
	// What is too deep by a change further down is an error, not a lost copy.
	must(t, d.AddAlias(ctx, "a0@hamburger.edu", []string{"alice@hamburger.edu"}))
	must(t, d.AddAlias(ctx, name(1), []string{"a0@hamburger.edu"}))
	if _, err := d.Resolve(ctx, addr(t, name(maxAliasDepth))); !errors.Is(err, errAliasTooLarge) {
		t.Errorf("too deep by a change: %v", err)
	}
	// A loop is only walked once.
	must(t, d.AddAlias(ctx, "l1@hamburger.edu", []string{"bob@hamburger.edu"}))
	must(t, d.AddAlias(ctx, "l2@hamburger.edu", []string{"l1@hamburger.edu", "x@remote.example"}))
	must(t, d.AddAlias(ctx, "l1@hamburger.edu", []string{"l2@hamburger.edu"}))
	if got := where(t, d, addr(t, "l1@hamburger.edu")); got != "bob@hamburger.edu to x@remote.example" {
		t.Errorf("a loop leads to %q", got)
	}

	var many []string
	for i := range maxAliasTargets {
		many = append(many, fmt.Sprintf("m%d@remote.example", i))
	}
	must(t, d.AddAlias(ctx, "many@hamburger.edu", many))
	if targets, err := d.Resolve(ctx, addr(t, "many@hamburger.edu")); len(targets) != maxAliasTargets || err != nil {
		t.Errorf("%d targets, %v", len(targets), err)
	}
	must(t, d.AddAlias(ctx, "many@hamburger.edu", many[:10])) // none of them is new
	if err := d.AddAlias(ctx, "many@hamburger.edu", []string{"bob@hamburger.edu"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("one target more: %v", err)
	}
	if err := d.AddAlias(ctx, "more@hamburger.edu", []string{"many@hamburger.edu", "bob@hamburger.edu"}); !errors.Is(err, errAliasTooLarge) {
		t.Errorf("one target more, nested: %v", err)
	}
}

func TestManage(t *testing.T) {
	d := demo(t, Options{})
	must(t, d.AddAlias(t.Context(), "sales@hamburger.edu", []string{"bob@hamburger.edu"}))
	must(t, d.AddDomain(t.Context(), "alias.example"))
	must(t, d.AddAlias(t.Context(), "@alias.example", []string{"bob@hamburger.edu"}))
	long := strings.Repeat("x", 65)
	for _, tt := range []struct {
		what string
		do   func(ctx context.Context) error
		err  error
		says string
	}{
		{"add a domain twice", func(ctx context.Context) error { return d.AddDomain(ctx, "Hamburger.EDU") }, ErrExists, "hamburger.edu"},
		{"add a bad domain", func(ctx context.Context) error { return d.AddDomain(ctx, "ham_burger") }, ErrInvalid, "ham_burger"},
		{"add an address as domain", func(ctx context.Context) error { return d.AddDomain(ctx, "[127.0.0.1]") }, ErrInvalid, "not a name"},
		{"remove a foreign domain", func(ctx context.Context) error { return d.RemoveDomain(ctx, "example.com") }, ErrNoDomain, "example.com"},
		{"remove a domain in use", func(ctx context.Context) error { return d.RemoveDomain(ctx, "hamburger.edu") }, ErrInUse, "2 accounts"},
		{"remove a domain with an alias", func(ctx context.Context) error { return d.RemoveDomain(ctx, "alias.example") }, ErrInUse, "1 aliases"},
		{"account in a foreign domain", func(ctx context.Context) error { return d.AddAccount(ctx, "bob@example.com", "x") }, ErrNoDomain, "postrider domain add example.com"},
		{"account twice", func(ctx context.Context) error { return d.AddAccount(ctx, "Bob@hamburger.edu", "x") }, ErrExists, "account bob@hamburger.edu"},
		{"account that is an alias", func(ctx context.Context) error { return d.AddAccount(ctx, "sales@hamburger.edu", "x") }, ErrExists, "alias sales@hamburger.edu"},
		{"account without domain", func(ctx context.Context) error { return d.AddAccount(ctx, "bob", "x") }, ErrInvalid, "domain"},
		{"account postmaster", func(ctx context.Context) error { return d.AddAccount(ctx, "postmaster", "x") }, ErrInvalid, "domain"},
		{"account with subaddress", func(ctx context.Context) error { return d.AddAccount(ctx, "x+y@hamburger.edu", "x") }, ErrInvalid, "+"},
		{"account with percent hack", func(ctx context.Context) error { return d.AddAccount(ctx, "x%y@hamburger.edu", "x") }, ErrInvalid, "%"},
		{"account with quotes", func(ctx context.Context) error { return d.AddAccount(ctx, `"x y"@hamburger.edu`, "x") }, ErrInvalid, "quotes"},
		{"account too long", func(ctx context.Context) error { return d.AddAccount(ctx, long+"@hamburger.edu", "x") }, ErrInvalid, "64"},
		{"account with line break", func(ctx context.Context) error { return d.AddAccount(ctx, "x\r\n@hamburger.edu", "x") }, ErrInvalid, ""},
		{"empty password", func(ctx context.Context) error { return d.AddAccount(ctx, "x@hamburger.edu", "") }, ErrInvalid, "empty"},
		{"long password", func(ctx context.Context) error {
			return d.AddAccount(ctx, "x@hamburger.edu", strings.Repeat("p", maxPassword+1))
		}, ErrInvalid, "512"},
		{"password with NUL", func(ctx context.Context) error { return d.SetPassword(ctx, "bob@hamburger.edu", "a\x00b") }, ErrInvalid, "control"},
		{"password not UTF-8", func(ctx context.Context) error { return d.SetPassword(ctx, "bob@hamburger.edu", "\xff") }, ErrInvalid, "UTF-8"},
		{"password of nobody", func(ctx context.Context) error { return d.SetPassword(ctx, "carol@hamburger.edu", "x") }, ErrNoUser, "carol"},
		{"remove nobody", func(ctx context.Context) error { return d.RemoveAccount(ctx, "carol@hamburger.edu") }, ErrNoUser, "carol"},
		{"alias in a foreign domain", func(ctx context.Context) error {
			return d.AddAlias(ctx, "x@example.com", []string{"bob@hamburger.edu"})
		}, ErrNoDomain, "postrider domain add"},
		{"alias that is an account", func(ctx context.Context) error {
			return d.AddAlias(ctx, "bob@hamburger.edu", []string{"alice@hamburger.edu"})
		}, ErrExists, "account bob"},
		{"alias without target", func(ctx context.Context) error { return d.AddAlias(ctx, "x@hamburger.edu", nil) }, ErrInvalid, "target"},
		{"alias to nobody", func(ctx context.Context) error {
			return d.AddAlias(ctx, "x@hamburger.edu", []string{"carol@hamburger.edu"})
		}, ErrNoUser, "carol"},
		{"alias to itself", func(ctx context.Context) error {
			return d.AddAlias(ctx, "x@hamburger.edu", []string{"X@hamburger.edu"})
		}, ErrInvalid, "itself"},
		{"alias to a bad address", func(ctx context.Context) error {
			return d.AddAlias(ctx, "x@hamburger.edu", []string{"a b@c"})
		}, ErrInvalid, "a b@c"},
		{"catch-all of a bad domain", func(ctx context.Context) error { return d.AddAlias(ctx, "@", []string{"a@b.c"}) }, ErrInvalid, "catch-all"},
		{"remove no alias", func(ctx context.Context) error { return d.RemoveAlias(ctx, "x@hamburger.edu", nil) }, ErrNoAlias, "x@hamburger.edu"},
		{"remove no target", func(ctx context.Context) error {
			return d.RemoveAlias(ctx, "sales@hamburger.edu", []string{"alice@hamburger.edu"})
		}, ErrNoAlias, "alice"},
	} {
		if err := tt.do(t.Context()); !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %v with %q", tt.what, err, tt.err, tt.says)
		}
	}
	names, err := d.Domains(t.Context())
	if want := []string{"hamburger.edu", "xn--crpes-isa.example", "alias.example"}; !slices.Equal(names, want) || err != nil {
		t.Errorf("domains %v, %v", names, err)
	}
	aliases, err := d.Aliases(t.Context())
	if len(aliases) != 2 || err != nil {
		t.Errorf("aliases %v, %v", aliases, err)
	}
}

func TestAccountBegins(t *testing.T) {
	d := demo(t, Options{})
	accounts, err := d.Accounts(t.Context())
	must(t, err)
	if len(accounts) != 3 || accounts[1].Address != "bob@hamburger.edu" || accounts[1].Credentials != nil {
		t.Errorf("accounts %v", accounts)
	}
	err = d.store.View(t.Context(), func(v *mailstore.View) error {
		boxes, err := v.Mailboxes(accounts[1].ID)
		var got []string
		for _, b := range boxes {
			if !b.Subscribed {
				t.Errorf("%s is not subscribed", b.Name)
			}
			got = append(got, b.Name+b.SpecialUse)
		}
		if want := `INBOX Drafts\Drafts Sent\Sent Archive\Archive Junk\Junk Trash\Trash`; strings.Join(got, " ") != want {
			t.Errorf("mailboxes %v", got)
		}
		stored, _ := v.Account(accounts[1].ID)
		if strings.Contains(string(stored.Credentials), "hungry") {
			t.Error("the password is in the store")
		}
		return err
	})
	must(t, err)
}

func TestNamed(t *testing.T) {
	d := demo(t, Options{})
	for name, want := range map[string]string{
		"bob": "bob@hamburger.edu", "BOB@Hamburger.EDU": "bob@hamburger.edu", "zoë@crêpes.example": "Zoë@crêpes.example",
		"nobody": "", "bob@elsewhere.test": "", "": "", "@": "", "bob@": "", "bob@x@hamburger.edu": "", strings.Repeat("b", 10000): "",
	} {
		a, err := d.Named(t.Context(), name)
		if a.Credentials != nil || (a.ID != 0) != (want != "") || (want == "") != errors.Is(err, ErrNoUser) {
			t.Errorf("%.30q is %+v, %v; want %q", name, a, err, want)
		}
	}
}

func TestServes(t *testing.T) {
	d := demo(t, Options{})
	for host, want := range map[string]bool{
		"hamburger.edu": true, "IMAP.Hamburger.edu": true, "a.b.hamburger.edu": true, "crêpes.example": true, "mail.crêpes.example": true,
		"edu": false, "xhamburger.edu": false, "hamburger.edu.evil.org": false, "": false, ".": false, "[::1]": false,
	} {
		if got, err := d.Serves(t.Context(), host); got != want || err != nil {
			t.Errorf("%q: %v, %v", host, got, err)
		}
	}
}

func TestOwns(t *testing.T) {
	d := demo(t, Options{})
	ctx := t.Context()
	must(t, d.AddAlias(ctx, "sales@hamburger.edu", []string{"bob@hamburger.edu", "alice@hamburger.edu"}))
	must(t, d.AddAlias(ctx, "shop@hamburger.edu", []string{"sales@hamburger.edu"}))
	must(t, d.AddAlias(ctx, "@crêpes.example", []string{"bob@hamburger.edu"}))
	accounts, err := d.Accounts(ctx)
	must(t, err)
	alice, bob := int64(accounts[0].ID), int64(accounts[1].ID)
	for _, tt := range []struct {
		account int64
		address string
		want    bool
	}{
		{bob, "bob@hamburger.edu", true},
		{bob, "Bob+news@Hamburger.edu", true},
		{bob, "sales@hamburger.edu", true},
		{bob, "shop+x@hamburger.edu", true},
		{bob, "alice@hamburger.edu", false},
		{bob, "postmaster@hamburger.edu", false},
		{alice, "postmaster@hamburger.edu", true},
		{bob, "nobody@hamburger.edu", false},
		{bob, "bob@example.com", false},
		{bob, "anything@crêpes.example", true},
		{bob, "zoë@crêpes.example", false},
		{0, "bob@hamburger.edu", false},
	} {
		if got, err := d.Owns(ctx, tt.account, addr(t, tt.address)); got != tt.want || err != nil {
			t.Errorf("Owns(%d, %s) = %v, %v", tt.account, tt.address, got, err)
		}
	}
	if got, err := d.Owns(ctx, 0, mta.Address{}); got || err != nil {
		t.Errorf("the null path: %v, %v", got, err)
	}
}

func TestOptions(t *testing.T) {
	store, err := mailstore.Open(t.Context(), storetest.NewEngine(), mailstore.Options{})
	must(t, err)
	defer store.Close()
	if _, err := New(store, Options{Plaintext: "sometimes"}); err == nil || !strings.Contains(err.Error(), "sometimes") {
		t.Errorf("a policy that does not exist: %v", err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := New(store, Options{}); !errors.Is(err, mailstore.ErrClosed) {
		t.Errorf("a closed store: %v", err)
	}
}

// TestPublicPasswords: passwords that are no secret cost little, and are right or
// wrong like others.
func TestPublicPasswords(t *testing.T) {
	store, err := mailstore.Open(t.Context(), storetest.NewEngine(), mailstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, public := range []bool{false, true} {
		d, err := New(store, Options{PublicPasswords: public})
		if err != nil {
			t.Fatal(err)
		}
		want := defaultCost()
		if public {
			want = leastCost()
		}
		if d.passwords.cost != want {
			t.Errorf("public %v: %+v", public, d.passwords.cost)
		}
		if !public {
			must(t, d.AddDomain(t.Context(), "hamburger.edu"))
			must(t, d.AddAccount(t.Context(), "bob@hamburger.edu", "hungry"))
			continue
		}
		must(t, d.AddAccount(t.Context(), "carol@hamburger.edu", "hungry"))
		for _, who := range []string{"bob", "carol"} {
			if _, err := d.Login(t.Context(), overTLS("192.0.2.1"), who, "hungry"); err != nil {
				t.Errorf("%s: %v", who, err)
			}
			if _, err := d.Login(t.Context(), overTLS("192.0.2.1"), who, "full"); !errors.Is(err, ErrCredentials) {
				t.Errorf("%s with a wrong password: %v", who, err)
			}
		}
	}
}

// TestServerKeyStays: the salts of users who do not exist outlive a restart.
func TestServerKeyStays(t *testing.T) {
	engine := storetest.NewEngine()
	var keys []string
	for range 2 {
		store, err := mailstore.Open(t.Context(), engine, mailstore.Options{})
		must(t, err)
		d, err := newDirectory(store, Options{}, cheap())
		must(t, err)
		keys = append(keys, string(d.scramKey))
		must(t, store.Close())
		engine = engine.Reopen()
	}
	if keys[0] != keys[1] || len(keys[0]) != 32 {
		t.Errorf("keys %x", keys)
	}
}

// TestFold: whatever the spelling, an address is found, and folding is done
// once and for all.
func TestFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		local := rapid.StringMatching(`[a-zA-ZäÄéÉßſKΣς0-9]{1,20}`).Draw(t, "local")
		a, err := mta.ParseAddress(local + "@hamburger.edu")
		if err != nil {
			return
		}
		f := a.Fold()
		if again := f.Fold(); again != f {
			t.Errorf("fold(%q) = %q, folded again %q", a.Local, f.Local, again.Local)
		}
		for _, other := range []string{strings.ToUpper(local), strings.ToLower(local)} {
			b, err := mta.ParseAddress(other + "@hamburger.edu")
			if err == nil && b.Fold() != f {
				t.Errorf("%q folds to %q, %q to %q", local, f.Local, other, b.Fold().Local)
			}
		}
		if len(key(f)) <= 64 { // it can be read again
			if back, err := mta.ParseAddress(key(f)); err != nil || back != f {
				t.Errorf("%q is read as %q, %v", key(f), back, err)
			}
		}
	})
}

func TestPlaintextPolicy(t *testing.T) {
	for _, tt := range []struct {
		policy                  PlaintextPolicy
		loopback, stranger, tls bool
	}{
		{"", true, false, true},
		{PlaintextLoopback, true, false, true},
		{PlaintextNever, false, false, true},
		{PlaintextAlways, true, true, true},
	} {
		d := open(t, Options{Plaintext: tt.policy})
		for peer, want := range map[Peer]bool{
			{}:                                       tt.loopback, // a UNIX socket
			{Addr: netip.MustParseAddr("127.0.0.9")}: tt.loopback,
			{Addr: netip.MustParseAddr("::1")}:       tt.loopback,
			{Addr: netip.MustParseAddr("::ffff:127.0.0.1")}: tt.loopback,
			{Addr: netip.MustParseAddr("192.0.2.1")}:        tt.stranger,
			overTLS("192.0.2.1"):                            tt.tls,
		} {
			if got := d.PlaintextAllowed(peer); got != want {
				t.Errorf("%q, %v: %v", tt.policy, peer.Addr, got)
			}
			if got := slices.Contains(d.Mechanisms(peer), "PLAIN"); got != want {
				t.Errorf("%q, %v: PLAIN offered: %v", tt.policy, peer.Addr, got)
			}
			if !slices.Contains(d.Mechanisms(peer), "SCRAM-SHA-256") {
				t.Errorf("%q, %v: no SCRAM", tt.policy, peer.Addr)
			}
		}
	}
}
