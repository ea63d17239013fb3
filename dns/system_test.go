package dns

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postrider/dns/dnstest"
	"postrider/dns/exchange"
	"postrider/internal/clock"
)

func TestParseResolvConf(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     config
	}{
		{"empty", "", config{servers: []string{"127.0.0.1:53"}, timeout: 5 * time.Second, attempts: 2, ndots: 1}},
		{
			"all", `
# comment
; comment
nameserver 192.0.2.1
nameserver 2001:db8::1   # trailing
nameserver fe80::1%eth0
nameserver 192.0.2.1
nameserver not-an-address
domain example.com
search Example.org bücher.example  a..b
options timeout:3 attempts:4 rotate ndots:0 use-vc edns0
`, config{
				servers: []string{"192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%eth0]:53"},
				search:  []string{"example.org.", "xn--bcher-kva.example."},
				timeout: 3 * time.Second, attempts: 4, rotate: true, tcp: true,
			},
		},
		{
			"bounds", "domain a.example b.example\noptions timeout:0 attempts:0 ndots:99\noptions timeout:-1 attempts:x rotate:",
			config{
				servers: []string{"127.0.0.1:53"}, search: []string{"a.example."},
				timeout: time.Second, attempts: 1, ndots: 15, rotate: true,
			},
		},
		{
			"upper bounds", "options timeout:1000 attempts:1000" + strings.Repeat("\nsearch "+strings.Repeat("x ", 100), 2),
			config{servers: []string{"127.0.0.1:53"}, search: repeat("x.", maxSearch), timeout: 30 * time.Second, attempts: 5, ndots: 1},
		},
	} {
		if got := parseResolvConf([]byte(tt.in)); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", tt.name, got, tt.want)
		}
	}
}

func repeat(s string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = s
	}
	return list
}

// A configuration always has someone to ask, and its bounds hold.
func FuzzResolvConf(f *testing.F) {
	f.Add("nameserver 192.0.2.1\noptions timeout:3 attempts:2 rotate\nsearch a b c\n")
	f.Add("nameserver fe80::1%lo\r\noptions ndots:99999999999999999999")
	f.Fuzz(func(t *testing.T, s string) {
		c := parseResolvConf([]byte(s))
		if len(c.servers) == 0 || len(c.servers) > maxServers || len(c.search) > maxSearch {
			t.Errorf("%+v", c)
		}
		if c.timeout < time.Second || c.timeout > maxTimeout || c.attempts < 1 || c.attempts > maxAttempts || c.ndots < 0 {
			t.Errorf("%+v", c)
		}
		for _, s := range c.servers {
			if again, err := ServerAddr(s); err != nil || again != s {
				t.Errorf("server %q: %q, %v", s, again, err)
			}
		}
	})
}

func TestServerAddr(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1:53", "192.0.2.1:5353": "192.0.2.1:5353", "::1": "[::1]:53", "[::1]": "[::1]:53", "[::1]:54": "[::1]:54",
	} {
		if got, err := ServerAddr(in); err != nil || got != want {
			t.Errorf("ServerAddr(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "ns.example.com", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2", ":53"} {
		if got, err := ServerAddr(in); err == nil {
			t.Errorf("ServerAddr(%q) = %q, want an error", in, got)
		}
	}
}

func TestHostsFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z, err := dnstest.Parse("mx.example.com. 0 A 192.0.2.99\nother.example.com. 0 A 192.0.2.98\n99.2.0.192.in-addr.arpa. PTR mx.example.com.")
		if err != nil {
			t.Fatal(err)
		}
		server := dnstest.New(z)
		defer server.Close()
		path := filepath.Join(t.TempDir(), "hosts")
		write := func(s string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(s), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		r, err := NewResolver(Options{Servers: []string{"192.0.2.53"}, Dial: server.Dial, HostsFile: path})
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		expect := func(got, want any) {
			t.Helper()
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		}
		addresses := func(host string) string {
			list, err := r.Addresses(ctx, host)
			return strings.TrimSpace(strings.ReplaceAll(show(list, err), "\n", " "))
		}
		expect(addresses("mx.example.com"), "192.0.2.99") // no such file

		write(`# a comment
192.0.2.1	MX.example.com mx alias	# names
2001:db8::1	mx.example.com
192.0.2.1	third.example.com mx
fe80::1%lo0	local
::ffff:192.0.2.5 mapped
nonsense	mx.example.com
192.0.2.6
192.0.2.7 a..b good
`)
		<-time.After(fileInterval)
		expect(addresses("mx.example.com."), "192.0.2.1 2001:db8::1")
		expect(addresses("alias"), "192.0.2.1")
		expect(addresses("local"), "fe80::1%lo0")
		expect(addresses("mapped"), "192.0.2.5")
		expect(addresses("good"), "192.0.2.7")
		expect(addresses("other.example.com"), "192.0.2.98")
		names, err := r.PTR(ctx, netip.MustParseAddr("192.0.2.1"))
		if err != nil {
			t.Fatal(err)
		}
		expect(names, []string{"mx.example.com", "mx", "alias", "third.example.com"})

		write("192.0.2.2 mx.example.com\n") // another size
		expect(addresses("mx.example.com"), "192.0.2.1 2001:db8::1")
		<-time.After(fileInterval)
		expect(addresses("mx.example.com"), "192.0.2.2")

		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		<-time.After(fileInterval)
		expect(addresses("mx.example.com"), "192.0.2.99")
		if names, err = r.PTR(ctx, netip.MustParseAddr("192.0.2.99")); err != nil {
			t.Fatal(err)
		}
		expect(names, []string{"mx.example.com"})
	})
}

// What can't be read leaves what was read before.
func TestFileKeepsItsValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte("first"), 0o644); err != nil {
			t.Fatal(err)
		}
		f := newFile(path, func(b []byte) string { return string(b) }, clock.System(), slog.New(slog.DiscardHandler))
		if got := f.get(); got != "first" {
			t.Errorf("got %q", got)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		<-time.After(fileInterval)
		if got := f.get(); got != "first" {
			t.Errorf("got %q", got)
		}
	})
}

// Every name and address in the result can be looked up.
func FuzzHosts(f *testing.F) {
	f.Add("127.0.0.1 localhost\n::1 localhost ip6-localhost # comment\n192.0.2.1 bücher.example a..b\n")
	f.Fuzz(func(t *testing.T, s string) {
		h := parseHosts([]byte(s))
		for name, addrs := range h.byName {
			if again, err := normalize(name); err != nil || again != name || len(addrs) == 0 {
				t.Errorf("%q: %q, %v, %v", name, again, err, addrs)
			}
			for _, a := range addrs {
				if len(h.byAddr[a.WithZone("")]) == 0 {
					t.Errorf("%v has no name", a)
				}
			}
		}
	})
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{Servers: []string{"ns.example.com"}},
		{Servers: repeat("192.0.2.1", maxServers+1)},
		{Servers: []string{"192.0.2.1"}, Timeout: -1},
		{Attempts: -1},
	} {
		if _, err := NewResolver(o); err == nil {
			t.Errorf("NewResolver(%+v): no error", o)
		}
	}
	if _, err := NewResolver(Options{}); err != nil {
		t.Error(err)
	}
}

// The error says what to do next, and who said what.
func TestErrorIs(t *testing.T) {
	err := error(&Error{Name: "example.com", Type: TypeMX, Server: "192.0.2.1:53", Err: temporary("because of %w", exchange.ErrTimeout)})
	if !errors.Is(err, ErrTemporary) || errors.Is(err, ErrNotExist) || !errors.Is(err, exchange.ErrTimeout) {
		t.Error(err)
	}
	var e *Error
	if !errors.As(err, &e) || !e.Temporary() || e.Server != "192.0.2.1:53" {
		t.Error(err)
	}
}
