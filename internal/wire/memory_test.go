package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

const (
	// The bound for each connection that is idle.
	maxIdle    = 32 << 10
	maxIdleTLS = 64 << 10
)

// idleConns is how many connections are opened: fewer where the race detector
// makes each expensive.
func idleConns() int {
	if raceDetector {
		return 500
	}
	return 2000
}

// TestMain makes the test binary double as the clients of TestIdleMemory, so
// that their memory is not counted.
func TestMain(m *testing.M) {
	if sock := os.Getenv("WIRE_TEST_CLIENTS_OF"); sock != "" {
		if err := holdConnections(sock, os.Getenv("WIRE_TEST_TLS") != ""); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// holdConnections opens connections until standard input ends.
func holdConnections(sock string, secure bool) error {
	for range idleConns() {
		c, err := net.Dial("unix", sock)
		if err != nil {
			return err
		}
		if secure {
			c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		}
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			return err
		}
		if _, err := io.WriteString(c, "EHLO"); err != nil { // half a line
			return err
		}
		defer c.Close()
	}
	fmt.Println("open")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// TestIdleMemory measures what an idle connection costs: its goroutine,
// reader, writer, logger and TLS state, as the heap and the stacks grow and as
// the process's resident set grows.
func TestIdleMemory(t *testing.T) {
	for _, tt := range []struct {
		name   string
		secure bool
		max    int
	}{{"plain", false, maxIdle}, {"TLS", true, maxIdleTLS}} {
		t.Run(tt.name, func(t *testing.T) {
			heap, resident := measureIdle(t, tt.secure)
			t.Logf("%d idle connections: %d octets each of heap and stacks, %d resident", idleConns(), heap, resident)
			// The race detector keeps memory of its own beside the heap.
			if heap > tt.max || (resident > tt.max && !raceDetector) {
				t.Errorf("more than %d octets each", tt.max)
			}
		})
	}
}

func measureIdle(t *testing.T, secure bool) (heap, resident int) {
	sock := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(ServerOptions{})
	server, _ := localTLS(t)
	p := Protocol{Name: "test", Refusal: refusal, Serve: func(ctx context.Context, c *Conn, draining <-chan struct{}) {
		w := bufio.NewWriter(c) // as a protocol has it
		fmt.Fprintf(w, "220 %s\r\n", c.ID)
		w.Flush()
		r := NewReader(c)
		line, err := r.ReadLine(512)
		runtime.KeepAlive(w)
		if err != io.ErrUnexpectedEOF {
			t.Errorf("ReadLine = %q, %v", line, err)
		}
	}}
	if secure {
		p.TLS = server
	}
	s.Serve(l, p)
	heapBefore, residentBefore := memory(t)

	clients := exec.Command(os.Args[0])
	clients.Env = append(os.Environ(), "WIRE_TEST_CLIENTS_OF="+sock)
	if secure {
		clients.Env = append(clients.Env, "WIRE_TEST_TLS=1")
	}
	clients.Stderr = os.Stderr
	hold, err := clients.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := clients.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := clients.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "open\n" {
		t.Fatalf("clients said %q, %v", line, err)
	}
	heapAfter, residentAfter := memory(t)
	hold.Close()
	if err := clients.Wait(); err != nil {
		t.Error(err)
	}
	s.Shutdown(t.Context())
	return (heapAfter - heapBefore) / idleConns(), (residentAfter - residentBefore) / idleConns()
}

// memory is the heap and stacks in use after a collection, and the resident set.
func memory(t *testing.T) (heap, resident int) {
	t.Helper()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		t.Fatal(err)
	}
	return int(m.HeapInuse + m.StackInuse), pages * os.Getpagesize()
}
