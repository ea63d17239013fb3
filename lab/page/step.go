package page

import (
	"slices"
	"strings"
	"time"

	"postrider/internal/journey"
)

// Outside is the id of whoever is not one of the lab's hosts: the person at the
// page, or a program of this machine.
const Outside = "you"

// Step is one arrow or note of the diagram.
type Step struct {
	Seq     uint64      `json:"seq"`
	Time    time.Time   `json:"time"`
	From    string      `json:"from"`    // id of a host
	To      string      `json:"to"`      // the same as From: a note
	Via     string      `json:"via"`     // dns, smtp, pop3, imap, tls, queue, mailbox, check, other
	Kind    string      `json:"kind"`    // of the event
	Label   string      `json:"label"`   // short, as spoken
	Tone    string      `json:"tone"`    // ok, wait, bad, or "" for neither
	Say     string      `json:"say"`     // a sentence
	RFC     string      `json:"rfc"`     // the section that it follows
	Fields  [][2]string `json:"fields"`  // what it says, decoded
	Wire    []byte      `json:"wire"`    // octets
	Message string      `json:"message"` // id
	For     []string    `json:"for"`     // ids of the messages that it is for, beside Message
	Same    []string    `json:"same"`    // ids of messages that are one letter, as this step shows
	Session string      `json:"session"` // id
	Letter  bool        `json:"letter"`  // the letter itself moves
}

// stepper makes steps of events.
type stepper struct {
	hostOf func(string) string
	// records tells whether a host records what it sends as a client, so that the
	// other side's record of the same line is not needed.
	records func(id string) bool
	said    map[string]*dialogue // by session or pair of hosts: what was said last
	begun   map[string]*Step     // by the same: a reply whose last line is still to come
	letters letters

	questions questions
}

// maxDialogues bounds the conversations that are followed at once; beyond it,
// explanations begin anew.
const maxDialogues = 1000

func newStepper(hostOf func(string) string, records func(string) bool) *stepper {
	return &stepper{hostOf: hostOf, records: records, said: make(map[string]*dialogue), begun: make(map[string]*Step),
		letters: newLetters(), questions: questions{open: make(map[string][]*task), changed: make(map[string]time.Time)}}
}

// host is the id behind a name or an address.
func (st *stepper) host(name string) string {
	if id := st.hostOf(name); id != "" {
		return id
	}
	return Outside
}

// step returns the step that an event is, or nil for one that another shows.
func (st *stepper) step(e journey.Event) *Step {
	k := string(e.Kind)
	part, what, _ := strings.Cut(k, ".")
	s := &Step{Time: e.Time, Kind: k, Wire: e.Wire, Message: e.Message, Session: e.Session}
	for _, a := range e.Attrs {
		s.Fields = append(s.Fields, [2]string{a.Key, a.Value})
	}
	node, peer := st.host(e.Node), Outside
	if e.Peer != "" {
		peer = st.host(e.Peer)
	}
	s.From, s.To, s.Via = node, node, part
	switch part {
	case "smtp", "pop3", "imap":
		if st.records(peer) && part == "smtp" {
			return nil
		}
		s.Via = part
		s.between(what, peer, node)
	case "deliver":
		s.Via = "smtp"
		s.between(what, node, peer)
	case "session":
		if protocol := strings.ToLower(e.Get("protocol")); st.records(peer) && protocol != "pop3" && protocol != "imap" {
			return nil
		}
		st.session(s, e, what, peer)
	case "dns", "nameserver", "zone":
		s.Via = "dns"
		if !st.dns(s, e, part, what, node, peer) {
			return nil
		}
	case "message":
		s.Via = "queue"
	case "route":
		s.Via = "dns"
	case "lab":
		s.Via = "other"
		st.questions.registered = st.questions.registered || what == "register"
	case "journey":
		s.Via, s.From, s.To = "other", Outside, Outside
		s.Label = e.Get("count") + " events were too many to show"
	}
	st.words(s, e, part, what)
	if s.Via == "smtp" && what == "reply" && !st.whole(s, e) {
		return nil
	}
	st.letters.follow(s, e, node, peer)
	// What the page does not say by itself, the event does.
	fill(&s.Label, e.Text)
	fill(&s.RFC, e.RFC)
	return s
}

// maxReplyLines bounds the lines that are shown of one reply.
const maxReplyLines = 100

// whole makes one step of a reply of several lines (RFC 5321 section 4.2.1); it
// reports false while there is more to come.
func (st *stepper) whole(s *Step, e journey.Event) bool {
	key := s.key()
	first := st.begun[key]
	more := len(s.Label) > 3 && s.Label[3] == '-'
	switch {
	case first == nil && !more:
		return true
	case first == nil:
		if len(st.begun) >= maxDialogues {
			clear(st.begun)
		}
		first = s
		first.Fields = append(first.Fields, [2]string{"line", s.Label})
		st.begun[key] = first
		return false
	}
	if len(first.Fields) < maxReplyLines {
		first.Fields = append(first.Fields, [2]string{"line", s.Label + explained(s.Say)})
		first.Wire = append(first.Wire, s.Wire...)
	}
	if more {
		return false
	}
	delete(st.begun, key)
	*s = *first
	s.Label = s.Label[:3] + " " + s.Label[4:] + ", and more"
	return true
}

func explained(say string) string {
	if say == "" {
		return ""
	}
	return "   (" + say + ")"
}

// key names the conversation that a step belongs to.
func (s *Step) key() string {
	if s.Session != "" {
		return s.Session
	}
	return min(s.From, s.To) + " " + max(s.From, s.To) + " " + s.Via
}

// between directs a line from the one who asks to the one who answers.
func (s *Step) between(what, client, server string) {
	switch what {
	case "command", "connect", "reuse", "tls":
		s.From, s.To = client, server
	case "content":
		s.From, s.To, s.Letter = client, server, true
	case "reply":
		s.From, s.To = server, client
	case "close":
		s.From, s.To = client, client
	}
	if what == "tls" {
		s.Via = "tls"
	}
}

func (st *stepper) session(s *Step, e journey.Event, what, peer string) {
	s.Via = strings.ToLower(e.Get("protocol"))
	if d := st.said[s.key()]; d != nil && s.Via == "" {
		s.Via = d.service
	}
	switch what {
	case "begin":
		s.From = peer
	case "tls":
		s.Via = "tls"
	}
	if !slices.Contains([]string{"smtp", "pop3", "imap", "tls"}, s.Via) {
		s.Via = "smtp" // submission and LMTP
	}
}

// tone of a reply's code.
func toneOf(code string) string {
	switch {
	case code == "":
		return ""
	case code[0] == '2':
		return "ok"
	case code[0] == '4':
		return "wait"
	case code[0] == '5':
		return "bad"
	}
	return ""
}

// kindWords are what to say of events that are no lines.
var kindWords = map[journey.Kind]struct{ label, say, tone, rfc string }{
	journey.MessageAccepted:  {"letter accepted", "The server has the letter on disk and answers for it from now on.", "ok", "RFC 5321 section 6.1"},
	journey.MessageRefused:   {"letter refused", "The server does not take the letter; its sender keeps it.", "bad", "RFC 5321 section 6.1"},
	journey.CheckPassed:      {"check passed", "The server looked at something before it took the letter, and it was right.", "ok", ""},
	journey.CheckFailed:      {"check failed", "The server looked at something before it took the letter, and it was wrong.", "bad", ""},
	journey.QueueAttempt:     {"the queue tries", "The letter's turn in the queue has come: the server tries to pass it on.", "", "RFC 5321 section 4.5.4.1"},
	journey.QueueDeferred:    {"try again later", "It did not work now; the letter waits in the queue for the next try.", "wait", "RFC 5321 section 4.5.4.1"},
	journey.QueueDelivered:   {"passed on", "The next server took the letter, so this one need not keep it any longer.", "ok", "RFC 5321 section 6.1"},
	journey.QueueFailed:      {"given up", "It will never work; the sender gets a report.", "bad", "RFC 5321 section 4.5.4.1"},
	journey.QueueBounce:      {"report to the sender", "A letter about the failure is on its way to the sender, from nobody (<>), so that it can never be answered by another.", "bad", "RFC 5321 section 6.1"},
	journey.QueueChanged:     {"changed by hand", "Somebody changed the queue.", "", ""},
	journey.RouteHosts:       {"where to", "The servers that take the domain's mail, in the order in which they are tried.", "", "RFC 5321 section 5.1"},
	journey.DeliverConnect:   {"connects", "A TCP connection to the next server.", "", "RFC 5321 section 3.1"},
	journey.DeliverReuse:     {"connection used again", "A connection that is still there is used for another letter.", "", "RFC 5321 section 4.5.3.2"},
	journey.DeliverTLS:       {"TLS", "From here on, everything on this connection is encrypted.", "ok", "RFC 3207 section 4"},
	journey.DeliverContent:   {"the letter", "The letter itself: header, empty line and text.", "", "RFC 5321 section 4.1.1.4"},
	journey.DeliverClose:     {"connection closed", "The connection is closed.", "", "RFC 5321 section 3.8"},
	journey.SMTPContent:      {"the letter", "The letter itself: header, empty line and text.", "", "RFC 5321 section 4.1.1.4"},
	journey.MailboxDelivered: {"into the mailbox", "The letter is in the mailbox; its owner's program can fetch it now.", "ok", "RFC 5321 section 4.4"},
	journey.MailboxFetched:   {"read", "A mail program has fetched the letter for the first time.", "ok", ""},
	journey.ZoneChanged:      {"zone changed", "From now on the server answers from this version of the zone.", "ok", "RFC 1035 section 6.1.3"},
	journey.SessionBegin:     {"connects", "A connection; the server speaks first.", "", ""},
	journey.SessionEnd:       {"session ended", "The connection is closed.", "", ""},
	journey.SessionTLS:       {"TLS", "From here on, everything on this connection is encrypted.", "ok", ""},
	journey.SessionLogin:     {"login", "Somebody logs in.", "", ""},
}

// words fills in label, sentence, section and tone where the event leaves them
// open.
func (st *stepper) words(s *Step, e journey.Event, part, what string) {
	if w, ok := kindWords[e.Kind]; ok {
		switch {
		case !slices.Contains([]string{"queue", "mailbox", "check", "route"}, part):
			fill(&s.Label, w.label)
		case e.Text == "":
			s.Label = w.label
		}
		fill(&s.Say, w.say)
		fill(&s.RFC, w.rfc)
		fill(&s.Tone, w.tone)
	}
	if s.Via == "tls" && e.Get("tls") != "" {
		s.Label = e.Get("tls")
	}
	if strings.Contains(e.Get("certificate"), "expired") {
		s.Say, s.Tone = "Encrypted, with a certificate that has expired. Between mail servers nobody minds, unless the receiver's policy demands a valid one.", "wait"
		s.Label += ", certificate expired"
	}
	if octets := e.Get("octets"); s.Letter && octets != "" {
		s.Label += ", " + octets + " octets"
	}
	switch {
	case e.Kind == journey.SessionEnd:
	case e.Get("error") != "":
		s.Label += ": " + e.Get("error")
		s.Tone = "bad"
	case e.Kind == journey.SessionLogin && strings.Contains(e.Get("verdict"), "fail"):
		s.Tone = "bad"
	}
	if s.Letter {
		st.dialogue(s).last = "."
	}
	if what != "command" && what != "reply" || s.Via == "dns" {
		return
	}
	text := line1(e)
	n := st.note(s, e, what, text)
	fill(&s.Label, text)
	fill(&s.Say, n.say)
	fill(&s.RFC, n.rfc)
	if what != "reply" {
		return
	}
	switch {
	case s.Via == "smtp":
		code := e.Get("code")
		if code == "" && len(text) >= 3 {
			code = text[:3]
		}
		fill(&s.Tone, toneOf(code))
	case strings.HasPrefix(text, "-ERR"), strings.Contains(text, " NO "), strings.Contains(text, " BAD "):
		s.Tone = "bad"
	case strings.HasPrefix(text, "+OK"), strings.Contains(text, " OK "):
		s.Tone = "ok"
	}
}

// note explains a line by the dialogue that it belongs to.
func (st *stepper) note(s *Step, e journey.Event, what, text string) note {
	d := st.dialogue(s)
	d.body, d.header = false, false // the journey has no line of a letter
	if what == "command" {
		return d.typed(text)
	}
	if verb := e.Get("verb"); verb != "" {
		verb = strings.ToUpper(verb)
		if (verb == "DATA" || verb == "BDAT") && d.last == "." {
			verb = "." // the reply to the content
		}
		d.last = verb
	}
	return d.said(text)
}

// dialogue is what was said before in the step's conversation.
func (st *stepper) dialogue(s *Step) *dialogue {
	d := st.said[s.key()]
	if d == nil {
		if len(st.said) >= maxDialogues {
			clear(st.said)
		}
		d = &dialogue{service: s.Via}
		st.said[s.key()] = d
	}
	return d
}

// line1 is the last line of what was said: of a long reply the one that counts.
func line1(e journey.Event) string {
	if e.Text != "" {
		return e.Text
	}
	lines := strings.Split(strings.TrimRight(string(e.Wire), "\r\n"), "\n")
	return strings.TrimRight(lines[len(lines)-1], "\r")
}

// fill sets what is empty.
func fill(field *string, value string) {
	if *field == "" {
		*field = value
	}
}
