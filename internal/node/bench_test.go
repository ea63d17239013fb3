package node

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postrider/dns/dnstest"
	"postrider/internal/clock"
)

// benchText is a message of 4 KiB, its end included.
func benchText() []byte {
	const size = 4096
	text := []byte("From: alice@crepes.fr\r\nTo: bob@hamburger.edu\r\nSubject: benchmark\r\nDate: Mon, 12 Oct 1998 15:27:39 +0200\r\nMessage-ID: <1@crepes.fr>\r\n\r\n")
	line := []byte("Do you like ketchup? How about pickles? It is a long way to the end.\r\n")
	for len(text)+len(line) < size-2 {
		text = append(text, line...)
	}
	text = append(text, bytes.Repeat([]byte("x"), size-2-len(text))...)
	return append(text, "\r\n"...)
}

// syncs is how often a second the disk under dir syncs 8 KiB appended to a
// file, with nothing else to do.
func syncs(b *testing.B, dir string) float64 {
	b.Helper()
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		b.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	data := make([]byte, 8192)
	n := 0
	begin := time.Now()
	for ; time.Since(begin) < 300*time.Millisecond; n++ {
		if _, err := f.Write(data); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
	return float64(n) / time.Since(begin).Seconds()
}

// benchNode runs a node on a directory of the benchmark, with the log that a
// server has, written to nowhere.
func benchNode(b *testing.B, change func(o *Options)) *Node {
	b.Helper()
	o := DefaultOptions()
	o.Hostname, o.DataDir = "hamburger.edu", filepath.Join(b.TempDir(), "data")
	o.Listen.SMTP = []string{"127.0.0.1:0"}
	o.Resolver, o.HostsFile = "127.0.0.1:9", ""
	o.Limits.MessagesPerMinute = 0
	o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	change(&o)
	ls, err := Bind(o)
	if err != nil {
		b.Fatal(err)
	}
	n, err := New(context.Background(), o, ls)
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- n.Run(context.Background(), nil) }()
	b.Cleanup(func() {
		n.Close()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return n
}

// rawClient speaks SMTP as a relay does that pipelines: a group of commands in
// one write, and the content in another.
type rawClient struct {
	conn net.Conn
	r    *bufio.Reader
	out  []byte
}

func dialRaw(addr string) (*rawClient, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &rawClient{conn: conn, r: bufio.NewReader(conn)}
	if err := c.replies("220"); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if _, err := io.WriteString(conn, "EHLO crepes.fr\r\n"); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := c.replies("250"); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// replies reads one reply for each code.
func (c *rawClient) replies(codes ...string) error {
	for _, code := range codes {
		for {
			line, err := c.r.ReadSlice('\n')
			if err != nil {
				return err
			}
			if len(line) < 4 || string(line[:3]) != code {
				return fmt.Errorf("got %q, want %s", line, code)
			}
			if line[3] == ' ' {
				break
			}
		}
	}
	return nil
}

// deliver sends one message; text ends in CRLF and has no line with a dot.
func (c *rawClient) deliver(to string, text []byte) error {
	c.out = fmt.Appendf(c.out[:0], "MAIL FROM:<alice@crepes.fr> SIZE=%d\r\nRCPT TO:<%s>\r\nDATA\r\n", len(text), to)
	if _, err := c.conn.Write(c.out); err != nil {
		return err
	}
	if err := c.replies("250", "250", "354"); err != nil {
		return err
	}
	c.out = append(append(c.out[:0], text...), ".\r\n"...)
	if _, err := c.conn.Write(c.out); err != nil {
		return err
	}
	return c.replies("250")
}

// sendMany sends b.N messages over some connections at once; to names the
// recipient of each.
func sendMany(b *testing.B, addr string, sessions int, to func(n int64) string) {
	b.Helper()
	text := benchText()
	var clients []*rawClient
	for range sessions {
		c, err := dialRaw(addr)
		if err != nil {
			b.Fatal(err)
		}
		defer c.conn.Close()
		clients = append(clients, c)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() {
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				if err := c.deliver(to(n), text); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// figures reports what the messages since begin and used cost.
func figures(b *testing.B, used time.Duration, before, after float64) {
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
	b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-µs/msg")
	b.ReportMetric((before+after)/2, "syncs/s")
}

// BenchmarkAcceptDeliver takes messages of 4 KiB over TCP and puts each into a
// mailbox, durably, before its 250. cpu-µs/msg includes the clients.
func BenchmarkAcceptDeliver(b *testing.B) {
	for _, sessions := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) {
			n := benchNode(b, func(*Options) {})
			const users = 8
			if err := n.Directory.AddDomain(b.Context(), "hamburger.edu"); err != nil {
				b.Fatal(err)
			}
			for i := range users {
				if err := n.Directory.AddAccount(b.Context(), fmt.Sprintf("user%d@hamburger.edu", i), "hungry"); err != nil {
					b.Fatal(err)
				}
			}
			before := syncs(b, n.options.DataDir)
			b.ResetTimer()
			begin := clock.Processor()
			sendMany(b, n.Addr("smtp"), sessions, func(i int64) string { return fmt.Sprintf("user%d@hamburger.edu", i%users) })
			used := clock.Processor() - begin
			b.StopTimer()
			figures(b, used, before, syncs(b, n.options.DataDir))
		})
	}
}

// BenchmarkRelay takes messages of 4 KiB for 50 domains over 8 connections, and
// delivers them by MX record to a server that says yes. It ends when the queue
// is empty. cpu-µs/msg includes the clients, the sink and the name server.
func BenchmarkRelay(b *testing.B) {
	const domains = 50
	var zone strings.Builder
	zone.WriteString("mx.example. IN A 127.0.0.1\n")
	for i := range domains {
		fmt.Fprintf(&zone, "d%d.example. IN MX 10 mx.example.\n", i)
	}
	names := dnstest.Start(b, zone.String())
	s := newSink(b)
	n := benchNode(b, func(o *Options) {
		o.Resolver = names.Addr
		o.RelayNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		o.RemotePort = s.port
	})
	before := syncs(b, n.options.DataDir)
	s.want = int64(b.N)
	b.ResetTimer()
	begin := clock.Processor()
	sendMany(b, n.Addr("smtp"), 8, func(i int64) string { return fmt.Sprintf("bob@d%d.example", i%domains) })
	select {
	case <-s.done:
	case <-time.After(time.Minute):
		b.Fatalf("the sink has %d of %d messages", s.got.Load(), b.N)
	}
	for deadline := time.Now().Add(time.Minute); n.metrics.queueLength() != 0; {
		if time.Now().After(deadline) {
			b.Fatal("the queue is not empty")
		}
	}
	used := clock.Processor() - begin
	b.StopTimer()
	figures(b, used, before, syncs(b, n.options.DataDir))
}

// sink is the least SMTP server that a client can pipeline to.
type sink struct {
	l    net.Listener
	port int
	want int64
	got  atomic.Int64
	done chan struct{}
	wg   sync.WaitGroup
}

func newSink(b *testing.B) *sink {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &sink{l: l, port: l.Addr().(*net.TCPAddr).Port, done: make(chan struct{})}
	s.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() {
				defer conn.Close()
				s.serve(conn)
			})
		}
	})
	b.Cleanup(func() {
		l.Close()
		s.wg.Wait()
	})
	return s
}

// serve is one connection; replies are written when no command waits.
func (s *sink) serve(conn net.Conn) {
	r, w := bufio.NewReaderSize(conn, 16<<10), bufio.NewWriter(conn)
	w.WriteString("220 mx.example\r\n")
	for {
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
		line, err := r.ReadSlice('\n')
		if err != nil || len(line) < 4 {
			return
		}
		switch string(line[:4]) {
		case "EHLO":
			w.WriteString("250-mx.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE\r\n")
		case "DATA":
			w.WriteString("354 go on\r\n")
			w.Flush()
			for {
				if line, err = r.ReadSlice('\n'); err != nil {
					return
				}
				if string(line) == ".\r\n" {
					break
				}
			}
			w.WriteString("250 2.0.0 taken\r\n")
			if s.got.Add(1) == s.want {
				close(s.done)
			}
		case "QUIT":
			w.WriteString("221 bye\r\n")
			w.Flush()
			return
		default:
			w.WriteString("250 ok\r\n")
		}
	}
}
