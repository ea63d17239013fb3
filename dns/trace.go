package dns

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
	"postrider/dns/exchange"
	"postrider/dns/recursor"
)

// Validate decides whether an answer can be believed. The records of the chain
// of trust are asked of the same servers, which must resolve names.
func (r *Resolver) Validate(ctx context.Context, a *Answer, v *dnssec.Validator) dnssec.Verdict {
	q := miekg.Question{Name: a.Name, Qtype: uint16(a.Type), Qclass: miekg.ClassINET}
	return v.Validate(ctx, q, a.msg, fetcher{r})
}

// fetcher gets the records of a chain of trust, unchecked and signed.
type fetcher struct{ r *Resolver }

func (f fetcher) Fetch(ctx context.Context, name string, typ uint16) (*miekg.Msg, error) {
	m, err := f.r.ask(ctx, question{name, Type(typ)}, Asking{DNSSEC: true, Unchecked: true})
	if err != nil {
		return nil, err
	}
	return m.Msg, nil
}

// TraceStep is one step on the way from the root to an answer.
type TraceStep struct {
	Kind    string        `json:"kind"`  // "referral", "answered", "failed", "cached", "validated", ...
	Depth   int           `json:"depth"` // 1 for the question itself, more for what was needed on the way
	Zone    string        `json:"zone"`  // the bailiwick: only what is in it is believed
	Name    string        `json:"name"`  // as it was asked, which may be less than the whole name
	Type    string        `json:"type"`
	Cut     string        `json:"cut,omitempty"`    // of a referral: the zone below
	Server  string        `json:"server,omitempty"` // a name
	Addr    string        `json:"addr,omitempty"`
	Network string        `json:"network,omitempty"` // "udp" or "tcp"
	Size    int           `json:"size,omitempty"`    // octets
	Took    time.Duration `json:"took,omitempty"`    // nanoseconds in JSON
	Rcode   string        `json:"rcode,omitempty"`
	Records []Record      `json:"records,omitempty"` // of a referral: NS, DS and glue; else the answer
	// Security and Chain are of a step in which signatures were looked at.
	Security string   `json:"security,omitempty"`
	Chain    []string `json:"chain,omitempty"`
	Error    string   `json:"error,omitempty"`
}

// NewTraceStep describes a step of the recursor, signatures and keys only when
// they are wanted; false for a step that says nothing by itself: a query whose
// outcome is another step.
func NewTraceStep(s recursor.Step, signed bool) (TraceStep, bool) {
	if s.Kind == recursor.StepAsked {
		return TraceStep{}, false
	}
	t := TraceStep{
		Kind: s.Kind.String(), Depth: s.Depth, Zone: s.Zone, Cut: s.Cut, Server: s.Server, Addr: s.Addr, Network: s.Network,
		Name: printable(s.Question.Name), Type: Type(s.Question.Qtype).String(), Size: len(s.Wire), Took: s.Took,
	}
	if s.Err != nil {
		t.Error = printable(s.Err.Error())
	}
	if s.Kind == recursor.StepValidated {
		t.Security, t.Chain = s.Security.String(), s.Chain
		return t, true
	}
	if s.Reply == nil {
		return t, true
	}
	t.Rcode = exchange.RcodeText(s.Reply.Rcode)
	t.Records = records(s.Reply.Answer)
	if s.Kind == recursor.StepReferral {
		t.Records = records(delegation(s.Reply, s.Cut))
	}
	if !signed {
		t.Records = unsigned(t.Records)
	}
	return t, true
}

// unsigned leaves out what belongs to DNSSEC.
func unsigned(list []Record) []Record {
	return slices.DeleteFunc(list, func(r Record) bool { return slices.Contains([]string{"RRSIG", "DS", "NSEC", "NSEC3"}, r.Type) })
}

// delegation is what a referral is made of: the servers of the zone below, the
// hash of its key, and the addresses of those servers (glue).
func delegation(m *miekg.Msg, cut string) (list []miekg.RR) {
	servers := map[string]bool{}
	for _, rr := range m.Ns {
		if miekg.CanonicalName(rr.Header().Name) != cut {
			continue
		}
		switch rr := rr.(type) {
		case *miekg.NS:
			servers[miekg.CanonicalName(rr.Ns)] = true
			list = append(list, rr)
		case *miekg.DS:
			list = append(list, rr)
		}
	}
	for _, rr := range m.Extra {
		switch rr.(type) {
		case *miekg.A, *miekg.AAAA:
			if servers[miekg.CanonicalName(rr.Header().Name)] {
				list = append(list, rr)
			}
		}
	}
	return list
}

// FormatStep prints one step of a trace.
func FormatStep(w io.Writer, t TraceStep) error {
	var b strings.Builder
	indent := strings.Repeat("   ", max(0, min(t.Depth, 20)-1))
	fmt.Fprintf(&b, "%s;; %s\n", indent, t.headline())
	for _, c := range t.Chain {
		fmt.Fprintf(&b, "%s;;   %s\n", indent, c)
	}
	for _, r := range t.Records {
		fmt.Fprintf(&b, "%s%s\n", indent, r)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t TraceStep) headline() string {
	asked := t.Name + " " + t.Type
	var how []string
	from := t.Server
	if from == "" {
		from = t.Addr
	} else {
		how = append(how, t.Addr)
	}
	if t.Network != "" { // there was a reply
		how = append(how, t.Network, t.Took.Round(100*time.Microsecond).String())
	}
	if len(how) > 0 {
		from += " (" + strings.Join(how, ", ") + ")"
	}
	switch t.Kind {
	case "referral":
		return fmt.Sprintf("bailiwick %s: %s asked for %s: refers to %s", t.Zone, from, asked, t.Cut)
	case "answered":
		return fmt.Sprintf("bailiwick %s: %s asked for %s: %s", t.Zone, from, asked, t.Rcode)
	case "failed":
		if t.Addr == "" {
			return fmt.Sprintf("bailiwick %s: %s: %s", t.Zone, asked, t.Error)
		}
		return fmt.Sprintf("bailiwick %s: %s asked for %s: %s", t.Zone, from, asked, t.Error)
	case "cached":
		if t.Cut != "" {
			return fmt.Sprintf("zone %s: its servers are known already", t.Cut)
		}
		return fmt.Sprintf("%s is known already", asked)
	case "validated":
		s := fmt.Sprintf("%s is %s", asked, t.Security)
		if t.Error != "" {
			s += ": " + t.Error
		}
		return s
	}
	return fmt.Sprintf("%s: %s", asked, t.Kind)
}
