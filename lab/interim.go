package lab

import (
	"strings"

	"postrider/dns/dnstest"
)

// startNames: one small name server stands for all of them.
func (l *Lab) startNames() error {
	var b strings.Builder
	for i := range l.world.Zones {
		z := &l.world.Zones[i]
		rrs, err := l.world.zoneRecords(z)
		if err != nil {
			return err
		}
		for _, rr := range rrs {
			b.WriteString(rr.String() + "\n")
		}
	}
	parsed, err := dnstest.Parse(b.String())
	if err != nil {
		return err
	}
	for _, m := range l.machines {
		if m.names == nil {
			continue
		}
		at := m.names.tcp.Addr().String()
		m.names.close()
		s, err := dnstest.Listen(at, parsed)
		if err != nil {
			return err
		}
		m.resolver = s
	}
	return nil
}

func (m *machine) cache() []CacheEntry { return []CacheEntry{} }
func (m *machine) flushCache() error   { return nil }
