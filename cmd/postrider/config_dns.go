package main

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	miekg "github.com/miekg/dns"

	"postrider/dns"
	"postrider/dns/dnssec"
	"postrider/dns/own"
	dnsserver "postrider/dns/server"
)

// tableKey is a key in one of the tables of an array: dns.zone[0].name.
var tableKey = regexp.MustCompile(`^dns\.(key|zone)\[(\d+)\]\.`)

// tsigKey is a table [[dns.key]].
type tsigKey struct{ name, algorithm, secret string }

// dnsTables adds to keys what the tables [[dns.key]] and [[dns.zone]] of a
// configuration may say.
func (c *config) dnsTables(values map[string]any, keys map[string]setter) {
	count := map[string]int{}
	for key := range values {
		if m := tableKey.FindStringSubmatch(key); m != nil {
			i, _ := strconv.Atoi(m[2]) // digits, of as many tables as there are
			count[m[1]] = max(count[m[1]], i+1)
		}
	}
	c.tsigKeys = make([]tsigKey, count["key"])
	for i := range c.tsigKeys {
		k, prefix := &c.tsigKeys[i], fmt.Sprintf("dns.key[%d].", i)
		k.algorithm = "hmac-sha256"
		keys[prefix+"name"] = text(&k.name, nil)
		keys[prefix+"algorithm"] = text(&k.algorithm, nil)
		keys[prefix+"secret"] = text(&k.secret, nil)
	}
	zones := make([]dnsserver.ZoneConfig, count["zone"])
	for i := range zones {
		z, prefix := &zones[i], fmt.Sprintf("dns.zone[%d].", i)
		keys[prefix+"name"] = text(&z.Name, nil)
		keys[prefix+"file"] = text(&z.File, nil)
		keys[prefix+"primaries"] = list(&z.Primaries, parseRemote)
		keys[prefix+"notify"] = list(&z.Notify, parseRemote)
		keys[prefix+"allow_transfer"] = acl(&z.AllowTransfer)
		keys[prefix+"allow_update"] = acl(&z.AllowUpdate)
		maps.Copy(keys, signKeys(prefix, z))
	}
	c.node.DNS.Zones = zones
}

// signKeys are those of a zone that say how it is signed. The table's key sign
// makes it so; the others fill in the policy, in whatever order they come.
func signKeys(prefix string, z *dnsserver.ZoneConfig) map[string]setter {
	p := &dnssec.Policy{SingleKey: true}
	algorithms := map[string]uint8{"ecdsap256sha256": miekg.ECDSAP256SHA256, "ed25519": miekg.ED25519}
	return map[string]setter{
		prefix + "sign": text(nil, func(s string) error {
			switch s {
			case "":
				z.Sign = nil
			case "nsec", "nsec3", "nsec3-opt-out":
				p.NSEC3, p.OptOut, z.Sign = s != "nsec", s == "nsec3-opt-out", p
			default:
				return errors.New(`must be "nsec", "nsec3", "nsec3-opt-out" or ""`)
			}
			return nil
		}),
		prefix + "sign_algorithm": text(nil, func(s string) error {
			if p.Algorithm = algorithms[s]; p.Algorithm == 0 {
				return errors.New(`must be "ecdsap256sha256" or "ed25519"`)
			}
			return nil
		}),
		prefix + "sign_keys": text(nil, func(s string) error {
			if s != "single" && s != "split" {
				return errors.New(`must be "single" or "split"`)
			}
			p.SingleKey = s == "single"
			return nil
		}),
		prefix + "sign_ksk_lifetime": orOff(&p.KSKLifetime),
		prefix + "sign_zsk_lifetime": orOff(&p.ZSKLifetime),
		prefix + "sign_validity":     duration(&p.Validity),
	}
}

// checkDNS finds what is wrong with the tables as a whole.
func (c *config) checkDNS(fail func(key, format string, args ...any)) {
	names := map[string]bool{}
	for i, k := range c.tsigKeys {
		table := fmt.Sprintf("dns.key[%d]", i)
		key, err := dnsserver.ParseKey(k.name, k.algorithm, k.secret)
		switch {
		case err != nil:
			fail(table, "%v", err)
			continue
		case names[key.Name]:
			fail(table+".name", "there is another key of this name")
		}
		names[key.Name] = true
		c.node.DNS.Keys = append(c.node.DNS.Keys, key)
	}
	ours := c.node.DNS.Own.Zones
	if len(ours) > 0 && len(c.node.Listen.DNS) == 0 && len(c.node.Listen.DNSTLS) == 0 {
		fail("dns.own", "needs a name server: [listen] dns names no address")
	}
	zones := map[string]bool{}
	for i := range c.node.DNS.Zones {
		z, table := &c.node.DNS.Zones[i], fmt.Sprintf("dns.zone[%d]", i)
		if _, ok := miekg.IsDomainName(z.Name); !ok || z.Name == "" {
			fail(table+".name", "must be a domain name")
			continue
		}
		z.Name = miekg.CanonicalName(z.Name)
		switch {
		case zones[z.Name]:
			fail(table+".name", "there is another zone of this name")
		case slices.Contains(ours, z.Name) && (z.File != "" || len(z.Primaries) > 0 || len(z.AllowUpdate.Networks)+len(z.AllowUpdate.Keys) > 0):
			fail(table, "dns.own has this zone, whose records the server makes: it has neither file, primaries nor allow_update; own_records names files with more records")
		case slices.Contains(ours, z.Name):
		case z.File == "" && len(z.Primaries) == 0:
			fail(table, "needs file, for a primary zone, or primaries, for a secondary")
		case z.Sign != nil && len(z.Primaries) > 0:
			fail(table+".sign", "a secondary zone is signed by its primary")
		case z.File != "" && len(z.Primaries) > 0:
			fail(table+".file", "a secondary zone has none: its copy is in data_dir/dns")
		}
		if z.Sign != nil {
			if err := z.Sign.Check(); err != nil {
				fail(table+".sign", "%v", err)
			}
		}
		zones[z.Name] = true
		for key, used := range map[string][]string{"primaries": remoteKeys(z.Primaries), "notify": remoteKeys(z.Notify),
			"allow_transfer": z.AllowTransfer.Keys, "allow_update": z.AllowUpdate.Keys} {
			for _, name := range used {
				if !names[miekg.CanonicalName(name)] {
					fail(table+"."+key, "there is no [[dns.key]] with the name %q", name)
				}
			}
		}
	}
}

func remoteKeys(list []dnsserver.Remote) []string {
	var names []string
	for _, r := range list {
		if r.Key != "" {
			names = append(names, r.Key)
		}
	}
	return names
}

// parseRemote reads "ADDRESS", "ADDRESS:PORT", and either with " key NAME".
func parseRemote(s string) (dnsserver.Remote, error) {
	addr, key, signed := strings.Cut(strings.TrimSpace(s), " key ")
	r := dnsserver.Remote{Key: strings.TrimSpace(key)}
	if signed && r.Key == "" {
		return r, errors.New("the name of the key is missing")
	}
	addr = strings.TrimSpace(addr)
	if a, err := netip.ParseAddr(addr); err == nil {
		r.Addr = netip.AddrPortFrom(a, 53).String()
		return r, nil
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return r, errors.New(`must be an address, such as "192.0.2.1", "192.0.2.1:5353" or "192.0.2.1 key NAME"`)
	}
	r.Addr = ap.String()
	return r, nil
}

// acl reads a list of networks and of keys, "key NAME".
func acl(p *dnsserver.ACL) setter {
	return func(v any) error {
		var words []string
		if err := list(&words, func(s string) (string, error) { return s, nil })(v); err != nil {
			return err
		}
		*p = dnsserver.ACL{}
		for _, w := range words {
			if name, ok := strings.CutPrefix(w, "key "); ok {
				p.Keys = append(p.Keys, strings.TrimSpace(name))
				continue
			}
			network, err := parsePrefix(w)
			if err != nil {
				return fmt.Errorf(`%q: must be a network such as "192.0.2.0/24", or "key NAME"`, w)
			}
			p.Networks = append(p.Networks, network)
		}
		slices.Sort(p.Keys)
		return nil
	}
}

func nonEmpty(s string) (string, error) {
	if s == "" {
		return "", errors.New("must name a file")
	}
	return s, nil
}

// parseNameServer reads "NAME", or "NAME ADDRESS...".
func parseNameServer(s string) (n own.NameServer, err error) {
	words := strings.Fields(s)
	if len(words) == 0 {
		return n, errors.New(`must be the name of a name server, such as "ns.example.org" or "ns.example.org 192.0.2.53"`)
	}
	if n.Name, err = dns.ParseName(words[0]); err != nil {
		return n, err
	}
	for _, w := range words[1:] {
		a, err := parseIP(w)
		if err != nil {
			return n, err
		}
		n.Addresses = append(n.Addresses, a)
	}
	return n, nil
}

func parseIP(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return a, errors.New("must be an IP address")
	}
	return a.Unmap(), nil
}
