package route

import (
	"net/netip"
	"strings"
	"testing"

	"postrider/dns"
	"postrider/dns/dnstest"
	"postrider/internal/directory"
	"postrider/mailstore"
	"postrider/mailstore/storetest"
	"postrider/mta"
)

const realZone = `
$ORIGIN test.
@          60 SOA ns.test. root.test. 1 3600 600 86400 60
two        60 MX 10 a.two.test.
two        60 MX 20 b.two.test.
a.two      60 A 8.8.4.4
a.two      60 AAAA 2a00:1450::1
b.two      60 CNAME c.two.test.
c.two      60 A 8.8.8.8
null       60 MX 0 .
address    60 A 8.8.8.8
text       60 TXT "nothing else"
alias      60 CNAME two.test.
dead       60 MX 10 nowhere.test.
loop       60 CNAME loop.test.
`

// newRealRouter is a Router over the real resolver and directory.
func newRealRouter(t *testing.T) (*Router, *dnstest.Server) {
	t.Helper()
	ctx := t.Context()
	server := dnstest.Start(t, realZone)
	resolver, err := dns.NewResolver(dns.Options{Servers: []string{server.Addr}, Timeout: 200_000_000, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	store, err := mailstore.Open(ctx, storetest.NewEngine(), mailstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	dir, err := directory.New(store, directory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		dir.AddDomain(ctx, "hamburger.edu"),
		dir.AddAccount(ctx, "alice@hamburger.edu", "secret"),
		dir.AddAccount(ctx, "bob@hamburger.edu", "hungry"),
		dir.AddAlias(ctx, "team@hamburger.edu", []string{"bob@hamburger.edu", "carol@two.test"}),
		dir.AddAlias(ctx, "@hamburger.edu", []string{"alice@hamburger.edu"}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return New(Options{Hostname: "mail.hamburger.edu", Directory: dir, Resolver: resolver}), server
}

func TestRealHops(t *testing.T) {
	r, server := newRealRouter(t)
	for _, tt := range []struct{ domain, want string }{
		{"two.test", "a.two.test [2a00:1450::1]:25 8.8.4.4:25; b.two.test 8.8.8.8:25"},
		{"alias.test", "a.two.test [2a00:1450::1]:25 8.8.4.4:25; b.two.test 8.8.8.8:25"},
		{"null.test", "556 5.1.10 "},
		{"address.test", "address.test 8.8.8.8:25"},
		{"text.test", "550 5.1.2 The domain text.test has no mail server"},
		{"nowhere.test", "550 5.1.2 The domain nowhere.test does not exist"},
		{"dead.test", "550 5.4.4 "},
		{"loop.test", "451 4.4.3 "},
	} {
		hops, err := r.Hops(t.Context(), tt.domain)
		if got := showHops(hops, err); got != tt.want && (err == nil || !strings.HasPrefix(got, tt.want)) {
			t.Errorf("%s:\n got %s\nwant %s", tt.domain, got, tt.want)
		}
	}
	server.Close()
	if _, err := r.Hops(t.Context(), "another.test"); err == nil || !strings.HasPrefix(err.Error(), "451 4.4.3 The name servers gave no answer about another.test") {
		t.Errorf("without a name server: %v", err)
	}
}

func TestRealRecipients(t *testing.T) {
	r, _ := newRealRouter(t)
	stranger := mta.Client{Addr: netip.MustParseAddr("198.51.100.1")}
	for _, tt := range []struct{ to, want, verdict string }{
		{"Bob+list@Hamburger.EDU", "account 2", "local"},
		{"postmaster", "account 1", "alias"},
		{"postmaster@mail.hamburger.edu", "account 1", "alias"},
		{"abuse@hamburger.edu", "account 1", "alias"},
		{"team@hamburger.edu", "account 2, carol@two.test", "alias"},
		{"anybody@hamburger.edu", "account 1", "alias"},
		{"x%two.test@hamburger.edu", "550 5.7.1", "refused"},
		{"two.test!x@hamburger.edu", "550 5.7.1", "refused"},
		{"x@two.test", "550 5.7.1", "remote"},
		{"bob@sub.hamburger.edu", "550 5.7.1", "unreachable"},
	} {
		to, err := mta.ParseAddress(tt.to)
		if err != nil {
			t.Fatal(err)
		}
		targets, err := r.Recipient(t.Context(), stranger, to)
		if got := showTargets(targets, err); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %s, want %s", tt.to, got, tt.want)
		}
		if x := r.Explain(t.Context(), to); x.Verdict != tt.verdict {
			t.Errorf("%s: %+v, want %s", tt.to, x, tt.verdict)
		}
	}
}
