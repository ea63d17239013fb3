package node

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	dnsserver "postrider/dns/server"
)

// A node that resolves by itself asks the servers of its hints, at the port and
// in the networks that it was told, and says what is wrong with its files.
func TestIterativeNode(t *testing.T) {
	file := func(name, text string) string {
		p := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	root, err := dnsserver.New(dnsserver.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := root.Configure(dnsserver.Settings{Zones: []dnsserver.ZoneConfig{{Name: ".",
		File: file("root", ". 300 SOA a. b. 1 2 3 4 5\n. 300 NS a.\na. 300 A 127.0.0.1\nexample.com. 300 MX 10 mx.example.com.\n")}}}); err != nil {
		t.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := root.ServePacket(packets); err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(packets.LocalAddr().String())
	o := options(t)
	o.Resolver, o.TrustAnchors = "iterative", "off"
	o.RootHints = file("hints", ". NS a.\na. A "+addr.Addr().String()+"\n")
	o.NameServerNetworks, o.NameServerPort = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, addr.Port()
	n, err := New(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := n.newResolver("")
	if err != nil {
		t.Fatal(err)
	}
	if mx, err := r.MX(t.Context(), "example.com"); err != nil || len(mx) != 1 {
		t.Errorf("got %v, %v", mx, err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	for want, spoil := range map[string]func(o *Options){
		"dns.root_hints":    func(o *Options) { o.RootHints = "/none" },
		"root hints":        func(o *Options) { o.RootHints = file("hints", "nothing\n") },
		"dns.trust_anchors": func(o *Options) { o.TrustAnchors = "/none" },
		"trust anchors":     func(o *Options) { o.TrustAnchors = file("anchors", "; nothing\n") },
	} {
		bad := o
		spoil(&bad)
		if n, err := New(t.Context(), bad, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
			if n != nil {
				n.Close()
			}
		}
	}
}
