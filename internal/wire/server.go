package wire

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"

	"postrider/internal/clock"
)

// Conn is one accepted connection, handed to a protocol's handler.
type Conn struct {
	net.Conn
	ID     string     // names the session in logs
	Remote netip.Addr // unmapped; the zero Addr for a UNIX socket
	Local  netip.AddrPort
	TLS    *tls.ConnectionState // set where the listener is TLS from the first byte (handshake done)
	Log    *slog.Logger         // carries the session id
}

// SetAuthenticated tells the gate that the connection belongs to a user: it is
// then not the first to be closed when connections run out.
func (c *Conn) SetAuthenticated() { panic("unimplemented") }

// StartTLS upgrades the connection: it does the handshake within 10 seconds
// and replaces c.Conn. The caller has made sure that nothing is buffered.
func (c *Conn) StartTLS(ctx context.Context, config *tls.Config) error { panic("unimplemented") }

// Protocol is what a listener serves.
type Protocol struct {
	Name string // "smtp", "imaps": for logs, metrics and the start-up table
	// TLS, when set, makes the listener TLS from the first byte.
	TLS *tls.Config
	// Refusal is the line, CRLF included, that a client gets before an early
	// close: too many connections, or shutting down.
	Refusal func(reason string) string
	// Serve handles one connection until it ends; ctx is cancelled at the end
	// of the grace period of Shutdown. Draining is closed when Shutdown begins.
	// The server closes conn afterwards and recovers a panic (logged with its
	// stack and counted in Panics).
	Serve func(ctx context.Context, conn *Conn, draining <-chan struct{})
}

// Gate bounds the connections of all listeners of one process together.
type Gate struct{ _ struct{} }

// GateOptions has the limits; 0 = off.
type GateOptions struct {
	Connections           int
	ConnectionsPerAddress int
}

// NewGate returns a gate with the given limits.
func NewGate(o GateOptions) *Gate { panic("unimplemented") }

// SetLimits replaces the limits, for SIGHUP.
func (g *Gate) SetLimits(o GateOptions) { panic("unimplemented") }

// Crowded tells whether more than half of the connection bound is in use:
// then shorter patience applies (RELIABILITY.md rule 9).
func (g *Gate) Crowded() bool { panic("unimplemented") }

// ServerOptions has what a Server needs; zero values work.
type ServerOptions struct {
	Gate  *Gate
	Clock clock.Clock
	Log   *slog.Logger
}

// Server accepts connections on any number of listeners and owns each
// connection's goroutine.
type Server struct{ _ struct{} }

// NewServer returns a Server that serves nothing yet.
func NewServer(o ServerOptions) *Server { panic("unimplemented") }

// Serve accepts on l until Shutdown; it returns at once and owns l.
func (s *Server) Serve(l net.Listener, p Protocol) { panic("unimplemented") }

// Shutdown stops accepting, closes draining, waits for handlers until ctx ends,
// then closes what is left and waits for that.
func (s *Server) Shutdown(ctx context.Context) error { panic("unimplemented") }

// Panics is the number of handler panics that were recovered.
func (s *Server) Panics() int64 { panic("unimplemented") }
