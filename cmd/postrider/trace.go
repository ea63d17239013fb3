package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"postrider/internal/journey"
	"postrider/internal/node"
	"postrider/internal/provenance"
)

type traceCmd struct {
	ID string `arg:"" optional:"" help:"ID of a message, as Received, logs and queue list have it."`

	From      string `placeholder:"ADDRESS" help:"Messages of a sender."`
	To        string `placeholder:"ADDRESS" help:"Messages to a recipient."`
	MessageID string `name:"message-id" placeholder:"<ID>" help:"Messages with a Message-ID."`
	Last      int    `default:"20" help:"At most so many messages, the newest."`
	Follow    bool   `help:"Tell what happens from now on, until interrupted."`
	Sessions  bool   `help:"With --follow: also every line of SMTP, POP3 and IMAP sessions, and what the name server is asked and says."`
	Explain   string `placeholder:"FILE" help:"Read a message, - for standard input, and say of each header field who wrote it, when and why."`
	Trust     string `placeholder:"HOST" help:"With --explain: the last server whose Received fields are believed; default: the one on top."`
	JSON      bool   `name:"json" help:"Print JSON; with --follow one event on a line."`
}

func (c *traceCmd) Run(e *env) error {
	named := c.ID != "" || c.From != "" || c.To != "" || c.MessageID != ""
	switch {
	case c.Explain != "" && (named || c.Follow):
		return usageError{errors.New("--explain stands alone")}
	case c.Explain != "":
		return c.explain(e)
	case c.Sessions && !c.Follow:
		return usageError{errors.New("--sessions goes with --follow: sessions are recorded only while someone listens")}
	case c.Last < 1:
		return usageError{errors.New("--last must be at least 1")}
	case c.Follow:
		return e.admin(func(a *node.AdminClient) error { return c.follow(e, a) })
	case !named:
		return usageError{errors.New("say which message: its ID, --from, --to or --message-id; or --follow, or --explain FILE")}
	}
	return e.admin(func(a *node.AdminClient) error { return c.find(e, a) })
}

// find prints what is known.
func (c *traceCmd) find(e *env, a *node.AdminClient) error {
	var found journey.Found
	q := journey.Query{Message: c.ID, From: c.From, To: c.To, MessageID: bracketed(c.MessageID), Messages: c.Last}
	if err := a.Call("Trace", q, &found); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(e, found.Events)
	}
	if len(found.Events) == 0 {
		return errors.New("nothing is known of such a message")
	}
	p := journey.Printer{W: e.stdout}
	if err := p.Print(found.Events); err != nil {
		return err
	}
	if found.More {
		fmt.Fprintln(e.stderr, "postrider: there is more, older than this: --last N shows it")
	}
	return nil
}

// bracketed is a Message-ID with the brackets that a shell makes hard to type.
func bracketed(id string) string {
	if id == "" || id[0] == '<' {
		return id
	}
	return "<" + id + ">"
}

// follow prints what happens until the context ends.
func (c *traceCmd) follow(e *env, a *node.AdminClient) error {
	if !a.Running {
		return errors.New("no server runs on this data directory, and so nothing happens that could be followed")
	}
	f := journey.Filter{Message: c.ID, From: c.From, To: c.To, MessageID: bracketed(c.MessageID), Sessions: c.Sessions}
	if err := a.Call("TraceFollow", f, &node.None{}); err != nil {
		return err
	}
	defer context.AfterFunc(e.ctx, a.Hangup)()
	p := journey.Printer{W: e.stdout, Follow: true}
	for {
		var events []journey.Event
		if err := a.Call("TraceNext", node.None{}, &events); err != nil {
			if e.ctx.Err() != nil {
				return nil
			}
			return err
		}
		if !c.JSON {
			if err := p.Print(events); err != nil {
				return err
			}
			continue
		}
		for i := range events {
			line, err := json.Marshal(&events[i])
			if err == nil {
				_, err = fmt.Fprintf(e.stdout, "%s\n", line)
			}
			if err != nil {
				return err
			}
		}
	}
}

// explain reads the header of a message.
func (c *traceCmd) explain(e *env) error {
	in := e.stdin
	if c.Explain != "-" {
		f, err := os.Open(c.Explain)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, provenance.MaxHeader))
	if err != nil {
		return fmt.Errorf("read %s: %w", c.Explain, err)
	}
	x := provenance.Explain(text, provenance.Options{Trust: c.Trust})
	if len(x.Fields) == 0 {
		return errors.New("that is no message: it has no header")
	}
	if c.JSON {
		return printValue(e, x)
	}
	return x.Print(e.stdout)
}
