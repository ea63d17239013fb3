package pop3

import (
	"context"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"

	"postrider/mailstore"
)

func (s *session) cmdStat(context.Context, string) error {
	s.out.pair("+OK ", s.drop.count, s.drop.octets)
	return nil
}

func (s *session) cmdList(_ context.Context, arg string) error {
	return s.listing("LIST", arg, func(prefix string, i int) {
		s.out.pair(prefix, i+1, s.drop.sizes[i])
	})
}

// cmdUidl gives UIDVALIDITY and UID, which together never name another message
// (RFC 9051 section 2.3.1.1).
func (s *session) cmdUidl(_ context.Context, arg string) error {
	return s.listing("UIDL", arg, func(prefix string, i int) {
		s.out.uid(prefix, i+1, s.drop.validity, uint32(s.drop.uids[i]))
	})
}

// listing answers LIST and UIDL, whose item writes the line of message i.
func (s *session) listing(verb, arg string, item func(prefix string, i int)) error {
	if arg = strings.TrimSpace(arg); arg != "" {
		i, err := s.number(verb, arg)
		if err != nil {
			return err
		}
		item("+OK ", i)
		return nil
	}
	s.out.line("+OK ", s.drop.summary())
	for i := range s.drop.uids {
		if !s.drop.isDeleted(i) {
			item("", i)
		}
	}
	s.out.line(".")
	return nil
}

// number reads a message number and returns the index of the message.
func (s *session) number(verb, arg string) (int, error) {
	n, err := decimal(arg)
	all := len(s.drop.uids)
	switch {
	case arg == "":
		return 0, refuse("the number of a message is missing: %s 1", verb)
	case err != nil:
		return 0, refuse("%s wants the number of a message", verb)
	case n < 1 || n > int64(all):
		return 0, refuse("no such message, %s in maildrop", messages(all))
	case s.drop.isDeleted(int(n - 1)):
		return 0, &refusal{text: "message " + strconv.Itoa(int(n)) + " is deleted", blameless: true}
	}
	return int(n - 1), nil
}

// decimal reads digits and nothing else; what is too large for an int64 is the
// largest one.
func decimal(arg string) (int64, error) {
	for _, c := range []byte(arg) {
		if c < '0' || c > '9' {
			return 0, strconv.ErrSyntax
		}
	}
	n, err := strconv.ParseInt(arg, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return math.MaxInt64, nil
	}
	return n, err
}

func (s *session) cmdRetr(ctx context.Context, arg string) error {
	i, err := s.number("RETR", strings.TrimSpace(arg))
	if err != nil {
		return err
	}
	lines := &stuffer{out: s.out}
	err = s.send(ctx, i, lines, func() {
		s.out.line("+OK ", strconv.FormatInt(s.drop.sizes[i], 10), " octets")
	})
	if err != nil {
		return err
	}
	s.recordContent(s.drop.sizes[i])
	lines.end()
	s.recordFetched(ctx, i)
	s.drop.retrieve(i)
	s.retrieved++
	count(s.srv.metrics.Retrieved, 1)
	s.sent += s.drop.sizes[i]
	return nil
}

func (s *session) cmdTop(ctx context.Context, arg string) error {
	fields := strings.Fields(arg)
	if len(fields) != 2 {
		return refuse("TOP wants the number of a message and of lines: TOP 1 10")
	}
	i, err := s.number("TOP", fields[0])
	if err != nil {
		return err
	}
	n, err := decimal(fields[1])
	if err != nil {
		return refuse("TOP wants the number of a message and of lines: TOP 1 10")
	}
	lines := &stuffer{out: s.out}
	err = s.send(ctx, i, &top{to: lines, lines: n}, func() { s.out.line("+OK top of message follows") })
	if err != nil && !errors.Is(err, errTopEnds) {
		return err
	}
	lines.end()
	return nil
}

// send copies message i to w. It calls begin when the first octets were read:
// a message that cannot be read is refused, one that fails later ends the
// connection, since the reply has begun.
func (s *session) send(ctx context.Context, i int, w io.Writer, begin func()) error {
	content, err := s.srv.drops.message(ctx, s.drop, s.drop.uids[i])
	if err != nil {
		return s.unreadable(i, err)
	}
	defer content.Close()
	pooled := s.srv.buffers.Get().(*[]byte)
	defer s.srv.buffers.Put(pooled)
	begun := false
	for off, size := int64(0), content.Size(); ; {
		buf := (*pooled)[:min(int64(len(*pooled)), size-off)]
		n, err := content.ReadAt(buf, off)
		if n < len(buf) && !begun {
			return s.unreadable(i, err)
		}
		if n < len(buf) {
			s.log.Error("message cannot be read to its end", "uid", s.drop.uids[i], "err", err)
			return errors.New("message cannot be read to its end")
		}
		if !begun {
			if err := s.mayRead(content, i, buf); err != nil {
				return err
			}
			begin()
			begun = true
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
		if off += int64(n); off == size {
			return nil
		}
	}
}

// mayRead refuses a message that needs UTF8 to a client that has not said it
// (RFC 6856 section 5).
func (s *session) mayRead(content mailstore.Content, i int, first []byte) error {
	if s.utf8 || s.srv.policy.SendUTF8 {
		return nil
	}
	international, err := s.isInternational(content, content.Size(), first)
	switch {
	case err != nil:
		return s.unreadable(i, err)
	case international:
		return &refusal{code: "UTF8", text: "message " + strconv.Itoa(i+1) + " has UTF-8 in its header: say UTF8 before the login", blameless: true}
	}
	return nil
}

// unreadable chooses what the client sees of a message that cannot be opened.
func (s *session) unreadable(i int, err error) error {
	if errors.Is(err, mailstore.ErrNotFound) {
		return &refusal{text: "message " + strconv.Itoa(i+1) + " was deleted by another program meanwhile", blameless: true}
	}
	s.log.Error("message cannot be read", "uid", s.drop.uids[i], "err", err)
	return unable("message " + strconv.Itoa(i+1) + " cannot be read now")
}

func (s *session) cmdDele(_ context.Context, arg string) error {
	i, err := s.number("DELE", strings.TrimSpace(arg))
	if err != nil {
		return err
	}
	s.drop.mark(i)
	s.out.line("+OK message ", strconv.Itoa(i+1), " deleted")
	return nil
}

func (s *session) cmdRset(context.Context, string) error {
	s.drop.unmark()
	s.out.line("+OK maildrop has ", s.drop.summary())
	return nil
}

func (s *session) cmdNoop(context.Context, string) error {
	s.out.line("+OK")
	return nil
}

// cmdQuit ends the session. With a maildrop it is the UPDATE state: the marked
// messages go in one commit, and the maildrop is free before the client reads
// the reply (RFC 1939 section 6).
func (s *session) cmdQuit(ctx context.Context, _ string) error {
	s.over = true
	drop := s.drop
	if drop == nil {
		s.out.line("+OK POP3 server signing off")
		return nil
	}
	uids, retrieved := drop.marked(), drop.left()
	if !s.srv.policy.Expires {
		retrieved = nil
	}
	var expired int
	var err error
	if len(uids) > 0 || s.srv.policy.Expires {
		expired, err = s.srv.drops.settle(ctx, drop, uids, retrieved)
	}
	s.leave()
	if err != nil {
		s.log.Error("deletion failed", "messages", len(uids), "err", err)
		return unable("the deletion failed, try again later")
	}
	count(s.srv.metrics.Deleted, len(uids)+expired)
	left := drop.count - expired
	s.log.Info("maildrop updated", "account", drop.account.Address, "deleted", len(uids), "expired", expired, "left", left)
	if left == 0 {
		s.out.line("+OK POP3 server signing off (maildrop empty)")
	} else {
		s.out.line("+OK POP3 server signing off (", messages(left), " left)")
	}
	return nil
}
