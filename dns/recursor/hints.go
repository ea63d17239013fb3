package recursor

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	miekg "github.com/miekg/dns"
)

// maxHints bounds the octets of a file of root hints.
const maxHints = 64 << 10

// rootHints are the root servers (as of 2025; IANA publishes them as named.root).
// A resolver asks one of them for the present set when it begins (priming,
// RFC 8109), so that one address that still works is enough.
const rootHints = `
.                   3600000 NS   a.root-servers.net.
.                   3600000 NS   b.root-servers.net.
.                   3600000 NS   c.root-servers.net.
.                   3600000 NS   d.root-servers.net.
.                   3600000 NS   e.root-servers.net.
.                   3600000 NS   f.root-servers.net.
.                   3600000 NS   g.root-servers.net.
.                   3600000 NS   h.root-servers.net.
.                   3600000 NS   i.root-servers.net.
.                   3600000 NS   j.root-servers.net.
.                   3600000 NS   k.root-servers.net.
.                   3600000 NS   l.root-servers.net.
.                   3600000 NS   m.root-servers.net.
a.root-servers.net. 3600000 A    198.41.0.4
a.root-servers.net. 3600000 AAAA 2001:503:ba3e::2:30
b.root-servers.net. 3600000 A    170.247.170.2
b.root-servers.net. 3600000 AAAA 2801:1b8:10::b
c.root-servers.net. 3600000 A    192.33.4.12
c.root-servers.net. 3600000 AAAA 2001:500:2::c
d.root-servers.net. 3600000 A    199.7.91.13
d.root-servers.net. 3600000 AAAA 2001:500:2d::d
e.root-servers.net. 3600000 A    192.203.230.10
e.root-servers.net. 3600000 AAAA 2001:500:a8::e
f.root-servers.net. 3600000 A    192.5.5.241
f.root-servers.net. 3600000 AAAA 2001:500:2f::f
g.root-servers.net. 3600000 A    192.112.36.4
g.root-servers.net. 3600000 AAAA 2001:500:12::d0d
h.root-servers.net. 3600000 A    198.97.190.53
h.root-servers.net. 3600000 AAAA 2001:500:1::53
i.root-servers.net. 3600000 A    192.36.148.17
i.root-servers.net. 3600000 AAAA 2001:7fe::53
j.root-servers.net. 3600000 A    192.58.128.30
j.root-servers.net. 3600000 AAAA 2001:503:c27::2:30
k.root-servers.net. 3600000 A    193.0.14.129
k.root-servers.net. 3600000 AAAA 2001:7fd::1
l.root-servers.net. 3600000 A    199.7.83.42
l.root-servers.net. 3600000 AAAA 2001:500:9f::42
m.root-servers.net. 3600000 A    202.12.27.33
m.root-servers.net. 3600000 AAAA 2001:dc3::35
`

// Hints are root servers and their addresses.
type Hints struct {
	servers []string
	addrs   map[string][]address
}

// BuiltinHints are those of the public root.
func BuiltinHints() *Hints {
	h, err := ReadHints(strings.NewReader(rootHints), "built in")
	if err != nil {
		panic(err) // a test reads them
	}
	return h
}

// ReadHints reads a file of root hints in the form of a zone (named.root). The
// error names the file and the line.
func ReadHints(r io.Reader, file string) (*Hints, error) {
	h := &Hints{addrs: map[string][]address{}}
	p := miekg.NewZoneParser(io.LimitReader(r, maxHints), ".", file)
	p.SetDefaultTTL(3600000)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		name := miekg.CanonicalName(rr.Header().Name)
		switch rr := rr.(type) {
		case *miekg.NS:
			if name == "." && len(h.servers) < maxServers {
				h.servers = append(h.servers, miekg.CanonicalName(rr.Ns))
			}
		case *miekg.A, *miekg.AAAA:
			if a := addressOf(rr); a.IsValid() && len(h.addrs[name]) < maxGlue {
				h.addrs[name] = append(h.addrs[name], a)
			}
		}
	}
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("root hints: %w", err)
	}
	for _, s := range h.servers {
		if len(h.addrs[s]) > 0 {
			return h, nil
		}
	}
	return nil, fmt.Errorf("root hints: %s has no NS record of the root whose server has an address", file)
}

// addressOf is the address in an A or AAAA record; the zero Addr for others and
// for records without data.
func addressOf(rr miekg.RR) address {
	var a netip.Addr
	switch rr := rr.(type) {
	case *miekg.A:
		a, _ = netip.AddrFromSlice(rr.A)
	case *miekg.AAAA:
		a, _ = netip.AddrFromSlice(rr.AAAA)
	}
	return a.Unmap()
}

// cut is the delegation of the root that the hints make.
func (h *Hints) cut() *cut { return &cut{zone: ".", servers: h.servers, glue: h.addrs} }
