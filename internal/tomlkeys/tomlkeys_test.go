package tomlkeys

import (
	"maps"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

const document = `title = "x"
limits.size = 3

[tls]
cert = "a"
"odd.name" = 1

[[host]]
name = "one"
[host.mail]
domains = ["a",
  "b"]
[[host.mail.user]]
name = "u"

[[host]]
[host.mail]
domains = []
[[host.mail.user]]
[[host.mail.user]]
name = { first = "v" }

[[dns.zone]]
file = "f"
[dns]
resolver = "stub"
`

func TestLines(t *testing.T) {
	want := map[string]int{
		"title": 1, "limits.size": 2, "tls": 4, "tls.cert": 5, "tls.odd.name": 6,
		"host[0]": 8, "host[0].name": 9, "host[0].mail": 10, "host[0].mail.domains": 11,
		"host[0].mail.user[0]": 13, "host[0].mail.user[0].name": 14,
		"host[1]": 16, "host[1].mail": 17, "host[1].mail.domains": 18,
		"host[1].mail.user[0]": 19, "host[1].mail.user[1]": 20, "host[1].mail.user[1].name": 21,
		"dns.zone[0]": 23, "dns.zone[0].file": 24, "dns": 25, "dns.resolver": 26,
	}
	have := Lines([]byte(document))
	if !maps.Equal(have, want) {
		t.Errorf("have %v\nwant %v", have, want)
	}
	if len(Lines(nil)) != 0 {
		t.Error("an empty document has keys")
	}
}

// Any document that TOML reads has its keys on lines that it has.
func FuzzLines(f *testing.F) {
	f.Add([]byte(document))
	f.Add([]byte("[[a]]\n[a.b]\n[[a.b.c]]\r\nx.y=1"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		var tree map[string]any
		if toml.Unmarshal(doc, &tree) != nil {
			return
		}
		lines := Lines(doc)
		for key := range tree {
			if _, array := lines[key+"[0]"]; lines[key] == 0 && !array && !nested(lines, key) {
				t.Errorf("no line of %q", key)
			}
		}
		for key, line := range lines {
			if line < 1 || line > 1+len(doc) {
				t.Errorf("%q is on line %d", key, line)
			}
		}
	})
}

// nested tells whether only keys below a key were written.
func nested(lines map[string]int, key string) bool {
	for k := range lines {
		if len(k) > len(key) && k[:len(key)] == key && (k[len(key)] == '.' || k[len(key)] == '[') {
			return true
		}
	}
	return false
}
