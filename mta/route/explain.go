package route

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"postrider/internal/directory"
	"postrider/mta"
)

// Explanation is what would become of mail for an address.
type Explanation struct {
	// Verdict is one word: local, alias, relay, remote, unknown, refused,
	// unreachable or error.
	Verdict string   `json:"verdict"`
	Reasons []string `json:"reasons"`
}

func (x *Explanation) say(format string, args ...any) {
	x.Reasons = append(x.Reasons, fmt.Sprintf(format, args...))
}

// maxExplained bounds the lines of an explanation that come of a list.
const maxExplained = 50

// Explain tells what would become of mail for to, and why.
func (r *Router) Explain(ctx context.Context, to mta.Address) Explanation {
	x := Explanation{Reasons: []string{}}
	targets, err := r.local(ctx, to)
	var refusal *mta.Reply
	switch {
	case errors.Is(err, directory.ErrNoDomain):
		r.explainRemote(ctx, to, &x)
	case errors.As(err, &refusal):
		x.Verdict = "refused"
		if refusal.Status == "5.1.1" {
			x.Verdict = "unknown"
			if alias, _ := r.matchedAlias(ctx, to); alias != "" {
				x.say("it is matched by %s, and no account has an address that this stands for", alias)
			} else {
				x.say("%s is a domain of this server, and nobody has that address", to.Domain)
			}
		}
		x.say("RCPT is answered with %s", refusal)
	case err != nil:
		x.Verdict = "error"
		x.say("the directory could not be asked: %v", err)
	default:
		r.explainLocal(ctx, to, targets, &x)
		if errors.As(r.Room(ctx, to, targets, 0), &refusal) {
			x.say("there is no room for a message: RCPT is answered with %s", refusal)
		}
	}
	return x
}

// explainLocal tells accounts from aliases.
func (r *Router) explainLocal(ctx context.Context, to mta.Address, targets []mta.Target, x *Explanation) {
	accounts, err := r.o.Directory.Accounts(ctx)
	if err != nil {
		x.Verdict = "error"
		x.say("the accounts could not be listed: %v", err)
		return
	}
	names := make(map[int64]string, len(accounts))
	for _, a := range accounts {
		names[int64(a.ID)] = a.Address
	}
	x.Verdict = "local"
	base := to.Base().String()
	direct := len(targets) == 1 && targets[0].Account != 0
	if !direct || !strings.EqualFold(names[targets[0].Account], base) {
		x.Verdict = "alias"
		r.explainAlias(ctx, to, x)
	}
	for i, t := range targets {
		switch {
		case i == maxExplained:
			x.say("and %d more", len(targets)-i)
			return
		case t.Account != 0 && x.Verdict == "local" && base != to.String():
			x.say("it is a subaddress of the account %s", names[t.Account])
		case t.Account != 0 && x.Verdict == "local":
			x.say("it is the account %s", names[t.Account])
		case t.Account != 0:
			x.say("goes to the account %s", names[t.Account])
		default:
			x.say("goes on to %s at another server", t.Remote)
			r.explainHops(ctx, t.Remote.Domain, x)
		}
	}
}

// explainAlias names the alias that matched.
func (r *Router) explainAlias(ctx context.Context, to mta.Address, x *Explanation) {
	alias, err := r.matchedAlias(ctx, to)
	switch {
	case err != nil:
		x.say("the aliases could not be listed: %v", err)
	case alias != "":
		x.say("it is matched by %s", alias)
	default:
		x.say("nobody has this address: it goes to the first account until somebody does")
	}
}

// matchedAlias is the alias that matches, with its kind; "" where none does.
func (r *Router) matchedAlias(ctx context.Context, to mta.Address) (string, error) {
	aliases, err := r.o.Directory.Aliases(ctx)
	if err != nil {
		return "", err
	}
	for _, candidate := range []string{to.String(), to.Base().String(), "@" + to.Domain} {
		for _, a := range aliases {
			if strings.EqualFold(a.Address, candidate) {
				what := "the alias"
				if candidate[0] == '@' {
					what = "the catch-all"
				}
				return what + " " + a.Address, nil
			}
		}
	}
	return "", nil
}

// explainRemote tells what becomes of an address in a domain that is not ours.
func (r *Router) explainRemote(ctx context.Context, to mta.Address, x *Explanation) {
	_, err := r.Recipient(ctx, mta.Client{}, to)
	var refusal *mta.Reply
	switch {
	case err == nil:
		x.Verdict = "relay"
		x.say("%s is in smtp.relay_domains: mail for it is accepted from anyone", to.Domain)
	case errors.As(err, &refusal) && r.relayDomains[to.Domain]:
		x.Verdict = "refused"
		x.say("RCPT is answered with %s", refusal)
		return
	case errors.As(err, &refusal):
		x.Verdict = "remote"
		x.say("%s is not a domain of this server", to.Domain)
		x.say("from strangers RCPT is answered with %s", refusal)
		x.say("users who logged in and smtp.relay_networks may send to it")
	default:
		x.Verdict = "error"
		x.say("the directory could not be asked: %v", err)
		return
	}
	if !r.explainHops(ctx, to.Domain, x) {
		x.Verdict = "unreachable"
	}
}

// explainHops lists the hosts for domain.
func (r *Router) explainHops(ctx context.Context, domain string, x *Explanation) bool {
	hops, err := r.Hops(ctx, domain)
	if err != nil {
		x.say("no host to deliver to: %v", err)
		return false
	}
	how := "MX"
	if r.o.Smarthost != nil {
		how = "smarthost"
	}
	for _, h := range hops {
		addrs := make([]string, len(h.Addrs))
		for i, a := range h.Addrs {
			addrs[i] = a.String()
		}
		x.say("%s %s at %s", how, h.Host, strings.Join(addrs, ", "))
	}
	return true
}
