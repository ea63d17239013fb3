package main

import (
	"fmt"
	"time"

	dnsserver "postrider/dns/server"
	"postrider/internal/node"
)

type (
	dnsZonesCmd   struct{ jsonFlag }
	dnsRefreshCmd struct {
		Zone string `arg:"" help:"A secondary zone."`
	}
	dnsReloadCmd struct{}
)

func (c *dnsZonesCmd) Run(e *env) error {
	return e.admin(func(a *node.AdminClient) error {
		var list []dnsserver.ZoneStatus
		if err := a.Call("DNSZones", node.None{}, &list); err != nil {
			return err
		}
		return printList(e, c.JSON, list, "ZONE\tROLE\tSERIAL\tRECORDS\tSTATE", func(z dnsserver.ZoneStatus) string {
			role, state := "primary", "good"
			if z.Secondary {
				role = "secondary"
				if !z.Checked.IsZero() {
					state = "confirmed " + z.Checked.Local().Format(time.DateTime)
				}
			}
			switch {
			case !z.Loaded:
				state = "not loaded"
			case z.Expired:
				state = "expired"
			}
			if z.LastError != "" {
				state += ": " + z.LastError
			}
			return fmt.Sprintf("%s\t%s\t%d\t%d\t%s", z.Name, role, z.Serial, z.Records, state)
		})
	})
}

func (c *dnsRefreshCmd) Run(e *env) error { return e.call("DNSRefresh", c.Zone) }

func (c *dnsReloadCmd) Run(e *env) error { return e.call("DNSReload", node.None{}) }
