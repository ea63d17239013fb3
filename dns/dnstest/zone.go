package dnstest

import (
	"fmt"
	"io"
	"os"
	"strings"

	miekg "github.com/miekg/dns"

	"postrider/dns/names"
)

// Zone is the data of a name server: the records of any number of zones.
type Zone struct {
	names map[string][]miekg.RR // by canonical name; with empty ones between
	soas  map[string]*miekg.SOA
}

// maxAliases bounds the CNAME records that are followed for one answer.
const maxAliases = 16

// Parse reads zone text. Names without a final dot are below the root or
// $ORIGIN, TTLs not given are one hour or $TTL. Records of several zones may
// stand together; what is below no SOA record is in the root zone.
func Parse(text string) (*Zone, error) { return Read(strings.NewReader(text), "zone") }

// Load reads a zone file.
func Load(path string) (*Zone, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Read(f, path)
}

// Read is Parse for a reader; file stands in error texts.
func Read(r io.Reader, file string) (*Zone, error) {
	z := &Zone{names: map[string][]miekg.RR{}, soas: map[string]*miekg.SOA{}}
	p := miekg.NewZoneParser(r, ".", file)
	p.SetDefaultTTL(3600)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		name := miekg.CanonicalName(rr.Header().Name)
		z.names[name] = append(z.names[name], rr)
		if soa, ok := rr.(*miekg.SOA); ok {
			z.soas[name] = soa
		}
		for up := names.Parent(name); up != "."; up = names.Parent(up) {
			if _, ok := z.names[up]; !ok {
				z.names[up] = nil // an empty non-terminal exists (RFC 4592 section 2.2.2)
			}
		}
	}
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("read zone: %w", err)
	}
	return z, nil
}

// answer fills in the sections and the rcode for one question.
func (z *Zone) answer(m *miekg.Msg, q miekg.Question) {
	name := miekg.CanonicalName(q.Name)
	owner := q.Name // as it was asked, letter by letter
	for range maxAliases {
		rrs, exists := z.find(name)
		if !exists {
			m.Rcode = miekg.RcodeNameError
			break
		}
		target, n := "", len(m.Answer)
		for _, rr := range rrs {
			t := rr.Header().Rrtype
			if t == q.Qtype || q.Qtype == miekg.TypeANY {
				m.Answer = append(m.Answer, owned(rr, owner))
			} else if c, ok := rr.(*miekg.CNAME); ok {
				m.Answer = append(m.Answer, owned(rr, owner))
				target = c.Target
			}
		}
		if target == "" && len(m.Answer) > n {
			return
		}
		if target == "" {
			break
		}
		name, owner = miekg.CanonicalName(target), target
	}
	m.Ns = append(m.Ns, z.soa(name))
}

func owned(rr miekg.RR, name string) miekg.RR {
	rr = miekg.Copy(rr)
	rr.Header().Name = name
	return rr
}

// find returns the records of a name, those of a wildcard if it has none of
// its own (RFC 1034 section 4.3.3, RFC 4592).
func (z *Zone) find(name string) (rrs []miekg.RR, exists bool) {
	if rrs, ok := z.names[name]; ok || name == "." {
		return rrs, true
	}
	for up := names.Parent(name); ; up = names.Parent(up) {
		if rrs, ok := z.names[names.Wildcard(up)]; ok {
			return rrs, true
		}
		if _, ok := z.names[up]; ok || up == "." {
			return nil, false // the closest encloser has no wildcard
		}
	}
}

// soa is the record of the zone that a name is in.
func (z *Zone) soa(name string) *miekg.SOA {
	for ; ; name = names.Parent(name) {
		if soa, ok := z.soas[name]; ok {
			return soa
		}
		if name == "." {
			return &miekg.SOA{
				Hdr: miekg.RR_Header{Name: ".", Rrtype: miekg.TypeSOA, Class: miekg.ClassINET, Ttl: 60},
				Ns:  "localhost.", Mbox: "hostmaster.localhost.", Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: 60,
			}
		}
	}
}
