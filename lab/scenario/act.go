package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/emersion/go-smtp"

	"postrider/lab"
)

// letter FROM -> TO[,TO] [cc TO] [bcc TO] [times N] SUBJECT, with the text in the block.
func (p *player) letter(ctx context.Context, c Command) error { return p.send(ctx, c, false) }

// raw FROM -> TO[,TO], with the whole message in the block.
func (p *player) raw(ctx context.Context, c Command) error { return p.send(ctx, c, true) }

func (p *player) send(ctx context.Context, c Command, raw bool) error {
	from, rest, ok := strings.Cut(c.Args, " -> ")
	f := fields(rest)
	if !ok || len(f) == 0 {
		return fmt.Errorf("the form is: %s FROM -> TO[,TO] [cc TO] [bcc TO] SUBJECT", c.Verb)
	}
	f, cc := option(f, "cc")
	f, bcc := option(f, "bcc")
	f, often := option(f, "times")
	times, err := strconv.Atoi(cmp.Or(often, "1"))
	if err != nil || times < 1 || times > maxTimes {
		return fmt.Errorf("times is a number from 1 to %d", maxTimes)
	}
	split := func(s string) []string {
		return slices.DeleteFunc(strings.Split(s, ","), func(s string) bool { return s == "" })
	}
	l := lab.Letter{From: strings.TrimSpace(from), To: split(f[0]), Cc: split(cc), Bcc: split(bcc), Subject: strings.Join(f[1:], " ")}
	text := strings.Join(c.Block, "\n") + "\n"
	if raw {
		l.Raw = text
	} else {
		l.Text = text
	}
	for range times {
		_, p.refused = p.lab.Send(ctx, l)
		var said *smtp.SMTPError
		if errors.As(p.refused, &said) { // refused: the next command tells whether that is right
			return nil
		}
		if err := p.refused; err != nil {
			p.refused = nil
			return err
		}
	}
	return nil
}

// maxTimes bounds how often a letter is sent.
const maxTimes = 100

// refused CODE: the last letter was refused.
func (p *player) wasRefused(_ context.Context, c Command) error {
	var said *smtp.SMTPError
	if !errors.As(p.refused, &said) {
		return errors.New("it was taken")
	}
	if !strings.HasPrefix(strconv.Itoa(said.Code), c.Args) {
		return fmt.Errorf("the server said %d %s", said.Code, said.Message)
	}
	p.refused = nil
	return nil
}

// fault KIND HOST [to PEER] [LATENCY] [N%] [N times] [N a minute] [wait D] [name NAME] [record RR...]
func (p *player) fault(ctx context.Context, c Command) error {
	f, err := ParseFault(c.Args)
	if err == nil {
		_, err = p.lab.SetFault(ctx, f)
	}
	return err
}

// ParseFault reads a fault as scenarios write it.
func ParseFault(text string) (lab.Fault, error) {
	text, record, _ := strings.Cut(text, " record ")
	w := fields(text)
	if len(w) < 2 {
		return lab.Fault{}, errors.New("the form is: KIND HOST [to PEER] [200ms] [30%] [3 times] [5 a minute] [wait 5m] [name NAME] [record NAME TTL TYPE DATA]")
	}
	f := lab.Fault{Kind: lab.FaultKind(w[0]), Host: w[1], Record: record}
	w, f.Peer = option(w, "to")
	w, f.Name = option(w, "name")
	w, wait := option(w, "wait")
	if wait != "" {
		d, err := lab.ParseDuration(wait)
		if err != nil {
			return f, err
		}
		f.Wait = lab.Duration(d)
	}
	for i := 2; i < len(w); i++ {
		n, err := strconv.Atoi(strings.TrimSuffix(w[i], "%"))
		switch {
		case err == nil && strings.HasSuffix(w[i], "%"):
			f.Percent = n
		case err == nil && i+1 < len(w) && (w[i+1] == "times" || w[i+1] == "time"):
			f.Times = n
			i++
		case err == nil && i+2 < len(w) && w[i+1] == "a" && w[i+2] == "minute":
			f.Rate = n
			i += 2
		default:
			d, err := lab.ParseDuration(w[i])
			if err != nil {
				return f, fmt.Errorf("%q is not understood", w[i])
			}
			f.Latency = lab.Duration(d)
		}
	}
	return f, nil
}

// clear [HOST|all] [KIND]
func (p *player) clear(ctx context.Context, c Command) error {
	f := append(fields(c.Args), "", "")
	if f[0] == "all" {
		f[0] = ""
	}
	return p.lab.ClearFaults(ctx, f[0], lab.FaultKind(f[1]))
}

// jump DURATION
func (p *player) jump(ctx context.Context, c Command) error {
	d, err := lab.ParseDuration(c.Args)
	if err != nil {
		return err
	}
	return p.lab.Jump(ctx, d)
}

// register DOMAIN
func (p *player) register(ctx context.Context, c Command) error {
	_, err := p.lab.Register(ctx, c.Args)
	return err
}

// flush RESOLVER
func (p *player) flush(ctx context.Context, c Command) error { return p.lab.FlushCache(ctx, c.Args) }

// reset: the counts of traffic begin anew.
func (p *player) reset(context.Context, Command) error {
	p.lab.ResetTraffic()
	return nil
}

// restart HOST
func (p *player) restart(ctx context.Context, c Command) error { return p.lab.Restart(ctx, c.Args) }

// configure HOST KEY VALUE...: as an administrator changes the configuration and
// restarts the server. It is undone at the end.
func (p *player) configure(ctx context.Context, c Command) error {
	f, err := want(c, 2, "HOST KEY [VALUE...]")
	if err != nil {
		return err
	}
	before, err := p.lab.Configure(ctx, f[0], f[1], f[2:])
	if err != nil {
		return err
	}
	p.undo = append(p.undo, func(ctx context.Context) error { return p.lab.SetMail(ctx, f[0], before) })
	return nil
}

// admin HOST user add ADDRESS PASSWORD | user remove ADDRESS | alias add ADDRESS TARGET | alias remove ADDRESS TARGET
func (p *player) admin(ctx context.Context, c Command) error {
	f, err := want(c, 4, "HOST user add ADDRESS PASSWORD | HOST user remove ADDRESS | HOST alias add|remove ADDRESS TARGET | HOST quota ADDRESS MESSAGES")
	if err != nil {
		return err
	}
	return p.lab.Admin(ctx, f[0], f[1:])
}

// timer: begins to measure the lab's time.
func (p *player) startTimer(context.Context, Command) error {
	p.timer = p.lab.Clock().Now()
	return nil
}
