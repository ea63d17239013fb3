package route

import (
	"context"
	"errors"
	"net/netip"
	"strings"

	"postrider/internal/directory"
	"postrider/mta"
)

// Recipient decides about one recipient that c names: where its copies go, or a
// refusal, which is a *mta.Reply. Any other error is temporary. The zero Client
// is a stranger.
func (r *Router) Recipient(ctx context.Context, c mta.Client, to mta.Address) ([]mta.Target, error) {
	if r.catcher != nil {
		return r.catcher.recipient(ctx, r.o.Directory, c, to)
	}
	targets, err := r.local(ctx, to)
	if !errors.Is(err, directory.ErrNoDomain) {
		return targets, err
	}
	switch {
	case r.mayRelay(c):
	case !r.relayDomains[to.Domain]:
		return nil, r.denied(ctx, to)
	case disguised(to.Local):
		return nil, errDisguise(to)
	}
	return []mta.Target{{Remote: to}}, nil
}

// local resolves an address in a domain of ours; directory.ErrNoDomain says that
// it is not.
func (r *Router) local(ctx context.Context, to mta.Address) ([]mta.Target, error) {
	a := to
	if strings.EqualFold(to.Local, "postmaster") && r.isHere(to.Domain) {
		// RFC 5321 section 4.5.1: under our own name and address, too.
		if known, err := r.ours(ctx, to.Domain); err != nil {
			return nil, err
		} else if !known {
			a.Domain = ""
		}
	}
	targets, err := r.o.Directory.Resolve(ctx, a)
	switch {
	case errors.Is(err, directory.ErrNoDomain):
		return nil, err
	case err == nil && disguised(to.Local), errors.Is(err, directory.ErrNoUser) && disguised(to.Local):
		// Not even for a catch-all: it would look as if we relayed.
		return nil, errDisguise(to)
	case errors.Is(err, directory.ErrNoUser):
		return nil, mta.Errorf(550, "5.1.1", "There is no %s here: please check the spelling", to)
	case err != nil:
		return nil, err
	case len(targets) == 0:
		return nil, mta.Errorf(451, "4.3.5", "The alias %s leads nowhere: please tell the postmaster", to)
	}
	return targets, nil
}

// isHere tells whether domain names this very host, by name or address.
func (r *Router) isHere(domain string) bool {
	if ip, ok := literal(domain); ok {
		return r.o.Ourselves(netip.AddrPortFrom(ip, uint16(r.o.RemotePort)))
	}
	return domain != "" && domain == r.o.Hostname
}

func (r *Router) ours(ctx context.Context, domain string) (bool, error) {
	domains, err := r.o.Directory.Domains(ctx)
	for _, d := range domains {
		if d == domain {
			return true, nil
		}
	}
	return false, err
}

// mayRelay tells whether c may send to any address: it logged in, or is in
// relay_networks, or is ourselves.
func (r *Router) mayRelay(c mta.Client) bool {
	if c.Account != 0 || c.Ours {
		return true
	}
	return contains(r.o.RelayNetworks, c.Addr)
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// disguised tells whether a local part names another mailbox than it seems: by
// the percent hack, a bang path, or an address in quotes.
func disguised(local string) bool { return strings.ContainsAny(local, "%!@") }

func errDisguise(to mta.Address) *mta.Reply {
	return mta.Errorf(550, "5.7.1", "%s: relaying denied: an address with %%, ! or @ before its domain is not accepted here", to)
}

// denied is the refusal to relay, with what would help.
func (r *Router) denied(ctx context.Context, to mta.Address) error {
	domains, err := r.o.Directory.Domains(ctx)
	if err != nil {
		return err
	}
	for _, d := range domains {
		if strings.HasSuffix(to.Domain, "."+d) {
			return mta.Errorf(550, "5.7.1", "%s: relaying denied: mail is accepted here for %s, but not for %s", to, d, to.Domain)
		}
	}
	return mta.Errorf(550, "5.7.1", "%s: relaying denied: please log in to send mail to other servers", to)
}

// literal reads an address literal in a domain's place.
func literal(domain string) (netip.Addr, bool) {
	inner, ok := strings.CutPrefix(domain, "[")
	if !ok {
		return netip.Addr{}, false
	}
	inner, ok = strings.CutSuffix(inner, "]")
	if !ok {
		return netip.Addr{}, false
	}
	ip, err := netip.ParseAddr(strings.TrimPrefix(inner, "IPv6:"))
	return ip.Unmap(), err == nil && ip.Zone() == ""
}
