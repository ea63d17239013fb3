package page

// The tables of explain.go: what each command and answer means, in a sentence.

// smtpPaths are commands of two words, by their beginning.
var smtpPaths = map[string]note{
	"MAIL FROM:": {"The envelope's sender: reports about the letter go to this address. It may differ from the From field, as on paper.", "RFC 5321 section 4.1.1.2"},
	"RCPT TO:":   {"One recipient of the envelope; say it again for each. This, not the To field, decides where the letter goes.", "RFC 5321 section 4.1.1.3"},
}

var smtpCommands = map[string]note{
	"HELO":     {"The client says its name, in the way of 1982: no extensions.", "RFC 5321 section 4.1.1.1"},
	"EHLO":     {"The client says its name and asks what the server can do beyond the basics.", "RFC 5321 section 4.1.1.1"},
	"DATA":     {"The letter itself follows: header, empty line, text, and a dot alone on a line.", "RFC 5321 section 4.1.1.4"},
	"RSET":     {"Forgets the sender and recipients given so far.", "RFC 5321 section 4.1.1.5"},
	"NOOP":     {"Nothing to do; shows that both are there.", "RFC 5321 section 4.1.1.9"},
	"QUIT":     {"The client says goodbye; the server answers and closes the connection.", "RFC 5321 section 4.1.1.10"},
	"VRFY":     {"Asks whether there is such a mailbox. Most servers do not tell strangers.", "RFC 5321 section 4.1.1.6"},
	"HELP":     {"Asks for help.", "RFC 5321 section 4.1.1.8"},
	"STARTTLS": {"Asks to go on encrypted. After 220 both sides speak TLS; then say EHLO again.", "RFC 3207 section 4"},
	"AUTH":     {"Logs in.", "RFC 4954 section 4"},
	"BDAT":     {"A piece of the letter, of a known length: no dot is needed at its end.", "RFC 3030 section 2"},
	"MAIL":     {"After MAIL comes FROM:, and the address in angle brackets.", "RFC 5321 section 4.1.1.2"},
	"RCPT":     {"After RCPT comes TO:, and the address in angle brackets.", "RFC 5321 section 4.1.1.3"},
}

// smtpReplies are found by code and command first, then by code.
var smtpReplies = map[string]note{
	"220":          {"The server is ready. Until now it has waited for the client to be silent: the server speaks first.", "RFC 5321 section 3.1"},
	"220 STARTTLS": {"Agreed: the next octets are TLS.", "RFC 3207 section 4"},
	"221":          {"The server says goodbye and closes the connection.", "RFC 5321 section 4.1.1.10"},
	"235":          {"Logged in.", "RFC 4954 section 6"},
	"250":          {"Done.", "RFC 5321 section 4.2.3"},
	"250 HELO":     {"The server greets you by its name. The handshake is over; now a letter may begin.", "RFC 5321 section 4.1.1.1"},
	"250 EHLO":     {"The last line of the greeting: a space, no hyphen, stands after the code.", "RFC 5321 section 4.2.1"},
	"250 MAIL":     {"The sender is accepted.", "RFC 5321 section 4.1.1.2"},
	"250 RCPT":     {"There is such a recipient, or the server knows where to pass the letter on.", "RFC 5321 section 4.1.1.3"},
	"250 .":        {"The letter is accepted: it is on disk, and the server answers for it from now on.", "RFC 5321 section 6.1"},
	"251":          {"The user is elsewhere; the server will pass the letter on.", "RFC 5321 section 3.4"},
	"334":          {"The server waits for the next part of the login.", "RFC 4954 section 4"},
	"354":          {"Go ahead: type the letter, and end it with a dot alone on a line.", "RFC 5321 section 4.1.1.4"},
	"421":          {"The server ends the conversation; the client may come again later.", "RFC 5321 section 3.8"},
	"450":          {"Not now: the mailbox cannot be reached. The client keeps the letter and tries again later.", "RFC 5321 section 4.2.1"},
	"451":          {"Not now: something is wrong here. The client keeps the letter and tries again later.", "RFC 5321 section 4.2.1"},
	"452":          {"Not now: there is no room. The client keeps the letter and tries again later.", "RFC 5321 section 4.2.1"},
	"500":          {"The server does not know this command.", "RFC 5321 section 4.2.4"},
	"501":          {"The command is known, but its argument is wrong.", "RFC 5321 section 4.2.2"},
	"502":          {"The command exists, but this server does not have it.", "RFC 5321 section 4.2.4"},
	"503":          {"Something else has to come first: HELO, MAIL, RCPT, DATA, in this order.", "RFC 5321 section 4.1.4"},
	"530":          {"The server wants a login first.", "RFC 4954 section 6"},
	"535":          {"The name or the password is wrong.", "RFC 4954 section 6"},
	"550":          {"Refused for good: there is no such mailbox, or the server does not pass mail on for strangers.", "RFC 5321 section 4.2.3"},
	"552":          {"Refused for good: too large.", "RFC 5321 section 4.2.3"},
	"553":          {"Refused for good: this address cannot be.", "RFC 5321 section 4.2.3"},
	"554":          {"Refused for good.", "RFC 5321 section 4.2.3"},
}

var smtpClasses = map[byte]note{
	'2': {"Codes that begin with 2 mean: done.", "RFC 5321 section 4.2.1"},
	'3': {"Codes that begin with 3 mean: go on, there is more to say.", "RFC 5321 section 4.2.1"},
	'4': {"Codes that begin with 4 mean: not now, try again later.", "RFC 5321 section 4.2.1"},
	'5': {"Codes that begin with 5 mean: refused for good, trying again will not help.", "RFC 5321 section 4.2.1"},
}

var smtpExtensions = map[string]note{
	"PIPELINING":          {"Commands may be sent without waiting for each answer: fewer round trips.", "RFC 2920 section 3"},
	"SIZE":                {"The largest letter that is taken, in octets.", "RFC 1870 section 4"},
	"8BITMIME":            {"Letters may have octets above 127.", "RFC 6152 section 2"},
	"STARTTLS":            {"The connection can go on encrypted.", "RFC 3207 section 4"},
	"ENHANCEDSTATUSCODES": {"Replies have a second, finer code such as 5.1.1.", "RFC 2034 section 3"},
	"CHUNKING":            {"BDAT is there: letters in pieces of known length.", "RFC 3030 section 2"},
	"BINARYMIME":          {"Letters may hold any octets, without lines.", "RFC 3030 section 3"},
	"SMTPUTF8":            {"Addresses and headers may be in any script.", "RFC 6531 section 3"},
	"DSN":                 {"Senders can ask for a report of delivery.", "RFC 3461 section 3"},
	"AUTH":                {"The ways to log in.", "RFC 4954 section 3"},
	"HELP":                {"HELP is there.", "RFC 5321 section 4.1.1.8"},
	"VRFY":                {"VRFY is there.", "RFC 5321 section 4.1.1.6"},
}

var headerFields = map[string]note{
	"from":         {"Who wrote the letter, for people to read. Nothing checks it here.", "RFC 5322 section 3.6.2"},
	"to":           {"To whom it is written, for people to read. The envelope (RCPT) decides where it goes.", "RFC 5322 section 3.6.3"},
	"cc":           {"Who gets a copy, for all to see.", "RFC 5322 section 3.6.3"},
	"bcc":          {"Who gets a copy unseen: a mail program removes this field before it sends.", "RFC 5322 section 3.6.3"},
	"subject":      {"What it is about.", "RFC 5322 section 3.6.5"},
	"date":         {"When it was written.", "RFC 5322 section 3.6.1"},
	"message-id":   {"A name for this letter that no other has.", "RFC 5322 section 3.6.4"},
	"received":     {"A server's stamp: it came from there, by this server, at this time.", "RFC 5321 section 4.4"},
	"mime-version": {"The letter has structure: parts, types, encodings.", "RFC 2045 section 4"},
	"content-type": {"What the text, or this part of it, is.", "RFC 2045 section 5"},
}

var pop3Commands = map[string]note{
	"USER": {"Names the mailbox.", "RFC 1939 section 7"},
	"PASS": {"The password: in the clear, for all on the way to read, unless TLS is below.", "RFC 1939 section 7"},
	"STAT": {"Asks how many messages there are, and how many octets.", "RFC 1939 section 5"},
	"LIST": {"Asks for the size of each message.", "RFC 1939 section 5"},
	"RETR": {"Asks for a whole message.", "RFC 1939 section 5"},
	"DELE": {"Marks a message as deleted. It goes only at QUIT.", "RFC 1939 section 5"},
	"NOOP": {"Nothing to do; shows that both are there.", "RFC 1939 section 5"},
	"RSET": {"Takes all marks of deletion back.", "RFC 1939 section 5"},
	"QUIT": {"Ends the session. Only now is deleted what was marked (the UPDATE state).", "RFC 1939 section 6"},
	"TOP":  {"Asks for a message's header and first lines.", "RFC 1939 section 7"},
	"UIDL": {"Asks for a name of each message that stays the same in later sessions.", "RFC 1939 section 7"},
	"CAPA": {"Asks what the server can do.", "RFC 2449 section 5"},
	"STLS": {"Asks to go on encrypted. After +OK both sides speak TLS.", "RFC 2595 section 4"},
	"AUTH": {"Logs in by SASL.", "RFC 5034 section 4"},
	"APOP": {"Logs in by a digest of the password.", "RFC 1939 section 7"},
}

var pop3Answers = map[string]note{
	"USER": {"The name is taken; whether it exists is not said. PASS comes next.", "RFC 1939 section 7"},
	"PASS": {"Logged in: the session is in the TRANSACTION state, and the mailbox is locked as it is now.", "RFC 1939 section 5"},
	"STAT": {"The number of messages and their octets in all.", "RFC 1939 section 5"},
	"LIST": {"The list follows: number and octets of each message, a dot at the end.", "RFC 1939 section 5"},
	"UIDL": {"The list follows: number and lasting name of each message, a dot at the end.", "RFC 1939 section 7"},
	"RETR": {"The message follows, a dot at the end.", "RFC 1939 section 5"},
	"DELE": {"Marked. Nothing is gone before QUIT.", "RFC 1939 section 5"},
	"RSET": {"No message is marked any more.", "RFC 1939 section 5"},
	"QUIT": {"What was marked is gone, and the connection is closed.", "RFC 1939 section 6"},
}

var pop3Lines = map[string]note{
	"LIST": {"A message: its number in this session, and its octets.", "RFC 1939 section 5"},
	"UIDL": {"A message: its number in this session, and its lasting name.", "RFC 1939 section 7"},
	"CAPA": {"Something that this server can do.", "RFC 2449 section 6"},
}

var imapCommands = map[string]note{
	"CAPABILITY":   {"Asks what the server can do.", "RFC 9051 section 6.1.1"},
	"NOOP":         {"Nothing to do; the server may tell news.", "RFC 9051 section 6.1.2"},
	"LOGOUT":       {"Says goodbye.", "RFC 9051 section 6.1.3"},
	"STARTTLS":     {"Asks to go on encrypted. After OK both sides speak TLS.", "RFC 9051 section 6.2.1"},
	"LOGIN":        {"Logs in with name and password: in the clear, unless TLS is below.", "RFC 9051 section 6.2.3"},
	"AUTHENTICATE": {"Logs in by SASL.", "RFC 9051 section 6.2.2"},
	"SELECT":       {"Opens a mailbox. Its state stays on the server, for all clients.", "RFC 9051 section 6.3.2"},
	"EXAMINE":      {"Opens a mailbox to read only.", "RFC 9051 section 6.3.3"},
	"CREATE":       {"Makes a mailbox.", "RFC 9051 section 6.3.4"},
	"DELETE":       {"Removes a mailbox.", "RFC 9051 section 6.3.5"},
	"RENAME":       {"Gives a mailbox another name.", "RFC 9051 section 6.3.6"},
	"LIST":         {"Asks which mailboxes there are.", "RFC 9051 section 6.3.9"},
	"STATUS":       {"Asks about a mailbox without opening it.", "RFC 9051 section 6.3.11"},
	"APPEND":       {"Puts a message into a mailbox.", "RFC 9051 section 6.3.12"},
	"IDLE":         {"Waits for news; DONE ends it.", "RFC 2177 section 3"},
	"CLOSE":        {"Closes the mailbox, and removes what is marked as deleted.", "RFC 9051 section 6.4.1"},
	"EXPUNGE":      {"Removes what is marked as deleted.", "RFC 9051 section 6.4.3"},
	"SEARCH":       {"Asks which messages fit.", "RFC 9051 section 6.4.4"},
	"FETCH":        {"Asks for parts of messages.", "RFC 9051 section 6.4.5"},
	"STORE":        {"Changes flags of messages, such as \\Seen.", "RFC 9051 section 6.4.6"},
	"COPY":         {"Copies messages to another mailbox.", "RFC 9051 section 6.4.7"},
	"MOVE":         {"Moves messages to another mailbox.", "RFC 9051 section 6.4.8"},
}

// imapNumbered are untagged answers with a number in front.
var imapNumbered = map[string]note{
	"EXISTS":  {"So many messages are in the mailbox.", "RFC 9051 section 7.4.1"},
	"RECENT":  {"So many messages are new.", "RFC 3501 section 7.3.2"},
	"EXPUNGE": {"The message with this number is gone; those after it move up by one.", "RFC 9051 section 7.5.1"},
	"FETCH":   {"Data of the message with this number.", "RFC 9051 section 7.5.2"},
}

var imapUntagged = map[string]note{
	"CAPABILITY": {"What the server can do.", "RFC 9051 section 7.2.2"},
	"LIST":       {"A mailbox.", "RFC 9051 section 7.3.1"},
	"STATUS":     {"Figures of a mailbox.", "RFC 9051 section 7.3.3"},
	"SEARCH":     {"The messages that fit.", "RFC 3501 section 7.2.5"},
	"ESEARCH":    {"The messages that fit.", "RFC 9051 section 7.3.4"},
	"FLAGS":      {"The flags that are used in the mailbox.", "RFC 9051 section 7.3.5"},
	"BYE":        {"The server says goodbye and closes the connection.", "RFC 9051 section 7.1.5"},
	"OK":         {"News from the server; in brackets, for programs.", "RFC 9051 section 7.1.1"},
	"NO":         {"A warning.", "RFC 9051 section 7.1.2"},
}
