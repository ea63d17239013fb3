// Command postrider is a complete mail system: an MTA, a mailstore, POP3 and
// IMAP servers in one binary. This package reads the command line, the
// configuration and signals, and turns errors into exit codes; package node
// builds the server.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second Control-C ends the process at once.
	context.AfterFunc(ctx, func() { signal.Reset(os.Interrupt) })
	code := run(ctx, arguments(os.Args), os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// arguments are those of the command line. Under the name sendmail, as cron and
// many programs call it, the program is its command send.
func arguments(argv []string) []string {
	if filepath.Base(argv[0]) == "sendmail" {
		return append([]string{"send"}, argv[1:]...)
	}
	return argv[1:]
}

// Exit codes of the contract.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a fault of the command line rather than of the work.
type usageError struct{ error }

// exitError ends the program with a code and without another word.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// env is what a command has of the outside.
type env struct {
	ctx    context.Context
	config string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

type cli struct {
	Config string      `help:"Configuration file; default: ./config.toml, then /etc/postrider/config.toml." placeholder:"FILE" env:"POSTRIDER_CONFIG"`
	Number versionFlag `name:"version" hidden:"" help:"Print the version."`

	Serve    serveCmd    `cmd:"" help:"Run what the configuration enables until SIGTERM or SIGINT; SIGHUP reloads certificates, limits and log level."`
	Init     initCmd     `cmd:"" help:"Set up the data directory; safe to repeat."`
	Domain   domainCmd   `cmd:"" help:"Domains that we accept mail for."`
	User     userCmd     `cmd:"" help:"Accounts."`
	Quota    quotaCmd    `cmd:"" help:"How much accounts may hold."`
	ACL      aclCmd      `cmd:"" name:"acl" help:"Who else may read and change an account's mailboxes."`
	Alias    aliasCmd    `cmd:"" help:"Addresses that stand for others."`
	Undelete undeleteCmd `cmd:"" help:"Bring expunged messages back into their mailboxes."`
	Queue    queueCmd    `cmd:"" help:"Mail that waits for delivery to other servers."`
	Trace    traceCmd    `cmd:"" help:"Tell everything that happened to a message, or as it happens; or explain a message's header."`
	Import   importCmd   `cmd:"" help:"Bring mail into an account: from mbox files, a Maildir, or another server by IMAP."`
	Export   exportCmd   `cmd:"" help:"Write an account's mail to mbox files or a Maildir."`
	Verify   verifyCmd   `cmd:"" help:"Check everything that is stored, and every message against its hash."`
	Backup   backupCmd   `cmd:"" help:"Add a restore point to a backup directory, while the server runs or not."`
	Restore  restoreCmd  `cmd:"" help:"Make a data directory of a backup."`
	Upgrade  upgradeCmd  `cmd:"" help:"Bring the data directory of an older version to this one's; the server does so at its start, too."`
	Send     sendCmd     `cmd:"" passthrough:"" help:"Send a message from standard input, like sendmail (-t, -f, -i)."`
	DNS      dnsCmd      `cmd:"" name:"dns" help:"Ask the domain name system."`
	Check    checkCmd    `cmd:"" help:"Explain a verdict."`
	Lab      labCmd      `cmd:"" help:"The Internet in one process, to watch a letter travel."`
	Reindex  reindexCmd  `cmd:"" help:"Make the index for IMAP's SEARCH anew."`
	Version  versionCmd  `cmd:"" help:"Print the version."`
}

// notBuiltCmd stands for a command of the contract that does not exist yet.
type notBuiltCmd struct {
	Args []string `arg:"" optional:""`
}

func (notBuiltCmd) Run(k *kong.Context) error {
	return usageError{fmt.Errorf("%s: not built yet", strings.TrimSuffix(k.Command(), " <args>"))}
}

// kongExit carries the exit code of --help out of the parser.
type kongExit int

// run is the whole program; it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (code int) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(kongExit)
			if !ok {
				panic(r)
			}
			code = int(e)
		}
	}()
	var c cli
	parser, err := kong.New(&c,
		kong.Name("postrider"),
		kong.Description("A complete mail system: SMTP, queue, mailstore, POP3 and IMAP in one binary."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(kongExit(code)) }),
		kong.UsageOnError(),
	)
	if err != nil {
		panic(err) // the grammar above is wrong
	}
	k, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "postrider: %v (see postrider --help)\n", err)
		return exitUsage
	}
	e := &env{ctx: ctx, config: c.Config, stdin: stdin, stdout: stdout, stderr: stderr}
	return exitCode(k.Run(e), stderr)
}

func exitCode(err error, stderr io.Writer) int {
	var exit exitError
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &exit):
		return int(exit)
	case errors.As(err, &usage):
		fmt.Fprintln(stderr, "postrider:", err)
		return exitUsage
	default:
		fmt.Fprintln(stderr, "postrider:", err)
		return exitFailed
	}
}

// systemConfig is where make install puts the configuration.
var systemConfig = "/etc/postrider/config.toml"

// self is what to type for this program in a command.
func self() string {
	if filepath.Base(os.Args[0]) == "postrider" {
		return os.Args[0]
	}
	return "postrider"
}

// loadConfig finds and reads the configuration: --config, ./config.toml or
// /etc/postrider/config.toml.
func (e *env) loadConfig() (*config, error) {
	path := e.config
	if path == "" {
		path = "config.toml"
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			path = systemConfig
		}
	}
	return loadConfig(path)
}
