//go:build !linux

package server

import "net"

const waitForOne = 0

// readers reads a socket through the runtime's poller.
func readers(c *net.UDPConn, _ int) ([]*net.UDPConn, error) { return []*net.UDPConn{c}, nil }

func wake(net.PacketConn) {}
