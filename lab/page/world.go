package page

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"strings"
	"time"

	"postrider/internal/journey"
	"postrider/lab"
)

// Of returns a running lab as the page wants it.
func Of(l *lab.Lab) Lab { return &world{l} }

type world struct{ *lab.Lab }

// roles are what the page draws of a host.
var roles = map[lab.Kind]string{
	lab.KindRoot: "root", lab.KindTLD: "tld", lab.KindName: "names", lab.KindResolver: "resolver",
	lab.KindMail: "mail", lab.KindOld: "mail", lab.KindHostile: "mail", lab.KindWeb: "web", lab.KindClient: "person",
}

// Scene implements Lab.
func (w *world) Scene() Scene {
	lw := w.World()
	s := Scene{Title: lw.Title, Now: w.Clock().Now(), Faults: w.switches(lw), Types: dialogues(lw)}
	for _, h := range w.Hosts() {
		out := Host{ID: h.Name, Name: h.Name, Short: short(&h.Host), Site: h.Site, Role: roles[h.Kind], Addr: h.Address.String(), About: about(&h)}
		switch {
		case h.Kind == lab.KindRoot:
			out.Site = "root"
		case h.Kind == lab.KindTLD:
			out.Site = "top-level domains"
		case h.Site == "":
			out.Site = "elsewhere"
		}
		for _, p := range h.Ports() {
			out.Ports = append(out.Ports, Port{int(p.Port), p.Service})
		}
		s.Hosts = append(s.Hosts, out)
	}
	for _, a := range lw.Accounts {
		s.Accounts = append(s.Accounts, Account{a.Address, a.Password, a.Host})
	}
	for _, site := range lw.Sites {
		s.Places = append(s.Places, site.Name)
	}
	for _, k := range lab.FaultKinds() {
		s.Kinds = append(s.Kinds, Kind{string(k.Kind), k.About, value(k.Kind)})
	}
	return s
}

// short is a host's name on the map, where its site stands above it.
func short(h *lab.Host) string {
	labels := strings.Split(h.Name, ".")
	if h.Kind == lab.KindTLD && len(labels) > 1 {
		return labels[0] + " ." + labels[len(labels)-1]
	}
	return labels[0]
}

// about says what a host is, does and serves, and where a program of this
// machine finds it.
func about(h *lab.HostState) string {
	var parts []string
	if h.About != "" {
		parts = append(parts, h.About)
	}
	if len(h.Zones) > 0 {
		parts = append(parts, "It serves the zones "+strings.Join(h.Zones, ", ")+".")
	}
	for _, e := range h.Endpoints {
		if e.Real != e.Lab {
			parts = append(parts, fmt.Sprintf("%s is at %s of this machine.", e.Service, e.Real))
		}
	}
	return strings.Join(parts, " ")
}

// Follow implements Lab.
func (w *world) Follow(ctx context.Context) iter.Seq[journey.Event] {
	f := w.Journey().Follow(journey.Filter{Sessions: true})
	return func(yield func(journey.Event) bool) {
		defer f.Close()
		f.All(ctx)(yield)
	}
}

// HostOf implements Lab: peer is a name, an address, an address with a port, or
// a name with the address in parentheses.
func (w *world) HostOf(peer string) string {
	lw := w.World()
	name, rest, _ := strings.Cut(peer, " (")
	if h, ok := lw.Host(strings.ToLower(strings.TrimSuffix(name, "."))); ok {
		return h.Name
	}
	for _, text := range []string{name, strings.TrimSuffix(rest, ")")} {
		addr, err := netip.ParseAddr(text)
		if ap, aperr := netip.ParseAddrPort(text); aperr == nil {
			addr, err = ap.Addr(), nil
		}
		if err != nil {
			continue
		}
		for i := range lw.Hosts {
			if lw.Hosts[i].Address == addr.Unmap() {
				return lw.Hosts[i].Name
			}
		}
	}
	return ""
}

// Records implements Lab: a postrider records what it says to others, and so
// do a resolver and a name server.
func (w *world) Records(host string) bool {
	h, ok := w.World().Host(host)
	if !ok {
		return false
	}
	switch h.Kind {
	case lab.KindMail, lab.KindResolver, lab.KindRoot, lab.KindTLD, lab.KindName:
		return true
	}
	return false
}

// Tables implements Lab.
func (w *world) Tables(ctx context.Context) ([]Table, error) {
	var out []Table
	boxes, err := w.Mailboxes(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, b := range boxes {
		if b.Name != "INBOX" && b.Messages == 0 {
			continue
		}
		t := Table{Kind: "mailbox", Host: b.Host, Title: fmt.Sprintf("%s of %s: %d messages, %d unseen, %d octets", b.Name, b.Account, b.Messages, b.Unseen, b.Size),
			Columns: []string{"UID", "from", "to", "subject", "octets", "flags", "arrived"}}
		for _, l := range b.Letters {
			t.Rows = append(t.Rows, []string{fmt.Sprint(l.UID), l.From, l.To, l.Subject, fmt.Sprint(l.Size), strings.Join(l.Flags, " "), l.Arrived.Format(time.DateTime)})
		}
		out = append(out, t)
	}
	queues, err := w.Queues(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, q := range queues {
		t := Table{Kind: "queue", Host: q.Host, Title: "Queue of " + q.Host, Columns: []string{"letter", "from", "to", "tries", "next try", "last answer"}}
		for _, item := range q.Items {
			for _, r := range item.Recipients {
				t.Rows = append(t.Rows, []string{item.ID, item.From, r.Address, fmt.Sprint(r.Attempts), when(r.Next), r.Reply})
			}
		}
		out = append(out, t)
	}
	caches, err := w.Caches(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, c := range caches {
		t := Table{Kind: "cache", Host: c.Host, Title: "Cache of " + c.Host, Columns: []string{"name", "type", "data", "seconds left", "DNSSEC"}}
		for _, e := range c.Entries {
			t.Rows = append(t.Rows, []string{e.Name, e.Type, strings.Join(e.Data, "; "), fmt.Sprintf("%.0f", time.Duration(e.Left).Seconds()), e.Security})
		}
		out = append(out, t)
	}
	return out, nil
}

// ownCancel is a connection whose context ends with it.
type ownCancel struct {
	net.Conn
	cancel context.CancelFunc
}

func (c ownCancel) Close() error {
	defer c.cancel()
	return c.Conn.Close()
}

// Dial implements Lab. The connection outlives ctx, which bounds the dialling.
func (w *world) Dial(ctx context.Context, host string, port int) (net.Conn, error) {
	if _, ok := w.World().Host(host); !ok {
		return nil, fmt.Errorf("the lab has no host %q, and the console reaches no other", host)
	}
	return w.dial(ctx, "", host, port)
}

// dial connects as one of the lab's hosts, or from outside.
func (w *world) dial(ctx context.Context, from, host string, port int) (net.Conn, error) {
	long, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	conn, err := w.Lab.Dial(long, from, host, uint16(port))
	if err == nil && !stop() {
		conn.Close()
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return ownCancel{conn, cancel}, nil
}

// Send implements Lab.
func (w *world) Send(ctx context.Context, l Letter) (string, error) {
	sent, err := w.Lab.Send(ctx, lab.Letter{From: l.From, To: l.To, Cc: l.Cc, Bcc: l.Bcc, Subject: l.Subject, Text: l.Body})
	if err != nil {
		return "", err
	}
	return sent.Host + " has the letter: " + sent.Reply, nil
}

// Set implements Lab.
func (w *world) Set(ctx context.Context, id string, on bool) error {
	kind, host, ok := strings.Cut(id, " ")
	if !ok {
		return w.ClearFault(ctx, id)
	}
	if !on {
		for _, f := range w.Faults() {
			if string(f.Kind) == kind && f.Host == host && f.Peer == "" {
				if err := w.ClearFault(ctx, f.ID); err != nil {
					return err
				}
			}
		}
		return nil
	}
	f := w.standard(lab.FaultKind(kind))
	f.Host = host
	_, err := w.SetFault(ctx, f)
	return err
}

// Break implements Lab.
func (w *world) Break(ctx context.Context, b Break) error {
	f := w.standard(lab.FaultKind(b.Kind))
	f.Host, f.Peer = b.Host, b.Peer
	if b.Value != "" {
		if err := setValue(&f, b.Value); err != nil {
			return err
		}
	}
	_, err := w.SetFault(ctx, f)
	return err
}

// setValue reads the one value that a kind of fault takes.
func setValue(f *lab.Fault, text string) error {
	switch f.Kind {
	case lab.FaultSlow:
		return f.Latency.UnmarshalText([]byte(text))
	case lab.FaultGreylist:
		return f.Wait.UnmarshalText([]byte(text))
	case lab.FaultLossy:
		return number(text, &f.Percent)
	case lab.FaultBusy:
		return number(text, &f.Rate)
	case lab.FaultServFail:
		f.Name = text
	case lab.FaultSpoof:
		f.Record = text
	case lab.FaultLostReply, lab.FaultStripTLS:
		return number(text, &f.Times)
	default:
		return errors.New("this kind of fault takes no value")
	}
	return nil
}

func number(text string, into *int) error {
	if _, err := fmt.Sscanf(strings.TrimSuffix(text, "%"), "%d", into); err != nil {
		return fmt.Errorf("%q is no number", text)
	}
	return nil
}

// value names what setValue reads; "" for nothing.
func value(k lab.FaultKind) string {
	return map[lab.FaultKind]string{
		lab.FaultSlow: "latency, such as 200ms", lab.FaultGreylist: "wait, such as 5m", lab.FaultLossy: "percent", lab.FaultBusy: "connections a minute",
		lab.FaultServFail: "name, or nothing for all", lab.FaultSpoof: "record, such as hamburger.edu. 300 MX 1 thief.mallory.test.",
		lab.FaultLostReply: "times, or nothing for always", lab.FaultStripTLS: "times, or nothing for always",
	}[k]
}

func when(t *time.Time) string {
	if t == nil {
		return "now"
	}
	return t.Format(time.DateTime)
}

// Register implements Lab.
func (w *world) Register(ctx context.Context, domain string) ([]string, error) {
	r, err := w.Lab.Register(ctx, domain)
	if err != nil {
		return nil, err
	}
	return r.Steps, nil
}
