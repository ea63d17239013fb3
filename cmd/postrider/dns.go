package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	miekg "github.com/miekg/dns"

	"postrider/dns"
	"postrider/dns/dnssec"
	"postrider/dns/own"
	"postrider/dns/recursor"
	"postrider/internal/node"
)

type dnsCmd struct {
	Query   dnsQueryCmd   `cmd:"" help:"Ask a name server and print its answer, or find the answer from the root down."`
	Records dnsRecordsCmd `cmd:"" help:"Print the records to publish for a domain of this server, as a zone file."`
	Keys    dnsKeysCmd    `cmd:"" help:"Say where the keys of a signed zone are, and what is to be done; or replace them."`
	Zones   dnsZonesCmd   `cmd:"" help:"List the zones that are served; or check a zone file."`
	Refresh dnsRefreshCmd `cmd:"" help:"Make a secondary zone ask its primaries now."`
	Reload  dnsReloadCmd  `cmd:"" help:"Read the files of primary zones again."`
	Check   dnsCheckCmd   `cmd:"" help:"Look at a domain's DNS and mail servers from the outside, and say what to mend."`
}

// rootFlags are where the tree of names begins, for a trace and for DNSSEC.
type rootFlags struct {
	RootHints    string `placeholder:"FILE" help:"Root servers, as named.root has them; default: those of the configuration, else the Internet's."`
	TrustAnchors string `placeholder:"FILE" help:"DS or DNSKEY records that are trusted; default: those of the configuration, else the Internet's root."`
	DNSPort      uint16 `default:"53" placeholder:"N" help:"Port of all name servers that a trace asks."`
}

// noAnchors, in place of a file of trust anchors, trusts nothing.
const noAnchors = "off"

// configured takes what the flags leave open from the configuration, if there is
// one: it is not needed to ask other people's servers.
func (f *rootFlags) configured(e *env) (*config, error) {
	conf, err := e.loadConfig()
	switch {
	case errors.Is(err, os.ErrNotExist) && e.config == "":
		return nil, nil
	case err != nil:
		return nil, err
	}
	if f.RootHints == "" {
		f.RootHints = conf.node.RootHints
	}
	if f.TrustAnchors == "" {
		f.TrustAnchors = conf.node.TrustAnchors
	}
	return conf, nil
}

// validator is one with the trust anchors.
func (f *rootFlags) validator() (*dnssec.Validator, error) {
	var o dnssec.Options
	switch f.TrustAnchors {
	case "":
	case noAnchors:
		o.Anchors = []miekg.RR{}
	default:
		rrs, err := dnssec.LoadAnchors(f.TrustAnchors)
		if err != nil {
			return nil, err
		}
		o.Anchors = rrs
	}
	return dnssec.New(o)
}

// recursor walks from the root servers down, and validates if v is not nil.
func (f *rootFlags) recursor(conf *config, v *dnssec.Validator) (*recursor.Resolver, error) {
	o := recursor.Options{Port: f.DNSPort, Validator: v, NoPrefetch: true, NoStale: true}
	if conf != nil {
		o.Local = conf.node.NameServerNetworks
	}
	if f.RootHints != "" {
		file, err := os.Open(f.RootHints)
		if err != nil {
			return nil, fmt.Errorf("root hints: %w", err)
		}
		defer file.Close()
		if o.Hints, err = recursor.ReadHints(file, f.RootHints); err != nil {
			return nil, err
		}
		// A tree of one's own stands on addresses of one's own.
		o.Local = append(slices.Clone(o.Local), ownNetworks()...)
	}
	return recursor.New(o)
}

// ownNetworks are loopback and private addresses (RFC 1918, RFC 4193).
func ownNetworks() (list []netip.Prefix) {
	for _, s := range []string{"127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"} {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

// resolver asks server, or as the configuration says when it is "". The hosts
// file, which does not matter to a question about the DNS, is left out. done ends
// its use.
func (f *rootFlags) resolver(conf *config, server string) (r *dns.Resolver, done func(), err error) {
	done = func() {}
	var o dns.Options
	if server == "" && conf != nil && conf.node.Resolver != "system" {
		server = conf.node.Resolver
	}
	switch server {
	case "":
	case "iterative":
		v, err := f.validator()
		if err != nil {
			return nil, nil, err
		}
		if o.Iterative, err = f.recursor(conf, v); err != nil {
			return nil, nil, err
		}
		done = o.Iterative.Close
	default:
		addr, err := dns.ServerAddr(server)
		if err != nil {
			return nil, nil, usageError{err}
		}
		o.Servers = []string{addr}
	}
	if r, err = dns.NewResolver(o); err != nil {
		done()
		return nil, nil, err
	}
	return r, done, nil
}

type dnsQueryCmd struct {
	Name        string `arg:"" help:"Name, or an IP address for its PTR record."`
	Type        string `arg:"" optional:"" help:"Record type; default A, or PTR for an address."`
	Server      string `placeholder:"S" help:"Name server, ADDR or ADDR:PORT; default: the configured or the system's."`
	Trace       bool   `help:"Begin at the root servers and show each referral."`
	DNSSEC      bool   `name:"dnssec" help:"Ask for signatures, check them, and say secure, insecure, bogus or indeterminate."`
	NoRecursion bool   `help:"Ask what the server knows by itself."`
	TCP         bool   `name:"tcp" help:"Ask over TCP."`
	rootFlags
	jsonFlag
}

// Help tells what --json prints.
func (dnsQueryCmd) Help() string {
	return "With --json: one object; of a trace, its steps and the answer. \"took\" is in nanoseconds, \"size\" in octets, and \"bits\" has the second pair of octets of the header."
}

func (c *dnsQueryCmd) Run(e *env) error {
	var typ dns.Type
	var err error
	if c.Type != "" {
		if typ, err = dns.ParseType(c.Type); err != nil {
			return usageError{err}
		}
	}
	if !c.JSON {
		for _, h := range dns.Hints(c.Name) {
			fmt.Fprintf(e.stdout, ";; note: %s\n", h)
		}
	}
	if c.Trace {
		if c.Server != "" || c.NoRecursion || c.TCP {
			return usageError{errors.New("dns query --trace begins at the root servers (--root-hints FILE for others): it goes with neither --server, --no-recursion nor --tcp")}
		}
		return c.trace(e, typ)
	}
	return c.ask(e, typ)
}

// queried is what --json prints of an answer.
type queried struct {
	*dns.Answer
	Security string   `json:"security,omitempty"`
	Why      string   `json:"why,omitempty"`
	Chain    []string `json:"chain,omitempty"`
	Refused  string   `json:"unchecked_because,omitempty"` // what the server said before it was asked not to check
}

// ask asks one server.
func (c *dnsQueryCmd) ask(e *env, typ dns.Type) error {
	conf, err := c.configured(e)
	if err != nil {
		return err
	}
	r, done, err := c.resolver(conf, c.Server)
	if err != nil {
		return err
	}
	defer done()
	how := dns.Asking{DNSSEC: c.DNSSEC, NoRecursion: c.NoRecursion, TCP: c.TCP}
	answer, err := r.QueryAs(e.ctx, c.Name, typ, how)
	if err != nil {
		return err
	}
	out := queried{Answer: answer}
	var verdict dnssec.Verdict
	if c.DNSSEC {
		if answer.Message().Rcode == miekg.RcodeServerFailure {
			// A server that validates keeps what is bogus to itself, unless it is
			// asked not to check.
			how.Unchecked = true
			if unchecked, err := r.QueryAs(e.ctx, c.Name, typ, how); err == nil && unchecked.Message().Rcode != miekg.RcodeServerFailure {
				out.Refused, out.Answer = answer.Rcode, unchecked
			}
		}
		v, err := c.validator()
		if err != nil {
			return err
		}
		verdict = r.Validate(e.ctx, out.Answer, v)
		out.Security, out.Why, out.Chain = verdict.Security.String(), verdict.Text, verdict.Chain
	}
	if c.JSON {
		err = printValue(e, out)
	} else {
		err = c.print(e, out, verdict)
	}
	return errors.Join(err, out.Err(), bogus(verdict))
}

func (c *dnsQueryCmd) print(e *env, out queried, verdict dnssec.Verdict) error {
	if out.Refused != "" {
		fmt.Fprintf(e.stdout, ";; the server says %s, and this when it is asked not to check signatures:\n", out.Refused)
	}
	if err := dns.Format(e.stdout, out.Answer); err != nil {
		return err
	}
	if c.DNSSEC {
		printVerdict(e, out.Security, out.Why, verdict.ExtendedError, out.Chain)
	}
	return nil
}

func printVerdict(e *env, security, why string, code uint16, chain []string) {
	fmt.Fprintf(e.stdout, ";; security: %s", security)
	if why != "" {
		fmt.Fprintf(e.stdout, ": %s", why)
	}
	if name := miekg.ExtendedErrorCodeToString[code]; code != 0 && name != "" {
		fmt.Fprintf(e.stdout, " (extended error %d, %s)", code, name)
	}
	fmt.Fprintln(e.stdout)
	for _, line := range chain {
		fmt.Fprintf(e.stdout, ";;   %s\n", line)
	}
}

// bogus is the error of an answer that must not be believed.
func bogus(v dnssec.Verdict) error {
	if v.Security != dnssec.Bogus {
		return nil
	}
	return errors.New("dns: the answer is bogus: " + v.Text)
}

// traced is what --trace --json prints.
type traced struct {
	Steps  []dns.TraceStep `json:"steps"`
	Answer *dns.Answer     `json:"answer"`
	// Security is "" without --dnssec.
	Security string `json:"security,omitempty"`
}

// trace finds the answer from the root down.
func (c *dnsQueryCmd) trace(e *env, typ dns.Type) error {
	q, err := dns.ParseQuestion(c.Name, typ)
	if err != nil {
		return err
	}
	conf, err := c.configured(e)
	if err != nil {
		return err
	}
	var v *dnssec.Validator
	if c.DNSSEC {
		if v, err = c.validator(); err != nil {
			return err
		}
	}
	r, err := c.recursor(conf, v)
	if err != nil {
		return err
	}
	defer r.Close()
	out := traced{Steps: []dns.TraceStep{}}
	answer := r.Resolve(e.ctx, q, recursor.Ask{CheckingDisabled: !c.DNSSEC, Observe: func(s recursor.Step) {
		t, ok := dns.NewTraceStep(s, c.DNSSEC)
		if !ok {
			return
		}
		out.Steps = append(out.Steps, t)
		if !c.JSON {
			dns.FormatStep(e.stdout, t) // the answer below tells an error of standard output
		}
	}})
	out.Answer = dns.AnswerOf(q, answer, c.DNSSEC)
	if c.DNSSEC {
		out.Security = answer.Security.String()
	}
	if c.JSON {
		err = printValue(e, out)
	} else {
		if err = dns.Format(e.stdout, out.Answer); err == nil && c.DNSSEC {
			printVerdict(e, out.Security, "", 0, nil)
		}
	}
	if errors.Is(answer.Err, context.Canceled) {
		return e.ctx.Err()
	}
	return errors.Join(err, out.Answer.Err())
}

type dnsRecordsCmd struct {
	Domain  string   `arg:"" help:"A domain of this server."`
	Address []string `placeholder:"ADDR" help:"Public address of this server, where it is not one of its interfaces; several times for several."`
	jsonFlag
}

func (c *dnsRecordsCmd) Run(e *env) error {
	args, err := recordsArgs(c.Domain, c.Address)
	if err != nil {
		return err
	}
	var records []own.Record
	if err := e.admin(func(a *node.AdminClient) error { return a.Call("DNSRecords", args, &records) }); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(e, records)
	}
	fmt.Fprintf(e.stdout, "; Records of %s that this server honours: a part of its zone file.\n", c.Domain)
	return own.Print(e.stdout, records)
}

// recordsArgs reads the domain and the public addresses of a command.
func recordsArgs(domain string, addresses []string) (node.RecordsArgs, error) {
	args := node.RecordsArgs{Domain: domain, Addresses: []netip.Addr{}}
	for _, s := range addresses {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return args, usageError{fmt.Errorf("--address %s: must be an IP address", s)}
		}
		args.Addresses = append(args.Addresses, a.Unmap())
	}
	return args, nil
}
