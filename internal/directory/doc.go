// Package directory knows who exists: the domains that we accept mail for,
// accounts and their credentials, aliases. It answers who an address belongs to
// and whether a login is good. It keeps passwords only as verifiers, never
// handles mail, and never decides where mail for others goes.
//
// Addresses are kept and compared in one form: domains as lower-case A-labels,
// local parts in NFC and case-folded.
//
// # Credentials
//
// Account.Credentials is JSON of version 1: the hash of the password by argon2id
// with its parameters, and the verifiers of SCRAM-SHA-256 and SCRAM-SHA-1 (RFC 5802
// section 3). All are of the password as SASLprep leaves it, or, where SASLprep
// refuses it, in NFC. The first postriders made none for SHA-1: the next login that
// shows the password does (PLAIN, LOGIN, USER and PASS), and until then SCRAM-SHA-1
// treats the account as one that does not exist. A newer version is an error, never
// a failed login.
//
// The SCRAM mechanisms with -PLUS are bound to the TLS connection, by tls-exporter
// (RFC 9266) or, below TLS 1.3, by tls-unique (RFC 5929) as well; they are offered
// where a connection has such a binding. There a client that knows of bindings but
// says that it was offered none ("y") is refused: somebody took the offer away.
//
// # Certificates
//
// A TLS client certificate logs an account in by EXTERNAL (RFC 4422 appendix A)
// when its public key was added to the account. Nobody has to have signed it: TLS
// proves that the client has the key, and the store knows the key. Dates of the
// certificate that is shown count. The settings directory/certificate/FINGERPRINT
// have one certificate each, directory/certificates/ID the fingerprints of an
// account, directory/certificates how many there are. They go with the account.
//
// # Strangers
//
// A wrong password and an unknown user look alike: the same work (an argon2id run
// of equal cost, or a SCRAM exchange with a salt that is an HMAC of the name under
// a key kept in the settings), the same error, the same delays.
//
// Failures are counted per network (an IPv6 /64 is one) and per account name,
// whether it exists or not, for a minute from the first one. From half of
// FailedLoginsPerMinute on, the next attempt waits, longer each time; after all of
// them, attempts are refused until the minute is over. A network from which an
// account logged in lately does not wait for that account's failures elsewhere, so
// that a stranger cannot lock its owner out.
//
// # Concurrency and crashes
//
// A Directory is safe for concurrent use. Every change is one Update of the store:
// durable when the method returns, and in effect from then on. What is in memory
// (resolved addresses, verified logins, counts of failures) is bounded, and empty
// after a start.
package directory
