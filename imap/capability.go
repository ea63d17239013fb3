package imap

import (
	"context"
	"strconv"
	"strings"
)

// offered are the capabilities after login whose presence depends on nothing, but
// for those that are offered before it, too.
var offered = []string{
	"IDLE",
	"NOTIFY",
	"NAMESPACE",
	"ACL",
	"RIGHTS=kxte", // RFC 4314 section 2.2: those that RFC 2086 did not have
	"LIST-MYRIGHTS",
	"CHILDREN",
	"UNSELECT",
	"UIDPLUS",
	"MOVE",
	"REPLACE",
	"MULTIAPPEND",
	"CATENATE",
	"URL-PARTIAL",
	"URLAUTH",
	"INPROGRESS",
	"ESEARCH",
	"SEARCHRES",
	"MULTISEARCH",
	"WITHIN",
	"PARTIAL",
	"SEARCH=FUZZY",
	"CONTEXT=SEARCH",
	"CONDSTORE",
	"QRESYNC",
	"BINARY",
	"PREVIEW",
	"LIST-EXTENDED",
	"LIST-STATUS",
	"LIST-METADATA",
	"METADATA",
	"SPECIAL-USE",
	"CREATE-SPECIAL-USE",
	"STATUS=SIZE",
	"OBJECTID",
	"SAVEDATE",
	"QUOTA",
	"QUOTA=RES-STORAGE",
	"QUOTA=RES-MESSAGE",
	"QUOTA=RES-MAILBOX",
	"UTF8=ACCEPT",
	"UIDONLY",
	"SORT",
	"SORT=DISPLAY",
	"ESORT",
	"THREAD=ORDEREDSUBJECT",
	"THREAD=REFERENCES",
	"THREAD=REFS",
	"I18NLEVEL=1",
}

// capabilities is what the client can use in the present state (RFC 9051 section
// 6.1.1).
func (s *session) capabilities() string {
	var b strings.Builder
	b.Grow(1 << 10)
	b.WriteString("IMAP4rev1 IMAP4rev2 LITERAL")
	if s.srv.o.LiteralMinus {
		b.WriteString("- ")
	} else {
		b.WriteString("+ ")
	}
	b.WriteString("SASL-IR ENABLE ID")
	if s.account == nil {
		if s.canStartTLS() {
			b.WriteString(" STARTTLS")
		}
		for _, mechanism := range s.srv.o.Directory.Mechanisms(s.peer()) {
			b.WriteString(" AUTH=" + mechanism)
		}
		if !s.srv.o.Directory.PlaintextAllowed(s.peer()) {
			b.WriteString(" LOGINDISABLED")
		}
		return b.String()
	}
	for _, name := range offered {
		b.WriteByte(' ')
		b.WriteString(name)
	}
	b.WriteString(" APPENDLIMIT=" + strconv.FormatInt(s.srv.maxSize.Load(), 10))
	if s.administers() {
		b.WriteString(" QUOTASET")
	}
	if limit := s.srv.o.MessageLimit; limit > 0 {
		b.WriteString(" MESSAGELIMIT=" + strconv.Itoa(limit))
	}
	if s.out.zip == nil {
		b.WriteString(" COMPRESS=DEFLATE UNAUTHENTICATE")
	}
	return b.String()
}

func (s *session) cmdCapability(_ context.Context, c *call) error {
	if err := c.p.End(); err != nil {
		return err
	}
	s.out.line("* CAPABILITY ", s.capabilities())
	return nil
}

// cmdNoop is NOOP, and CHECK, which has nothing to do: what was answered with OK
// is on the disk.
func (s *session) cmdNoop(_ context.Context, c *call) error { return c.p.End() }

func (s *session) cmdLogout(_ context.Context, c *call) error {
	if err := c.p.End(); err != nil {
		return err
	}
	s.box = nil
	s.out.line("* BYE Logging out")
	s.over = true
	return nil
}

// cmdEnable is ENABLE (RFC 9051 section 6.3.1). What is not known, or cannot be
// enabled, is left out of the answer.
func (s *session) cmdEnable(_ context.Context, c *call) error {
	names := c.p.Names("a capability")
	if err := c.p.End(); err != nil {
		return err
	}
	b := append(s.out.begin(), "* ENABLED"...)
	condstore := false
	for _, name := range names {
		spelling := name
		switch name {
		case "IMAP4REV2":
			spelling = "IMAP4rev2"
			s.enabled.rev2 = true
		case "UTF8=ACCEPT":
			s.enabled.utf8 = true
		case "CONDSTORE":
			condstore = true
		case "QRESYNC":
			condstore = true
			s.enabled.qresync = true
		case "UIDONLY":
			s.enabled.uidonly = true
		case "METADATA":
			s.enabled.metadata = true
			s.watchNotes()
		default:
			continue
		}
		b = append(b, ' ')
		b = append(b, spelling...)
	}
	s.out.end(append(b, '\r', '\n'))
	if condstore {
		s.wantModSeq()
	}
	return nil
}
