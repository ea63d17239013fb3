package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/mail"
	"os"
	"os/user"
	"slices"
	"strings"

	"github.com/emersion/go-message/textproto"
	"github.com/emersion/go-smtp"

	"postrider/internal/node"
	"postrider/mailstore/message"
	"postrider/mta"
)

// maxSendHeader bounds the header that send reads before it speaks to the server.
const maxSendHeader = 1 << 20

const sendUsage = `Usage: postrider send [OPTION...] [RECIPIENT...] < MESSAGE

Send a message from standard input, like sendmail.

  -t           take the recipients from To, Cc and Bcc, too
  -f ADDRESS   the sender; <> for none
  -F NAME      the sender's full name, where the message has no From
  -i           a line with a dot alone does not end the message
  -N, -R, -V   NOTIFY, RET and ENVID for reports (RFC 3461)
`

type sendCmd struct {
	Args []string `arg:"" optional:"" help:"As for sendmail: -t takes recipients from the header, -f ADDRESS sets the sender, -i lets a lone dot pass, -F NAME the sender's full name; then recipients."`
}

// sendmail is what the arguments of sendmail asked for.
type sendmail struct {
	from, fullName string // from may be "": the null path
	fromSet        bool   // -f
	fromHeader     bool   // -t
	ignoreDots     bool   // -i
	to             []string
	options        smtp.MailOptions
	notify         []smtp.DSNNotify
}

// parseSendmail reads the arguments that programs give to sendmail. Options
// that ask for what always holds here are accepted and have no effect.
func parseSendmail(args []string) (*sendmail, error) {
	s := &sendmail{}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			s.to = append(s.to, args...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			s.to = append(s.to, arg)
			continue
		}
		rest, err := s.option(arg, args)
		if err != nil {
			return nil, err
		}
		args = rest
	}
	if len(s.to) == 0 && !s.fromHeader {
		return nil, usageError{errors.New("send: name the recipients, or take them from the header with -t")}
	}
	return s, nil
}

// option takes one option and returns the arguments that follow it.
func (s *sendmail) option(arg string, args []string) ([]string, error) {
	letter, value := arg[1], arg[2:]
	if strings.IndexByte("fFrNRVBOX", letter) >= 0 && value == "" {
		if len(args) == 0 {
			return nil, usageError{fmt.Errorf("send: %s needs a value", arg)}
		}
		value, args = args[0], args[1:]
	}
	switch letter {
	case 't':
		s.fromHeader = true
	case 'i':
		s.ignoreDots = true
	case 'f', 'r':
		s.from, s.fromSet = value, true
		if value == "<>" {
			s.from = ""
		}
	case 'F':
		s.fullName = value
	case 'N':
		for _, n := range strings.Split(value, ",") {
			s.notify = append(s.notify, smtp.DSNNotify(strings.ToUpper(n)))
		}
	case 'R':
		s.options.Return = smtp.DSNReturn(strings.ToUpper(value))
	case 'V':
		s.options.EnvelopeID = value
	case 'o':
		s.ignoreDots = s.ignoreDots || value == "i"
	case 'b':
		if value != "m" {
			return nil, usageError{fmt.Errorf("send: %s is not a way to send a message", arg)}
		}
	case 'B', 'O', 'X', 'e', 'v', 'n', 'm', 'G', 'U':
	default:
		return nil, usageError{fmt.Errorf("send: unknown option %s", arg)}
	}
	return args, nil
}

func (c *sendCmd) Run(e *env) error {
	if len(c.Args) == 1 && c.Args[0] == "--help" {
		_, err := fmt.Fprint(e.stdout, sendUsage)
		return err
	}
	s, err := parseSendmail(c.Args)
	if err != nil {
		return err
	}
	hostname, open, err := e.submission()
	if err != nil {
		return err
	}
	if !s.fromSet {
		s.from = defaultSender(hostname)
	}
	in := bufio.NewReader(e.stdin)
	if !s.ignoreDots {
		in = bufio.NewReader(&untilDot{in: in})
	}
	header, err := s.readHeader(in, hostname)
	if err != nil {
		return err
	}
	conn, closeNode, err := open()
	if err != nil {
		return err
	}
	defer closeNode()
	return s.submit(conn, hostname, header, in)
}

func defaultSender(hostname string) string {
	name := "postmaster"
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	return name + "@" + mailDomain(hostname)
}

// submission finds the server's name and the way to it. Programs run send in
// any folder, so that a config.toml there comes after the system's. Where only
// the server's user may read that, the server on this machine tells its name.
func (e *env) submission() (hostname string, open func() (net.Conn, func(), error), err error) {
	find := *e
	if _, err := os.Stat(systemConfig); err == nil && e.config == "" {
		find.config = systemConfig
	}
	conf, err := find.loadConfig()
	if errors.Is(err, os.ErrPermission) && e.config == "" {
		conn, hostname, derr := dialGreeted("127.0.0.1:25")
		if derr != nil {
			return "", nil, fmt.Errorf("%w; and no server to send by: %w", err, derr)
		}
		return hostname, func() (net.Conn, func(), error) { return conn, func() {}, nil }, nil
	} else if err != nil {
		return "", nil, err
	}
	conf.node.Log = conf.logger(io.Discard)
	return conf.node.Hostname, func() (net.Conn, func(), error) { return openSubmission(e, conf.node) }, nil
}

// dialGreeted connects to a server and takes its name from its greeting, which
// conn still has to give.
func dialGreeted(addr string) (conn net.Conn, name string, err error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, "", err
	}
	r := bufio.NewReader(c)
	line, err := r.ReadSlice('\n')
	if f := strings.Fields(string(line)); err == nil && len(f) > 1 && f[0] == "220" {
		return &greetedConn{Conn: c, r: io.MultiReader(strings.NewReader(string(line)), r)}, f[1], nil
	}
	return nil, "", errors.Join(fmt.Errorf("%s greets with %q", addr, line), err, c.Close())
}

type greetedConn struct {
	net.Conn
	r io.Reader
}

func (c *greetedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// openSubmission reaches a server: the submission socket of the data directory,
// or for those who may not open that, port 25 on this machine.
func openSubmission(e *env, o node.Options) (net.Conn, func(), error) {
	conn, closeNode, err := node.OpenSubmission(e.ctx, o)
	if err == nil || !errors.Is(err, os.ErrPermission) || len(o.Listen.SMTP) == 0 {
		return conn, closeNode, err
	}
	conn, err = net.Dial("tcp", o.Listen.SMTP[0])
	return conn, func() {}, err
}

// readHeader reads the header, adds From where it is missing, and with -t
// takes the recipients from it.
func (s *sendmail) readHeader(in *bufio.Reader, hostname string) ([]byte, error) {
	var h textproto.Header
	if beginsWithField(in) {
		var err error
		h, err = textproto.ReadHeader(bufio.NewReader(&headerReader{in: in, left: maxSendHeader}))
		if err != nil {
			return nil, fmt.Errorf("read the message's header: %w", err)
		}
	}
	if s.fromHeader {
		s.to = append(s.to, recipientsOf(&h)...)
		if len(s.to) == 0 {
			return nil, errors.New("the header names no recipient in To, Cc or Bcc")
		}
	}
	h.Del("Bcc")
	h.Del("Resent-Bcc")
	if !h.Has("From") {
		author := s.from
		if author == "" {
			author = "MAILER-DAEMON@" + mailDomain(hostname)
		}
		h.Set("From", (&mail.Address{Name: s.fullName, Address: author}).String())
	}
	var b bytes.Buffer
	err := textproto.WriteHeader(&b, h)
	return b.Bytes(), err
}

// beginsWithField tells whether a header comes first, or the empty line after
// none. What else comes first is text that has no header, as sendmail sees it.
func beginsWithField(in *bufio.Reader) bool {
	line, err := in.Peek(in.Size())
	if i := bytes.IndexByte(line, '\n'); i >= 0 {
		line = line[:i+1]
	}
	if len(bytes.TrimRight(line, "\r\n")) == 0 {
		return err == nil || len(line) > 0
	}
	name, _, ok := bytes.Cut(line, []byte(":"))
	name = bytes.TrimRight(name, " \t")
	return ok && len(name) > 0 && !bytes.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// recipientsOf takes the recipients from a header: of a message that is resent,
// those of the resending.
func recipientsOf(h *textproto.Header) []string {
	for _, prefix := range []string{"Resent-", ""} {
		var to []string
		for _, key := range []string{"To", "Cc", "Bcc"} {
			for f := h.FieldsByKey(prefix + key); f.Next(); {
				to = append(to, named(f.Value())...)
			}
		}
		if len(to) > 0 {
			return to
		}
	}
	return nil
}

// named lists the addresses of a field, those without a domain too.
func named(field string) []string {
	var out []string
	for _, a := range message.ParseAddresses(field) {
		switch {
		case a.IsGroupStart() || a.IsGroupEnd():
		case a.Host == message.MissingDomain:
			out = append(out, a.Mailbox)
		default:
			out = append(out, mta.Address{Local: a.Mailbox, Domain: a.Host}.String())
		}
	}
	return out
}

// headerReader ends after the first empty line, so that a buffering parser
// takes nothing of the body.
type headerReader struct {
	in   *bufio.Reader
	line []byte
	left int
	done bool
}

func (r *headerReader) Read(p []byte) (int, error) {
	if len(r.line) == 0 {
		if r.done {
			return 0, io.EOF
		}
		line, err := r.in.ReadBytes('\n')
		if r.left -= len(line); r.left < 0 {
			return 0, fmt.Errorf("longer than %d octets", maxSendHeader)
		}
		if errors.Is(err, io.EOF) {
			// A message without a body: the header ends here.
			line, err = append(line, "\r\n\r\n"...), nil
			r.done = true
		}
		if err != nil {
			return 0, err
		}
		r.done = r.done || len(bytes.TrimRight(line, "\r\n")) == 0
		r.line = line
	}
	n := copy(p, r.line)
	r.line = r.line[n:]
	return n, nil
}

// untilDot ends at a line that holds a single dot, as sendmail without -i.
type untilDot struct {
	in   *bufio.Reader
	line []byte
	done bool
}

func (r *untilDot) Read(p []byte) (int, error) {
	if len(r.line) == 0 {
		if r.done {
			return 0, io.EOF
		}
		line, err := r.in.ReadBytes('\n')
		if string(bytes.TrimRight(line, "\r\n")) == "." {
			r.done = true
			return 0, io.EOF
		}
		if err != nil && len(line) == 0 {
			return 0, err
		}
		r.line = line
	}
	n := copy(p, r.line)
	r.line = r.line[n:]
	return n, nil
}

// submit speaks SMTP to the server.
func (s *sendmail) submit(conn net.Conn, hostname string, header []byte, body io.Reader) error {
	c := smtp.NewClient(conn)
	defer c.Close()
	if err := c.Hello(hostname); err != nil {
		return fmt.Errorf("greet the server: %w", err)
	}
	var from mta.Address
	if s.from != "" {
		var err error
		if from, err = mta.ParseAddress(s.from); err != nil {
			return fmt.Errorf("sender %q: %w", s.from, err)
		}
	}
	o := s.options
	o.UTF8 = !from.ASCII() || slices.ContainsFunc(s.to, func(a string) bool { return strings.ContainsFunc(a, nonASCII) }) ||
		bytes.ContainsFunc(header, nonASCII)
	if ok, _ := c.Extension("8BITMIME"); ok {
		o.Body = smtp.Body8BitMIME
	}
	if err := c.Mail(from.String(), &o); err != nil {
		return fmt.Errorf("sender %s: %w", s.from, err)
	}
	for _, to := range s.to {
		addr, err := recipient(to, hostname)
		if err != nil {
			return fmt.Errorf("recipient %q: %w", to, err)
		}
		if err := c.Rcpt(addr.String(), &smtp.RcptOptions{Notify: s.notify}); err != nil {
			return fmt.Errorf("recipient %s: %w", to, err)
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, io.MultiReader(bytes.NewReader(header), body)); err != nil {
		return fmt.Errorf("send the message: %w", err) // the connection closes without the final dot
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.Quit()
}

func nonASCII(r rune) bool { return r > 127 }

// recipient completes a local part alone with our domain.
func recipient(to, hostname string) (mta.Address, error) {
	if !strings.Contains(to, "@") {
		to += "@" + mailDomain(hostname)
	}
	return mta.ParseAddress(to)
}
