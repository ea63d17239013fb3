package integration

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const organisation = `$TTL 3600
@ SOA ns1 hostmaster %d 7200 900 1209600 300
@ NS ns1
@ MX 10 mail
ns1 A 127.0.0.1
mail A 192.0.2.25
www A 192.0.2.80
www A 192.0.2.81
`

// TestNameServer: two servers, primary and secondary, with the configuration that
// the README shows: names over UDP, TCP and TLS, a reload, an update that the
// secondary passes on, and what the commands say of it.
func TestNameServer(t *testing.T) {
	dig, nsupdate := program(t, "dig"), program(t, "nsupdate")
	const secret = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IQ=="
	common := "[dns]\nresolver = \"127.0.0.1:9\"\nhosts = \"\"\ntrust_anchors = \"off\"\n" + "%s[[dns.key]]\nname = \"transfer\"\nsecret = \"" + secret + "\"\n"
	primary := prepare(t, options{config: "[listen]\ndns = [\"127.0.0.1:0\"]\ndns_tls = [\"127.0.0.1:0\"]\n" + fmt.Sprintf(common, "zones = [\"plain.test.zone\"]\n") +
		"[[dns.zone]]\nname = \"example.test\"\nfile = \"example.zone\"\nallow_transfer = [\"key transfer\"]\nallow_update = [\"key transfer\"]\n"})
	file := filepath.Join(primary.dir, "plain.test.zone")
	writeFile(t, file, fmt.Sprintf(organisation, 1))
	writeFile(t, filepath.Join(primary.dir, "example.zone"), fmt.Sprintf(organisation, 1))
	primary.init()
	primary.start()
	second := prepare(t, options{config: "[listen]\ndns = [\"127.0.0.1:0\"]\n" + fmt.Sprintf(common, "") +
		"[[dns.zone]]\nname = \"example.test\"\nprimaries = [\"127.0.0.1:" + primary.port("dns") + " key transfer\"]\nallow_update = [\"127.0.0.1\"]\n"})
	second.init()
	second.start()

	ask := func(s *server, service string, args ...string) string {
		t.Helper()
		return succeed(t, nil, "", dig, append([]string{"@127.0.0.1", "-p", s.port(service)}, args...)...)
	}
	for _, args := range [][]string{{"www.plain.test"}, {"+tcp", "www.plain.test"}} {
		if out := ask(primary, "dns", args...); !strings.Contains(out, "192.0.2.80") || !strings.Contains(out, "flags: qr aa rd ra;") {
			t.Errorf("dig %v: %s", args, out)
		}
	}
	if out := ask(primary, "dns_tls", "+tls", "www.plain.test"); !strings.Contains(out, "192.0.2.80") || !strings.Contains(out, "(TLS)") {
		t.Errorf("over TLS: %s", out)
	}
	writeFile(t, file, fmt.Sprintf(organisation, 2)+"new A 192.0.2.99\n")
	if err := syscall.Kill(primary.pid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if out := ask(primary, "dns", "+short", "new.plain.test"); out != "192.0.2.99\n" {
			return fmt.Errorf("after a reload: %q", out)
		}
		return nil
	})
	serial := func(s *server, want string) {
		t.Helper()
		eventually(t, func() error {
			if out := ask(s, "dns", "+short", "example.test", "SOA"); !strings.Contains(out, " "+want+" ") {
				return fmt.Errorf("serial: %q, want %s", out, want)
			}
			return nil
		})
	}
	serial(second, "1")
	// The secondary takes it by the sender's address, the primary by his key.
	succeed(t, nil, "server 127.0.0.1 "+second.port("dns")+"\nzone example.test.\nupdate add host.example.test. 60 A 192.0.2.7\nsend\n",
		nsupdate, "-y", "hmac-sha256:transfer:"+secret)
	serial(primary, "2")
	second.must("dns", "refresh", "example.test")
	serial(second, "2")
	if out := primary.must("dns", "zones"); !strings.Contains(out, "plain.test") || !strings.Contains(out, "primary") {
		t.Errorf("dns zones: %s", out)
	}
	if out := second.must("dns", "zones"); !strings.Contains(out, "secondary") || !strings.Contains(out, "confirmed") {
		t.Errorf("dns zones: %s", out)
	}
	primary.kill() // what was acknowledged is there after a crash
	primary.start()
	if out := ask(primary, "dns", "+short", "host.example.test"); out != "192.0.2.7\n" {
		t.Errorf("after a crash: %q", out)
	}
}
