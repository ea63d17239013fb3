package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"postrider/dns"
	"postrider/dns/own"
	"postrider/internal/node"
)

type dnsCmd struct {
	Query   dnsQueryCmd   `cmd:"" help:"Ask a name server and print its answer."`
	Records dnsRecordsCmd `cmd:"" help:"Print the records to publish for a domain of this server, as a zone file."`
	Check   notBuiltCmd   `cmd:"" hidden:"" passthrough:""`
}

type dnsQueryCmd struct {
	Name   string `arg:"" help:"Name, or an IP address for its PTR record."`
	Type   string `arg:"" optional:"" help:"Record type; default A, or PTR for an address."`
	Server string `placeholder:"S" help:"Name server, ADDR or ADDR:PORT; default: the configured or the system's."`
	Trace  bool   `hidden:""`
}

func (c *dnsQueryCmd) Run(e *env) error {
	if c.Trace {
		return usageError{errors.New("dns query --trace: not built yet")}
	}
	o := dns.Options{HostsFile: "/etc/hosts"}
	server := c.Server
	if server == "" {
		// A configuration is not needed to ask the system's servers.
		conf, err := e.loadConfig()
		switch {
		case err == nil:
			if conf.node.Resolver != "system" {
				server = conf.node.Resolver
			}
			o.HostsFile = conf.node.HostsFile
		case e.config != "" || !errors.Is(err, os.ErrNotExist):
			return err
		}
	}
	if server != "" {
		addr, err := dns.ServerAddr(server)
		if err != nil {
			return usageError{err}
		}
		o.Servers = []string{addr}
	}
	r, err := dns.NewResolver(o)
	if err != nil {
		return err
	}
	var typ dns.Type
	if c.Type != "" {
		if typ, err = dns.ParseType(c.Type); err != nil {
			return usageError{err}
		}
	}
	answer, err := r.Query(e.ctx, c.Name, typ)
	if err != nil {
		return err
	}
	if err := dns.Format(e.stdout, answer); err != nil {
		return err
	}
	return answer.Err()
}

type dnsRecordsCmd struct {
	Domain  string   `arg:"" help:"A domain of this server."`
	Address []string `placeholder:"ADDR" help:"Public address of this server, where it is not one of its interfaces; several times for several."`
	jsonFlag
}

func (c *dnsRecordsCmd) Run(e *env) error {
	records, err := c.records(e)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(e, records)
	}
	fmt.Fprintf(e.stdout, "; Records of %s that this server honours: a part of its zone file.\n", c.Domain)
	return own.Print(e.stdout, records)
}

func (c *dnsRecordsCmd) records(e *env) (records []own.Record, err error) {
	args := node.RecordsArgs{Domain: c.Domain, Addresses: []netip.Addr{}}
	for _, s := range c.Address {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return nil, usageError{fmt.Errorf("--address %s: must be an IP address", s)}
		}
		args.Addresses = append(args.Addresses, a.Unmap())
	}
	return records, e.admin(func(a *node.AdminClient) error { return a.Call("DNSRecords", args, &records) })
}
