package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/netip"
	"strings"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"postrider/mta"
)

// Letter is what somebody writes.
type Letter struct {
	From    string   `json:"from"` // an account's address
	To      []string `json:"to"`
	Cc      []string `json:"cc,omitempty"`
	Bcc     []string `json:"bcc,omitempty"`
	Subject string   `json:"subject"`
	Text    string   `json:"text"`
	// Raw, when set, is the whole message in place of Subject and Text; its
	// line ends may be LF.
	Raw string `json:"raw,omitempty"`
}

// Sent tells what became of a letter at its writer's server.
type Sent struct {
	Host      string `json:"host"`       // the writer's mail server
	ID        string `json:"id"`         // under which the server keeps it: Message of its events
	MessageID string `json:"message_id"` // of its header
	Reply     string `json:"reply"`      // the server's last words
}

// Limits of a letter.
const (
	maxLetter     = 10 << 20
	maxRecipients = 100
	sendPatience  = 30 * time.Second
)

// Send submits a letter as its writer's mail program does: to the submission
// port of the writer's server, with login.
func (l *Lab) Send(ctx context.Context, letter Letter) (Sent, error) {
	ctx, cancel := context.WithTimeout(ctx, sendPatience)
	defer cancel()
	a, ok := l.World().Account(letter.From)
	if !ok {
		return Sent{}, fmt.Errorf("there is no account %q in the lab", letter.From)
	}
	to := append(append(append([]string{}, letter.To...), letter.Cc...), letter.Bcc...)
	if len(to) == 0 || len(to) > maxRecipients {
		return Sent{}, fmt.Errorf("a letter has 1 to %d recipients", maxRecipients)
	}
	for _, r := range to {
		if _, err := mta.ParseAddress(r); err != nil {
			return Sent{}, fmt.Errorf("recipient %q: %w", r, err)
		}
	}
	h, _ := l.World().Host(a.Host)
	text, id, err := letter.compose(a, l.clock.Now())
	if err != nil {
		return Sent{}, err
	}
	sent := Sent{Host: h.Name, MessageID: id}
	service := uint16(587)
	if h.Kind != KindMail {
		service = 25
	}
	conn, err := l.network.dialer(l.laptop(h.Site))(ctx, "tcp", netip.AddrPortFrom(h.Address, service).String())
	if err != nil {
		return sent, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	sent.Reply, err = submit(conn, h, a, letter.From, to, text)
	if err != nil {
		return sent, err
	}
	if i := strings.LastIndex(sent.Reply, " "); i >= 0 {
		sent.ID = sent.Reply[i+1:]
	}
	return sent, nil
}

// laptop is a client in a site, for the address that connections come from.
func (l *Lab) laptop(site string) *Host {
	w := l.World()
	for i := range w.Hosts {
		if h := &w.Hosts[i]; h.Kind == KindClient && h.Site == site {
			return h
		}
	}
	return nil
}

// submit speaks SMTP to a writer's server.
func submit(conn net.Conn, h *Host, a *Account, from string, to []string, text []byte) (string, error) {
	c := smtp.NewClient(conn)
	if err := c.Hello("laptop." + h.Site + ".test"); err != nil {
		return "", err
	}
	if h.Kind == KindMail {
		if err := c.Auth(sasl.NewPlainClient("", a.Address, a.Password)); err != nil {
			return "", err
		}
	}
	o := &smtp.MailOptions{}
	if ok, _ := c.Extension("8BITMIME"); ok {
		o.Body = smtp.Body8BitMIME
	}
	if err := c.Mail(from, o); err != nil {
		return "", err
	}
	for _, r := range to {
		if err := c.Rcpt(r, nil); err != nil {
			return "", fmt.Errorf("%s: %w", r, err)
		}
	}
	w, err := c.Data()
	if err != nil {
		return "", err
	}
	if _, err := w.Write(text); err != nil {
		return "", err
	}
	reply, err := w.CloseWithResponse()
	if err != nil {
		return "", err
	}
	_ = c.Quit() // what it answers changes nothing
	return reply.StatusText, nil
}

// compose makes the message and its Message-ID.
func (letter *Letter) compose(a *Account, now time.Time) (text []byte, id string, err error) {
	if len(letter.Raw)+len(letter.Text) > maxLetter {
		return nil, "", fmt.Errorf("a letter has at most %d octets", maxLetter)
	}
	if strings.ContainsAny(letter.Subject, "\r\n") {
		return nil, "", errors.New("a subject has one line")
	}
	crlf := func(s string) string { return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n") }
	if letter.Raw != "" {
		raw := crlf(letter.Raw)
		if !strings.HasSuffix(raw, "\r\n") {
			raw += "\r\n"
		}
		if m, err := mail.ReadMessage(strings.NewReader(raw)); err == nil {
			id = m.Header.Get("Message-ID")
		}
		return []byte(raw), strings.Trim(id, "<>"), nil
	}
	id = mta.NewID(now, randomNumber()) + "@" + a.Address[strings.LastIndexByte(a.Address, '@')+1:]
	var b bytes.Buffer
	from := mail.Address{Name: a.Name, Address: a.Address}
	fmt.Fprintf(&b, "From: %s\r\n", from.String())
	fmt.Fprintf(&b, "To: %s\r\n", strings.Join(letter.To, ",\r\n "))
	if len(letter.Cc) > 0 {
		fmt.Fprintf(&b, "Cc: %s\r\n", strings.Join(letter.Cc, ",\r\n "))
	}
	fmt.Fprintf(&b, "Subject: %s\r\n", mime.QEncoding.Encode("utf-8", letter.Subject))
	fmt.Fprintf(&b, "Date: %s\r\nMessage-ID: <%s>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n", now.Format(time.RFC1123Z), id)
	body := crlf(letter.Text)
	if !strings.HasSuffix(body, "\r\n") {
		body += "\r\n"
	}
	if plain(body) {
		fmt.Fprintf(&b, "\r\n%s", body)
		return b.Bytes(), id, nil
	}
	b.WriteString("Content-Transfer-Encoding: quoted-printable\r\n\r\n")
	q := quotedprintable.NewWriter(&b)
	if _, err := q.Write([]byte(body)); err != nil {
		return nil, "", err
	}
	return b.Bytes(), id, q.Close()
}

func randomNumber() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// plain tells whether text may go as it is: 7 bits, lines of 998 octets at most.
func plain(text string) bool {
	for line := range strings.SplitSeq(text, "\r\n") {
		if len(line) > 998 || strings.ContainsFunc(line, func(r rune) bool { return r >= 0x80 }) {
			return false
		}
	}
	return true
}

// Dial connects to a service of a host as another host of the lab does, with
// what the links and faults between them do; from "" is somebody outside. host
// is a host's name or an address of the lab. The connection is closed when ctx
// ends.
func (l *Lab) Dial(ctx context.Context, from, host string, port uint16) (net.Conn, error) {
	w := l.World()
	var source *Host
	if from != "" {
		h, ok := w.Host(from)
		if !ok {
			return nil, fmt.Errorf("there is no host %q", from)
		}
		source = h
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		h, ok := w.Host(host)
		if !ok {
			return nil, fmt.Errorf("there is no host %q", host)
		}
		address = h.Address
	}
	conn, err := l.network.dialer(source)(ctx, "tcp", netip.AddrPortFrom(address, port).String())
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	return conn, nil
}
