package node

import (
	"net/netip"
	"reflect"
	"testing"
)

func TestReachablePorts(t *testing.T) {
	list := func(pairs ...string) (out []serviceAddr) {
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, serviceAddr{pairs[i], netip.MustParseAddrPort(pairs[i+1])})
		}
		return out
	}
	for _, tt := range []struct {
		addrs    []serviceAddr
		ports    map[string]uint16
		loopback bool
	}{
		{nil, map[string]uint16{}, true},
		{list("smtp", "127.0.0.1:10025", "imap", "[::1]:10143"), map[string]uint16{"smtp": 10025, "imap": 10143}, true},
		// A service for this machine alone is not one that others are told of.
		{list("smtp", "0.0.0.0:25", "imap", "127.0.0.1:143", "imaps", "[::]:993", "imaps", "[::]:994"), map[string]uint16{"smtp": 25, "imaps": 993}, false},
	} {
		ports, loopback := reachablePorts(tt.addrs)
		if !reflect.DeepEqual(ports, tt.ports) || loopback != tt.loopback {
			t.Errorf("%v: %v, %v", tt.addrs, ports, loopback)
		}
	}
}
