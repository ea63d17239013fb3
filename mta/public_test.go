package mta

import (
	"net/netip"
	"testing"
)

func TestNotPublic(t *testing.T) {
	for _, s := range []string{
		"127.0.0.1", "::1", "10.1.2.3", "172.31.255.255", "192.168.0.1", "169.254.169.254", "fe80::1", "fc00::1",
		"100.64.0.1", "0.1.2.3", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "240.0.0.1",
		"::ffff:10.0.0.1", "::7f00:1", "64:ff9b::a00:1", "64:ff9b::", "2002:7f00:1::1", "2002:a00:1::", "2001:db8::1", "fec0::1",
		"2001:0:1:2:3:4:f5ff:fffe", // Teredo of 10.0.0.1
	} {
		if NotPublic(netip.MustParseAddr(s)) == "" {
			t.Errorf("%s passes for public", s)
		}
	}
	for _, s := range []string{"8.8.8.8", "172.32.0.1", "2a00:1450::1", "64:ff9b::808:808", "2002:808:808::1", "100.128.0.1"} {
		if why := NotPublic(netip.MustParseAddr(s)); why != "" {
			t.Errorf("%s: %s", s, why)
		}
	}
}
