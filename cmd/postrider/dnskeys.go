package main

import (
	"errors"
	"fmt"

	"postrider/dns/dnssec"
	dnsserver "postrider/dns/server"
	"postrider/internal/node"
)

type dnsKeysCmd struct {
	Zone   string `arg:"" help:"Name of the zone."`
	Roll   string `enum:"zsk,ksk,csk," default:"" placeholder:"ROLE" help:"Replace the key of this role now: csk where one key does all, else zsk or ksk."`
	Unsign bool   `help:"Make the zone unsigned, once the parent has deleted its DS records."`
	Sign   bool   `help:"Think again: keep the zone signed."`
	jsonFlag
}

func (c *dnsKeysCmd) Run(e *env) error {
	asked := 0
	for _, yes := range []bool{c.Roll != "", c.Unsign, c.Sign} {
		if yes {
			asked++
		}
	}
	if asked > 1 {
		return usageError{errors.New("dns keys: --roll, --unsign and --sign are one at a time")}
	}
	args := node.KeysArgs{Zone: c.Zone, Change: dnsserver.KeyChange{Roll: dnssec.Role(c.Roll), Unsign: c.Unsign, Sign: c.Sign}}
	var lines []string
	if err := e.admin(func(a *node.AdminClient) error { return a.Call("DNSKeys", args, &lines) }); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(e, lines)
	}
	for _, line := range lines {
		fmt.Fprintln(e.stdout, line)
	}
	return nil
}
