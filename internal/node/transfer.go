package node

import (
	"context"
	"fmt"
	"net"
	"runtime/debug"

	"postrider/internal/transfer"
)

// newTransfers serves imports and exports. They have a socket of their own, and
// the messages cross it: files are opened and made by the command, with the
// rights of whoever gave it, and never by the server, which may be another user.
func newTransfers(n *Node) *control {
	base, cancel := context.WithCancel(context.Background())
	server := transfer.NewServer(transfer.ServerOptions{
		Store:   n.Store,
		Account: n.Directory.Account,
		MaxSize: n.maxSize.Load,
		Clock:   n.options.Clock,
		Log:     n.log,
	})
	return &control{
		handle: func(conn net.Conn) {
			defer conn.Close()
			defer func() {
				if v := recover(); v != nil {
					n.panics.Add(1)
					n.log.Error("panic in a transfer", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
				}
			}()
			server.Serve(base, conn)
		},
		clock: n.options.Clock, cancel: cancel, conns: map[*controlConn]bool{},
	}
}

// OpenTransfer connects to the server that runs on o.DataDir for one import or
// export; with none running it opens the data directory itself, and closeNode
// closes it.
func OpenTransfer(ctx context.Context, o Options) (conn net.Conn, closeNode func(), err error) {
	conn, n, err := connect(ctx, o, transferSocket, func(n *Node, c net.Conn) { n.transfers.serve(c) })
	return conn, closing(conn, n), err
}
