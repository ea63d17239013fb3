package imap

import (
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"postrider/mailstore"
)

// BenchmarkIdle has what a connection in IDLE takes, over TCP and after the garbage
// was collected. The client's ends are bare file descriptors.
func BenchmarkIdle(b *testing.B) {
	const conns = 400
	w := newBench(b, 0)
	for range 10 {
		w.deliver("bob", "INBOX", []byte("Subject: x\r\n\r\n"), mailstore.Flags{}, 1)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	w.wire.Serve(l, w.server.Protocol("imap", false))
	var heap, stack uint64
	for b.Loop() {
		before := memory()
		var fds []int
		for range conns {
			fds = append(fds, idler(b, l.Addr().(*net.TCPAddr).Port))
		}
		after := memory()
		heap += after.HeapAlloc - before.HeapAlloc
		stack += after.StackInuse - before.StackInuse
		for _, fd := range fds {
			syscall.Close(fd)
		}
	}
	b.ReportMetric(float64(heap)/conns/float64(b.N), "heap-octets/conn")
	b.ReportMetric(float64(stack)/conns/float64(b.N), "stack-octets/conn")
}

// BenchmarkLargeIdle has what the first and the next session take that have a mailbox
// of a million messages open.
func BenchmarkLargeIdle(b *testing.B) {
	w := newBench(b, 1000000)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	w.wire.Serve(l, w.server.Protocol("imap", false))
	port := l.Addr().(*net.TCPAddr).Port
	for b.Loop() {
		before := memory()
		defer syscall.Close(idler(b, port))
		first := memory()
		defer syscall.Close(idler(b, port))
		b.ReportMetric(float64(first.HeapAlloc)-float64(before.HeapAlloc), "first-octets")
		b.ReportMetric(float64(memory().HeapAlloc)-float64(first.HeapAlloc), "next-octets")
		b.ReportMetric(float64(first.HeapAlloc), "heap-octets")
	}
}

func memory() (m runtime.MemStats) {
	for range 3 { // stacks shrink by half each time
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m
}

// idler is a client in IDLE.
func idler(b *testing.B, port int) (fd int) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		err = syscall.Connect(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		b.Fatal(err)
	}
	room := make([]byte, 4<<10)
	for _, say := range []struct{ command, answer string }{
		{"", "* OK"}, {"a LOGIN bob hungry\r\n", "a OK"}, {"b SELECT INBOX\r\n", "b OK"}, {"c IDLE\r\n", "+ "},
	} {
		if _, err := syscall.Write(fd, []byte(say.command)); err != nil {
			b.Fatal(err)
		}
		for said := ""; !strings.Contains("\n"+said, "\n"+say.answer); {
			n, err := syscall.Read(fd, room)
			if n <= 0 || err != nil {
				b.Fatalf("%q: %v", said, err)
			}
			said += string(room[:n])
		}
	}
	return fd
}
