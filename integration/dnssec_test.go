package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSignedZone: a zone with sign in its table is one that delv validates, by
// the key in the server's folder, before and after its ZSK is replaced and over a
// restart.
func TestSignedZone(t *testing.T) {
	delv := program(t, "delv")
	s := prepare(t, options{config: `[listen]
dns = ["127.0.0.1:0"]
[dns]
resolver = "127.0.0.1:9"
hosts = ""
trust_anchors = "off"
[[dns.zone]]
name = "signed.test"
file = "signed.zone"
sign = "nsec3"
sign_keys = "split"
`})
	writeFile(t, filepath.Join(s.dir, "signed.zone"), `$TTL 3600
@ SOA ns hostmaster 1 7200 3600 1209600 600
@ NS ns
ns A 127.0.0.1
www A 192.0.2.1
*.w TXT hello
`)
	s.init()
	s.start()
	anchor := filepath.Join(s.dir, "anchor")
	ask := func(when string) {
		t.Helper()
		for _, q := range []struct{ name, typ, want string }{
			{"www", "A", "; fully validated"}, {"x.w", "TXT", "; fully validated"},
			{"no", "A", "; negative response, fully validated"}, {"www", "TXT", "; negative response, fully validated"},
		} {
			out, _ := execute(t, nil, "", delv, "@127.0.0.1", "-p", s.port("dns"), "-a", anchor, "+root=signed.test", q.name+".signed.test", q.typ)
			if !strings.Contains(out, q.want) {
				t.Errorf("%s: %s %s:\n%s", when, q.name, q.typ, out)
			}
		}
	}
	text := s.must("dns", "keys", "signed.test")
	if !strings.Contains(text, "KSK") || !strings.Contains(text, "may be named by a DS record from") {
		t.Errorf("dns keys: %s", text)
	}
	writeAnchor(t, filepath.Join(s.dir, "data", "dns", "keys"), anchor)
	ask("at first")
	if text := s.must("dns", "keys", "signed.test", "--roll", "zsk"); !strings.Contains(text, "published, signs from") {
		t.Errorf("dns keys --roll: %s", text)
	}
	ask("with the next ZSK")
	if _, stderr, code := s.run("", "dns", "keys", "signed.test", "--roll", "zsk"); code != 1 || !strings.Contains(stderr, "not over") {
		t.Errorf("twice: %d, %s", code, stderr)
	}
	s.stop()
	s.start()
	ask("after a restart")
	if text := s.must("dns", "keys", "signed.test"); strings.Count(text, "ZSK") != 2 {
		t.Errorf("after a restart: %s", text)
	}
}

// writeAnchor writes the KSK of a folder as delv wants it.
func writeAnchor(t *testing.T, dir, file string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "K*.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if f := strings.Fields(string(text)); len(f) == 8 && f[4] == "257" {
			writeFile(t, file, fmt.Sprintf("trust-anchors { %s static-key %s %s %s %q; };\n", f[0], f[4], f[5], f[6], f[7]))
			return
		}
	}
	t.Fatalf("no KSK among %v", names)
}
