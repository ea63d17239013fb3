package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/alecthomas/kong"

	"postrider/dns"
	"postrider/internal/node"
	"postrider/lab"
	"postrider/mta/route"
)

type versionCmd struct{}

func (versionCmd) Run(e *env) error {
	_, err := fmt.Fprintln(e.stdout, "postrider", node.Version())
	return err
}

// versionFlag is --version, for those who try that first.
type versionFlag bool

func (versionFlag) BeforeReset(k *kong.Kong) error {
	fmt.Fprintln(k.Stdout, "postrider", node.Version())
	k.Exit(exitDone)
	return nil
}

type labCmd struct {
	Data string   `placeholder:"DIR" help:"Keep the servers' data here; default: a temporary folder."`
	Args []string `arg:"" optional:"" hidden:""`
}

func (c *labCmd) Run(e *env) error {
	if len(c.Args) > 0 {
		return usageError{fmt.Errorf("lab %s: not built yet", c.Args[0])}
	}
	return lab.Run(e.ctx, lab.Options{Out: e.stdout, DataDir: c.Data, Program: self()})
}

type dnsCmd struct {
	Query   dnsQueryCmd `cmd:"" help:"Ask a name server and print its answer."`
	Records notBuiltCmd `cmd:"" hidden:"" passthrough:""`
	Check   notBuiltCmd `cmd:"" hidden:"" passthrough:""`
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

type checkCmd struct {
	Address checkAddressCmd `cmd:"" help:"What becomes of mail for an address."`
	SPF     notBuiltCmd     `cmd:"" name:"spf" hidden:"" passthrough:""`
	DKIM    notBuiltCmd     `cmd:"" name:"dkim" hidden:"" passthrough:""`
	ARC     notBuiltCmd     `cmd:"" name:"arc" hidden:"" passthrough:""`
	DMARC   notBuiltCmd     `cmd:"" name:"dmarc" hidden:"" passthrough:""`
}

type checkAddressCmd struct {
	addressArg
	Server string `placeholder:"S" help:"Name server to ask, ADDR or ADDR:PORT."`
}

func (c *checkAddressCmd) Run(e *env) error {
	return e.admin(func(a *node.AdminClient) error {
		var x route.Explanation
		args := node.CheckArgs{Address: c.Address, Server: c.Server}
		if err := a.Call("CheckAddress", args, &x); err != nil {
			return err
		}
		fmt.Fprintln(e.stdout, x.Verdict)
		for _, reason := range x.Reasons {
			fmt.Fprintln(e.stdout, " ", reason)
		}
		return nil
	})
}
