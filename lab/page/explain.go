package page

import (
	"strings"
)

// note is what the page says about a line.
type note struct {
	say string // a sentence
	rfc string // "RFC 5321 section 4.1.1.2"
}

// dialogue follows what is said on one connection, so far as it takes to
// explain each line. It never refuses anything: whoever types may err.
type dialogue struct {
	service  string // smtp, submission, pop3, imap, dns, or other
	last     string // the latest command, in upper case
	argument bool   // that it had one
	body     bool   // SMTP: after 354, until the dot; POP3: within a long answer
	header   bool   // of the body: before the empty line
	due      int    // answers that are to come, the greeting included if it is counted
	tag      string // IMAP: of the latest command
}

// typed explains a line from the client.
func (d *dialogue) typed(line string) note {
	if d.service == "pop3" || !d.body || line == "." {
		d.due++
	}
	switch d.service {
	case "smtp", "submission":
		return d.typedSMTP(line)
	case "pop3":
		return d.known(line, pop3Commands, note{"POP3 does not know this command; the answer will be -ERR.", "RFC 1939 section 3"})
	case "imap":
		return d.typedIMAP(line)
	}
	return note{say: "Your line, as you typed it."}
}

// said explains a line from the server.
func (d *dialogue) said(line string) note {
	if d.answers(line) {
		d.due--
	}
	switch d.service {
	case "smtp", "submission":
		return d.saidSMTP(line)
	case "pop3":
		return d.saidPOP3(line)
	case "imap":
		return d.saidIMAP(line)
	}
	return note{say: "The server's line."}
}

// known finds a command by its first word.
func (d *dialogue) known(line string, table map[string]note, otherwise note) note {
	verb, argument, _ := strings.Cut(line, " ")
	d.last, d.argument = strings.ToUpper(verb), argument != ""
	if n, ok := table[d.last]; ok {
		return n
	}
	return otherwise
}

// answers tells whether a line of SMTP or POP3 is the last of an answer, or the
// greeting.
func (d *dialogue) answers(line string) bool {
	if d.service == "pop3" {
		return !d.body && (strings.HasPrefix(line, "+OK") || strings.HasPrefix(line, "-ERR"))
	}
	return len(line) >= 3 && (len(line) == 3 || line[3] != '-')
}

// startsTLS tells whether the server's line, which was explained last, agrees to go
// on under TLS (RFC 3207 section 4, RFC 2595 section 4, RFC 9051 section 6.2.1). It
// has to be the answer to that command, and not to what was typed before it.
func (d *dialogue) startsTLS(line string) bool {
	switch d.service {
	case "smtp", "submission":
		return d.last == "STARTTLS" && d.due == 0 && strings.HasPrefix(line, "220")
	case "pop3":
		return d.last == "STLS" && d.due == 0 && strings.HasPrefix(line, "+OK")
	case "imap":
		words := strings.Fields(line)
		return d.last == "STARTTLS" && len(words) > 1 && words[0] == d.tag && strings.EqualFold(words[1], "OK")
	}
	return false
}

func (d *dialogue) typedSMTP(line string) note {
	if d.body {
		return d.typedBody(line)
	}
	upper := strings.ToUpper(line)
	for prefix, n := range smtpPaths {
		if rest, ok := strings.CutPrefix(upper, prefix); ok {
			d.last = prefix[:4]
			if d.last != "DATA" && !strings.Contains(rest, "<") {
				n.say += " The address has to stand in angle brackets."
			}
			return n
		}
	}
	return d.known(line, smtpCommands, note{"SMTP does not know this command; the answer will be 500 or 502.", "RFC 5321 section 4.2.4"})
}

// typedBody explains a line of the letter after DATA.
func (d *dialogue) typedBody(line string) note {
	switch {
	case line == ".":
		d.body, d.last = false, "."
		return note{"A dot alone on a line ends the letter. From the answer on, the server is responsible for it.", "RFC 5321 section 4.1.1.4"}
	case strings.HasPrefix(line, "."):
		return note{"A line that begins with a dot gets one more in front (dot-stuffing); the server removes the first.", "RFC 5321 section 4.5.2"}
	case d.header && line == "":
		d.header = false
		return note{"The empty line divides the header from the text.", "RFC 5322 section 2.1"}
	case d.header && strings.TrimLeft(line, " \t") != line:
		return note{"A line that begins with a space goes on with the field above it.", "RFC 5322 section 2.2.3"}
	case d.header:
		name, _, ok := strings.Cut(line, ":")
		if !ok || strings.ContainsAny(name, " \t") {
			return note{"This is no header field. An empty line belongs before the text.", "RFC 5322 section 2.2"}
		}
		if n, ok := headerFields[strings.ToLower(name)]; ok {
			return n
		}
		return note{"A field of the letter's header.", "RFC 5322 section 2.2"}
	}
	return note{"A line of the letter's text.", "RFC 5322 section 2.3"}
}

func (d *dialogue) saidSMTP(line string) note {
	if len(line) < 3 {
		return note{"No reply of SMTP: it would begin with three digits.", "RFC 5321 section 4.2"}
	}
	code, more := line[:3], len(line) > 3 && line[3] == '-'
	if code == "354" {
		d.body, d.header = true, true
	}
	if n, ok := smtpReplies[code+" "+d.last]; ok && !more {
		return n
	}
	if more && (d.last == "EHLO" || d.last == "LHLO") {
		return d.extension(line[4:])
	}
	if n, ok := smtpReplies[code]; ok {
		return n
	}
	if n, ok := smtpClasses[line[0]]; ok {
		return n
	}
	return note{"No code of SMTP.", "RFC 5321 section 4.2.1"}
}

// extension explains a line of the answer to EHLO.
func (d *dialogue) extension(text string) note {
	word, _, _ := strings.Cut(text, " ")
	if n, ok := smtpExtensions[strings.ToUpper(word)]; ok {
		return n
	}
	if strings.Contains(word, ".") {
		return note{"The server gives its name and greets you; the lines that follow are what it can do beyond the basics.", "RFC 5321 section 4.1.1.1"}
	}
	return note{"Something that this server can do beyond the basics.", "RFC 5321 section 2.2.1"}
}

func (d *dialogue) saidPOP3(line string) note {
	if d.body {
		if line == "." {
			d.body = false
			return note{"A dot alone on a line ends the long answer.", "RFC 1939 section 3"}
		}
		if d.last == "RETR" || d.last == "TOP" {
			return note{"A line of the message.", "RFC 1939 section 5"}
		}
		if n, ok := pop3Lines[d.last]; ok {
			return n
		}
		return note{"A line of the answer.", "RFC 1939 section 3"}
	}
	switch {
	case d.last == "" && strings.HasPrefix(line, "+OK"):
		return note{"The greeting: the session begins in the AUTHORIZATION state.", "RFC 1939 section 4"}
	case strings.HasPrefix(line, "+OK"):
		d.body = d.long()
		if n, ok := pop3Answers[d.last]; ok {
			return n
		}
		return note{"It worked.", "RFC 1939 section 3"}
	case strings.HasPrefix(line, "-ERR"):
		return note{"It was refused; the text says why.", "RFC 1939 section 3"}
	case strings.HasPrefix(line, "+ "):
		return note{"The server waits for the next line of the login.", "RFC 5034 section 4"}
	}
	return note{"A line of the answer.", "RFC 1939 section 3"}
}

// long tells whether a good answer of POP3 has more lines (RFC 1939 section 3).
func (d *dialogue) long() bool {
	switch d.last {
	case "RETR", "TOP", "CAPA":
		return true
	case "LIST", "UIDL", "AUTH":
		return !d.argument
	}
	return false
}

func (d *dialogue) typedIMAP(line string) note {
	words := strings.Fields(line)
	if len(words) < 2 {
		if strings.EqualFold(line, "DONE") {
			return note{"Ends IDLE.", "RFC 2177 section 3"}
		}
		return note{"An IMAP command has a tag of your choice in front, such as a1; the answer repeats it.", "RFC 9051 section 2.2.1"}
	}
	d.tag, d.last = words[0], strings.ToUpper(words[1])
	name := d.last
	if name == "UID" && len(words) > 2 {
		name = strings.ToUpper(words[2])
	}
	if n, ok := imapCommands[name]; ok {
		return n
	}
	return note{"The first word is the tag; IMAP has no such command here, and the answer will be BAD.", "RFC 9051 section 6"}
}

func (d *dialogue) saidIMAP(line string) note {
	words := strings.Fields(line)
	if len(words) < 2 {
		return note{"A line of the answer.", "RFC 9051 section 7"}
	}
	second := strings.ToUpper(words[1])
	switch {
	case words[0] == "*" && d.last == "" && (second == "OK" || second == "PREAUTH"):
		return note{"The greeting: the session begins as not authenticated.", "RFC 9051 section 7.1"}
	case words[0] == "*" && len(words) > 2 && imapNumbered[strings.ToUpper(words[2])].say != "":
		return imapNumbered[strings.ToUpper(words[2])]
	case words[0] == "*":
		if n, ok := imapUntagged[second]; ok {
			return n
		}
		return note{"An untagged answer: data that the command asked for, or news of the mailbox.", "RFC 9051 section 7"}
	case words[0] == "+":
		return note{"Go on: the server waits for the rest of the command.", "RFC 9051 section 7.6"}
	case second == "OK":
		return note{"The command with this tag has ended, and it worked.", "RFC 9051 section 7.1.1"}
	case second == "NO":
		return note{"The command with this tag has ended, and it was refused; the text says why.", "RFC 9051 section 7.1.2"}
	case second == "BAD":
		return note{"The server did not understand the command.", "RFC 9051 section 7.1.3"}
	}
	return note{"A line of the answer.", "RFC 9051 section 7"}
}
