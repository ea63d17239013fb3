package lab

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
	"postrider/dns/recursor"
)

// What the lab leaves in its folder is enough for a resolver outside of it to walk
// from its root down and to believe what it finds.
func TestRootFiles(t *testing.T) {
	l, _ := start(t, Options{})
	file, err := os.Open(filepath.Join(l.dir, hintsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	hints, err := recursor.ReadHints(file, hintsFile)
	if err != nil {
		t.Fatal(err)
	}
	anchors, err := dnssec.LoadAnchors(filepath.Join(l.dir, anchorsFile))
	if err != nil {
		t.Fatal(err)
	}
	v, err := dnssec.New(dnssec.Options{Anchors: anchors})
	if err != nil {
		t.Fatal(err)
	}
	_, text, err := net.SplitHostPort(l.real(t, "a.root-servers.net", "dns"))
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	r, err := recursor.New(recursor.Options{Hints: hints, Validator: v, Port: uint16(port), NoIPv6: true,
		Local: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	a := r.Resolve(t.Context(), miekg.Question{Name: "hamburger.edu.", Qtype: miekg.TypeMX, Qclass: miekg.ClassINET}, recursor.Ask{})
	if a.Err != nil || a.Security != dnssec.Secure || len(a.Answer) == 0 {
		t.Errorf("from the root down: %v, %v, %v", a.Answer, a.Security, a.Err)
	}
}
