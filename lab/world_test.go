package lab

import (
	"strings"
	"testing"
	"time"
)

// The built-in world is one that the lab accepts, with all that the scenarios
// and the course speak of.
func TestDefaultWorld(t *testing.T) {
	w, err := LoadWorld("")
	if err != nil {
		t.Fatal(err)
	}
	roots := 0
	for _, h := range w.Hosts {
		if h.Kind == KindRoot && h.ReplicaOf == "" {
			roots++
		}
	}
	if roots != 13 {
		t.Errorf("%d root servers", roots)
	}
	if a, ok := w.Account("bob@hamburger.edu"); !ok || a.Password != "hungry" || a.Host != "mx.hamburger.edu" {
		t.Errorf("bob: %+v", a)
	}
	if h, ok := w.Host("mx.fort.test"); !ok || !h.Mail.RequireAuth {
		t.Errorf("the strict server: %+v", h)
	}
}

// Each name is in the nearest zone above it.
func TestEnclosing(t *testing.T) {
	w := &World{}
	for _, z := range []string{"cs.umass.edu", ".", "edu", "umass.edu", "s.umass.edu"} {
		w.Zones = append(w.Zones, Zone{Name: z})
	}
	for name, want := range map[string]string{
		"gaia.cs.umass.edu": "cs.umass.edu", "cs.umass.edu": "cs.umass.edu", "xcs.umass.edu": "umass.edu", "umass.edu": "umass.edu",
		"xumass.edu": "edu", "edu": "edu", "xedu": ".", ".": ".",
	} {
		if got := w.enclosing(name); got != want {
			t.Errorf("%s is in %q, want %q", name, got, want)
		}
	}
	for zone, want := range map[string]string{".": "", "edu": ".", "umass.edu": "edu", "cs.umass.edu": "umass.edu"} {
		if got := w.parent(zone); got != want {
			t.Errorf("above %s is %q, want %q", zone, got, want)
		}
	}
}

// Each problem of a world is named by its line and key.
func TestWorldProblems(t *testing.T) {
	const site = "[[site]]\nname = \"s\"\nnetwork = \"127.33.0.0/16\"\n"
	for _, c := range []struct{ text, want string }{
		{"colour = 1", "w:1: colour: unknown key"},
		{"\n[[host]]\nname = 'a'\nadress = 'x'", "w:4: host.adress: unknown key"},
		{"title = ", "w:1: "},
		{"[[site]]\nname = 's'\nnetwork = '10.0.0.0/8'", "w:3: site.network: must be a part of 127.0.0.0/8"},
		{"[[host]]\nname = 'A.test'\nkind = 'mail'\naddress = '127.33.0.1'", "w:2: host.name: "},
		{"[[host]]\nname = 'a.test'\nkind = 'cat'\naddress = '127.33.0.1'", "w:3: host.kind: "},
		{"[[host]]\nname = 'a.test'\nkind = 'mail'\naddress = '127.0.0.1'", "w:4: host.address: must be in 127.0.0.0/8, and not 127.0.0.1"},
		{"[[host]]\nname = 'a.test'\nkind = 'mail'\naddress = '192.0.2.1'", "w:4: host.address: "},
		{"[[host]]\nname = 'a.test'\nkind = 'mail'\naddress = '127.3.0.1'\nservices = ['dns']", "w:5: host.services: "},
		{site + "[[host]]\nname = 'a.test'\nkind = 'mail'\nsite = 's'\naddress = '127.3.0.1'", "w:8: host.address: is not in the network"},
		{"[[host]]\nname = 'a.test'\nkind = 'mail'\naddress = '127.3.0.1'\n[host.mail]\nsmarthost = 'b'", "w:6: host.mail.smarthost: "},
		{"[[host]]\nname = 'a.test'\nkind = 'mail'\naddress = '127.3.0.1'\n[host.mail]\nresolver = 'a.test'", "w:6: host.mail.resolver: "},
		{"[[zone]]\nname = 'test'\nprimary = 'nobody'", "w:3: zone.primary: "},
		{"[[zone]]\nname = 'a\\b.test'\nprimary = 'nobody'", "w:2: zone.name: "},
		{"[[account]]\naddress = 'a@b.test'\npassword = 'x'", "w:2: account.address: no host keeps the mail of b.test"},
		{"[[link]]\nfrom = 'x'\nto = 'y'", "w:2: link.from: "},
		{"[[link]]\nfrom = 'x'\nto = 'y'\nlatency = '3 parsec'", "w:4: link.latency: "},
	} {
		_, err := ParseWorld("w", []byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %s", c.text, err, c.want)
		}
	}
	if _, err := ParseWorld("w", []byte(strings.Repeat("#\n", maxWorldFile))); err == nil {
		t.Error("a file of any size is read")
	}
}

func FuzzParseWorld(f *testing.F) {
	f.Add("title = 'x'\n[[host]]\nname = 'a.test'\nkind = 'mail'\naddress = '127.3.0.1'\n[host.mail]\ndomains = ['a.test']")
	f.Add(string(defaultWorld))
	f.Fuzz(func(t *testing.T, text string) {
		w, err := ParseWorld("w", []byte(text))
		if err != nil {
			return
		}
		for _, h := range w.Hosts {
			if !h.Address.IsLoopback() {
				t.Errorf("host %s is outside: %s", h.Name, h.Address)
			}
		}
		for _, a := range w.Accounts {
			if _, ok := w.Host(a.Host); !ok {
				t.Errorf("account %s lives nowhere", a.Address)
			}
		}
	})
}

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{"5d": 120 * time.Hour, "200ms": 200 * time.Millisecond, "1h30m": 90 * time.Minute} {
		if d, err := ParseDuration(in); d != want || err != nil {
			t.Errorf("%s: %v, %v", in, d, err)
		}
	}
	for _, in := range []string{"", "-1s", "d", "99999999d", "5", "5 d"} {
		if d, err := ParseDuration(in); err == nil {
			t.Errorf("%q: %v", in, d)
		}
	}
}
