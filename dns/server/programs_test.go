package server

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnstest"
)

// runProgram runs a program of Debian's and returns what it printed. An error fails the
// test, with the package's name in setup.sh.
func runProgram(t *testing.T, stdin string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v (integration/setup.sh installs it)\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestPrograms: what dig, host and nslookup print of us.
func TestPrograms(t *testing.T) {
	w := newTown(t, Options{Recursor: fixed{"host.example.net. A": "host.example.net. 300 IN A 203.0.113.9", "host.example.net. AAAA": "host.example.net. 300 IN AAAA 2001:db8::9",
		"5.2.0.192.in-addr.arpa. PTR": "5.2.0.192.in-addr.arpa. 300 IN PTR host.example.net."}},
		Settings{Recursion: loopback, FixedOrder: true, LocalZones: true}, parse(t, "example.test.", exampleZone), parse(t, "2.0.192.in-addr.arpa.", "@ 60 SOA a b 1 2 3 4 5\n@ 60 NS ns.example.test.\n25 60 PTR mail.example.test.\n")).listen()
	_, port, _ := net.SplitHostPort(w.udp)
	for _, c := range []struct {
		command string
		want    []string
		not     string
	}{
		{"dig -p PORT @127.0.0.1 mail.example.test A", []string{"status: NOERROR", "flags: qr aa rd ra;", "192.0.2.25", "(good)"}, "WARNING"},
		{"dig -p PORT @127.0.0.1 +tcp mail.example.test AAAA", []string{"flags: qr aa rd ra;", "2001:db8::25"}, "WARNING"},
		{"dig -p PORT @127.0.0.1 host.example.net", []string{"flags: qr rd ra;", "203.0.113.9"}, "WARNING"},
		{"dig -p PORT @127.0.0.1 +noedns +ignore big.example.test TXT", []string{"flags: qr aa tc rd ra;"}, "OPT"},
		{"dig -p PORT @127.0.0.1 big.example.test TXT", []string{"Truncated, retrying in TCP mode", "ANSWER: 6"}, "WARNING"},
		{"dig -p PORT @127.0.0.1 version.bind TXT CH", []string{"status: REFUSED"}, "VERSION"},
		{"dig -p PORT @127.0.0.1 +edns=1 +noednsneg example.test", []string{"status: BADVERS"}, "ANSWER SECTION"},
		{"dig -p PORT @127.0.0.1 +opcode=STATUS example.test", []string{"opcode: STATUS, status: NOTIMP"}, ""},
		{"dig -p PORT @127.0.0.1 -x 192.0.2.25 +short", []string{"mail.example.test."}, ""},
		{"dig -p PORT @127.0.0.1 example.test AXFR", []string{"Transfer failed"}, "SOA"},
		{"host -p PORT -t A mail.example.test 127.0.0.1", []string{"mail.example.test has address 192.0.2.25"}, ""},
		{"host -p PORT mail.example.test 127.0.0.1", []string{"has address 192.0.2.25", "has IPv6 address 2001:db8::25"}, ""},
		{"host -p PORT 192.0.2.25 127.0.0.1", []string{"domain name pointer mail.example.test."}, ""},
		{"nslookup -port=PORT mail.example.test 127.0.0.1", []string{"Address: 192.0.2.25", "Address: 2001:db8::25"}, "Non-authoritative"},
		{"nslookup -port=PORT host.example.net 127.0.0.1", []string{"Non-authoritative answer:", "Address: 203.0.113.9", "Address: 2001:db8::9"}, ""},
		{"nslookup -port=PORT 127.0.0.1 127.0.0.1", []string{"name = localhost."}, ""},
	} {
		args := strings.Fields(strings.ReplaceAll(c.command, "PORT", port))
		out := runProgram(t, "", args[0], args[1:]...)
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", c.command, want, out)
			}
		}
		if c.not != "" && strings.Contains(out, c.not) {
			t.Errorf("%s: %q in\n%s", c.command, c.not, out)
		}
	}
}

// TestNsupdate: BIND's client adds a host, with a prerequisite that fails, and
// without the key.
func TestNsupdate(t *testing.T) {
	k := key(t, "up", "hmac-sha256", secret)
	w := newTown(t, Options{Dir: t.TempDir()}, Settings{Keys: []*Key{k}, Zones: []ZoneConfig{{Name: "example.test.", AllowUpdate: ACL{Keys: []string{"up"}}}}})
	if err := w.s.Publish(parse(t, "example.test.", exampleZone)); err != nil {
		t.Fatal(err)
	}
	w.listen()
	_, port, _ := net.SplitHostPort(w.udp)
	head := "server 127.0.0.1 " + port + "\nzone example.test.\n"
	if out := runProgram(t, head+"update add host.example.test. 60 A 192.0.2.99\nsend\n", "nsupdate", "-y", "hmac-sha256:up:"+secret); out != "" {
		t.Errorf("nsupdate: %s", out)
	}
	for _, c := range []struct{ text, want, key string }{
		{"prereq nxdomain host.example.test.\nupdate add b.example.test. 60 A 192.0.2.1\nsend\n", "YXDOMAIN", "hmac-sha256:up:" + secret},
		{"update add b.example.test. 60 A 192.0.2.1\nsend\n", "NOTAUTH", "hmac-sha256:other:" + secret},
	} {
		cmd := exec.CommandContext(t.Context(), "nsupdate", "-y", c.key)
		cmd.Stdin = strings.NewReader(head + c.text)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v, %s", c.text, err, out)
		}
	}
	z, err := w.s.Zone("example.test.")
	if err != nil || z.Serial() != 11 || len(z.Find("host.example.test.", miekg.TypeA)) != 1 || z.Exists("b.example.test.") {
		t.Errorf("the zone: %v, %v", z, err)
	}
}

// other is a name server of Debian's with a zone, as primary or as secondary.
type other struct {
	name string
	// start writes its configuration and returns the command: it listens at port,
	// and takes the zone from port ours where it is a secondary, else it notifies
	// that.
	start func(dir, port, ours string, secondary bool) []string
}

const bindKey = "key \"k\" { algorithm hmac-sha256; secret \"" + secret + "\"; };\n"

var others = []other{
	{"named", func(dir, port, ours string, secondary bool) []string {
		zone := "type primary; file \"zone\"; allow-transfer { key k; }; also-notify { 127.0.0.1 port " + ours + " key k; }; notify explicit; allow-update { key k; }; check-names ignore;"
		if secondary {
			zone = "type secondary; file \"copy\"; primaries { 127.0.0.1 port " + ours + " key k; };"
		}
		write(dir, "named.conf", bindKey+"options { directory \""+dir+"\"; listen-on port "+port+" { 127.0.0.1; }; listen-on-v6 { none; }; pid-file none; "+
			"session-keyfile \""+dir+"/session\"; recursion no; dnssec-validation no; notify-delay 0; };\ncontrols { };\nzone \"example.test\" { "+zone+" };\n")
		return []string{"named", "-g", "-c", filepath.Join(dir, "named.conf"), "-n", "1"}
	}},
	{"nsd", func(dir, port, ours string, secondary bool) []string {
		zone := "  provide-xfr: 127.0.0.1 k\n  notify: 127.0.0.1@" + ours + " k\n"
		file := "zone"
		if secondary {
			file = "copy"
			zone = "  request-xfr: 127.0.0.1@" + ours + " k\n  allow-notify: 127.0.0.1 k\n  allow-notify: 127.0.0.1 NOKEY\n"
		}
		write(dir, "nsd.conf", "server:\n  ip-address: 127.0.0.1@"+port+"\n  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  database: \"\"\n  zonesdir: \""+dir+"\"\n"+
			"  pidfile: \"\"\n  xfrdir: \""+dir+"\"\n  xfrdfile: \""+dir+"/xfrd.state\"\n  zonelistfile: \""+dir+"/list\"\n"+
			"remote-control:\n  control-enable: no\nkey:\n  name: k\n  algorithm: hmac-sha256\n  secret: \""+secret+"\"\n"+
			"zone:\n  name: example.test\n  zonefile: "+file+"\n"+zone)
		return []string{"nsd", "-d", "-c", filepath.Join(dir, "nsd.conf")}
	}},
	{"knotd", func(dir, port, ours string, secondary bool) []string {
		zone := "    file: zone\n    acl: [xfer, update]\n    notify: ours\n"
		if secondary {
			zone = "    file: copy\n    master: ours\n    acl: notify\n"
		}
		write(dir, "knot.conf", "server:\n    rundir: "+dir+"\n    listen: 127.0.0.1@"+port+"\n    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n"+
			"database:\n    storage: "+dir+"\nkey:\n  - id: k\n    algorithm: hmac-sha256\n    secret: "+secret+"\n"+
			"remote:\n  - id: ours\n    address: 127.0.0.1@"+ours+"\n    key: k\n"+
			"acl:\n  - id: xfer\n    key: k\n    action: transfer\n  - id: update\n    key: k\n    action: update\n  - id: notify\n    address: 127.0.0.1\n    action: notify\n    key: k\n"+
			"zone:\n  - domain: example.test\n    storage: "+dir+"\n"+zone)
		return []string{"knotd", "-c", filepath.Join(dir, "knot.conf")}
	}},
}

func write(dir, name, text string) {
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		panic(err)
	}
}

// running is a server of Debian's until the end of the test.
type running struct {
	addr  string
	log   bytes.Buffer  // complete once it has ended
	ended chan struct{} // closed
}

func startOther(t *testing.T, o other, ours string, secondary bool) *running {
	t.Helper()
	dir := t.TempDir()
	write(dir, "zone", "$ORIGIN example.test.\n"+exampleZone)
	port, err := dnstest.Port()
	if err != nil {
		t.Fatal(err)
	}
	args := o.start(dir, fmt.Sprint(port), ours, secondary)
	if path, err := exec.LookPath("/usr/sbin/" + args[0]); err == nil {
		args[0] = path
	}
	r := &running{addr: fmt.Sprintf("127.0.0.1:%d", port), ended: make(chan struct{})}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &r.log, &r.log
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v (integration/setup.sh installs it)", err)
	}
	go func() {
		defer close(r.ended)
		_ = cmd.Wait() // by a signal
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		kill := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		<-r.ended
		kill.Stop()
		if t.Failed() {
			t.Logf("%s:\n%s", o.name, r.log.String())
		}
	})
	return r
}

// until asks a server for the serial of example.test until it is the wanted one;
// r must go on running.
func (r *running) until(t *testing.T, addr string, want uint32) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	end := time.After(90 * time.Second)
	c := &miekg.Client{Timeout: time.Second}
	last := "nothing"
	for {
		m, _, err := c.Exchange(question("example.test.", miekg.TypeSOA), addr)
		if err != nil {
			last = err.Error()
		} else if len(m.Answer) == 1 {
			got := m.Answer[0].(*miekg.SOA).Serial
			if got == want {
				return
			}
			last = fmt.Sprint(got)
		} else {
			last = miekg.RcodeToString[m.Rcode]
		}
		select {
		case <-tick.C:
		case <-r.ended:
			t.Fatal("the other server has ended")
		case <-end:
			t.Fatalf("%s has %s, want serial %d", addr, last, want)
		}
	}
}

// TestTheirSecondary: named, nsd and knot take our zone whole, and by differences
// when we notify them.
func TestTheirSecondary(t *testing.T) {
	for _, o := range others {
		t.Run(o.name, func(t *testing.T) {
			k := key(t, "k", "hmac-sha256", secret)
			zones := []ZoneConfig{{Name: "example.test.", AllowTransfer: ACL{Keys: []string{"k"}}}}
			w := newTown(t, Options{}, Settings{Keys: []*Key{k}, Zones: zones})
			if err := w.s.Publish(parse(t, "example.test.", exampleZone)); err != nil {
				t.Fatal(err)
			}
			w.listen()
			_, port, _ := net.SplitHostPort(w.udp)
			their := startOther(t, o, port, true)
			their.until(t, their.addr, 10)
			zones = []ZoneConfig{zones[0]}
			zones[0].Notify = []Remote{{Addr: their.addr, Key: "k"}}
			if err := w.s.Configure(Settings{Keys: []*Key{k}, Zones: zones}); err != nil {
				t.Fatal(err)
			}
			next := strings.Replace(exampleZone, "hostmaster 10", "hostmaster 11", 1) + "new A 192.0.2.91\n"
			if err := w.s.Publish(parse(t, "example.test.", next)); err != nil {
				t.Fatal(err)
			}
			their.until(t, their.addr, 11)
			if r := overNet(t, "udp", their.addr, question("new.example.test.", miekg.TypeA)); len(r.Answer) != 1 {
				t.Errorf("the new record: %v", r)
			}
		})
	}
}

// TestTheirPrimary: we take a zone of named, nsd and knot, and what changes when
// they notify us; of those that take updates, by one that we pass on.
func TestTheirPrimary(t *testing.T) {
	for _, o := range others {
		t.Run(o.name, func(t *testing.T) {
			k := key(t, "k", "hmac-sha256", secret)
			w := newTown(t, Options{Dir: t.TempDir()}, Settings{}).listen()
			_, port, _ := net.SplitHostPort(w.udp)
			their := startOther(t, o, port, false)
			acl := ACL{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Keys: []string{"k"}}
			err := w.s.Configure(Settings{Keys: []*Key{k}, Zones: []ZoneConfig{{Name: "example.test.", Primaries: []Remote{{Addr: their.addr, Key: "k"}}, AllowUpdate: acl}}})
			if err != nil {
				t.Fatal(err)
			}
			their.until(t, w.udp, 10)
			if o.name == "nsd" {
				return // it takes no updates
			}
			if out := runProgram(t, "server 127.0.0.1 "+port+"\nzone example.test.\nupdate add new.example.test. 60 A 192.0.2.91\nsend\n", "nsupdate", "-y", "hmac-sha256:k:"+secret); out != "" {
				t.Errorf("nsupdate through us: %s", out)
			}
			their.until(t, w.udp, 11)
			if r := overNet(t, "tcp", w.tcp, question("new.example.test.", miekg.TypeA)); len(r.Answer) != 1 {
				t.Errorf("the new record: %v", r)
			}
		})
	}
}
