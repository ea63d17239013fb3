package journey

import (
	"cmp"
	"slices"
	"strings"
)

// fill completes what the recording left to be derived from kind and attributes:
// so that those who record need not, for everyone who may read it one day.
func (e *Event) fill() {
	if e.Text == "" {
		e.Text = cut(e.line(), maxText)
	}
	if e.RFC == "" {
		e.RFC = e.follows()
	}
	if len(e.Wire) == 0 && e.mark() != "" && e.Get("octets") == "" {
		e.Wire = []byte(e.Text + "\r\n") // a line of a dialogue is its octets
	}
}

// line is the event for people.
func (e *Event) line() string {
	switch e.Kind {
	case MessageAccepted:
		return e.accepted()
	case MessageRefused:
		return "the message is refused: " + e.Get("reply")
	case CheckPassed, CheckFailed:
		return e.check()
	case DNSQuery:
		return words("ask", e.Peer, "for", e.Get("name"), e.Get("type"), paren("over", e.Get("transport")))
	case DNSReply:
		return words(e.Peer, "says", e.Get("rcode"), "about", e.Get("name"), e.Get("type"), paren("", e.Get("took")))
	case DNSAnswer:
		return e.dnsAnswer()
	case NameserverQuery, NameserverReply, ZoneQuery, ZoneReply, ZoneChanged:
		return e.nameServer()
	case RouteHosts:
		if hosts := e.All("host"); len(hosts) > 0 {
			return "mail for " + e.Get("domain") + " goes to " + strings.Join(hosts, ", then ")
		}
		return "mail for " + e.Get("domain") + " goes nowhere: " + e.Get("verdict")
	case QueueAttempt, QueueDeferred, QueueDelivered, QueueFailed, QueueBounce, QueueChanged:
		return e.queued()
	case DeliverConnect, DeliverReuse, DeliverTLS, DeliverContent, DeliverClose:
		return e.delivering()
	case MailboxDelivered:
		return words("into the mailbox", e.Get("mailbox"), "of", e.Get("account"), paren("UID", e.Get("uid")))
	case MailboxFetched:
		return words("first fetched by", e.Get("client"), "from", e.Get("mailbox"), "of", e.Get("account"))
	case SessionBegin:
		return words("a session of", e.Get("protocol"), "begins", paren("from", e.Peer))
	case SessionEnd:
		return words("the session of", e.Get("protocol"), "ends", paren("", e.Get("error")))
	case SessionTLS:
		return words("TLS begins:", e.Get("tls"))
	case SessionLogin:
		return words("login as", e.Get("login"), paren("by", e.Get("mechanism")), e.Get("verdict"))
	case SMTPContent:
		return e.Get("octets") + " octets of message"
	case Lost:
		return e.Get("count") + " events were lost: they came too fast"
	}
	return ""
}

func (e *Event) accepted() string {
	from := e.Get("from")
	if from == "" {
		from = "<>"
	}
	return words("accepted from", from, "by", e.Get("protocol"), paren("", e.Get("tls")), paren("login", e.Get("login")),
		paren("", words(e.Get("hello"), bracket(e.Peer))), "for", strings.Join(e.All("to"), ", ")+",", e.Get("size"), "octets")
}

func (e *Event) check() string {
	verdict := e.Get("verdict")
	if e.Kind == CheckFailed {
		verdict = words(verdict, "refused:", e.Get("reply"))
	}
	return words("check", e.Get("check"), e.Get("input")+":", verdict)
}

func (e *Event) dnsAnswer() string {
	answer := strings.Join(e.All("answer"), ", ")
	if answer == "" {
		answer = e.Get("rcode")
	}
	return words(e.Get("name"), e.Get("type"), "is", answer, paren("", list(e.with("TTL", "ttl"), e.known(), e.Get("security"))))
}

// known is how an answer came to be known.
func (e *Event) known() string {
	switch cache := e.Get("cache"); cache {
	case "", "miss":
		return "asked"
	case "hit":
		return "from the cache"
	default:
		return "from the " + cache
	}
}

// with is the value of a key with a word in front; "" without one.
func (e *Event) with(word, key string) string {
	if v := e.Get(key); v != "" {
		return words(word, v)
	}
	return ""
}

// nameServer is what a name server says and hears.
func (e *Event) nameServer() string {
	about := words(e.Get("name"), e.Get("type"))
	if opcode := e.Get("opcode"); opcode != "" {
		about = words(opcode, e.Get("name")) // of type SOA, all of them
	}
	over := paren("over", e.Get("transport"))
	rcode := words(e.Get("rcode"), strings.Join(e.All("answer"), ", "))
	size := []string{e.with("serial", "serial"), e.with("records:", "records"), e.with("changes:", "changes"), e.with("messages:", "messages")}
	switch e.Kind {
	case NameserverQuery:
		asked := words(e.Peer, "asks us for", about, over)
		if changes := append(e.All("prerequisite"), e.All("change")...); len(changes) > 0 {
			asked += ": " + strings.Join(changes, "; ")
		}
		return asked
	case NameserverReply:
		if rcode == "" {
			rcode = "nothing"
		}
		how := []string{e.with("by authority for", "zone"), e.with("TTL", "ttl")}
		if e.Get("cache") != "" {
			how = append(how, e.known(), e.Get("security"))
		}
		how = append(how, e.with("extended error", "extended"), e.Get("limit"), e.Get("reason"))
		return words("we tell", e.Peer, words("about", about)+":", rcode, paren("", list(append(how, size...)...)))
	case ZoneQuery:
		return words("we ask", e.Peer, "for", about, over)
	case ZoneReply:
		return words(e.Peer, "says about", about+":", rcode, paren("", list(append(size, e.Get("took"))...)))
	}
	return words("zone", e.Get("zone"), "is served", paren("", list(append(size, e.with("in place of", "before"), e.Get("why"))...)))
}

func (e *Event) queued() string {
	to, reply := e.Get("to"), e.Get("reply")
	switch e.Kind {
	case QueueAttempt:
		return words("attempt", e.Get("attempt"), "to", to)
	case QueueDeferred:
		return words(to, "has to wait:", reply+";", "next try", e.Get("next"), paren("", e.Get("why")))
	case QueueDelivered:
		return words(to, "delivered to", e.Peer+":", reply)
	case QueueFailed:
		return words(to, "failed:", reply)
	case QueueBounce:
		return words("a report about", to, "goes to", e.Get("sender"), paren("message", e.Get("bounce")))
	}
	return words(e.Get("action"), "by a command")
}

func (e *Event) delivering() string {
	switch e.Kind {
	case DeliverConnect:
		if err := e.Get("error"); err != "" {
			return words("no connection to", e.Peer+":", err)
		}
		return words("connected to", e.Peer, paren("in", e.Get("took")))
	case DeliverReuse:
		return words("use the open connection to", e.Peer, paren("", e.Get("tls")))
	case DeliverTLS:
		if err := e.Get("error"); err != "" {
			return words("TLS with", e.Peer, "failed:", err)
		}
		return words("TLS with", e.Peer+":", e.Get("tls"), paren("certificate", e.Get("certificate")))
	case DeliverContent:
		return e.Get("octets") + " octets of message, and the dot"
	}
	return words("connection to", e.Peer, "closed", paren("", e.Get("error")))
}

// words joins those that are not empty.
func words(items ...string) string { return strings.Join(some(items), " ") }

func list(items ...string) string { return strings.Join(some(items), ", ") }

// some are the items that are not empty.
func some(items []string) []string {
	return slices.DeleteFunc(items, func(s string) bool { return s == "" })
}

func paren(before, s string) string {
	if s == "" {
		return ""
	}
	return "(" + words(before, s) + ")"
}

func bracket(s string) string {
	if s == "" {
		return ""
	}
	return "[" + s + "]"
}

// follows is the section that a line follows, by the verb; "" where there is none.
func (e *Event) follows() string {
	verb := e.Get("verb")
	switch e.Kind {
	case SMTPCommand, DeliverCommand:
		return smtpSections[verb]
	case SMTPReply, DeliverReply:
		if verb == "" {
			return "RFC 5321 section 3.1" // the greeting
		}
		return "RFC 5321 section 4.2"
	case SMTPContent, DeliverContent:
		return "RFC 5321 section 4.5.2"
	case DeliverTLS, SessionTLS:
		return "RFC 8446"
	case POP3Command, POP3Reply:
		return pop3Sections[verb]
	case IMAPCommand:
		return imapSections[verb]
	case IMAPReply:
		return "RFC 9051 section 7"
	case DNSQuery, DNSReply:
		return "RFC 1035 section 4.1"
	case NameserverQuery, NameserverReply, ZoneQuery, ZoneReply:
		return cmp.Or(dnsSections[e.Get("opcode")], dnsSections[e.Get("type")], "RFC 1035 section 4.1")
	case RouteHosts:
		return "RFC 5321 section 5.1"
	case QueueDeferred:
		return "RFC 5321 section 4.5.4.1"
	case QueueBounce:
		return "RFC 3464"
	}
	return ""
}

var smtpSections = map[string]string{
	"EHLO": "RFC 5321 section 4.1.1.1", "HELO": "RFC 5321 section 4.1.1.1", "LHLO": "RFC 2033 section 4.1",
	"MAIL": "RFC 5321 section 4.1.1.2", "RCPT": "RFC 5321 section 4.1.1.3", "DATA": "RFC 5321 section 4.1.1.4",
	"RSET": "RFC 5321 section 4.1.1.5", "VRFY": "RFC 5321 section 4.1.1.6", "EXPN": "RFC 5321 section 4.1.1.7",
	"HELP": "RFC 5321 section 4.1.1.8", "NOOP": "RFC 5321 section 4.1.1.9", "QUIT": "RFC 5321 section 4.1.1.10",
	"STARTTLS": "RFC 3207 section 4", "AUTH": "RFC 4954 section 4", "BDAT": "RFC 3030 section 2", "BURL": "RFC 4468 section 3",
}

// dnsSections are those of opcodes, and of types that ask for more than records.
var dnsSections = map[string]string{"NOTIFY": "RFC 1996 section 3", "UPDATE": "RFC 2136 section 3", "AXFR": "RFC 5936 section 2", "IXFR": "RFC 1995 section 4"}

var pop3Sections = map[string]string{
	"": "RFC 1939 section 4", "USER": "RFC 1939 section 7", "PASS": "RFC 1939 section 7", "APOP": "RFC 1939 section 7",
	"UIDL": "RFC 1939 section 7", "TOP": "RFC 1939 section 7", "STAT": "RFC 1939 section 5", "LIST": "RFC 1939 section 5",
	"RETR": "RFC 1939 section 5", "DELE": "RFC 1939 section 5", "NOOP": "RFC 1939 section 5", "RSET": "RFC 1939 section 5",
	"QUIT": "RFC 1939 section 6", "CAPA": "RFC 2449 section 5", "STLS": "RFC 2595 section 4", "AUTH": "RFC 5034 section 4",
	"UTF8": "RFC 6856 section 2", "LANG": "RFC 6856 section 3",
}

var imapSections = map[string]string{
	"CAPABILITY": "RFC 9051 section 6.1.1", "NOOP": "RFC 9051 section 6.1.2", "LOGOUT": "RFC 9051 section 6.1.3",
	"STARTTLS": "RFC 9051 section 6.2.1", "AUTHENTICATE": "RFC 9051 section 6.2.2", "LOGIN": "RFC 9051 section 6.2.3",
	"ENABLE": "RFC 9051 section 6.3.1", "SELECT": "RFC 9051 section 6.3.2", "EXAMINE": "RFC 9051 section 6.3.3",
	"CREATE": "RFC 9051 section 6.3.4", "DELETE": "RFC 9051 section 6.3.5", "RENAME": "RFC 9051 section 6.3.6",
	"SUBSCRIBE": "RFC 9051 section 6.3.7", "UNSUBSCRIBE": "RFC 9051 section 6.3.8", "LIST": "RFC 9051 section 6.3.9",
	"NAMESPACE": "RFC 9051 section 6.3.10", "STATUS": "RFC 9051 section 6.3.11", "APPEND": "RFC 9051 section 6.3.12",
	"IDLE": "RFC 9051 section 6.3.13", "CLOSE": "RFC 9051 section 6.4.1", "UNSELECT": "RFC 9051 section 6.4.2",
	"EXPUNGE": "RFC 9051 section 6.4.3", "SEARCH": "RFC 9051 section 6.4.4", "FETCH": "RFC 9051 section 6.4.5",
	"STORE": "RFC 9051 section 6.4.6", "COPY": "RFC 9051 section 6.4.7", "MOVE": "RFC 9051 section 6.4.8",
	"ID": "RFC 2971 section 3.1", "SORT": "RFC 5256 section 3", "THREAD": "RFC 5256 section 3", "NOTIFY": "RFC 5465",
	"COMPRESS": "RFC 4978 section 3", "GETQUOTA": "RFC 9208 section 4.1.1", "GETMETADATA": "RFC 5464 section 4.2",
	"SETMETADATA": "RFC 5464 section 4.3", "GETACL": "RFC 4314 section 3.3", "SETACL": "RFC 4314 section 3.1",
}
