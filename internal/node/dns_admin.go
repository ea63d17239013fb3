package node

import (
	"errors"

	miekg "github.com/miekg/dns"

	dnsserver "postrider/dns/server"
)

var errNoNameServer = errors.New("no name server runs: [listen] dns and dns_tls name no address, or the server is not started")

// DNSZones lists the zones that are served.
func (a *Admin) DNSZones(_ None, reply *[]dnsserver.ZoneStatus) (err error) {
	_, end := a.command(&err)
	defer end()
	if a.n.dns == nil {
		return errNoNameServer
	}
	*reply = a.n.dns.Zones()
	return nil
}

// DNSRefresh makes a secondary zone ask its primaries now.
func (a *Admin) DNSRefresh(name string, _ *None) (err error) {
	_, end := a.command(&err)
	defer end()
	if a.n.dns == nil {
		return errNoNameServer
	}
	return a.n.dns.Refresh(miekg.CanonicalName(name))
}

// DNSReload reads the files of primary zones again.
func (a *Admin) DNSReload(_ None, _ *None) (err error) {
	_, end := a.command(&err)
	defer end()
	if a.n.dns == nil {
		return errNoNameServer
	}
	return a.n.dns.Reload()
}
