package main

import (
	"errors"
	"fmt"
	"time"

	"postrider/dns"
	dnsserver "postrider/dns/server"
	"postrider/dns/zone"
	"postrider/internal/node"
)

type (
	dnsZonesCmd struct {
		List  dnsZonesListCmd  `cmd:"" default:"withargs" help:"List the zones that the running server serves, and how they are (what zones does without another word)."`
		Check dnsZonesCheckCmd `cmd:"" help:"Say whether a zone file is in order, without a server."`
	}
	dnsZonesListCmd  struct{ jsonFlag }
	dnsZonesCheckCmd struct {
		File   string `arg:"" help:"A master file, which may include others; - for standard input."`
		Origin string `arg:"" optional:"" help:"The zone's name; default: what the file says first, in $ORIGIN or of its SOA record."`
		jsonFlag
	}
	dnsRefreshCmd struct {
		Zone string `arg:"" help:"A secondary zone."`
	}
	dnsReloadCmd struct{}
)

func (c *dnsZonesListCmd) Run(e *env) error {
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

// checkedZone is what --json prints of a zone file.
type checkedZone struct {
	Zone     string   `json:"zone,omitempty"`
	Serial   uint32   `json:"serial"`
	Records  int      `json:"records"`
	Signed   bool     `json:"signed"`
	Error    string   `json:"error,omitempty"` // why it cannot be served
	Warnings []string `json:"warnings"`
}

// Help tells what the command prints.
func (dnsZonesCheckCmd) Help() string {
	return "A line for each thing that is wrong: an error where the zone cannot be served, warnings of what can and is probably a mistake. The exit status is 0 when there is neither."
}

func (c *dnsZonesCheckCmd) Run(e *env) error {
	origin := ""
	if c.Origin != "" {
		name, err := dns.ParseName(c.Origin)
		if err != nil {
			return usageError{err}
		}
		origin = name
	}
	z, err := c.load(e, origin)
	var wrong *zone.Error
	if err != nil && !errors.As(err, &wrong) {
		return err
	}
	out := checkedZone{Warnings: []string{}}
	if err != nil {
		out.Error = err.Error()
	} else {
		out.Zone, out.Serial, out.Records, out.Signed = z.Origin(), z.Serial(), z.Len(), z.Signed()
		out.Warnings = append(out.Warnings, z.Problems(0)...)
	}
	if c.JSON {
		err = printValue(e, out)
	} else {
		err = out.print(e)
	}
	if err == nil && (out.Error != "" || len(out.Warnings) > 0) {
		return exitError(exitFailed)
	}
	return err
}

func (c *dnsZonesCheckCmd) load(e *env, origin string) (*zone.Zone, error) {
	if c.File != "-" {
		return zone.Load(c.File, origin)
	}
	return zone.Read(e.stdin, zone.Options{Origin: origin, File: "standard input"})
}

func (z *checkedZone) print(e *env) error {
	for _, w := range z.Warnings {
		if _, err := fmt.Fprintln(e.stdout, "warning ", w); err != nil {
			return err
		}
	}
	if z.Error != "" {
		_, err := fmt.Fprintln(e.stdout, "error   ", z.Error)
		return err
	}
	signed := ""
	if z.Signed {
		signed = ", signed"
	}
	_, err := fmt.Fprintf(e.stdout, "%s: serial %d, %d records%s: can be served\n", z.Zone, z.Serial, z.Records, signed)
	return err
}

func (c *dnsRefreshCmd) Run(e *env) error { return e.call("DNSRefresh", c.Zone) }

func (c *dnsReloadCmd) Run(e *env) error { return e.call("DNSReload", node.None{}) }
