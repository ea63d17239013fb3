package server

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCookieVectors has the examples of RFC 9018 appendix A.
func TestCookieVectors(t *testing.T) {
	for _, c := range []struct {
		name, secret, previous string
		from                   string
		at                     string
		option, want           string
		valid                  bool
	}{
		{"A.1", "e5e973e5a6b2a43f48e7dc849e37bfcf", "", "198.51.100.100", "2019-06-05T10:53:05Z",
			"2464c4abcf10c957", "010000005cf79f111f8130c3eee29480", false},
		{"A.2", "e5e973e5a6b2a43f48e7dc849e37bfcf", "", "198.51.100.100", "2019-06-05T11:33:05Z",
			"2464c4abcf10c957010000005cf79f111f8130c3eee29480", "010000005cf7a871d4a564a1442aca77", true},
		{"A.3", "e5e973e5a6b2a43f48e7dc849e37bfcf", "", "203.0.113.203", "2019-06-05T10:23:57Z",
			"fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", "", true},
		{"A.3, later", "e5e973e5a6b2a43f48e7dc849e37bfcf", "", "203.0.113.203", "2019-06-05T11:38:20Z",
			"fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", "010000005cf7a9acf73a7810aca2381e", false},
		{"A.4", "445536bcd2513298075a5d379663c962", "dd3bdf9344b678b185a6f5cb60fca715", "2001:db8:220:1:59de:d0f4:8769:82b8", "2019-06-05T13:39:21Z",
			"22681ab97d52c298010000005cf7c57926556bd0934c72f8", "010000005cf7c609a6bb79d16625507a", true},
	} {
		jar := &cookies{rand: zeros{}, secrets: [2][16]byte{}}
		copy(jar.secrets[0][:], unhex(t, c.secret))
		copy(jar.secrets[1][:], unhex(t, c.previous))
		now, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		jar.made = now
		got, valid := jar.check(unhex(t, c.option), netip.MustParseAddr(c.from), now)
		if valid != c.valid || c.want != "" && hex.EncodeToString(got[:]) != c.want {
			t.Errorf("%s: %x, valid %v; want %s, %v", c.name, got, valid, c.want, c.valid)
		}
	}
}

// TestCookieLife: a cookie is good for its address, for an hour, and for two
// secrets; a forged one is not.
func TestCookieLife(t *testing.T) {
	start := time.Unix(1_600_000_000, 0)
	count := byte(0)
	jar, err := newCookies(source(func(p []byte) { count++; p[0] = count }), start)
	if err != nil {
		t.Fatal(err)
	}
	client := []byte("8 octets")
	from, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	server, valid := jar.check(client, from, start)
	if valid {
		t.Error("a client cookie alone is valid")
	}
	option := append(bytes.Clone(client), server[:]...)
	for _, c := range []struct {
		what   string
		option []byte
		from   netip.Addr
		after  time.Duration
		want   bool
	}{
		{"at once", option, from, 0, true},
		{"after 59 minutes", option, from, 59 * time.Minute, true},
		{"after 61 minutes", option, from, 61 * time.Minute, false},
		{"from the future", option, from, -6 * time.Minute, false},
		{"another address", option, other, 0, false},
		{"forged", append(bytes.Clone(client), make([]byte, 16)...), from, 0, false},
		{"another client cookie", append([]byte("7 octets"), server[:]...), from, 0, false},
		{"of another length", append(bytes.Clone(client), make([]byte, 20)...), from, 0, false},
	} {
		if _, valid := jar.check(c.option, c.from, start.Add(c.after)); valid != c.want {
			t.Errorf("%s: valid %v", c.what, valid)
		}
	}
	// A cookie made just before the secret changes is good afterwards.
	late := start.Add(secretLife - time.Minute)
	server, _ = jar.check(client, from, late)
	option = append(bytes.Clone(client), server[:]...)
	before := jar.secrets
	if _, valid := jar.check(option, from, late.Add(2*time.Minute)); !valid || jar.secrets == before || jar.secrets[1] != before[0] {
		t.Errorf("after the change: valid %v", valid)
	}
}

// source makes random octets by a function.
type source func(p []byte)

func (f source) Read(p []byte) (int, error) { f(p); return len(p), nil }

// TestCookieQuery: a query without a question asks for a cookie alone (RFC 7873
// section 5.4), and the reply to any query with one has one.
func TestCookieQuery(t *testing.T) {
	w := newTown(t, Options{}, Settings{}, parse(t, "example.test.", exampleZone))
	m := new(miekg.Msg)
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = []miekg.EDNS0{&miekg.EDNS0_COOKIE{Code: miekg.EDNS0COOKIE, Cookie: "0102030405060708"}}
	for _, name := range []string{"", "www.example.test.", "www.example.test."} {
		if name != "" {
			m.Question = question(name, miekg.TypeA).Question
		}
		r := w.ask(m)
		cookie, ok := r.IsEdns0().Option[0].(*miekg.EDNS0_COOKIE)
		if r.Rcode != 0 || !ok || len(cookie.Cookie) != 48 || cookie.Cookie[:16] != "0102030405060708" {
			t.Fatalf("%q: %v", name, r)
		}
		m.IsEdns0().Option[0] = cookie
	}
}
