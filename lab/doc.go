// Package lab is the Internet in one process: name servers from the root down,
// resolvers, mail servers and their users on loopback addresses, for watching a
// letter travel.
//
// It owns the world (a file says who lives in it), the network between its
// hosts with links and faults, the clock that all share, and what there is to
// see: hosts, mailboxes, queues, caches, events. It does nothing that a server
// would not do by itself: mail servers are built by package node, name servers
// and resolvers by the dns packages; only the server without extensions, the
// hostile one and the web pages are the lab's own. Nothing leaves this host.
//
// # The network
//
// Each host has an address in 127.0.0.0/8 and the usual ports; where this
// process may not have them, the sockets are elsewhere, and what the hosts ask
// for is led there. A host's connections go through the lab, which delays, loses,
// refuses or forges as links and faults say; so do the listening sockets, for
// whoever comes from outside. Latency is counted where a connection turns from
// writing to reading, or, of a client outside, from reading to writing, so that
// round trips are what they are.
//
// # Time
//
// All hosts share a clock that can be set ahead. A jump stops at each timer on
// the way, until the network is quiet. Deadlines of connections are translated.
//
// # Concurrency, crashes
//
// A Lab may be used concurrently. Two hosts share no state but the network, the
// clock and the recorder; each has its folder. With a folder given, mail
// survives a crash as in any postrider; a temporary one is removed at the end.
package lab
