// Package mta is the vocabulary that the parts of the mail transfer agent
// share: addresses and paths, replies, envelopes, next hops and the outcome of
// attempts. It does no I/O; package smtpd receives, queue keeps, route decides
// where and deliver speaks to peers.
package mta
