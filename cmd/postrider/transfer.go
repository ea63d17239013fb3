package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"postrider/internal/node"
	"postrider/internal/transfer"
)

type importCmd struct {
	Source   string   `arg:"" help:"An mbox file, a folder of *.mbox files, a Maildir, or imaps://USER@HOST[:PORT]."`
	To       string   `required:"" placeholder:"ADDRESS" help:"The account that gets the mail."`
	Mailbox  string   `placeholder:"NAME" help:"Put everything there; default: a single mbox into INBOX, each folder into a mailbox of its name."`
	Format   string   `enum:"auto,mbox,maildir,imap" default:"auto" help:"mbox, maildir or imap; default: found out from the source."`
	Dialect  string   `placeholder:"D" help:"Of mbox: mboxo, mboxrd, mboxcl or mboxcl2; default: found out from the file."`
	Folder   []string `placeholder:"NAME" sep:"none" help:"Take this folder of the source only; may be given again."`
	DryRun   bool     `help:"Say what would be imported, and change nothing."`
	Again    bool     `help:"Also import what an earlier import of this source brought in."`
	TLSCA    string   `name:"tls-ca" placeholder:"FILE" help:"PEM file with the authority that vouches for the IMAP server."`
	Insecure bool     `help:"Do not check the IMAP server's certificate."`

	PasswordStdin bool `help:"Read the IMAP password from the first line of standard input; else it is taken from the environment variable POSTRIDER_IMPORT_PASSWORD, or asked for."`
}

// importPasswordVar is the environment variable with the IMAP password.
const importPasswordVar = "POSTRIDER_IMPORT_PASSWORD"

func (c *importCmd) Run(e *env) error {
	d, err := transfer.ParseDialect(c.Dialect)
	if err != nil {
		return usageError{err}
	}
	src, err := c.source(e, d)
	if err != nil {
		return err
	}
	defer src.Close()
	p := &transfer.Progress{}
	o := transfer.ImportOptions{Account: c.To, Mailbox: c.Mailbox, Only: c.Folder, DryRun: c.DryRun, Again: c.Again, Progress: p}
	if c.DryRun {
		o.Watch = func(f transfer.Folder, mailbox string, created bool) {
			note := ""
			if created {
				note = " (new)"
			}
			fmt.Fprintf(e.stdout, "%s -> %s%s\n", f.Name, mailbox, note)
		}
	}
	var s transfer.Summary
	err = e.transfer(p, func(conn io.ReadWriteCloser) error {
		s, err = transfer.Import(e.ctx, conn, src, o)
		return err
	})
	verb := "imported"
	if c.DryRun {
		verb = "would import"
	}
	if err == nil || s.Messages > 0 {
		fmt.Fprintf(e.stdout, "%s %s, %d there by an earlier import, %d skipped\n", verb, amount(s), s.Already, s.Failed)
	}
	for _, v := range s.Views {
		fmt.Fprintf(e.stdout, "left out %s, which shows messages of other folders (--folder %q takes it)\n", v, v)
	}
	if s.Dropped > 0 {
		fmt.Fprintf(e.stderr, "postrider: %d flags could not be kept: they are no IMAP keywords, or more than a message may have\n", s.Dropped)
	}
	return e.outcome(s, err)
}

// source opens what is imported.
func (c *importCmd) source(e *env, d transfer.Dialect) (transfer.Source, error) {
	format := c.Format
	if format == "auto" {
		format = guessFormat(c.Source)
	}
	switch format {
	case "maildir":
		return transfer.OpenMaildir(c.Source)
	case "mbox":
		return transfer.OpenMbox(c.Source, d)
	}
	if _, err := transfer.ParseIMAP(c.Source); err != nil {
		return nil, usageError{err}
	}
	o := transfer.IMAPOptions{URL: c.Source, Insecure: c.Insecure, DryRun: c.DryRun}
	if c.TLSCA != "" {
		pem, err := os.ReadFile(c.TLSCA)
		if err != nil {
			return nil, err
		}
		o.CA = x509.NewCertPool()
		if !o.CA.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate in PEM form", c.TLSCA)
		}
	}
	var err error
	if o.Password, err = c.password(e); err != nil {
		return nil, err
	}
	return transfer.OpenIMAP(e.ctx, o)
}

func guessFormat(source string) string {
	if strings.HasPrefix(source, "imap://") || strings.HasPrefix(source, "imaps://") {
		return "imap"
	}
	if fi, err := os.Stat(filepath.Join(source, "cur")); err == nil && fi.IsDir() {
		return "maildir"
	}
	return "mbox"
}

// password finds the IMAP password: on standard input, in the environment, or
// by asking on the terminal.
func (c *importCmd) password(e *env) (string, error) {
	if c.PasswordStdin {
		p, _, err := passwordFlag{true}.password(e)
		return p, err
	}
	if p := os.Getenv(importPasswordVar); p != "" {
		return p, nil
	}
	tty, ok := e.stdin.(*os.File)
	if !ok || !isTerminal(tty) {
		return "", usageError{fmt.Errorf("the IMAP server needs a password: --password-stdin, or the environment variable %s", importPasswordVar)}
	}
	return askPassword(e, tty, c.Source)
}

// askPassword asks on a terminal, which shows nothing of the answer.
func askPassword(e *env, tty *os.File, source string) (string, error) {
	show, err := hideInput(tty) // before anybody types
	if err != nil {
		return "", err
	}
	defer show()
	fmt.Fprintf(e.stderr, "Password for %s: ", source)
	defer fmt.Fprintln(e.stderr)
	type answer struct {
		line string
		err  error
	}
	typed := make(chan answer, 1)
	go func() { // after Control-C it waits for a line until the process ends, which is soon
		line, err := bufio.NewReader(io.LimitReader(tty, maxPasswordLine)).ReadString('\n')
		typed <- answer{line, err}
	}()
	select {
	case a := <-typed:
		return strings.TrimRight(a.line, "\r\n"), a.err
	case <-e.ctx.Done():
		return "", errors.New("interrupted")
	}
}

type exportCmd struct {
	Address string   `arg:"" help:"The account."`
	Dest    string   `arg:"" help:"What to make; it must not be there. With one --mailbox an mbox file, else a folder of them; or a Maildir."`
	Format  string   `required:"" enum:"mbox,maildir" help:"mbox or maildir."`
	Dialect string   `placeholder:"D" help:"Of mbox: mboxo, mboxrd (default), mboxcl or mboxcl2."`
	Mailbox []string `placeholder:"NAME" sep:"none" help:"This mailbox only; may be given again."`
}

func (c *exportCmd) Run(e *env) error {
	d, err := transfer.ParseDialect(c.Dialect)
	if err != nil {
		return usageError{err}
	}
	p := &transfer.Progress{}
	var s transfer.Summary
	err = e.transfer(p, func(conn io.ReadWriteCloser) error {
		s, err = transfer.Export(e.ctx, conn, transfer.ExportOptions{Account: c.Address, Mailbox: c.Mailbox, Format: c.Format,
			Dialect: d, Dest: c.Dest, Now: time.Now(), Progress: p})
		return err
	})
	if err == nil {
		fmt.Fprintf(e.stdout, "exported %s from %d mailboxes to %s, %d skipped\n", amount(s), s.Mailboxes, c.Dest, s.Failed)
	}
	return e.outcome(s, err)
}

// transfer opens the way to the store, runs fn on it and shows its progress.
func (e *env) transfer(p *transfer.Progress, fn func(io.ReadWriteCloser) error) error {
	c, err := e.loadConfig()
	if err != nil {
		return err
	}
	c.node.Log = c.logger(io.Discard)
	conn, closeNode, err := node.OpenTransfer(e.ctx, c.node)
	if err != nil {
		return err
	}
	defer closeNode()
	stop := showProgress(e.stderr, p)
	defer stop()
	return fn(conn)
}

// outcome reports what was skipped; that fails the command.
func (e *env) outcome(s transfer.Summary, err error) error {
	for _, one := range s.Skipped {
		fmt.Fprintf(e.stderr, "postrider: skipped %s: %s\n", one.Where, one.Reason)
	}
	if n := s.Failed - int64(len(s.Skipped)); n > 0 {
		fmt.Fprintf(e.stderr, "postrider: skipped %d more\n", n)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted; what was imported is kept, and the same command goes on from there")
	case err != nil:
		return err
	case s.Failed > 0:
		return exitError(exitFailed)
	}
	return nil
}

// amount is how much was moved.
func amount(s transfer.Summary) string {
	return fmt.Sprintf("%d messages (%s)", s.Messages, binarySize(s.Octets))
}

func binarySize(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d octets", n)
}
