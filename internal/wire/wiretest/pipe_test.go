package wiretest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"
)

func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		c1, c2 = Pipe()
		return c1, c2, func() { c1.Close(); c2.Close() }, nil
	})
}

func TestPipelining(t *testing.T) {
	client, server := Pipe()
	for range 100 { // nobody reads, as when commands are pipelined
		if _, err := client.Write([]byte("NOOP\r\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Write([]byte("250 ok\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	client.Close()
	got, err := io.ReadAll(server)
	if len(got) != 600 || err != nil {
		t.Errorf("read %d octets, %v", len(got), err)
	}
	if _, err := server.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write to a closed peer: %v", err)
	}
}

func TestDeadlineInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := Pipe()
		start := time.Now()
		server.SetReadDeadline(start.Add(5 * time.Minute))
		_, err := server.Read(make([]byte, 1))
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 5*time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		client.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := client.Write(make([]byte, BufferSize+1))
		if n != BufferSize || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d, %v", n, err)
		}
		client.SetDeadline(time.Time{})
		go func() { server.SetReadDeadline(time.Time{}); io.Copy(io.Discard, server) }()
		if n, err := client.Write(make([]byte, 3*BufferSize)); n != 3*BufferSize || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		client.Close()
	})
}

func TestBreakAndCloseWrite(t *testing.T) {
	client, server := Pipe()
	client.(interface{ CloseWrite() error }).CloseWrite()
	if _, err := server.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read after CloseWrite: %v", err)
	}
	if _, err := server.Write([]byte("x")); err != nil {
		t.Errorf("write after the peer's CloseWrite: %v", err)
	}
	Break(server)
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read after Break: %v", err)
	}
}

func TestNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n Network
		ctx := context.Background()
		if _, err := n.Dial(ctx, "tcp", "192.0.2.1:25"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody listens: %v", err)
		}
		l, err := n.Listen("192.0.2.1:25")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Listen("192.0.2.1:25"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("listen twice: %v", err)
		}
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte(c.RemoteAddr().String()))
			c.Close()
		}()
		c, err := l.DialFrom(ctx, netip.MustParseAddr("2001:db8::1"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); string(got) != "[2001:db8::1]:49152" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		l.Fail(syscall.EMFILE)
		if _, err := l.Accept(); err != syscall.EMFILE {
			t.Errorf("Accept after Fail: %v", err)
		}
		waiting, _ := n.Dial(ctx, "tcp", "192.0.2.1:25")
		l.Close()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Close: %v", err)
		}
		if _, err := waiting.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a connection nobody accepted: %v", err)
		}
		if _, err := n.Dial(ctx, "tcp", "192.0.2.1:25"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("after Close: %v", err)
		}
	})
}
