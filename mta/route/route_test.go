package route

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"postrider/dns"
	"postrider/internal/directory"
	"postrider/mailstore"
	"postrider/mta"
)

// fakeDirectory has the accounts and aliases of hamburger.edu.
type fakeDirectory struct{ err error }

func (f fakeDirectory) Resolve(_ context.Context, a mta.Address) ([]mta.Target, error) {
	if f.err != nil {
		return nil, f.err
	}
	if a.Domain != "hamburger.edu" && (a.Domain != "" || !strings.EqualFold(a.Local, "postmaster")) {
		return nil, directory.ErrNoDomain
	}
	switch strings.ToLower(a.Base().Local) {
	case "alice", "postmaster":
		return []mta.Target{{Account: 1}}, nil
	case "bob":
		return []mta.Target{{Account: 2}}, nil
	case "team":
		return []mta.Target{{Account: 1}, {Remote: mta.Address{Local: "carol", Domain: "two.test"}}}, nil
	case "loop":
		return nil, nil
	case "bob%two.test":
		return []mta.Target{{Account: 2}}, nil // a catch-all would say so
	}
	return nil, fmt.Errorf("resolve: %w", directory.ErrNoUser)
}

func (f fakeDirectory) Domains(context.Context) ([]string, error) {
	return []string{"hamburger.edu"}, f.err
}

func (f fakeDirectory) Accounts(context.Context) ([]mailstore.Account, error) {
	return []mailstore.Account{{ID: 1, Address: "alice@hamburger.edu"}, {ID: 2, Address: "bob@hamburger.edu"}}, f.err
}

func (f fakeDirectory) Aliases(context.Context) ([]mailstore.Alias, error) {
	return []mailstore.Alias{{Address: "team@hamburger.edu", Targets: []string{"alice@hamburger.edu", "carol@two.test"}}}, f.err
}

// Room: the account 1 has room for 100 octets, 2 for a million, 3 for none.
func (f fakeDirectory) Room(_ context.Context, account, size int64) error {
	if f.err != nil {
		return f.err
	}
	room := map[int64]int64{1: 100, 2: 1e6, 3: 0, 5: 1}[account]
	switch {
	case account > 9:
		return fmt.Errorf("account: %w", mailstore.ErrNotFound)
	case max(size, 1) <= room:
		return nil
	}
	return &mailstore.QuotaError{Usage: mailstore.Usage{Storage: 1000}, Quota: mailstore.Quota{Storage: 1000 + room}}
}

// fakeDNS has MX records ("10 mx1.test") and addresses by name. "!" as the only
// one is a temporary failure; a name that is not there does not exist.
type fakeDNS struct {
	mx, a  map[string][]string
	asked  []string
	always error
}

func (f *fakeDNS) MX(_ context.Context, domain string) ([]dns.MX, error) {
	f.asked = append(f.asked, "MX "+domain)
	list, err := f.find(f.mx, f.a, domain)
	var out []dns.MX
	for _, s := range list {
		var mx dns.MX
		if _, err := fmt.Sscan(s, &mx.Preference, &mx.Host); err != nil {
			mx.Host = "" // a preference alone
		}
		out = append(out, mx)
	}
	return out, err
}

func (f *fakeDNS) Addresses(_ context.Context, host string) ([]netip.Addr, error) {
	f.asked = append(f.asked, host)
	list, err := f.find(f.a, f.mx, host)
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out, err
}

func (f *fakeDNS) find(m, other map[string][]string, name string) ([]string, error) {
	list, ok := m[name]
	_, exists := other[name]
	var err error
	switch {
	case f.always != nil:
		err = f.always
	case ok && len(list) == 1 && list[0] == "!":
		err = fmt.Errorf("%w: SERVFAIL", dns.ErrTemporary)
	case ok && len(list) > 0:
		return list, nil
	case ok || exists:
		err = dns.ErrNoData
	default:
		err = dns.ErrNotExist
	}
	return nil, &dns.Error{Name: name, Err: err}
}

func newFakeDNS() *fakeDNS {
	return &fakeDNS{
		mx: map[string][]string{
			"two.test":       {"20 b.two.test", "10 a.two.test"},
			"equal.test":     {"5 e1.test", "5 e2.test", "5 e3.test"},
			"null.test":      {"0 ."},
			"twice.test":     {"5 b.two.test", "10 a.two.test", "20 b.two.test"},
			"nullplus.test":  {"0 .", "10 a.two.test"},
			"servfail.test":  {"!"},
			"backup.test":    {"10 a.two.test", "20 mail.hamburger.edu", "20 b.two.test", "30 c.two.test"},
			"byaddr.test":    {"10 a.two.test", "20 here.test", "30 c.two.test"},
			"us.test":        {"10 mail.hamburger.edu", "20 a.two.test"},
			"usequal.test":   {"10 e1.test", "10 here.test"},
			"mxgone.test":    {"10 gone.test", "20 empty.test"},
			"halfgone.test":  {"10 gone.test", "20 a.two.test"},
			"slowmx.test":    {"10 slow.test"},
			"slowfirst.test": {"10 slow.test", "20 a.two.test"},
			"slowus.test":    {"10 slow.test", "20 here.test"},
			"private.test":   {"10 private.two.test"},
			"mixed.test":     {"10 mixed.two.test"},
			"odd.test":       {"10 odd.two.test"},
			"many.test":      nil,
			"noaddr.test":    nil,
		},
		a: map[string][]string{
			"a.two.test": {"2a00:1450::1", "8.8.4.4"}, "b.two.test": {"8.8.8.8"}, "c.two.test": {"9.9.9.9"},
			"e1.test": {"1.1.1.1"}, "e2.test": {"1.1.1.2"}, "e3.test": {"1.1.1.3"},
			"here.test": {"127.0.0.1"}, "slow.test": {"!"}, "empty.test": nil,
			"implicit.test":     {"8.8.8.8"},
			"slowaddr.test":     {"!"},
			"private.two.test":  {"10.0.0.1", "fd00::1", "::ffff:192.168.1.1"},
			"mixed.two.test":    {"10.0.0.1", "172.16.5.5", "8.8.8.8"},
			"odd.two.test":      {"0.0.0.0", "224.0.0.1", "255.255.255.255", "ff02::1", "::"},
			"mail.relay.test":   {"8.8.8.8", "127.0.0.1"},
			"hostsfileonly.dev": {"8.8.8.8"},
		},
	}
}

func newTestRouter(change func(*Options)) (*Router, *fakeDNS) {
	f := newFakeDNS()
	o := Options{
		Hostname:        "mail.hamburger.edu",
		Directory:       fakeDirectory{},
		Resolver:        f,
		RelayNetworks:   []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		RelayDomains:    []string{"backup.test", "us.test"},
		PrivateNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12")},
		Ourselves:       func(a netip.AddrPort) bool { return a == netip.MustParseAddrPort("127.0.0.1:25") },
		Shuffle:         func(n int, swap func(i, j int)) { swap(0, n-1) },
	}
	if change != nil {
		change(&o)
	}
	return New(o), f
}

// TestRoom: who is full is refused for now, and hears what would pass.
func TestRoom(t *testing.T) {
	r, _ := newTestRouter(nil)
	targets := func(accounts ...int64) (list []mta.Target) {
		for _, a := range accounts {
			if a == 0 {
				list = append(list, mta.Target{Remote: mta.Address{Local: "carol", Domain: "two.test"}})
			} else {
				list = append(list, mta.Target{Account: a})
			}
		}
		return list
	}
	const full = "452 4.2.2 The mailbox of bob@hamburger.edu is full: try again when there is room in it"
	const small = "452 4.2.2 The mailbox of bob@hamburger.edu has room for 100 octets only: send less, or try again later"
	for _, c := range []struct {
		to      string
		targets []mta.Target
		size    int64
		want    string
	}{
		{"bob@hamburger.edu", targets(1), 0, ""},
		{"bob@hamburger.edu", targets(1), 100, ""},
		{"bob@hamburger.edu", targets(1), 101, small},
		{"bob@hamburger.edu", targets(3), 0, full},
		{"postmaster@hamburger.edu", targets(3), 0, ""},
		{"Postmaster+x@hamburger.edu", targets(3), 1 << 40, ""},
		{"bob@hamburger.edu", targets(3, 1), 100, ""}, // some of an alias
		{"bob@hamburger.edu", targets(3, 1), 101, small},
		{"bob@hamburger.edu", targets(5, 1, 3), 1 << 40, small},
		{"bob@hamburger.edu", targets(3, 3), 0, full},
		{"bob@hamburger.edu", targets(3, 0), 0, ""},  // a remote one
		{"bob@hamburger.edu", targets(3, 10), 0, ""}, // one that went away
		{"bob@hamburger.edu", targets(slices.Repeat([]int64{3}, maxAsked)...), 0, full},
		{"bob@hamburger.edu", targets(slices.Repeat([]int64{3}, maxAsked+1)...), 0, ""},
		{"bob@hamburger.edu", nil, 0, ""},
	} {
		to, err := mta.ParseAddress(c.to)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := r.Room(t.Context(), to, c.targets, c.size); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s %v %d: %q, want %q", c.to, c.targets, c.size, got, c.want)
		}
	}
	broken := errors.New("disk")
	r, _ = newTestRouter(func(o *Options) { o.Directory = fakeDirectory{err: broken} })
	if err := r.Room(t.Context(), mta.Address{Local: "bob", Domain: "hamburger.edu"}, targets(1), 0); !errors.Is(err, broken) {
		t.Errorf("broken: %v", err)
	}
}

func TestRecipient(t *testing.T) {
	stranger := mta.Client{Addr: netip.MustParseAddr("198.51.100.1")}
	relay := mta.Client{Addr: netip.MustParseAddr("::ffff:192.0.2.7")}
	user := mta.Client{Addr: stranger.Addr, Account: 2, Login: "bob@hamburger.edu"}
	ourselves := mta.Client{Ours: true}
	unknown := mta.Client{} // an address that could not be told
	for _, tt := range []struct {
		client mta.Client
		to     string
		want   string
	}{
		{stranger, "bob@hamburger.edu", "account 2"},
		{stranger, "Bob+list@hamburger.edu", "account 2"},
		{stranger, "postmaster", "account 1"},
		{stranger, "postmaster@hamburger.edu", "account 1"},
		{stranger, "postmaster@mail.hamburger.edu", "account 1"},
		{stranger, "postmaster@[127.0.0.1]", "account 1"},
		{stranger, "postmaster@[127.0.0.2]", "550 5.7.1"},
		{stranger, "bob@[127.0.0.1]", "550 5.7.1"},
		{stranger, "bob@mail.hamburger.edu", "550 5.7.1"},
		{stranger, "team@hamburger.edu", "account 1, carol@two.test"},
		{stranger, "nobody@hamburger.edu", "550 5.1.1"},
		{user, "nobody@hamburger.edu", "550 5.1.1"},
		{stranger, "loop@hamburger.edu", "451 4.3.5"},
		{stranger, "x@two.test", "550 5.7.1"},
		{stranger, "x%two.test@hamburger.edu", "550 5.7.1"},
		{stranger, "bob%two.test@hamburger.edu", "550 5.7.1"},
		{stranger, "two.test!x@hamburger.edu", "550 5.7.1"},
		{stranger, `"x@two.test"@hamburger.edu`, "550 5.7.1"},
		{stranger, "bob@sub.hamburger.edu", "550 5.7.1"},
		{stranger, "bob@hamburger.edu.two.test", "550 5.7.1"},
		{stranger, "<@hamburger.edu:x@two.test>", "550 5.7.1"},
		{stranger, "x@backup.test", "x@backup.test"},
		{stranger, "x@sub.backup.test", "550 5.7.1"},
		{stranger, "x%two.test@backup.test", "550 5.7.1"},
		{stranger, "two.test!x@backup.test", "550 5.7.1"},
		{user, "x@two.test", "x@two.test"},
		{user, "x%y@two.test", "x%y@two.test"},
		{user, "x%two.test@hamburger.edu", "550 5.7.1"},
		{relay, "x@two.test", "x@two.test"},
		{ourselves, "x@two.test", "x@two.test"},
		{unknown, "x@two.test", "550 5.7.1"},
	} {
		r, f := newTestRouter(nil)
		to, _, err := mta.ParsePath(tt.to)
		if err != nil {
			t.Fatal(err)
		}
		targets, err := r.Recipient(t.Context(), tt.client, to)
		if got := showTargets(targets, err); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%v to %s: %s, want %s", tt.client.Addr, tt.to, got, tt.want)
		}
		if len(f.asked) > 0 {
			t.Errorf("RCPT TO:<%s> asked the DNS for %v", tt.to, f.asked)
		}
	}
}

func showTargets(targets []mta.Target, err error) string {
	if err != nil {
		return err.Error()
	}
	var s []string
	for _, t := range targets {
		if t.Account != 0 {
			s = append(s, fmt.Sprintf("account %d", t.Account))
		} else {
			s = append(s, t.Remote.String())
		}
	}
	return strings.Join(s, ", ")
}

// A failure of the directory is neither a refusal nor a permission.
func TestRecipientDirectoryFails(t *testing.T) {
	broken := errors.New("disk")
	r, _ := newTestRouter(func(o *Options) { o.Directory = fakeDirectory{err: broken} })
	for _, to := range []mta.Address{{Local: "bob", Domain: "hamburger.edu"}, {Local: "x", Domain: "two.test"}, {Local: "postmaster", Domain: "mail.hamburger.edu"}} {
		targets, err := r.Recipient(t.Context(), mta.Client{Account: 1}, to)
		var reply *mta.Reply
		if !errors.Is(err, broken) || errors.As(err, &reply) || targets != nil {
			t.Errorf("%s: %v, %v", to, targets, err)
		}
	}
}

func TestHops(t *testing.T) {
	for _, tt := range []struct {
		domain string
		want   string // hosts with addresses, or the refusal
	}{
		{"two.test", "a.two.test [2a00:1450::1]:25 8.8.4.4:25; b.two.test 8.8.8.8:25"},
		{"twice.test", "b.two.test 8.8.8.8:25; a.two.test [2a00:1450::1]:25 8.8.4.4:25"},
		{"equal.test", "e3.test 1.1.1.3:25; e2.test 1.1.1.2:25; e1.test 1.1.1.1:25"},
		{"implicit.test", "implicit.test 8.8.8.8:25"},
		{"hostsfileonly.dev", "hostsfileonly.dev 8.8.8.8:25"},
		{"null.test", "556 5.1.10 "},
		{"nullplus.test", "a.two.test [2a00:1450::1]:25 8.8.4.4:25"},
		{"servfail.test", "451 4.4.3 "},
		{"nowhere.test", "550 5.1.2 The domain nowhere.test does not exist"},
		{"noaddr.test", "550 5.1.2 The domain noaddr.test has no mail server"},
		{"slowaddr.test", "451 4.4.3 "},
		{"backup.test", "a.two.test [2a00:1450::1]:25 8.8.4.4:25"},
		{"byaddr.test", "a.two.test [2a00:1450::1]:25 8.8.4.4:25"},
		{"us.test", "550 5.4.6 Mail for us.test would come back here: its best MX is this server, which only relays"},
		{"usequal.test", "550 5.4.6 "},
		{"mxgone.test", "550 5.4.4 No mail server of mxgone.test can be reached: its MX gone.test does not exist; its MX empty.test has no address"},
		{"halfgone.test", "a.two.test [2a00:1450::1]:25 8.8.4.4:25"},
		{"slowmx.test", "451 4.4.3 "},
		{"slowfirst.test", "a.two.test [2a00:1450::1]:25 8.8.4.4:25"},
		{"slowus.test", "451 4.4.3 "},
		{"private.test", "550 5.4.4 No mail server of private.test can be reached: private.two.test is at 10.0.0.1, a private address that delivery.private_networks does not list"},
		{"mixed.test", "mixed.two.test 172.16.5.5:25 8.8.8.8:25"},
		{"odd.test", "550 5.4.4 "},
		{"[8.8.8.8]", "[8.8.8.8] 8.8.8.8:25"},
		{"[IPv6:2a00:1450::1]", "[IPv6:2a00:1450::1] [2a00:1450::1]:25"},
		{"[127.0.0.1]", "550 5.4.6 "},
		{"[127.0.0.2]", "[127.0.0.2] 127.0.0.2:25"},
		{"[10.0.0.1]", "550 5.4.4 "},
		{"[IPv6:::ffff:10.0.0.1]", "550 5.4.4 "},
		{"[0.0.0.0]", "550 5.4.4 "},
	} {
		r, _ := newTestRouter(nil)
		hops, err := r.Hops(t.Context(), tt.domain)
		if got := showHops(hops, err); got != tt.want && (err == nil || !strings.HasPrefix(got, tt.want)) {
			t.Errorf("%s:\n got %s\nwant %s", tt.domain, got, tt.want)
		}
	}
}

func showHops(hops []mta.Hop, err error) string {
	if err != nil {
		return err.Error()
	}
	var s []string
	for _, h := range hops {
		s = append(s, strings.Trim(h.Host+" "+strings.Trim(fmt.Sprint(h.Addrs), "[]"), " "))
		if strings.HasPrefix(fmt.Sprint(h.Addrs), "[[") {
			s[len(s)-1] = h.Host + " " + strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(h.Addrs), "["), "]")
		}
	}
	return strings.Join(s, "; ")
}

// Every limit, at one more.
func TestHopsLimits(t *testing.T) {
	r, f := newTestRouter(nil)
	for i := range maxHosts + 1 {
		host := fmt.Sprintf("m%d.test", i)
		f.mx["many.test"] = append(f.mx["many.test"], "10 "+host)
		f.a[host] = []string{fmt.Sprintf("8.0.0.%d", i+1)}
	}
	hops, err := r.Hops(t.Context(), "many.test")
	if err != nil || len(hops) != maxHosts || len(f.asked) != 1+maxHosts {
		t.Errorf("%d hops of %d questions, %v", len(hops), len(f.asked), err)
	}
	f.mx["wide.test"] = []string{"10 wide1.test", "20 wide2.test", "30 wide3.test"}
	for i := range maxPerHost + 1 {
		for _, h := range []string{"wide1.test", "wide2.test", "wide3.test"} {
			f.a[h] = append(f.a[h], fmt.Sprintf("8.0.1.%d", i+1))
		}
	}
	hops, err = r.Hops(t.Context(), "wide.test")
	if err != nil || len(hops) != 2 || len(hops[0].Addrs) != maxPerHost || len(hops[1].Addrs) != maxAddresses-maxPerHost {
		t.Errorf("%v, %v", hops, err)
	}
	// Dead hosts count, too.
	f.mx["dead.test"] = nil
	for i := range maxHosts + 1 {
		f.mx["dead.test"] = append(f.mx["dead.test"], fmt.Sprintf("%d gone%d.test", i, i))
	}
	f.asked = nil
	if _, err := r.Hops(t.Context(), "dead.test"); err == nil || len(f.asked) != 1+maxHosts {
		t.Errorf("%d questions, %v", len(f.asked), err)
	}
}

// Equal hosts come in random order.
func TestHopsRandom(t *testing.T) {
	r, _ := newTestRouter(func(o *Options) { o.Shuffle = nil })
	first := map[string]int{}
	for range 300 {
		hops, err := r.Hops(t.Context(), "equal.test")
		if err != nil {
			t.Fatal(err)
		}
		first[hops[0].Host]++
	}
	for _, h := range []string{"e1.test", "e2.test", "e3.test"} {
		if first[h] < 50 {
			t.Errorf("%s was first %d times of 300", h, first[h])
		}
	}
}

func TestSmarthost(t *testing.T) {
	for _, tt := range []struct{ host, want string }{
		{"8.8.8.8:587", "8.8.8.8 8.8.8.8:587"},
		{"10.1.1.1:25", "10.1.1.1 10.1.1.1:25"}, // named by the administrator
		{"[2a00:1450::1]:465", "2a00:1450::1 [2a00:1450::1]:465"},
		{"a.two.test:587", "a.two.test [2a00:1450::1]:587 8.8.4.4:587"},
		{"slow.test:587", "451 4.4.3"},
		{"gone.test:587", "451 4.4.3"},
		{"here.test:25", "451 4.3.5 The smarthost here.test:25 is this server itself"},
		{"odd.two.test:25", "451 4.3.5"},
		{"nonsense", "451 4.3.5"},
		{"host:0", "451 4.3.5"},
	} {
		r, _ := newTestRouter(func(o *Options) {
			o.Smarthost = &Smarthost{Host: tt.host, Login: "u", Password: "p", TLS: mta.TLSRequired}
		})
		for _, domain := range []string{"two.test", "null.test", "[8.8.8.8]"} {
			hops, err := r.Hops(t.Context(), domain)
			if got := showHops(hops, err); got != tt.want && (err == nil || !strings.HasPrefix(got, tt.want)) {
				t.Errorf("%s: got %s, want %s", tt.host, got, tt.want)
			}
			if err == nil && (hops[0].Login != "u" || hops[0].Password != "p" || hops[0].TLS != mta.TLSRequired) {
				t.Errorf("%s: %+v", tt.host, hops[0])
			}
		}
	}
}

func TestExplain(t *testing.T) {
	for _, tt := range []struct {
		addr, verdict, reason string
	}{
		{"bob@hamburger.edu", "local", "it is the account bob@hamburger.edu"},
		{"BOB+x@hamburger.edu", "local", "it is a subaddress of the account bob@hamburger.edu"},
		{"team@hamburger.edu", "alias", "goes on to carol@two.test at another server"},
		{"postmaster@hamburger.edu", "alias", "goes to the first account until"},
		{"nobody@hamburger.edu", "unknown", "550 5.1.1"},
		{"x%y@hamburger.edu", "refused", "550 5.7.1"},
		{"x@backup.test", "relay", "MX a.two.test at [2a00:1450::1]:25, 8.8.4.4:25"},
		{"x%y@backup.test", "refused", "550 5.7.1"},
		{"x@two.test", "remote", "from strangers RCPT is answered with 550 5.7.1"},
		{"x@null.test", "unreachable", "556 5.1.10"},
		{"x@us.test", "unreachable", "550 5.4.6"},
	} {
		r, _ := newTestRouter(nil)
		a, err := mta.ParseAddress(tt.addr)
		if err != nil {
			t.Fatal(err)
		}
		x := r.Explain(t.Context(), a)
		if x.Verdict != tt.verdict || !slices.ContainsFunc(x.Reasons, func(s string) bool { return strings.Contains(s, tt.reason) }) {
			t.Errorf("%s: %s %q, want %s %q", tt.addr, x.Verdict, x.Reasons, tt.verdict, tt.reason)
		}
	}
	r, _ := newTestRouter(func(o *Options) { o.Directory = fakeDirectory{err: errors.New("disk")} })
	if x := r.Explain(t.Context(), mta.Address{Local: "x", Domain: "two.test"}); x.Verdict != "error" || len(x.Reasons) == 0 {
		t.Errorf("%+v", x)
	}
}

// Whatever RCPT names, a stranger never gets mail relayed to a domain that is
// neither ours nor in relay_domains, and nothing in a local part leads there.
func FuzzRecipient(f *testing.F) {
	for _, s := range []string{"<bob@hamburger.edu>", "x%two.test@hamburger.edu", "<@hamburger.edu,@two.test:x@backup.test>", `"a@b"@backup.test`, "a!b@[127.0.0.1]", "postmaster", "x@[IPv6:::1]"} {
		f.Add(s)
	}
	r, _ := newTestRouter(nil)
	stranger := mta.Client{Addr: netip.MustParseAddr("198.51.100.1")}
	f.Fuzz(func(t *testing.T, s string) {
		to, _, err := mta.ParsePath(s)
		if err != nil {
			return
		}
		targets, err := r.Recipient(t.Context(), stranger, to)
		var refusal *mta.Reply
		if err != nil && (!errors.As(err, &refusal) || refusal.Success()) {
			t.Fatalf("%q: %v", s, err)
		}
		for _, target := range targets {
			switch {
			case target.Account != 0:
			case target.Remote == mta.Address{Local: "carol", Domain: "two.test"}: // the alias
			case !r.relayDomains[target.Remote.Domain] || strings.ContainsAny(target.Remote.Local, "%!@"):
				t.Errorf("%q is relayed to %s", s, target.Remote)
			}
		}
	})
}

// A literal that is read is the one that would be printed.
func FuzzLiteral(f *testing.F) {
	for _, s := range []string{"[127.0.0.1]", "[IPv6:::1]", "[IPv6:fe80::1%eth0]", "[", "[]", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ip, ok := literal(s)
		if !ok {
			return
		}
		if again, ok := literal(mta.Literal(ip)); !ok || again != ip {
			t.Errorf("%q is %v, printed and read %v", s, ip, again)
		}
	})
}

// Whatever the DNS says of a domain, no hop leads to ourselves, to where no host
// can be, or to a non-public address that is not listed; and there is a hop or a
// reason.
func FuzzHops(f *testing.F) {
	f.Add([]byte("\x0a\x04\x08\x08\x08\x08\x0a\x04\x7f\x00\x00\x01\x05\x04\x0a\x00\x00\x01"))
	f.Add([]byte("\x00\x10\x00\x64\xff\x9b\x00\x00\x00\x00\x00\x00\x00\x00\x0a\x00\x00\x01"))
	f.Add([]byte("\x01\x00\x01\x01\x01\x02"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, fake := newTestRouter(nil)
		// Each host is a preference, a form, and an address of 4 or 16 octets.
		for n := 0; len(in) >= 2; n++ {
			pref, form := in[0], in[1]
			in = in[2:]
			host := fmt.Sprintf("h%d.test", n%20)
			size := 4 + 12*int(form&1)
			switch {
			case form&0x60 == 0x60:
				host = []string{".", "mail.hamburger.edu", "MAIL.hamburger.EDU", "gone.test"}[form&3]
			case form&0x40 != 0 && fake.a[host] == nil:
				fake.a[host] = []string{"!"}
			case len(in) >= size && !slices.Contains(fake.a[host], "!"):
				a, _ := netip.AddrFromSlice(in[:size])
				fake.a[host] = append(fake.a[host], a.String())
				in = in[size:]
			}
			fake.mx["fuzz.test"] = append(fake.mx["fuzz.test"], fmt.Sprintf("%d %s", pref, host))
		}
		hops, err := r.Hops(t.Context(), "fuzz.test")
		var refusal *mta.Reply
		if (len(hops) == 0) == (err == nil) || err != nil && (!errors.As(err, &refusal) || refusal.Code/100 < 4) {
			t.Fatalf("%v, %v", hops, err)
		}
		total := 0
		for _, h := range hops {
			total += len(h.Addrs)
			if len(h.Addrs) == 0 || strings.EqualFold(h.Host, r.o.Hostname) {
				t.Errorf("%+v", h)
			}
			for _, at := range h.Addrs {
				a := at.Addr()
				if a.Is4In6() || mta.Unreachable(a) || r.o.Ourselves(at) || mta.NotPublic(a) != "" && !contains(r.o.PrivateNetworks, a) {
					t.Errorf("%s is contacted", at)
				}
			}
		}
		if total > maxAddresses {
			t.Errorf("%d addresses", total)
		}
	})
}

func TestHopText(t *testing.T) {
	a, b := netip.MustParseAddrPort("192.0.2.1:25"), netip.MustParseAddrPort("[2001:db8::1]:25")
	for want, addrs := range map[string][]netip.AddrPort{"mx.test": nil, "mx.test (192.0.2.1:25)": {a}, "mx.test (192.0.2.1:25, [2001:db8::1]:25)": {a, b}} {
		if got := hopText(mta.Hop{Host: "mx.test", Addrs: addrs}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
