package queue

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-message/textproto"
	"github.com/emersion/go-smtp"

	"postrider/mailstore"
	"postrider/mailstore/message"
	"postrider/mta"
)

// Limits of a report.
const (
	maxReturned  = 1 << 20  // octets of a message that is returned whole
	maxHeader    = 64 << 10 // octets of header that are returned
	maxReplyText = 800      // octets of a peer's reply
	maxField     = 900      // octets of an address or a name in the status part
	maxSubject   = 200      // characters of the subject
	lineLength   = 76       // of text
	hardLength   = 998      // of a line that is not encoded (RFC 5322 section 2.1.1)
)

// writer composes reports.
type writer struct{ hostname, postmaster string }

// form is how a report has to be sent.
type form struct {
	body smtp.BodyType
	utf8 bool
}

// report writes a report as RFC 3464, 6522 and 6533 have it.
func (w *writer) report(to io.Writer, r *reportOf, content mailstore.Content) (form, error) {
	o := readOriginal(r, content)
	parts := []part{w.text(r, o), w.status(r), o.returned(r, content)}
	f := form{body: smtp.Body7Bit, utf8: !r.from.ASCII()}
	for i := range parts {
		p := &parts[i]
		p.choose(r.wide)
		if p.encoding == "8bit" {
			f.body = smtp.Body8BitMIME
			f.utf8 = f.utf8 || p.global
		}
	}
	var h fields
	h.add("From", "Mail Delivery System <MAILER-DAEMON@"+w.hostname+">")
	h.add("To", "<"+r.from.String()+">")
	h.add("Subject", subject(r))
	h.add("Date", date(r.date))
	h.add("Message-ID", "<"+r.id+"@"+w.hostname+">")
	if o.messageID != "" {
		h.add("In-Reply-To", o.messageID)
		h.add("References", o.messageID)
	}
	h.add("Auto-Submitted", "auto-replied")
	h.add("MIME-Version", "1.0")
	boundary := r.id + "/" + w.hostname
	if len(boundary) > 70 {
		boundary = r.id
	}
	h.add("Content-Type", `multipart/report; report-type=delivery-status; boundary="`+boundary+`"`)
	if f.body == smtp.Body8BitMIME {
		h.add("Content-Transfer-Encoding", "8bit")
	}
	if err := textproto.WriteHeader(to, h.header()); err != nil {
		return f, err
	}
	m := textproto.NewMultipartWriter(to)
	if err := m.SetBoundary(boundary); err != nil {
		return f, err
	}
	for i := range parts {
		if err := parts[i].write(m); err != nil {
			return f, err
		}
	}
	return f, m.Close()
}

// part is one part of the report.
type part struct {
	mediaType   string
	description string
	content     io.Reader
	scan        lineScan
	global      bool // a type of RFC 6533
	message     bool // message/*: may not be encoded, unless global
	encoding    string
}

// choose finds the transfer encoding: none for seven bits and short lines; the
// text types and those of RFC 6533 are encoded unless the way takes UTF-8.
func (p *part) choose(wide bool) {
	switch {
	case !p.scan.wide && !p.scan.long:
	case p.message && !p.global:
		p.encoding = "8bit" // RFC 2046 section 5.2.1 allows no other
	case p.global && wide && !p.scan.long:
		p.encoding = "8bit"
	case p.message:
		p.encoding = "base64"
	default:
		p.encoding = "quoted-printable"
	}
}

func (p *part) write(m *textproto.MultipartWriter) error {
	var h fields
	h.add("Content-Type", p.mediaType)
	h.add("Content-Description", p.description)
	if p.encoding != "" {
		h.add("Content-Transfer-Encoding", p.encoding)
	}
	w, err := m.CreatePart(h.header())
	if err != nil {
		return err
	}
	var enc io.WriteCloser
	switch p.encoding {
	case "quoted-printable":
		enc = quotedprintable.NewWriter(w)
	case "base64":
		enc = base64.NewEncoder(base64.StdEncoding, &lineBreaker{w: w})
	default:
		_, err = io.Copy(w, p.content)
		return err
	}
	if _, err := io.Copy(enc, p.content); err != nil {
		return err
	}
	return enc.Close()
}

// lineBreaker ends each line of base64 after 76 characters (RFC 2045 section 6.8).
type lineBreaker struct {
	w io.Writer
	n int
}

func (l *lineBreaker) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), lineLength-l.n)
		if _, err := l.w.Write(rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
		if l.n += n; l.n == lineLength {
			l.n = 0
			if _, err := io.WriteString(l.w, "\r\n"); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

// lineScan tells what is in bytes that pass through it.
type lineScan struct {
	wide bool // an octet above 127
	long bool // a line longer than hardLength
	line int
}

func (s *lineScan) Write(p []byte) (int, error) {
	for _, c := range p {
		if c == '\n' {
			s.line = 0
			continue
		}
		if c >= utf8.RuneSelf {
			s.wide = true
		}
		// The CR of the line end is the one octet above.
		if s.line++; s.line > hardLength+1 {
			s.long = true
		}
	}
	return len(p), nil
}

// status is the part for machines (RFC 3464 section 2, RFC 6533 section 4.1).
func (w *writer) status(r *reportOf) part {
	p := part{mediaType: "message/delivery-status", description: "Delivery report", message: true}
	for i := range r.recipients {
		if t := &r.recipients[i]; !t.recipient.ASCII() || !isASCII(t.orcpt) {
			p.mediaType, p.global = "message/global-delivery-status", true
		}
	}
	var b bytes.Buffer
	line := func(name, value string) {
		if !p.global {
			value = asciiOnly(value)
		}
		b.WriteString(fold(name + ": " + value))
	}
	line("Reporting-MTA", "dns; "+w.hostname)
	if r.item.EnvID != "" {
		line("Original-Envelope-Id", oneLine(r.item.EnvID, maxField))
	}
	line("Arrival-Date", date(r.local(r.item.Accepted)))
	for i := range r.recipients {
		b.WriteString("\r\n")
		r.recipients[i].status(r, line)
	}
	p.content = bytes.NewReader(b.Bytes())
	// A bytes.Buffer's bytes are scanned without an error.
	_, _ = p.scan.Write(b.Bytes())
	return p
}

// status writes the fields of one recipient (RFC 3464 section 2.3, RFC 3461
// section 6.3).
func (t *reported) status(r *reportOf, line func(name, value string)) {
	if t.orcpt != "" {
		kind, addr, _ := strings.Cut(t.orcpt, ";")
		line("Original-Recipient", kind+"; "+oneLine(addr, maxField))
	}
	line("Final-Recipient", addressType(t.recipient)+"; "+oneLine(t.recipient.String(), maxField))
	line("Action", string(t.action))
	line("Status", statusCode(t))
	if t.host != "" {
		line("Remote-MTA", "dns; "+oneLine(t.host, maxField))
	}
	if t.remote {
		kind := "smtp" // for what an SMTP server said, and nothing else (RFC 3464 section 2.3.6)
		if t.host == "" {
			kind = "x-postrider"
		}
		line("Diagnostic-Code", kind+"; "+oneLine(t.reply.Error(), maxReplyText))
	}
	line("Last-Attempt-Date", date(r.local(t.last)))
	if t.action == delayed {
		line("Will-Retry-Until", date(r.local(t.until)))
	}
}

func addressType(a mta.Address) string {
	if a.ASCII() {
		return "rfc822"
	}
	return "utf-8"
}

// statusCode is the status of RFC 3463 for a recipient: the peer's, or the
// general one of its class (RFC 3461 section 6.3 (g)).
func statusCode(t *reported) string {
	class := byte('5')
	switch {
	case t.reply.Success():
		class = '2'
	case t.reply.Temporary():
		class = '4'
	}
	s := t.reply.Status
	if validStatus(s) && s[0] == class {
		return s
	}
	if t.expired {
		return "4.4.7"
	}
	return string(class) + ".0.0"
}

// validStatus tells whether s is a status-code of RFC 3464 section 2.3.4.
func validStatus(s string) bool {
	fields := strings.Split(s, ".")
	if len(fields) != 3 {
		return false
	}
	for i, f := range fields {
		if len(f) == 0 || len(f) > 3 || i == 0 && len(f) > 1 || len(f) > 1 && f[0] == '0' {
			return false
		}
		for _, c := range f {
			if c < '0' || c > '9' {
				return false
			}
		}
	}
	return true
}

// original is what a report says of the message that it is about.
type original struct {
	header    []byte // CRLF included
	cut       bool   // header is not all of it
	subject   string
	date      string
	messageID string
}

func readOriginal(r *reportOf, content mailstore.Content) *original {
	o := &original{}
	p := make([]byte, min(content.Size(), maxHeader))
	n, err := content.ReadAt(p, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		p = nil
	} else {
		p = p[:n]
	}
	o.header, o.cut = headerOf(p, content.Size() > maxHeader)
	h := message.ParseHeader(o.header)
	if v, ok := h.Get("Subject"); ok {
		o.subject = shorten(oneLine(message.DecodeWords(v), maxHeader), maxSubject)
	}
	if v, ok := h.Get("Date"); ok {
		if d, err := message.ParseDate(v); err == nil {
			o.date = date(d)
		}
	}
	if v, ok := h.Get("Message-ID"); ok && validMessageID(v) {
		o.messageID = v
	}
	return o
}

// headerOf is the header section at the front of p, without the empty line. When
// it does not end within p and there is more, it is cut after a whole line.
func headerOf(p []byte, more bool) (header []byte, cut bool) {
	if bytes.HasPrefix(p, []byte("\r\n")) {
		return nil, false
	}
	if i := bytes.Index(p, []byte("\r\n\r\n")); i >= 0 {
		return p[:i+2], false
	}
	if !more {
		return p, false
	}
	return p[:bytes.LastIndexByte(p, '\n')+1], true
}

func validMessageID(s string) bool {
	if len(s) < 3 || len(s) > 250 || s[0] != '<' || s[len(s)-1] != '>' {
		return false
	}
	for i := 1; i < len(s)-1; i++ {
		if c := s[i]; c <= ' ' || c > '~' || c == '<' || c == '>' {
			return false
		}
	}
	return true
}

// returned is the third part: the message when it is asked for, may be and fits,
// else its header (RFC 3461 section 6.2).
func (o *original) returned(r *reportOf, content mailstore.Content) part {
	fail := false
	for i := range r.recipients {
		fail = fail || r.recipients[i].action == failed
	}
	if fail && r.item.Return == string(smtp.DSNReturnFull) && content.Size() <= maxReturned {
		p := part{mediaType: "message/rfc822", description: "Your message", message: true}
		if r.item.UTF8 && !isASCII(string(o.header)) {
			p.mediaType, p.global = "message/global", true
		}
		_, err := io.Copy(&p.scan, io.NewSectionReader(content, 0, content.Size()))
		// A server on the way that takes no 8-bit text would refuse the report,
		// and nobody would hear of that.
		if stuck := p.scan.wide && !p.global && !r.wide; err == nil && !stuck {
			p.content = io.NewSectionReader(content, 0, content.Size())
			return p
		}
	}
	p := part{mediaType: "text/rfc822-headers", description: "Header of your message"}
	if r.item.UTF8 && !isASCII(string(o.header)) {
		p.mediaType, p.global = "message/global-headers", true
	}
	if o.cut {
		p.description = "Beginning of the header of your message"
	}
	p.content = bytes.NewReader(o.header)
	_, _ = p.scan.Write(o.header)
	return p
}

// fields builds a header in the order in which it is written, names as given.
type fields []string

func (f *fields) add(name, value string) {
	*f = append(*f, fold(name+": "+value))
}

func (f fields) header() textproto.Header {
	var h textproto.Header
	for i := len(f) - 1; i >= 0; i-- {
		h.AddRaw([]byte(f[i]))
	}
	return h
}

// fold ends a header line, broken at spaces where it is long.
func fold(s string) string {
	var b strings.Builder
	for len(s) > lineLength {
		i := strings.LastIndexByte(s[:lineLength], ' ')
		// Not right after the name, and not where a line of spaces would be left.
		if i <= strings.IndexByte(s, ':')+1 || strings.TrimSpace(s[:i]) == "" {
			if i = strings.IndexByte(s[lineLength:], ' '); i < 0 {
				break
			}
			i += lineLength
		}
		b.WriteString(s[:i])
		b.WriteString("\r\n")
		s = s[i:]
	}
	b.WriteString(s)
	b.WriteString("\r\n")
	return b.String()
}

func date(t time.Time) string { return t.Format("Mon, 2 Jan 2006 15:04:05 -0700") }

// oneLine makes a stranger's text fit for one line: controls become spaces,
// bytes that are not UTF-8 question marks, and it ends after most octets.
func oneLine(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029:
			return ' '
		case r == utf8.RuneError:
			return '?'
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// shorten cuts after most characters.
func shorten(s string, most int) string {
	n := 0
	for i := range s {
		if n++; n > most {
			return s[:i] + "…"
		}
	}
	return s
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// asciiOnly is for parts that allow nothing else.
func asciiOnly(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= utf8.RuneSelf {
			return '?'
		}
		return r
	}, s)
}

// subject names the gravest thing that the report tells.
func subject(r *reportOf) string {
	switch gravest(r) {
	case failed:
		return "Your message could not be delivered"
	case delayed:
		return "Your message is delayed"
	case relayed:
		return "Your message was passed on"
	}
	return "Your message was delivered"
}

func gravest(r *reportOf) action {
	order := []action{failed, delayed, relayed, expanded, delivered}
	for _, a := range order {
		for i := range r.recipients {
			if r.recipients[i].action == a {
				return a
			}
		}
	}
	return delivered
}

// text is the part for people. It is in UTF-8, since a subject may stand in it.
func (w *writer) text(r *reportOf, o *original) part {
	var b bytes.Buffer
	say := func(format string, args ...any) {
		fmt.Fprintf(&b, format+"\r\n", args...)
	}
	w.explain(say, r, o)
	p := part{mediaType: "text/plain; charset=utf-8", description: "Explanation", content: bytes.NewReader(b.Bytes())}
	_, _ = p.scan.Write(b.Bytes())
	return p
}
