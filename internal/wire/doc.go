// Package wire is what every listening protocol shares: a line reader with
// limits, the life cycle of a server's listeners and connections, and the
// sources of TLS certificates. It speaks no protocol itself.
//
// A Server, a Gate and Certificates may be used by many goroutines; a Reader
// and a Conn belong to the one that handles the connection. Every goroutine
// that is started here ends before Shutdown returns.
//
// Only LocalCertificates writes: each of its files is replaced whole (written
// beside, synced, renamed, directory synced), so that a crash leaves the old
// one or the new one. See localca.go for what each holds.
package wire
