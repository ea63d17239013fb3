// Package route decides where mail goes: to an account here, to the targets of
// an alias, or to another server, and then over which hosts.
//
// It never speaks to those hosts (package deliver) and knows no schedule
// (package queue). It keeps nothing beyond its options: who exists is asked of
// the directory, and where domains are of the DNS, each time.
//
// # Who may send to whom
//
//	recipient                       anyone    login, relay_networks, ourselves
//	in a domain of ours             by directory: accounts, aliases; else 550 5.1.1
//	in relay_domains                yes       yes
//	elsewhere                       550 5.7.1 yes
//	our domain or relay_domains with %, ! or @ in the local part: 550 5.7.1 for all
//	but those who may relay to the latter
//
// # Hops
//
// A smarthost takes all remote mail. Without one, the MX hosts of the domain in
// order of preference, equals in random order (RFC 5321 section 5.1); an MX that
// is ourselves ends the list, it and its equals left out. No MX but an address is
// an implicit MX. Addresses that are not public are left out unless
// private_networks lists them; unspecified, multicast and broadcast ones always.
//
// A domain or host that does not exist is a final failure; a name server that
// does not answer is a temporary one, unless another host is known already.
//
// All methods may be called concurrently. There is nothing to survive a crash.
package route
