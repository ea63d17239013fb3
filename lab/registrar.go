package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	miekg "github.com/miekg/dns"

	"postrider/dns/durable"
	"postrider/internal/journey"
)

// Registration is a domain that was registered, with what was made for it.
type Registration struct {
	Domain  string   `json:"domain"`
	Hosts   []Host   `json:"hosts"`
	Account Account  `json:"account"` // the first one
	Steps   []string `json:"steps"`   // what was done, for people
}

// Limits of registrations.
const maxRegistered = 50

// registrarHost is whose connections registrations come from: nobody's in the
// lab.
func (l *Lab) registrarHost() *Host { return nil }

// Register registers a domain directly below a top-level domain of the lab, as a
// registrar does for a customer who has set up name servers: it puts NS records
// and glue of the primary and the secondary into the zone of the top-level domain
// by dynamic update, makes the zone with addresses for www and mail, and a mail
// server with an account info.
func (l *Lab) Register(ctx context.Context, name string) (*Registration, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	l.registering.Lock()
	defer l.registering.Unlock()
	r, err := l.register(ctx, name, false)
	if err != nil || l.o.Keep == "" {
		return r, err
	}
	return r, l.remember(name)
}

// register registers a domain, or, again, brings back one of an earlier run, whose
// delegation may be there still. It returns when all servers of both zones know it,
// but for those that are down.
func (l *Lab) register(ctx context.Context, name string, again bool) (*Registration, error) {
	tld, err := l.mayRegister(name)
	if err != nil {
		return nil, err
	}
	r := &Registration{Domain: name}
	if r.Hosts, err = l.newHosts(name); err != nil {
		return nil, err
	}
	dns1, dns2, mail, www := &r.Hosts[0], &r.Hosts[1], &r.Hosts[2], &r.Hosts[3]
	mail.Mail.Domains = []string{name}
	r.Account = Account{Address: "info@" + name, Password: "hungry", Host: mail.Name}
	z := Zone{Name: name, Primary: dns1.Name, Secondary: []string{dns2.Name}, Dynamic: true,
		Records: "@ MX 10 mail\n@ A " + www.Address.String() + "\n"}
	say := func(text string) {
		r.Steps = append(r.Steps, text)
		l.say(tld.Primary, KindRegister, text, journey.Attr{Key: "domain", Value: name})
	}
	if err := l.moveIn(r, z); err != nil {
		return nil, fmt.Errorf("register %s: %w", name, err)
	}
	say(fmt.Sprintf("%s and %s serve the new zone %s: A for www, MX for mail", dns1.Name, dns2.Name, name))
	if err := l.delegate(ctx, tld, name, dns1, dns2); err != nil && !(again && errors.Is(err, errDelegated)) {
		return nil, fmt.Errorf("register %s: %w", name, err)
	}
	say(fmt.Sprintf("the zone %s has by dynamic update: %s NS %s, %s NS %s, and as glue their addresses %s and %s",
		tld.Name, name, dns1.Name, name, dns2.Name, dns1.Address, dns2.Address))
	for _, zone := range []*Zone{tld, &z} {
		late, err := l.spread(ctx, zone)
		if err != nil {
			return nil, fmt.Errorf("register %s: %w", name, err)
		}
		if late != "" {
			say(fmt.Sprintf("%s has not heard of it yet; who asks there is told that there is no such name", late))
		}
	}
	say(fmt.Sprintf("%s takes mail for %s, password %s", mail.Name, r.Account.Address, r.Account.Password))
	return r, nil
}

// errDelegated is of delegate, for a name that the zone above has.
var errDelegated = errors.New("the zone above has that name already")

// registered is the file of Options.Keep that lists what was registered.
const registered = "registered.json"

// remember adds a domain to those that the next run brings back.
func (l *Lab) remember(name string) error {
	names, err := l.remembered()
	if err != nil {
		return err
	}
	text, err := json.Marshal(append(names, name))
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(l.dir, registered), 0o600, text)
}

// remembered are the domains that earlier runs registered, in their order, which
// gives them the same addresses again.
func (l *Lab) remembered() ([]string, error) {
	text, err := os.ReadFile(filepath.Join(l.dir, registered))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	if err := json.Unmarshal(text, &names); err != nil {
		return nil, fmt.Errorf("%s: %w", registered, err)
	}
	return names, nil
}

// bringBack registers again what earlier runs registered.
func (l *Lab) bringBack() error {
	names, err := l.remembered()
	if err != nil {
		return err
	}
	l.registering.Lock()
	defer l.registering.Unlock()
	for _, name := range names {
		if _, err := l.register(l.ctx, name, true); err != nil {
			return err
		}
	}
	return nil
}

// mayRegister finds the zone above a name that can be registered.
func (l *Lab) mayRegister(name string) (*Zone, error) {
	if err := domain(name); err != nil {
		return nil, err
	}
	if _, ok := miekg.IsDomainName("dns1." + name); !ok {
		return nil, fmt.Errorf("%s leaves no room for names of hosts", name)
	}
	w := l.World()
	_, top, ok := strings.Cut(name, ".")
	if !ok || !slices.Contains(w.Registrar.TLDs, top) || !w.Registrar.Network.IsValid() {
		return nil, fmt.Errorf("the registrar registers names directly below %s", strings.Join(w.Registrar.TLDs, ", "))
	}
	if w.enclosing(name) == name {
		return nil, fmt.Errorf("%s is registered already", name)
	}
	for i := range w.Zones {
		if w.Zones[i].Name == top {
			return &w.Zones[i], nil
		}
	}
	return nil, fmt.Errorf("nobody serves %s", top)
}

// newHosts gives the hosts of a new domain addresses.
func (l *Lab) newHosts(name string) ([]Host, error) {
	w := l.World()
	network := w.Registrar.Network
	n := 0
	for _, h := range w.Hosts {
		if network.Contains(h.Address) {
			n++
		}
	}
	if n/4 >= maxRegistered {
		return nil, fmt.Errorf("the registrar has had its %d domains", maxRegistered)
	}
	base := network.Masked().Addr().As4()
	var out []Host
	for i, h := range []struct {
		label string
		kind  Kind
	}{{"dns1", KindName}, {"dns2", KindName}, {"mail", KindMail}, {"www", KindWeb}} {
		address := netip.AddrFrom4([4]byte{base[0], base[1], base[2] + byte(n/4), base[3] + byte(i) + 1})
		out = append(out, Host{Name: h.label + "." + name, Kind: h.kind, Address: address, About: "Registered as a part of " + name + "."})
	}
	return out, nil
}

// moveIn starts the hosts of a new domain and its name servers.
func (l *Lab) moveIn(r *Registration, z Zone) error {
	var machines []*machine
	w := l.World()
	for i := range r.Hosts {
		h := &r.Hosts[i]
		l.network.addHost(w, h)
		machines = append(machines, &machine{lab: l, host: h, mail: h.Mail})
	}
	if err := l.bindAll(machines); err != nil {
		return err
	}
	l.mu.Lock()
	l.machines = append(slices.Clone(l.machines), machines...)
	for _, m := range machines {
		l.byName[m.host.Name] = m
	}
	l.world.Hosts = append(slices.Clone(l.world.Hosts), r.Hosts...)
	l.world.Zones = append(slices.Clone(l.world.Zones), z)
	l.world.Accounts = append(slices.Clone(l.world.Accounts), r.Account)
	l.mu.Unlock()
	for _, m := range machines[:2] {
		if err := m.startNameServer(); err != nil {
			return err
		}
	}
	if err := l.servePrimary(l.World(), &z); err != nil {
		return err
	}
	return l.serveSecondaries(&z)
}

// delegate puts a new domain into the zone above (RFC 2136), unless it is there.
func (l *Lab) delegate(ctx context.Context, tld *Zone, name string, servers ...*Host) error {
	m := new(miekg.Msg)
	m.SetUpdate(miekg.Fqdn(tld.Name))
	m.NameNotUsed([]miekg.RR{&miekg.ANY{Hdr: miekg.RR_Header{Name: miekg.Fqdn(name)}}})
	var add []miekg.RR
	const ttl = 172800
	for _, s := range servers {
		add = append(add,
			&miekg.NS{Hdr: miekg.RR_Header{Name: miekg.Fqdn(name), Rrtype: miekg.TypeNS, Class: miekg.ClassINET, Ttl: ttl}, Ns: miekg.Fqdn(s.Name)},
			&miekg.A{Hdr: miekg.RR_Header{Name: miekg.Fqdn(s.Name), Rrtype: miekg.TypeA, Class: miekg.ClassINET, Ttl: ttl}, A: s.Address.AsSlice()})
	}
	m.Insert(add)
	reply, err := l.Update(ctx, tld.Primary, m)
	if err != nil {
		return err
	}
	if reply.Rcode == miekg.RcodeYXDomain {
		return errDelegated
	}
	if reply.Rcode != miekg.RcodeSuccess {
		return fmt.Errorf("the server of %s answered the update with %s", tld.Name, miekg.RcodeToString[reply.Rcode])
	}
	return nil
}
