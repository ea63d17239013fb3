package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"postrider/internal/node"
)

// The sample configuration says what the defaults are.
func TestSampleConfig(t *testing.T) {
	c, err := loadConfig("../../config.toml")
	if err != nil {
		t.Fatal(err)
	}
	want := node.DefaultOptions()
	diff := cmp.Diff(want, c.node,
		cmpopts.IgnoreFields(node.Options{}, "Hostname", "Listen", "DataDir"),
		cmpopts.EquateComparable(want.PrivateNetworks[0]),
		cmpopts.EquateEmpty())
	if diff != "" {
		t.Errorf("config.toml differs from the defaults (-default +file):\n%s", diff)
	}
	if !filepath.IsAbs(c.node.DataDir) {
		t.Errorf("data_dir = %q, want a path below the file's folder", c.node.DataDir)
	}
	if c.node.Hostname != "hamburger.edu" || len(c.node.Listen.SMTP) != 1 {
		t.Errorf("hostname %q, smtp %q", c.node.Hostname, c.node.Listen.SMTP)
	}
	text, err := os.ReadFile("../../config.toml")
	if err != nil {
		t.Fatal(err)
	}
	for key := range c.keys() {
		name := key[strings.LastIndexByte(key, '.')+1:]
		built := key != "listen.http" && key != "listen.https"
		if built != strings.Contains("\n"+string(text), "\n"+name+" ") {
			t.Errorf("config.toml and the key %s: built is %v", key, built)
		}
	}
}

type configProblems struct {
	name, text string
	want       []string // lines of the error, each a part of one
}

func TestConfigProblems(t *testing.T) {
	for _, test := range []configProblems{
		{"empty", "", []string{"c.toml:1: hostname: is missing"}},
		{"syntax", "hostname = \"a.b\"\n[listen\n", []string{"c.toml:2: "}},
		{"all at once", `hostname = "a.b"
frob = 1
[limits]
recipients = "many"
message_size = "50 parsecs"
[delivery]
remote_port = 70000
retry = []
`, []string{
			"c.toml:2: frob: unknown key",
			"c.toml:4: limits.recipients: must be a whole number",
			"c.toml:5: limits.message_size: must be a size",
			"c.toml:7: delivery.remote_port: must be a whole number from 1 to 65535",
			"c.toml:8: delivery.retry: needs at least one wait",
		}},
		{"misplaced", "hostname = \"a.b\"\nrequire_auth = true\n",
			[]string{"c.toml:2: require_auth: unknown key (did you mean smtp.require_auth?)"}},
		{"not built", `hostname = "a.b"
[listen]
https = ["127.0.0.1:53"]
http = []
[dns]
resolver = "recursive"
trust_anchors = 1
`, []string{
			"c.toml:3: listen.https: not built yet",
			"c.toml:6: dns.resolver: must be \"system\", \"iterative\" or a name server's",
			"c.toml:7: dns.trust_anchors: must be a string",
		}},
		{"values", `hostname = "a b"
[listen]
smtp = ["127.0.0.1"]
imap = "127.0.0.1:143"
[auth]
plaintext = "maybe"
[smtp]
relay_networks = ["10.0.0.0/33"]
relay_domains = ["exa mple"]
bare_helo = "yes"
bare_newline = "keep"
[dns]
resolver = "one.one.one.one"
[delivery]
expire = "never"
tls = "sometimes"
smarthost = "mail"
[storage]
engine = "postgres"
compress = "zstd"
[log]
level = "loud"
`, []string{
			"c.toml:1: hostname: must be a domain name",
			"c.toml:3: listen.smtp: \"127.0.0.1\": must be \"HOST:PORT\"",
			"c.toml:4: listen.imap: must be a list of strings",
			"c.toml:6: auth.plaintext: must be \"never\" or \"loopback\" or \"always\"",
			"c.toml:8: smtp.relay_networks: \"10.0.0.0/33\": must be a network",
			"c.toml:9: smtp.relay_domains: \"exa mple\":",
			"c.toml:10: smtp.bare_helo: must be true or false",
			"c.toml:11: smtp.bare_newline: must be \"reject\" or \"normalise\"",
			"c.toml:13: dns.resolver: must be",
			"c.toml:15: delivery.expire: must be a time",
			"c.toml:16: delivery.tls: must be",
			"c.toml:17: delivery.smarthost: must be \"HOST:PORT\"",
			"c.toml:19: storage.engine: must be \"sqlite\"",
			"c.toml:20: storage.compress: must be true or false",
			"c.toml:22: log.level: must be",
		}},
		{"login without a smarthost", "hostname = \"a.b\"\n[delivery]\nuser = \"x\"\n", []string{"c.toml:3: delivery.user: is the login at"}},
		{"tls halves", "hostname = \"a.b\"\n[tls]\ncert = \"c.pem\"\n", []string{"c.toml:2: tls: cert and key go together"}},
	} {
		t.Run(test.name, test.try)
	}
}

// TestNameServerProblems: the tables of arrays are named by their number.
func TestNameServerProblems(t *testing.T) {
	configProblems{"name server", `hostname = "a.b"
[dns]
zones = [""]
recursion = ["all"]
rate_limit = -1
udp_size = 100
[[dns.key]]
name = "k"
secret = "c2VjcmV0IHNlY3JldA=="
[[dns.key]]
name = "weak"
secret = "YQ=="
[[dns.key]]
name = "K."
algorithm = "hmac-md5"
secret = "c2VjcmV0IHNlY3JldA=="
[[dns.zone]]
name = "example.org"
fil = "x"
[[dns.zone]]
name = "example.net"
file = "net"
notify = ["192.0.2.1 key other"]
primaries = ["example.org"]
[[dns.zone]]
name = "Example.NET."
file = "net"
allow_transfer = ["192.0.2.0/33"]
allow_update = ["key none"]
sign = "maybe"
sign_algorithm = "dsa"
[[dns.zone]]
name = "brief.example"
file = "brief"
sign = "nsec"
sign_validity = "1s"
`, []string{
		"c.toml:3: dns.zones: \"\": must name a file",
		"c.toml:4: dns.recursion: \"all\": must be a network",
		"c.toml:5: dns.rate_limit: must be a whole number",
		"c.toml:6: dns.udp_size: must be a whole number from 512 to 4096",
		"c.toml:10: dns.key[1]: the secret must have 10 to 512 octets",
		"c.toml:13: dns.key[2]: the algorithm must be",
		"c.toml:17: dns.zone[0]: needs file, for a primary zone, or primaries",
		"c.toml:19: dns.zone[0].fil: unknown key",
		"c.toml:23: dns.zone[1].notify: there is no [[dns.key]] with the name \"other\"",
		"c.toml:24: dns.zone[1].primaries: \"example.org\": must be an address",
		"c.toml:26: dns.zone[2].name: there is another zone of this name",
		"c.toml:28: dns.zone[2].allow_transfer: \"192.0.2.0/33\": must be a network",
		"c.toml:29: dns.zone[2].allow_update: there is no [[dns.key]]",
		"c.toml:30: dns.zone[2].sign: must be \"nsec\"",
		"c.toml:31: dns.zone[2].sign_algorithm: must be",
		"c.toml:35: dns.zone[3].sign: signing policy: signatures are valid between",
	}}.try(t)
}

func TestOwnZoneProblems(t *testing.T) {
	configProblems{"own zones", `hostname = "a.b"
[dns]
own = ["example.org", "a..b"]
own_servers = ["ns.example.org 192.0.2.x"]
own_addresses = ["mail.example.org"]
own_sign = "yes"
`, []string{
		"c.toml:3: dns.own: \"a..b\": does not exist: \"a..b\" is not a domain name: label 2 is empty",
		"c.toml:4: dns.own_servers: \"ns.example.org 192.0.2.x\": must be an IP address",
		"c.toml:5: dns.own_addresses: \"mail.example.org\": must be an IP address",
		"c.toml:6: dns.own_sign: must be true or false",
	}}.try(t)
	configProblems{"own zones of others", `hostname = "a.b"
[dns]
own = ["example.org", "example.net"]
[[dns.zone]]
name = "Example.org"
allow_transfer = ["192.0.2.1"]
[[dns.zone]]
name = "example.net"
file = "x"
`, []string{
		"c.toml:3: dns.own: needs a name server: [listen] dns names no address",
		"c.toml:7: dns.zone[1]: dns.own has this zone, whose records the server makes",
	}}.try(t)
}

// try wants just these problems of a configuration.
func (p configProblems) try(t *testing.T) {
	_, err := parseConfig("c.toml", []byte(p.text))
	var e *configError
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want a list of problems", err)
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(p.want) {
		t.Fatalf("got:\n%v\nwant %d lines", err, len(p.want))
	}
	for i, want := range p.want {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d is %q, want %q in it", i+1, lines[i], want)
		}
	}
}

func TestConfigProblemsOfAuth(t *testing.T) {
	for _, test := range []configProblems{
		{"oauth without an issuer", "hostname = \"a.b\"\n[auth.oauth]\naudience = \"x\"\n", []string{"c.toml:2: auth.oauth.issuer: is missing"}},
		{"oauth in clear", "hostname = \"a.b\"\n[auth.oauth]\nissuer = \"http://id.example\"\n", []string{"c.toml:3: auth.oauth.issuer: must be a URL that begins with"}},
		{"oauth for anybody", "hostname = \"a.b\"\n[auth.oauth]\nissuer = \"https://id.example\"\n", []string{"c.toml:2: auth.oauth.audience: is missing"}},
		{"oauth clock", "hostname = \"a.b\"\n[auth.oauth]\nissuer = \"https://id.example\"\naudience = \"x\"\nleeway = \"6m\"\n",
			[]string{"c.toml:5: auth.oauth.leeway: must be at most"}},
		{"pop3", "hostname = \"a.b\"\n[pop3]\nlogin_delay = \"1500ms\"\nexpire = \"4h\"\nutf8_headers = \"yes\"\n", []string{
			"c.toml:3: pop3.login_delay: must be whole seconds", "c.toml:4: pop3.expire: must be \"never\" or whole days", "c.toml:5: pop3.utf8_headers: must be"}},
		{"imap", "hostname = \"a.b\"\n[imap]\nmessage_limit = 999\nadministrators = [\"admin\"]\n", []string{
			"c.toml:3: imap.message_limit: must be 0 or at least 1000", "c.toml:4: imap.administrators: \"admin\": must be the address"}},
		{"certificates", "hostname = \"a.b\"\n[auth]\nclient_certificates = \"often\"\n", []string{"c.toml:3: auth.client_certificates: must be"}},
	} {
		t.Run(test.name, test.try)
	}
}

func TestConfigValues(t *testing.T) {
	c, err := parseConfig("/etc/postrider/c.toml", []byte(`hostname = "Mail.BÜCHER.example"
data_dir = "/srv/mail"
limits.message_size = 0
limits.account_storage = "2TiB"
limits.account_messages = 1000
[listen]
smtp = [":25", "[::1]:2525"]
lmtp = ["/run/lmtp.sock"]
[smtp]
relay_networks = ["192.0.2.7", "2001:db8::/32"]
[delivery]
expire = "12h"
retry = ["90s", "1d"]
`))
	if err != nil {
		t.Fatal(err)
	}
	n := c.node
	for _, test := range []struct{ got, want any }{
		{n.Hostname, "mail.xn--bcher-kva.example"},
		{n.DataDir, "/srv/mail"},
		{n.Limits.MessageSize, int64(0)},
		{n.Limits.AccountStorage, int64(2 << 40)},
		{n.Limits.AccountMessages, 1000},
		{n.Listen.SMTP, []string{"[::]:25", "[::1]:2525"}},
		{n.Listen.LMTP, []string{"/run/lmtp.sock"}},
		{n.RelayNetworks[0].String(), "192.0.2.7/32"},
		{n.Expire.String(), "12h0m0s"},
		{n.Retry[1].String(), "24h0m0s"},
	} {
		if diff := cmp.Diff(test.want, test.got); diff != "" {
			t.Error(diff)
		}
	}
}
