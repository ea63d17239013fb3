package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"reflect"
	"strconv"
	"sync"
	"syscall"
	"text/tabwriter"

	"postrider/internal/node"
)

type serveCmd struct {
	PortOffset string `default:"0" placeholder:"N" help:"Add N to every listening port; auto adds 10000, or 20000 and so on, where the plain ports can't be bound."`
}

// autoOffset is what --port-offset auto adds where it must, several times
// where those ports are taken, too.
const (
	autoOffset    = 10000
	maxAutoOffset = 5 * autoOffset
)

func (c *serveCmd) Run(e *env) error {
	paceCollector()
	conf, err := e.loadConfig()
	if err != nil {
		return err
	}
	conf.node.Log = conf.logger(e.stderr)
	conf.node.Upgrade = true
	hup := make(chan os.Signal, 1) // one that comes before there is a node waits for it
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	ls, err := c.bind(e, &conf.node)
	if err != nil {
		return err
	}
	defer ls.Close()
	if conf.node.Listen.Empty() {
		return fmt.Errorf("nothing to serve: [listen] in %s names no address", conf.path)
	}
	root, err := node.DropPrivileges(conf.node.User, conf.node.DataDir)
	if err != nil {
		return err
	}
	if root {
		conf.node.Log.Warn("running as root; set [server] user to the account that postrider should become after binding its ports")
	}
	n, err := node.New(e.ctx, conf.node, ls)
	if e.ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // told to end before it had begun
	} else if err != nil {
		return err
	}
	var reloading sync.WaitGroup
	defer reloading.Wait()
	reloads, stop := context.WithCancel(e.ctx)
	defer stop()
	reloading.Go(func() { e.reload(reloads, hup, n, conf) })
	return n.Run(e.ctx, func() {
		printListeners(e.stdout, n)
		fmt.Fprintln(e.stdout, "ready")
	})
}

// bind opens the listeners at the offset that was asked for.
func (c *serveCmd) bind(e *env, o *node.Options) (*node.Listeners, error) {
	if c.PortOffset != "auto" {
		n, err := strconv.Atoi(c.PortOffset)
		if err != nil || n < 0 || n > 65535 {
			return nil, usageError{fmt.Errorf("--port-offset %s: must be a number from 0 to 65535, or auto", c.PortOffset)}
		}
		o.PortOffset = n
		return node.Bind(*o)
	}
	ls, err := node.Bind(*o)
	if err == nil {
		return ls, nil
	}
	first := err
	for err != nil && o.PortOffset < maxAutoOffset {
		o.PortOffset += autoOffset
		ls, err = node.Bind(*o)
	}
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(e.stdout, "%v\nUsing ports moved by %d instead.\n", first, o.PortOffset)
	if errors.Is(first, os.ErrPermission) {
		if self, err := os.Executable(); err == nil {
			fmt.Fprintf(e.stdout, "This line makes it unnecessary:\n  sudo setcap cap_net_bind_service=+ep %s\n", self)
		}
	}
	fmt.Fprintln(e.stdout)
	return ls, nil
}

// reload reads the configuration again at each SIGHUP and applies what can
// change in a running server.
func (e *env) reload(ctx context.Context, hup <-chan os.Signal, n *node.Node, running *config) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		log := running.node.Log
		next, err := loadConfig(running.path)
		if err != nil {
			log.Error("reload refused: the configuration has faults; going on with the old one", "err", err)
			continue
		}
		running.level.Set(next.logLevel)
		if err := n.Reload(next.node); err != nil {
			log.Error("reload incomplete", "err", err)
			continue
		}
		log.Info("reloaded certificates, limits, DNS zones and log level")
		if running.restartFor(next) {
			log.Warn("the configuration has other changes, too: they wait for the next start")
		}
	}
}

// restartFor tells whether next differs in what a reload does not apply.
func (c *config) restartFor(next *config) bool {
	o := next.node
	o.Limits, o.DNS, o.Log, o.PortOffset, o.Upgrade = c.node.Limits, c.node.DNS, c.node.Log, c.node.PortOffset, c.node.Upgrade
	return next.logFormat != c.logFormat || !reflect.DeepEqual(o, c.node)
}

func printListeners(w io.Writer, n *node.Node) {
	fmt.Fprintf(w, "postrider %s, %s\n\n", node.Version(), n.Hostname())
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	for _, l := range n.Listening() {
		fmt.Fprintf(t, "  %s\t%s\t%s\n", l.Service, l.Addr, l.About)
	}
	t.Flush()
	fmt.Fprintln(w)
	if host, port, err := net.SplitHostPort(n.Addr("smtp")); err == nil {
		fmt.Fprintf(w, "Type a letter:     telnet %s %s\n", reachable(host), port)
	}
	printMailProgram(w, n)
	if ca := n.CAFile(); ca != "" {
		fmt.Fprintf(w, "Trust this server: %s   (the local CA: import it as an authority)\n", ca)
	}
	fmt.Fprintln(w)
}

// printMailProgram tells what to enter in Thunderbird.
func printMailProgram(w io.Writer, n *node.Node) {
	for _, s := range []struct{ service, label, security string }{
		{"imaps", "Read in a mail program:", "SSL/TLS"}, {"imap", "Read in a mail program:", "STARTTLS"},
		{"submissions", "Send from it:          ", "SSL/TLS"}, {"submission", "Send from it:          ", "STARTTLS"},
	} {
		host, port, err := net.SplitHostPort(n.Addr(s.service))
		if err != nil {
			continue
		}
		protocol := "IMAP"
		if s.service[0] == 's' {
			protocol = "SMTP"
		}
		name := reachable(host)
		if ip := net.ParseIP(name); ip != nil && ip.IsLoopback() {
			name = "localhost"
		}
		fmt.Fprintf(w, "%s %s server %s, port %s, %s, normal password, user name = full address\n",
			s.label, protocol, name, port, s.security)
	}
}

// reachable is what to type for a listening address.
func reachable(host string) string {
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return "localhost"
	}
	return host
}

// logger writes to w as the configuration says; its level follows c.level.
func (c *config) logger(w io.Writer) *slog.Logger {
	c.level.Set(c.logLevel)
	o := &slog.HandlerOptions{Level: &c.level}
	if c.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
