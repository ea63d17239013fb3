package main

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"

	"postrider/lab"
	"postrider/lab/catch"
	"postrider/lab/page"
)

// labCatch has the flags of a server that catches mail.
type labCatch struct {
	Catch    bool  `help:"Catch mail instead: take what a program under test sends to any address, send none on (docs/catch.md)."`
	Offset   int   `name:"port-offset" placeholder:"N" help:"With --catch: added to every port."`
	Messages int   `placeholder:"N" help:"With --catch: how many messages are kept; the oldest goes. Default: 1000."`
	Octets   int64 `placeholder:"N" help:"With --catch: how many octets are kept. Default: 268435456."`
}

// catch runs the server.
func (c *labCatch) catch(e *env, listen, keep string) error {
	return catch.Run(e.ctx, catch.Options{Listen: listen, PortOffset: c.Offset, Keep: keep, Messages: c.Messages, Octets: c.Octets, Out: e.stdout})
}

// labPage has the flag of the page for browsers.
type labPage struct {
	Page string `placeholder:"ADDR:PORT" default:"127.0.0.1:8080" help:"Where the page for browsers is; another port if this one is taken. \"\" = none."`
}

// run runs a lab with its page until the command ends.
func (c *labPage) run(e *env, listen string, o lab.Options) error {
	l, err := lab.Start(e.ctx, o)
	if err != nil {
		return err
	}
	url, hide, err := c.show(e, listen, l)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	defer hide()
	l.Introduce(e.stdout)
	if url != "" {
		fmt.Fprintf(e.stdout, "Watch it in a browser: %s\n\n", url)
	}
	fmt.Fprintln(e.stdout, "ready")
	return l.Wait()
}

// show serves the page until hide is called, and returns where it is.
func (c *labPage) show(e *env, listen string, l *lab.Lab) (url string, hide func(), err error) {
	if c.Page == "" {
		return "", func() {}, nil
	}
	at := c.Page
	if host, port, err := net.SplitHostPort(at); err == nil && listen != "" && net.ParseIP(host).IsLoopback() {
		at = net.JoinHostPort(listen, port) // for the class
	}
	ln, err := listenNear(at)
	if err != nil {
		return "", nil, fmt.Errorf("the page: %w; give another address with --page", err)
	}
	p, err := page.New(page.Options{Lab: page.Of(l)})
	if err != nil {
		return "", nil, errors.Join(err, ln.Close())
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := p.Serve(e.ctx, ln); err != nil {
			fmt.Fprintln(e.stderr, "postrider: the page:", err)
		}
	})
	return "http://" + ln.Addr().String() + "/", func() {
		p.Close()
		serving.Wait()
	}, nil
}

// listenNear listens at an address, or at another port where that one is taken.
func listenNear(addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return ln, err
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	return net.Listen("tcp", net.JoinHostPort(host, "0"))
}
