package main

import (
	"fmt"

	"github.com/alecthomas/kong"

	"postrider/internal/node"
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
