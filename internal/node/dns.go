package node

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	dnsserver "postrider/dns/server"
	"postrider/dns/zone"
)

// DNS says what the name server serves. All of it may change while the node
// runs, by Reload.
type DNS struct {
	// Files are master files of primary zones with nothing else to say about
	// them; the origin is what the file names, or its base name.
	Files []string
	Zones []dnsserver.ZoneConfig
	Keys  []*dnsserver.Key
	// Recursion has the networks whose clients get answers about all names.
	Recursion  []netip.Prefix
	RateLimit  int // answers of one kind to one network per second; 0 = off
	Minimal    bool
	Rotate     bool
	LocalZones bool
	UDPSize    int // octets of the largest datagram
	Own        Own // zones with our own records
}

func defaultDNS() DNS {
	return DNS{
		Recursion: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		RateLimit: 200, Minimal: true, Rotate: true, LocalZones: true, UDPSize: 1232,
		Own: Own{Sign: true},
	}
}

// settings is d as the server takes it; the error names a zone file that cannot
// be read.
func (d *DNS) settings() (dnsserver.Settings, error) {
	s := dnsserver.Settings{
		Zones: slices.Clone(d.Zones), Keys: d.Keys, Recursion: d.Recursion,
		Minimal: d.Minimal, FixedOrder: !d.Rotate, LocalZones: d.LocalZones, MaxUDP: d.UDPSize,
		// Those who may ask for everything are trusted with much, too.
		RateLimit: dnsserver.RateLimit{PerSecond: d.RateLimit, Exempt: d.Recursion},
	}
	var errs []error
	for _, path := range d.Files {
		z, err := zone.Load(path, "")
		if err != nil {
			base := filepath.Base(path)
			var named error
			if z, named = zone.Load(path, base[:len(base)-len(filepath.Ext(base))]); named != nil {
				errs = append(errs, err)
				continue
			}
		}
		s.Zones = append(s.Zones, dnsserver.ZoneConfig{Name: z.Origin(), File: path})
	}
	for _, name := range d.Own.Zones {
		c := d.Own.config(name)
		if i := slices.IndexFunc(s.Zones, func(z dnsserver.ZoneConfig) bool { return z.Name == name }); i >= 0 {
			// Who is told of changes, who may have it, and perhaps how it is signed.
			if s.Zones[i].Sign == nil {
				s.Zones[i].Sign = c.Sign
			}
		} else {
			s.Zones = append(s.Zones, c)
		}
	}
	return s, errors.Join(errs...)
}

// buildDNS makes the name server, where one is to listen.
func (n *Node) buildDNS() error {
	if n.ls == nil || !slices.ContainsFunc(n.ls.all, func(b bound) bool { return b.service == "dns" || b.service == "dns_tls" }) {
		return nil
	}
	// Clients are answered from the root down, whoever answers our own mail.
	recursor, err := n.iterative()
	if err != nil {
		return err
	}
	s, err := dnsserver.New(dnsserver.Options{
		Recursor: recursor, Dial: n.options.Dial, Dir: filepath.Join(n.options.DataDir, "dns"), Clock: n.options.Clock, Log: n.log,
		Journey: n.journey, HotOctets: n.options.DNSCache,
	})
	if err != nil {
		return err
	}
	n.dns = s
	n.own = newOwnZones(n)
	n.protocols["dns"] = s.Protocol("dns", nil)
	n.protocols["dns_tls"] = s.Protocol("dns_tls", n.certs.Config())
	n.metrics.registry.MustRegister(dnsCollector{s})
	return n.reloadDNS(n.options.DNS)
}

func (n *Node) reloadDNS(d DNS) error {
	if n.dns == nil {
		return nil
	}
	settings, err := d.settings()
	if err == nil {
		err = n.dns.Configure(settings)
	}
	if err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	n.own.set(d.Own)
	return nil
}

// dnsCollector gives the name server's figures.
type dnsCollector struct{ s *dnsserver.Server }

func dnsDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("postrider_dns_"+name, help, labels, nil)
}

// Describe says nothing: the labels are not known beforehand.
func (c dnsCollector) Describe(chan<- *prometheus.Desc) {}

func (c dnsCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.s.Stats()
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	queries := dnsDesc("queries_total", "Messages that came to the name server.", "transport")
	for transport, n := range st.Queries {
		count(queries, n, transport)
	}
	answers := dnsDesc("answers_total", "Replies of the name server.", "rcode")
	for rcode, n := range st.Answers {
		count(answers, n, rcode)
	}
	count(dnsDesc("hot_total", "Replies made of octets that were ready."), st.Hot)
	count(dnsDesc("dropped_total", "Messages that are no queries."), st.Dropped)
	count(dnsDesc("withheld_total", "Replies not given, for their rate."), st.Withheld)
	count(dnsDesc("slipped_total", "Replies without records that send the client to TCP, for their rate."), st.Slipped)
	count(dnsDesc("busy_total", "Queries not answered, since too many were in hand."), st.Busy)
	count(dnsDesc("transfers_total", "Zones sent to secondaries."), st.Transfers)
	serial := dnsDesc("zone_serial", "Serial of a zone.", "zone")
	expired := dnsDesc("zone_expired", "1 for a secondary zone that no primary has confirmed for too long.", "zone")
	for _, z := range c.s.Zones() {
		bad := 0.0
		if z.Expired {
			bad = 1
		}
		ch <- prometheus.MustNewConstMetric(serial, prometheus.GaugeValue, float64(z.Serial), z.Name)
		ch <- prometheus.MustNewConstMetric(expired, prometheus.GaugeValue, bad, z.Name)
	}
}
