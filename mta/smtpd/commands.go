package smtpd

import (
	"context"
	"fmt"
	"strings"

	"postrider/internal/wire"
	"postrider/mta"
)

// answer has one command carried out and returns the reply; nil when the
// command has sent all replies itself.
func (s *session) answer(ctx context.Context, line []byte) *mta.Reply {
	for _, c := range line {
		if c < ' ' || c == 0x7f {
			return newReply(500, "5.5.2", "The line has a control character (did a backspace slip in?)")
		}
	}
	verb, arg := cutWord(string(line))
	verb = strings.ToUpper(verb)
	if len(line)+len("\r\n") > lineLimit(verb) {
		return newReply(500, "5.5.2", "Line too long")
	}
	switch verb {
	case "MAIL":
		return s.mail(ctx, arg)
	case "RCPT":
		return s.rcpt(ctx, arg)
	case "DATA":
		return s.data(ctx, arg)
	case "BDAT":
		return s.bdat(ctx, arg)
	case "BURL":
		return s.burl(ctx, arg)
	case "QUIT":
		return closing(221, "2.0.0", s.srv.o.Hostname+" closing connection")
	case "AUTH":
		return s.auth(ctx, arg)
	case "STARTTLS":
		return s.startTLS(ctx, arg)
	}
	if s.idle++; s.idle > maxIdle {
		return closing(421, "4.7.0", s.srv.o.Hostname+" Too many commands without a message, closing connection")
	}
	return s.answerIdle(verb, arg)
}

// answerIdle carries out the commands that bring no message nearer.
func (s *session) answerIdle(verb, arg string) *mta.Reply {
	switch verb {
	case "EHLO", "HELO", "LHLO":
		return s.greeted(verb, arg)
	case "RSET":
		s.drop()
		return newReply(250, "2.0.0", "Reset")
	case "NOOP":
		return newReply(250, "2.0.0", "OK")
	case "HELP":
		return s.help(arg)
	case "VRFY":
		return s.verify(arg)
	case "EXPN", "ETRN", "TURN", "ATRN", "SEND", "SOML", "SAML":
		return newReply(502, "5.5.1", verb+" is not offered here")
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "HOST:", "USER-AGENT:":
		// A browser that was made to talk to this port: what it goes on to
		// send must not be taken for commands.
		return closing(554, "5.5.1", "This is a mail server and does not speak HTTP")
	}
	return unknownCommand(verb)
}

func lineLimit(verb string) int {
	switch verb {
	case "MAIL":
		return maxMail
	case "RCPT":
		return maxRcpt
	case "AUTH":
		return maxAuthLine
	case "BURL":
		return maxBURL
	}
	return maxCommand
}

// greeted is EHLO, HELO and LHLO (RFC 5321 section 4.1.1.1).
func (s *session) greeted(verb, arg string) *mta.Reply {
	switch {
	case s.srv.o.Mode == LMTP && verb != "LHLO":
		return newReply(500, "5.5.1", "This is LMTP: say LHLO")
	case s.srv.o.Mode != LMTP && verb == "LHLO":
		return newReply(500, "5.5.1", "LHLO is for LMTP: say EHLO or HELO")
	case arg == "" && !s.srv.o.BareHelo:
		return newReply(501, "5.5.4", verb+" needs the name of your host, as in "+verb+" crepes.fr")
	case arg != "" && !validHello(arg):
		return newReply(501, "5.5.4", "That is not the name of a host, as in "+verb+" crepes.fr")
	}
	name := arg
	if name == "" && s.conn.Remote.IsValid() {
		name = mta.Literal(s.conn.Remote)
	}
	s.drop()
	s.hello = &hello{name: name, extended: verb != "HELO"}
	greeting := "Hello " + name + ", pleased to meet you"
	if verb == "HELO" {
		return newReply(250, "", greeting)
	}
	lines := append([]string{s.srv.o.Hostname + " " + greeting}, s.extensions()...)
	return newReply(250, "", strings.Join(lines, "\n"))
}

// validHello tells whether name can stand in a reply and in Received. It is
// more lenient than Domain of RFC 5321 section 4.1.2: hosts of users have names
// with underscores, and a name that is refused loses their mail.
func validHello(name string) bool {
	if len(name) > maxHello {
		return false
	}
	if strings.HasPrefix(name, "[") {
		_, err := mta.NormalizeDomain(name)
		return err == nil
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '.', c == '-', c == '_', c == ':':
		default:
			return false
		}
	}
	return true
}

// extensions lists what EHLO advertises.
func (s *session) extensions() []string {
	limits := s.srv.limits.Load()
	list := []string{
		"PIPELINING",
		fmt.Sprintf("SIZE %d", limits.MaxSize), // 0: no fixed maximum (RFC 1870 section 3)
		"8BITMIME",
		"ENHANCEDSTATUSCODES",
		"SMTPUTF8",
		"CHUNKING",
		"DSN",
		"HELP",
	}
	if limits.MaxRecipients > 0 {
		list = append(list, fmt.Sprintf("LIMITS RCPTMAX=%d", limits.MaxRecipients)) // RFC 9422
	}
	if s.offersBURL() {
		list = append(list, s.burlKeyword())
	}
	if s.srv.o.TLS != nil && s.conn.TLS == nil {
		list = append(list, "STARTTLS")
	}
	if s.offersAuth() && s.login == nil {
		if mechanisms := s.srv.o.Directory.Mechanisms(s.peer()); len(mechanisms) > 0 {
			list = append(list, "AUTH "+strings.Join(mechanisms, " "))
		}
	}
	return list
}

// verify is VRFY (RFC 5321 section 3.5.3): it tells nobody who exists.
func (s *session) verify(arg string) *mta.Reply {
	if arg == "" {
		return newReply(501, "5.5.4", "VRFY needs an address")
	}
	return newReply(252, "2.0.0", "Cannot verify the address, but will take mail for it if it exists")
}

// startTLS is STARTTLS (RFC 3207).
func (s *session) startTLS(ctx context.Context, arg string) *mta.Reply {
	switch {
	case s.srv.o.TLS == nil:
		return newReply(502, "5.5.1", "STARTTLS is not offered here")
	case s.conn.TLS != nil:
		return newReply(503, "5.5.1", "TLS is on already")
	case arg != "":
		return newReply(501, "5.5.4", "STARTTLS has no argument")
	case s.hasInput():
		s.log.Info("refused: commands after STARTTLS", "remote", s.conn.Peer())
		return closing(554, "5.5.1", "Nothing may follow STARTTLS before the handshake")
	}
	s.put(newReply(220, "2.0.0", "Ready to start TLS"))
	if s.flush(); s.lost != nil {
		return nil
	}
	if err := s.conn.StartTLS(ctx, s.srv.o.TLS); err != nil {
		s.log.Info("TLS handshake failed", "remote", s.conn.Peer(), "err", err)
		s.lost = err
		return nil
	}
	s.recordTLS()
	// RFC 3207 section 4.2: what was said before is forgotten.
	s.drop()
	s.hello, s.login = nil, nil
	s.r.Reset(s.conn)
	return nil
}

// verbs are the commands that exist, with their syntax, for HELP and for the
// hint after a slip of the finger.
var verbs = [...]struct{ verb, syntax string }{
	{"HELO", "HELO your.host.name"},
	{"EHLO", "EHLO your.host.name"},
	{"LHLO", "LHLO your.host.name"},
	{"STARTTLS", "STARTTLS"},
	{"AUTH", "AUTH PLAIN | LOGIN | SCRAM-SHA-256"},
	{"MAIL", "MAIL FROM:<you@your.domain> [SIZE=n] [BODY=8BITMIME] [SMTPUTF8] [RET=FULL|HDRS] [ENVID=id]"},
	{"RCPT", "RCPT TO:<somebody@a.domain> [NOTIFY=NEVER|SUCCESS,FAILURE,DELAY] [ORCPT=rfc822;address]"},
	{"DATA", "DATA, then the message, then a line with only a dot"},
	{"BDAT", "BDAT octets [LAST]"},
	{"BURL", "BURL url [LAST]"},
	{"RSET", "RSET"},
	{"NOOP", "NOOP"},
	{"VRFY", "VRFY address"},
	{"EXPN", "EXPN list"},
	{"HELP", "HELP [command]"},
	{"QUIT", "QUIT"},
}

func (s *session) help(arg string) *mta.Reply {
	arg = strings.ToUpper(arg)
	for _, v := range verbs {
		if v.verb == arg {
			return newReply(214, "2.0.0", v.syntax)
		}
	}
	first := "HELO"
	if s.srv.o.Mode == LMTP {
		first = "LHLO"
	}
	return newReply(214, "2.0.0", "A letter is sent by these commands, in this order:\n"+
		first+" your.host.name\n"+
		"MAIL FROM:<you@your.domain>\n"+
		"RCPT TO:<somebody@a.domain>\n"+
		"DATA\n"+
		"QUIT\n"+
		"HELP and one of HELO EHLO STARTTLS AUTH MAIL RCPT DATA BDAT BURL RSET NOOP VRFY QUIT tells more")
}

func unknownCommand(verb string) *mta.Reply {
	if verb == "" {
		return newReply(500, "5.5.2", "A line begins with a command; HELP lists them")
	}
	for _, v := range verbs {
		if wire.OneOff(verb, v.verb) {
			return newReply(500, "5.5.1", "Unknown command; did you mean "+v.verb+"?")
		}
	}
	for _, v := range []string{"MAIL FROM:", "RCPT TO:"} {
		if strings.HasPrefix(verb, strings.ReplaceAll(v, " ", "")) {
			return newReply(500, "5.5.1", "Unknown command; did you mean "+v+"?")
		}
	}
	return newReply(500, "5.5.1", "Unknown command; HELP lists those that exist")
}
