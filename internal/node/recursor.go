package node

import (
	"fmt"
	"os"
	"path/filepath"

	"postrider/dns/dnssec"
	"postrider/dns/recursor"
)

// anchorsFile keeps the trust anchors that came and went since the first start
// (RFC 5011), in the data directory.
const anchorsFile = "anchors"

// iterative returns the one resolver of this node that walks from the root
// down, which is made when it is first wanted.
func (n *Node) iterative() (*recursor.Resolver, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.recursor != nil {
		return n.recursor, nil
	}
	o := recursor.Options{
		Local: n.options.NameServerNetworks, Port: n.options.NameServerPort,
		CacheBytes: int(n.options.DNSCache), Dial: n.options.Dial, Clock: n.options.Clock, Log: n.log,
	}
	if n.options.RootHints != "" {
		hints, err := readHints(n.options.RootHints)
		if err != nil {
			return nil, err
		}
		o.Hints = hints
	}
	if n.options.TrustAnchors != "off" {
		d := dnssec.Options{Clock: n.options.Clock, State: filepath.Join(n.options.DataDir, anchorsFile)}
		if n.options.TrustAnchors != "" {
			anchors, err := dnssec.LoadAnchors(n.options.TrustAnchors)
			if err != nil {
				return nil, fmt.Errorf("dns.trust_anchors: %w", err)
			}
			d.Anchors = anchors
		}
		v, err := dnssec.New(d)
		if err != nil {
			return nil, err
		}
		o.Validator = v
	}
	r, err := recursor.New(o)
	if err != nil {
		return nil, err
	}
	n.recursor = r
	return r, nil
}

func readHints(path string) (*recursor.Hints, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("dns.root_hints: %w", err)
	}
	defer f.Close()
	hints, err := recursor.ReadHints(f, path)
	if err != nil {
		return nil, fmt.Errorf("dns.root_hints: %w", err)
	}
	return hints, nil
}
