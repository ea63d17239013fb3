package dnstest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Port is a port of 127.0.0.1 for a program that opens its sockets itself: free
// for UDP and TCP now, and not one that the system gives to clients, which could
// have it before the program does.
func Port() (int, error) {
	for range 100 {
		port := 10000 + rand.IntN(20000)
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		c, err := net.ListenPacket("udp", addr)
		l.Close()
		if err == nil {
			c.Close()
			return port, nil
		}
	}
	return 0, errors.New("no port between 10000 and 30000 is free for UDP and TCP")
}
