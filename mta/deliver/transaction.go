package deliver

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"postrider/mta"
)

// transaction is one MAIL, its RCPTs and the message. It notes the answers for
// the recipients of ask in a.out and returns those that the peer had no room
// for, to be asked again when it took the others. A failure means that the
// connection is of no more use.
func (a *attempt) transaction(s *session, ask []int) (more []int, f *failure) {
	ask, need := a.fit(s, ask)
	if len(ask) == 0 {
		return nil, nil
	}
	t := &transaction{a: a, s: s, ask: ask, need: need}
	err := t.run()
	if err == nil {
		return t.more, nil
	}
	f, said := err.(*failure)
	if !said {
		f = s.lost(t.stage, err)
	}
	f.stale = s.used > 1 && !t.answered && (f.peer || !said)
	f.unsure = t.sent && !f.peer
	if f.unsure {
		f.reply.Text += "; the message was sent whole and may have arrived"
	}
	for _, i := range t.accepted {
		// What an earlier host said tells more than that this one was lost.
		if f.peer || f.unsure || a.out[i].Host == "" {
			a.note(s, i, f.reply, f.peer)
		}
	}
	return nil, f
}

// fit holds the message against what the peer offers: it returns the
// recipients to ask for and what MAIL has to declare. The others are refused
// here, in words.
func (a *attempt) fit(s *session, ask []int) (fit []int, need needs) {
	refuse := func(list []int, r *mta.Reply) {
		for _, i := range list {
			a.note(s, i, r, false)
		}
	}
	wide := 0
	for _, i := range ask {
		if !a.d.To[i].Address.ASCII() {
			wide++
		}
	}
	o := &a.d.Options
	eightBit := o.Body == smtp.Body8BitMIME && s.caps.eightBit
	if !eightBit || o.UTF8 && !s.caps.utf8 {
		if err := a.msg.scan(); err != nil {
			s.c.o.Log.Error("message content cannot be read", "id", a.d.ID, "err", err)
			refuse(ask, errContent())
			return nil, need
		}
	}
	need.utf8 = o.UTF8 || wide > 0 || !a.d.From.ASCII()
	if need.utf8 && !s.caps.utf8 {
		need.utf8 = false
		if wide > 0 {
			ask = a.refuseWide(s, ask)
		}
		if !a.d.From.ASCII() || o.UTF8 && a.msg.wideHeader {
			refuse(ask, mta.Errorf(553, "5.6.7", "The message has a sender or header in Unicode, and %s does not take such mail (it does not offer SMTPUTF8)", s.key))
			return nil, need
		}
	}
	need.eightBit = eightBit || a.msg.wide
	need.size = a.msg.size
	if need.eightBit && !s.caps.eightBit {
		need.eightBit, need.convert = false, true
		if err := a.msg.converted(); err != nil {
			refuse(ask, a.keep(s, err))
			return nil, need
		}
		need.size = a.msg.narrowLen
	}
	if limit := s.caps.size; limit > 0 && need.size > limit {
		refuse(ask, mta.Errorf(552, "5.3.4", "The message has %d octets; %s takes at most %d", need.size, s.key, limit))
		return nil, need
	}
	return ask, need
}

// keep is the refusal of a message that cannot be converted.
func (a *attempt) keep(s *session, err error) *mta.Reply {
	var why *errKeep
	if !errors.As(err, &why) {
		s.c.o.Log.Error("message content cannot be read", "id", a.d.ID, "err", err)
		return errContent()
	}
	return mta.Errorf(554, "5.6.3", "The message has 8-bit text, which %s does not take (it does not offer 8BITMIME), and cannot be converted without damage: %s", s.key, why)
}

// refuseWide refuses the recipients whose addresses need SMTPUTF8.
func (a *attempt) refuseWide(s *session, ask []int) (fit []int) {
	for _, i := range ask {
		if a.d.To[i].Address.ASCII() {
			fit = append(fit, i)
			continue
		}
		a.note(s, i, mta.Errorf(553, "5.6.7", "The address has letters beyond ASCII, and %s does not take such mail (it does not offer SMTPUTF8)", s.key), false)
	}
	return fit
}

func errContent() *mta.Reply {
	return mta.Errorf(451, "4.3.0", "The message could not be read from our store")
}

// note records an answer for recipient i.
func (a *attempt) note(s *session, i int, r *mta.Reply, peer bool) {
	o := mta.Outcome{Reply: r, TLS: s.tls}
	if peer {
		o.Host, o.Addr = s.key.host, s.key.addr
	}
	o.DSN = s.caps.dsn && r.Success()
	a.out[i] = o
}

// transaction is the state of one MAIL.
type transaction struct {
	a        *attempt
	s        *session
	need     needs
	ask      []int
	accepted []int // recipients that RCPT accepted and whose fate is open
	more     []int
	stage    string // what is waited for
	answered bool   // the peer said something
	sent     bool   // the final dot is out
}

// needs are the parameters of MAIL that the content wants.
type needs struct {
	eightBit, utf8 bool
	convert        bool // to 7-bit text
	size           int64
}

func (t *transaction) run() error {
	s := t.s
	s.used++
	t.stage = "the reply to MAIL"
	pipelining := s.caps.pipelining
	if s.dirty {
		if err := t.reset(pipelining); err != nil {
			return err
		}
	}
	t.putMail()
	if pipelining {
		for _, i := range t.ask {
			t.putRcpt(i)
		}
		s.put("DATA")
	}
	if err := s.flush(); err != nil {
		return err
	}
	if s.dirty && pipelining {
		if err := t.resetReply(); err != nil {
			return err
		}
	}
	s.dirty = true
	mail, err := t.reply(s.c.o.Timeouts.Command, "MAIL")
	if err != nil {
		return err
	}
	if !mail.Success() {
		for _, i := range t.ask {
			t.a.note(s, i, mail, true)
		}
		if !pipelining {
			return nil
		}
	}
	if err := t.rcpts(mail, pipelining); err != nil {
		return err
	}
	return t.data(mail, pipelining)
}

// reset clears what the last transaction left with the peer.
func (t *transaction) reset(pipelining bool) error {
	t.s.put("RSET")
	if pipelining {
		return nil // it goes out with MAIL
	}
	if err := t.s.flush(); err != nil {
		return err
	}
	err := t.resetReply()
	t.s.dirty = false
	return err
}

func (t *transaction) resetReply() error {
	rep, err := t.reply(t.s.c.o.Timeouts.Command, "RSET")
	if err == nil && !rep.Success() {
		err = t.s.unexpected(rep, "RSET")
	}
	return err
}

// reply reads the reply to a command; 421 and what is no answer end the
// connection.
func (t *transaction) reply(timeout time.Duration, to string) (*mta.Reply, error) {
	t.stage = "the reply to " + to
	rep, err := t.s.reply(timeout, nil)
	if err != nil {
		return nil, err
	}
	switch {
	case rep.Code == 421:
		return nil, &failure{reply: rep, peer: true}
	case rep.Code/100 == 3 && (rep.Code != 354 || to != "DATA"):
		return nil, t.s.unexpected(rep, to)
	}
	t.answered = true
	return rep, nil
}

func (t *transaction) rcpts(mail *mta.Reply, pipelining bool) error {
	s := t.s
	for _, i := range t.ask {
		if !pipelining {
			t.putRcpt(i)
			if err := s.flush(); err != nil {
				return err
			}
		}
		rep, err := t.reply(s.c.o.Timeouts.Command, "RCPT")
		switch {
		case err != nil:
			return err
		case !mail.Success(): // what it says after that means nothing
		case rep.Success():
			t.accepted = append(t.accepted, i)
		default:
			t.refuse(i, rep)
		}
	}
	return nil
}

// refuse notes that RCPT was refused. A peer with room for no more recipients
// says 452, some say 552 as RFC 821 had it (RFC 5321 section 4.5.3.1.10).
func (t *transaction) refuse(i int, rep *mta.Reply) {
	if len(t.accepted) > 0 && (rep.Code == 452 || rep.Code == 552) {
		full := *rep
		full.Code, full.Status = 452, "4.5.3"
		rep = &full
		t.more = append(t.more, i)
	}
	t.a.note(t.s, i, rep, true)
}

// data says DATA, sends the message where somebody is to have it, and notes the
// final reply.
func (t *transaction) data(mail *mta.Reply, pipelining bool) error {
	s := t.s
	if !pipelining {
		if len(t.accepted) == 0 {
			return nil
		}
		s.put("DATA")
		if err := s.flush(); err != nil {
			return err
		}
	}
	rep, err := t.reply(s.c.o.Timeouts.Data, "DATA")
	switch {
	case err != nil:
		return err
	case rep.Code != 354 && rep.Success():
		return s.unexpected(rep, "DATA")
	case rep.Code != 354:
		for _, i := range t.accepted {
			t.a.note(s, i, rep, true)
		}
		t.accepted, t.more = nil, nil
		return nil
	case !mail.Success():
		// It refused the sender and wants the message: whatever is sent now
		// could reach someone.
		return s.unexpected(rep, "DATA after MAIL was refused")
	case len(t.accepted) == 0:
		return t.nobody()
	}
	return t.message()
}

// nobody ends a DATA that the peer began although it refused every recipient:
// with an empty message, which it may not send to anyone (RFC 2920 section 3.1).
func (t *transaction) nobody() error {
	if _, err := t.s.Write(theEnd); err != nil {
		return err
	}
	t.s.recordContent(0)
	_, err := t.reply(t.s.c.o.Timeouts.Final, "the message")
	t.s.dirty = false
	return err
}

// message sends the content and the dot.
func (t *transaction) message() error {
	s, m := t.s, &t.a.msg
	w := dataWriter{w: s, out: m.buf.out[:0]}
	each := m.each
	if t.need.convert {
		each = m.narrow.each
	}
	err := each(func(b []byte) error {
		_, err := w.Write(b)
		return err
	})
	if err == nil {
		t.sent = true
		err = w.end()
	}
	if ours := (*contentError)(nil); errors.As(err, &ours) {
		// Nothing was said that could be taken for the end of the message.
		s.c.o.Log.Error("message content cannot be read", "id", t.a.d.ID, "err", err)
		return &failure{reply: errContent()}
	}
	if err != nil {
		return t.early(err)
	}
	s.recordContent(t.need.size)
	rep, err := t.reply(s.c.o.Timeouts.Final, "the message")
	if err != nil {
		return err
	}
	s.dirty = false
	for _, i := range t.accepted {
		t.a.note(s, i, rep, true)
	}
	if rep.Success() {
		count(s.c.o.Metrics.Messages, 1)
		count(s.c.o.Metrics.Recipients, len(t.accepted))
	} else {
		t.more = nil
	}
	t.accepted = nil
	return nil
}

// early looks, after a failed write, for what the peer said before it closed:
// its reason not to take the message.
func (t *transaction) early(writeErr error) error {
	t.sent = false
	s := t.s
	rep, err := s.reply(s.c.o.Timeouts.Quit, nil)
	switch {
	case err == nil && rep.Code >= 400:
		return &failure{reply: rep, peer: true}
	case errors.Is(writeErr, os.ErrDeadlineExceeded):
		return &failure{reply: mta.Errorf(451, "4.4.2", "%s took too long to take the message", s.key)}
	}
	return &failure{reply: mta.Errorf(451, "4.4.2", "The connection to %s was lost while the message was sent: %s", s.key, plainError(writeErr))}
}

func (t *transaction) putMail() {
	d, s := t.a.d, t.s
	s.put("MAIL FROM:<", d.From.String(), ">", t.mailParams())
}

func (t *transaction) mailParams() string {
	d, caps := t.a.d, &t.s.caps
	var b strings.Builder
	if caps.sizeOffered {
		b.WriteString(" SIZE=")
		b.WriteString(strconv.FormatInt(t.need.size, 10))
	}
	if t.need.eightBit {
		b.WriteString(" BODY=8BITMIME")
	}
	if t.need.utf8 {
		b.WriteString(" SMTPUTF8")
	}
	if caps.dsn {
		if d.Options.Return != "" {
			b.WriteString(" RET=")
			b.WriteString(string(d.Options.Return))
		}
		if d.Options.EnvelopeID != "" {
			b.WriteString(" ENVID=")
			b.WriteString(mta.EncodeXtext(d.Options.EnvelopeID))
		}
	}
	return b.String()
}

func (t *transaction) putRcpt(i int) {
	to := &t.a.d.To[i]
	t.s.put("RCPT TO:<", to.Address.String(), ">", rcptParams(&t.s.caps, &to.Options))
}

func rcptParams(caps *caps, o *smtp.RcptOptions) string {
	if !caps.dsn || len(o.Notify) == 0 && o.OriginalRecipient == "" {
		return ""
	}
	var b strings.Builder
	for n, notify := range o.Notify {
		if n == 0 {
			b.WriteString(" NOTIFY=")
		} else {
			b.WriteByte(',')
		}
		b.WriteString(string(notify))
	}
	if o.OriginalRecipient != "" {
		b.WriteString(" ORCPT=")
		b.WriteString(mta.FormatORCPT(o.OriginalRecipientType, o.OriginalRecipient))
	}
	return b.String()
}
