// Package dnstest is a tiny name server on loopback for tests and for the lab.
//
// It answers from a zone written as text (RFC 1035 section 5), over UDP and
// TCP, as a recursive server would that knows nothing else: aliases followed,
// wildcards expanded, NXDOMAIN and NODATA with the SOA record of the zone. It
// can be told to fail in many ways. It never asks another server, and never
// listens on an address off this host.
//
// A Server may be used concurrently. Close returns after its goroutines.
package dnstest
