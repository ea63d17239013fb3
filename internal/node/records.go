package node

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	miekg "github.com/miekg/dns"

	"postrider/dns/own"
	"postrider/internal/wire"
	"postrider/mta"
)

// RecordsArgs names a domain, and the addresses of this server where they are
// not those of its interfaces.
type RecordsArgs struct {
	Domain    string
	Addresses []netip.Addr
}

// DNSRecords gives the records that this server honours for a domain of it.
func (a *Admin) DNSRecords(args RecordsArgs, reply *[]own.Record) (err error) {
	ctx, end := a.command(&err)
	defer end()
	d, err := a.n.domainRecords(ctx, args)
	if err != nil {
		return err
	}
	*reply = append([]own.Record{}, d.Records()...)
	return nil
}

// DNSDomain describes this server as one of a domain, for `dns check`.
func (a *Admin) DNSDomain(args RecordsArgs, reply *own.Domain) (err error) {
	ctx, end := a.command(&err)
	defer end()
	d, err := a.n.domainRecords(ctx, args)
	if err != nil {
		return err
	}
	*reply = *d
	return nil
}

func (n *Node) domainRecords(ctx context.Context, args RecordsArgs) (*own.Domain, error) {
	name, err := mta.NormalizeDomain(args.Domain)
	if err != nil {
		return nil, err
	}
	domains, err := n.Directory.Domains(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(domains, name) {
		return nil, fmt.Errorf("%s is not a domain of this server: postrider domain add %s", name, name)
	}
	return n.ownDomain(name, args.Addresses)
}

// ownDomain describes this server as one of a domain, with the zones that it
// serves itself.
func (n *Node) ownDomain(name string, addrs []netip.Addr) (*own.Domain, error) {
	d, err := n.describe(name, addrs, n.options.DNS.Own)
	if err != nil {
		return nil, err
	}
	zones := n.own.described()
	if n.own == nil { // no server runs, or none that serves names
		for _, z := range n.options.DNS.Own.Zones {
			zones = append(zones, n.options.DNS.Own.zone(z, n.options.Hostname))
		}
	}
	for _, z := range zones {
		if related(d.Name, z.Name) > 0 || miekg.IsSubDomain(z.Name, d.Host) {
			d.Zones = append(d.Zones, z)
		}
	}
	return d, nil
}

// describe describes this server as one of a domain: its listeners, or those of
// its configuration while none is open, and its certificate.
func (n *Node) describe(name string, addrs []netip.Addr, o Own) (*own.Domain, error) {
	d := &own.Domain{Name: miekg.CanonicalName(name), Host: miekg.CanonicalName(n.options.Hostname), Addresses: addrs}
	listening := n.serviceAddrs()
	d.Ports, d.LoopbackOnly = reachablePorts(listening)
	for _, list := range [][]netip.Addr{o.Addresses, publicAddrs(listening)} {
		if len(d.Addresses) == 0 {
			d.Addresses = list
		}
	}
	if len(d.Addresses) == 0 && d.LoopbackOnly && len(o.Zones) > 0 { // a trial, or the lab
		for _, s := range listening {
			if !slices.Contains(d.Addresses, s.addr.Addr()) {
				d.Addresses = append(d.Addresses, s.addr.Addr())
			}
		}
	}
	if len(listening) == 0 {
		d.Ports = map[string]uint16{"smtp": 25} // nothing is configured yet: it will be for mail
	}
	if host, _, err := net.SplitHostPort(n.options.Smarthost.Host); err == nil {
		if _, err := netip.ParseAddr(host); err != nil {
			d.Smarthost = miekg.CanonicalName(host)
		}
	}
	leaf, err := n.leaf()
	if err != nil {
		return nil, err
	}
	if leaf != nil {
		d.Keys, d.Issuer = []own.Key{own.KeyOf(leaf, false)}, own.IssuerOf(leaf)
	}
	if n.options.TLSNext != "" {
		text, err := os.ReadFile(n.options.TLSNext)
		if err != nil {
			return nil, fmt.Errorf("the certificate that comes next: %w", err)
		}
		next, err := own.NextKey(text)
		if err != nil {
			return nil, fmt.Errorf("the certificate that comes next: %s: %w", n.options.TLSNext, err)
		}
		if len(d.Keys) == 0 || next.SHA256 != d.Keys[0].SHA256 {
			d.Keys = append(d.Keys, next)
		}
	}
	return d, nil
}

// publicAddrs are those of this machine's addresses that the world can reach
// and that a service listens on.
func publicAddrs(listening []serviceAddr) []netip.Addr {
	return slices.DeleteFunc(interfaceAddrs(), func(a netip.Addr) bool {
		heard := slices.ContainsFunc(listening, func(s serviceAddr) bool {
			on := s.addr.Addr().Unmap()
			return on == a || on.IsUnspecified() && (on.Is6() || a.Is4()) // [::] has both families: Bind
		})
		return !heard || mta.Unreachable(a) || mta.NotPublic(a) != ""
	})
}

// serviceAddr is where a service listens, or will.
type serviceAddr struct {
	service string
	addr    netip.AddrPort
}

// serviceAddrs are the TCP addresses of the listeners.
func (n *Node) serviceAddrs() (list []serviceAddr) {
	if n.ls != nil {
		for _, b := range n.ls.all {
			if tcp, ok := b.Addr().(*net.TCPAddr); ok {
				list = append(list, serviceAddr{b.service, tcp.AddrPort()})
			}
		}
		return list
	}
	byName := n.options.Listen.ByName()
	for _, s := range services {
		for _, addr := range *byName[s.name] {
			host, port, err := net.SplitHostPort(addr)
			number, perr := strconv.ParseUint(port, 10, 16)
			if err != nil || perr != nil {
				continue // a socket's path
			}
			ip, err := netip.ParseAddr(host)
			switch {
			case host == "localhost":
				ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
			case err != nil: // a name of an interface, or every address
				ip = netip.IPv6Unspecified()
			}
			list = append(list, serviceAddr{s.name, netip.AddrPortFrom(ip, uint16(number)+uint16(n.options.PortOffset))})
		}
	}
	return list
}

// reachablePorts has the first port of each service. A service that only this
// machine reaches counts when all are such: in a trial, or in the lab.
func reachablePorts(addrs []serviceAddr) (ports map[string]uint16, loopbackOnly bool) {
	loopbackOnly = !slices.ContainsFunc(addrs, func(s serviceAddr) bool { return !s.addr.Addr().IsLoopback() })
	ports = map[string]uint16{}
	for _, s := range addrs {
		if s.addr.Addr().IsLoopback() && !loopbackOnly {
			continue
		}
		if _, have := ports[s.service]; !have {
			ports[s.service] = s.addr.Port()
		}
	}
	return ports, loopbackOnly
}

// leaf is the certificate that the services show; nil while there is none yet.
func (n *Node) leaf() (*x509.Certificate, error) {
	if n.certs != nil {
		shown, err := n.certs.Config().GetCertificate(nil) // looks at the files
		if err != nil {
			return nil, err
		}
		return shown.Leaf, nil
	}
	var text []byte
	var err error
	if n.options.TLSCert != "" {
		text, err = os.ReadFile(n.options.TLSCert)
	} else {
		text, err = wire.LocalCertificate(filepath.Join(n.options.DataDir, "tls"))
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil // made by the first start
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the server's certificate: %w", err)
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
	return nil, errors.New("the server's certificate is not in PEM")
}
