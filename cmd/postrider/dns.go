package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

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
	Check   dnsCheckCmd   `cmd:"" help:"Look at a domain's DNS and mail servers from the outside, and say what to mend."`
}

// rootFlags are where the tree of names begins, for a trace and for DNSSEC.
type rootFlags struct {
	RootHints    string `placeholder:"FILE" help:"Root servers, as named.root has them; default: those of the configuration, else the Internet's."`
	TrustAnchors string `placeholder:"FILE" help:"DS or DNSKEY records that are trusted; default: those of the configuration, else the Internet's root."`
	DNSPort      uint16 `default:"53" placeholder:"N" help:"Port of all name servers that a trace asks."`
}

// anchors makes the validator.
func (f rootFlags) validator() (*dnssec.Validator, error) {
	var o dnssec.Options
	if f.TrustAnchors != "" {
		rrs, err := dnssec.LoadAnchors(f.TrustAnchors)
		if err != nil {
			return nil, err
		}
		o.Anchors = rrs
	}
	return dnssec.New(o)
}

// hints are the root servers; nil for those of the Internet.
func (f rootFlags) hints() (*recursor.Hints, error) {
	if f.RootHints == "" {
		return nil, nil
	}
	file, err := os.Open(f.RootHints)
	if err != nil {
		return nil, fmt.Errorf("root hints: %w", err)
	}
	defer file.Close()
	return recursor.ReadHints(file, f.RootHints)
}

// dnsOptions are those of the configuration, which is not needed to ask the
// system's servers.
func (e *env) dnsOptions(server string) (dns.Options, error) {
	o := dns.Options{HostsFile: "/etc/hosts"}
	if server == "" {
		conf, err := e.loadConfig()
		switch {
		case err == nil:
			if conf.node.Resolver != "system" {
				server = conf.node.Resolver
			}
			o.HostsFile = conf.node.HostsFile
		case e.config != "" || !errors.Is(err, os.ErrNotExist):
			return o, err
		}
	}
	if server != "" {
		addr, err := dns.ServerAddr(server)
		if err != nil {
			return o, usageError{err}
		}
		o.Servers = []string{addr}
	}
	return o, nil
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
	o, err := e.dnsOptions(c.Server)
	if err != nil {
		return err
	}
	r, err := dns.NewResolver(o)
	if err != nil {
		return err
	}
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
	o := recursor.Options{Port: c.DNSPort, NoPrefetch: true, NoStale: true}
	if o.Hints, err = c.hints(); err != nil {
		return err
	}
	if o.Hints != nil { // a tree of one's own, which may stand on addresses of one's own
		o.Local = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
			netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("fc00::/7")}
	}
	if c.DNSSEC {
		if o.Validator, err = c.validator(); err != nil {
			return err
		}
	}
	r, err := recursor.New(o)
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
