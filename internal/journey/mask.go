package journey

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// masked stands for a secret.
const masked = "***"

// MaskCommand makes a line that a client says, without its end, fit for events: a
// command of SMTP, or POP3, or of IMAP without its tag. What may be a secret is
// replaced by ***: arguments of AUTH, PASS, APOP and LOGIN, tokens in URLs, and any
// line that begins with no known verb, since a client that is out of step, or a
// person, may have sent a password. Lines within a login are for the caller to hide
// (MaskedLine); what they are cannot be seen in them.
func MaskCommand(line string) string {
	verb, arg, spaced := strings.Cut(line, " ")
	switch v := strings.ToUpper(verb); {
	case !known(v):
		return masked
	case !spaced:
		return verb
	case v == "AUTH", v == "AUTHENTICATE":
		mechanism, _, more := strings.Cut(arg, " ")
		if !slices.Contains(mechanisms, strings.ToUpper(mechanism)) {
			return verb + " " + masked
		}
		return join(verb, mechanism, more)
	case v == "LOGIN", v == "APOP":
		name, _, more := strings.Cut(arg, " ")
		if !more || strings.HasPrefix(name, "{") { // who knows which of the two is missing
			return verb + " " + masked
		}
		return join(verb, name, true)
	case v == "USER":
		name, _, more := strings.Cut(arg, " ")
		return join(verb, name, more)
	case v == "PASS", v == "BURL", v == "GENURLAUTH", v == "URLFETCH", v == "RESETKEY":
		return verb + " " + masked
	}
	return line
}

func join(verb, arg string, more bool) string {
	if more {
		return verb + " " + arg + " " + masked
	}
	return verb + " " + arg
}

// Plain is a line that a peer sent, as a person may see it: a question mark stands
// for each control character and for what is no UTF-8.
func Plain(line string) string {
	for i := range len(line) {
		if c := line[i]; c < ' ' || c >= 0x7f {
			return strings.Map(func(r rune) rune {
				if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
					return '?'
				}
				return r
			}, line)
		}
	}
	return line
}

// MaskedLine is what is recorded of a line within a login.
const MaskedLine = masked

// MaskReply makes a line of a server, without its end, fit for events: challenges
// of a login are hidden, and URLs with their tokens.
func MaskReply(line string) string {
	for _, p := range []string{"334 ", "+ "} {
		if rest, ok := strings.CutPrefix(line, p); ok && rest != "" && !strings.Contains(rest, " ") {
			return p + masked
		}
	}
	for _, p := range []string{"* GENURLAUTH ", "* URLFETCH "} {
		if strings.HasPrefix(line, p) {
			return p + masked
		}
	}
	return line
}

// known tells whether a word in upper case is a verb of SMTP, POP3 or IMAP.
func known(verb string) bool {
	switch verb {
	case "HELO", "EHLO", "LHLO", "MAIL", "RCPT", "DATA", "BDAT", "BURL", "RSET", "NOOP", "QUIT", "VRFY", "EXPN", "HELP",
		"STARTTLS", "AUTH", "ETRN", "TURN", "ATRN", "SEND", "SOML", "SAML", "USER", "PASS", "APOP", "STLS", "UTF8",
		"LANG", "STAT", "LIST", "UIDL", "RETR", "TOP", "DELE", "CAPA", "LOGIN", "AUTHENTICATE", "LOGOUT", "CAPABILITY",
		"ID", "ENABLE", "SELECT", "EXAMINE", "CREATE", "DELETE", "RENAME", "SUBSCRIBE", "UNSUBSCRIBE", "LSUB",
		"NAMESPACE", "STATUS", "APPEND", "IDLE", "DONE", "CHECK", "CLOSE", "UNSELECT", "EXPUNGE", "SEARCH", "FETCH",
		"STORE", "COPY", "MOVE", "UID", "SORT", "THREAD", "GETQUOTA", "GETQUOTAROOT", "SETQUOTA", "GETACL", "SETACL",
		"DELETEACL", "LISTRIGHTS", "MYRIGHTS", "GETMETADATA", "SETMETADATA", "NOTIFY", "COMPRESS", "CANCELUPDATE",
		"ESEARCH", "REPLACE", "GENURLAUTH", "RESETKEY", "URLFETCH", "UNAUTHENTICATE", "GETJMAPACCESS":
		return true
	}
	return false
}

// mechanisms are those of SASL that may be named; any other word may be a password.
var mechanisms = []string{"PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS",
	"SCRAM-SHA-512", "SCRAM-SHA-512-PLUS", "CRAM-MD5", "DIGEST-MD5", "EXTERNAL", "ANONYMOUS", "OAUTHBEARER", "XOAUTH2", "GSSAPI", "NTLM"}
