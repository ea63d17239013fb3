package dnssec

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestRootAnchors(t *testing.T) {
	var tags []uint16
	for _, rr := range RootAnchors() {
		tags = append(tags, rr.(*dns.DS).KeyTag)
	}
	if len(tags) != 2 || tags[0] != 20326 || tags[1] != 38696 {
		t.Errorf("root anchors %v", tags)
	}
}

func TestReadAnchorsRefuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "there are none"},
		{"; only a comment\n", "there are none"},
		{". IN A 192.0.2.1", "only DS and DNSKEY"},
		{". IN DS 1 1 2 00", "not supported"},
		{". IN DS 1 8 3 00", "not supported"},
		{". IN DS 1 8 2 00", "wrong length"},
		{". IN DS 1 8 2 xyz", "malformed"},
		{". IN DNSKEY 256 2 8 AwEAAag=", "not a valid key"},
		{". IN DNSKEY 385 3 8 AwEAAag=", "not a valid key"},
		{". IN DNSKEY 0 3 8 AwEAAag=", "not a valid key"},
		{"$INCLUDE /etc/passwd\n", "trust anchors"},
		{"nonsense", "trust anchors"},
		{strings.Repeat(". IN DS 1 8 2 "+strings.Repeat("00", 32)+"\n", maxAnchors+1), "more than"},
	} {
		if rrs, err := ReadAnchors(strings.NewReader(c.text), "file"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: %v, %v; want an error with %q", c.text, rrs, err, c.want)
		}
	}
}
