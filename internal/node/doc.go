// Package node builds one whole server from an options struct: it binds the
// listeners, opens the store, hands every part what it needs, and stops them
// in order. It holds no policy of its own. Several nodes run in one process.
//
// Commands reach a node through its control socket (control.sock in the data
// directory, 0600), which speaks JSON-RPC to Admin; with no server running, the
// command opens the node itself and speaks to the same Admin in memory, so that
// both ways run the same code.
package node
