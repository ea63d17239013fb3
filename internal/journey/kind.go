package journey

// Kind says what happened. What is before the dot is the part of the system.
type Kind string

// What happens to a message is kept for the time of retention.
const (
	MessageAccepted Kind = "message.accepted" // the reply after the content is 250: from, to, message-id, size, tls, login, protocol
	MessageRefused  Kind = "message.refused"  // after MAIL or the content: reply, reason
	CheckPassed     Kind = "check.passed"     // check, input, verdict
	CheckFailed     Kind = "check.failed"     // check, input, verdict, reply

	DNSQuery  Kind = "dns.query"  // a question that was asked of a server: name, type, server, transport
	DNSReply  Kind = "dns.reply"  // what that server said: rcode, flags, took
	DNSAnswer Kind = "dns.answer" // what the asker was told: name, type, answer, ttl, cache, security

	QueueAttempt   Kind = "queue.attempt"   // a try begins: to, attempt, hosts
	QueueDeferred  Kind = "queue.deferred"  // to, reply, next, why
	QueueDelivered Kind = "queue.delivered" // a peer took it: to, reply
	QueueFailed    Kind = "queue.failed"    // for good: to, reply
	QueueBounce    Kind = "queue.bounce"    // a report is on its way: to, bounce (its id)
	QueueChanged   Kind = "queue.changed"   // by a command: action

	RouteHosts Kind = "route.hosts" // where a domain's mail goes: domain, host (in order), verdict

	DeliverConnect Kind = "deliver.connect" // host, address, took, error
	DeliverReuse   Kind = "deliver.reuse"   // a connection that was there is used again
	DeliverTLS     Kind = "deliver.tls"     // version, cipher, verified, error
	DeliverCommand Kind = "deliver.command" // a line to the peer: verb
	DeliverReply   Kind = "deliver.reply"   // its answer: verb, code
	DeliverContent Kind = "deliver.content" // the message itself: octets
	DeliverClose   Kind = "deliver.close"   // error

	MailboxDelivered Kind = "mailbox.delivered" // account, mailbox, uid
	MailboxFetched   Kind = "mailbox.fetched"   // the first time that this client read the body: account, mailbox, uid, protocol, client
)

// What happens in a session, and what a name server does, is recorded only while
// someone listens, or else no connection and no question would be free of its cost.
const (
	SessionBegin Kind = "session.begin" // protocol
	SessionEnd   Kind = "session.end"   // protocol, error
	SessionTLS   Kind = "session.tls"   // version, cipher
	SessionLogin Kind = "session.login" // login, mechanism, verdict

	SMTPCommand Kind = "smtp.command" // verb
	SMTPReply   Kind = "smtp.reply"   // verb, code
	SMTPContent Kind = "smtp.content" // octets
	POP3Command Kind = "pop3.command" // verb
	POP3Reply   Kind = "pop3.reply"   // verb, octets of content
	IMAPCommand Kind = "imap.command" // verb, tag
	IMAPReply   Kind = "imap.reply"   // tag; literals are said by their size

	NameserverQuery Kind = "nameserver.query" // what we are asked: name, type, opcode unless it is a question, transport, flags; of an update prerequisite, change
	NameserverReply Kind = "nameserver.reply" // what we answer: the same, rcode, answer, ttl, zone (by authority), cache (hit or miss), security, extended, limit, reason; of a transfer serial, messages, changes

	ZoneQuery   Kind = "zone.query"   // what we ask or tell another name server about a zone: name, type, opcode, transport
	ZoneReply   Kind = "zone.reply"   // what it says: rcode, answer, took; of a transfer serial, records, changes
	ZoneChanged Kind = "zone.changed" // another version is served: zone, serial, records, before (its serial), why
)

// Lost stands where a follower was too slow, or the recorder had no room, for
// events: count.
const Lost Kind = "journey.lost"

// OfSession tells whether events of the kind are recorded only while someone
// listens to sessions. The first letter tells; it is asked for every line.
func (k Kind) OfSession() bool {
	return k != "" && (k[0] == 's' || k[0] == 'p' || k[0] == 'i' || k[0] == 'n' || k[0] == 'z')
}
