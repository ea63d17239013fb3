// Package wire is what every listening protocol shares: a line reader with
// limits, the life cycle of a server's listeners and connections, and the
// sources of TLS certificates. It speaks no protocol itself.
package wire
