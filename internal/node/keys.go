package node

import dnsserver "postrider/dns/server"

// KeysArgs name a zone and what is to become of its keys.
type KeysArgs struct {
	Zone   string
	Change dnsserver.KeyChange
}

// DNSKeys says where the keys of a signed zone are and what a person has to do,
// after the change that was asked for.
func (a *Admin) DNSKeys(args KeysArgs, reply *[]string) (err error) {
	_, end := a.command(&err)
	defer end()
	if a.n.dns == nil {
		return errNoNameServer
	}
	lines, err := a.n.dns.ChangeKeys(args.Zone, args.Change)
	if err != nil {
		return err
	}
	*reply = append([]string{}, lines...)
	return nil
}
