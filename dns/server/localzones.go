package server

import (
	"fmt"
	"strings"

	miekg "github.com/miekg/dns"

	"postrider/dns/zone"
)

// emptyZones are the zones of RFC 6303 section 4 and RFC 6761 that a resolver
// answers by itself, with no name in them: what is private, and what is never
// delegated.
const emptyZones = `10.in-addr.arpa 168.192.in-addr.arpa 0.in-addr.arpa 254.169.in-addr.arpa
2.0.192.in-addr.arpa 100.51.198.in-addr.arpa 113.0.203.in-addr.arpa 255.255.255.255.in-addr.arpa
0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa d.f.ip6.arpa
8.e.f.ip6.arpa 9.e.f.ip6.arpa a.e.f.ip6.arpa b.e.f.ip6.arpa 8.b.d.0.1.0.0.2.ip6.arpa invalid onion`

// localZones makes the zones that clients with recursion get answers from, as
// far as ours have none of that name or above it but the root's.
func localZones(have map[string]*served) map[string]*served {
	out := map[string]*served{}
	add := func(name string, records ...string) {
		name = miekg.CanonicalName(name)
		if z := find(have, name, miekg.TypeSOA); z != nil && z.name != "." {
			return
		}
		out[name] = localZone(name, records)
	}
	// RFC 6761 section 6.3: every name under localhost is this host.
	add("localhost", "@ A 127.0.0.1", "@ AAAA ::1", "* A 127.0.0.1", "* AAAA ::1")
	add("127.in-addr.arpa", "1.0.0 PTR localhost.")
	add("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa", "@ PTR localhost.")
	for _, name := range strings.Fields(emptyZones) {
		add(name)
	}
	for i := 16; i < 32; i++ {
		add(fmt.Sprintf("%d.172.in-addr.arpa", i))
	}
	for i := 64; i < 128; i++ { // RFC 7793
		add(fmt.Sprintf("%d.100.in-addr.arpa", i))
	}
	return out
}

// localZone has the SOA and NS records of RFC 6303 section 3 and the given ones.
func localZone(name string, records []string) *served {
	text := "$TTL 10800\n@ SOA @ nobody.invalid. 1 3600 1200 604800 10800\n@ NS @\n" + strings.Join(records, "\n") + "\n"
	version, err := zone.Read(strings.NewReader(text), zone.Options{Origin: name})
	if err != nil {
		panic("dns/server: the local zone " + name + ": " + err.Error()) // the text above is wrong
	}
	z := &served{name: name}
	z.config.Store(&ZoneConfig{Name: name})
	z.current.Store(version)
	return z
}

// localZone answers from the local zones; nil where none has the name.
func (s *Server) localZone(at *setup, question miekg.Question, do bool) *ours {
	z := find(at.local, question.Name, question.Qtype)
	if z == nil {
		return nil
	}
	version := z.current.Load()
	r := version.Answer(question, zone.AnswerOptions{DNSSEC: do, Minimal: at.Minimal})
	a := &ours{served: z, zone: version}
	a.msg.Question = []miekg.Question{question}
	a.add(&r)
	return a
}
