package smtpd

import (
	"crypto/tls"
	"time"

	"postrider/mta"
)

// received is the trace field in front of a message (RFC 5321 section 4.4).
func (s *session) received(t *transaction) []byte {
	b := make([]byte, 0, 320)
	b = append(b, "Received:"...)
	if s.hello.name != "" {
		b = append(b, " from "...)
		b = append(b, s.hello.name...)
	} else {
		b = append(b, " from localhost"...) // a UNIX socket and a HELO without a name
	}
	if s.conn.Remote.IsValid() {
		b = append(b, " ("...)
		b = append(b, mta.Literal(s.conn.Remote)...)
		b = append(b, ')')
	}
	b = append(b, "\r\n\tby "...)
	b = append(b, s.srv.o.Hostname...)
	b = append(b, " (postrider) with "...)
	b = append(b, s.protocol(t)...)
	b = append(b, " id "...)
	b = append(b, t.env.ID...)
	if s.conn.TLS != nil {
		b = append(b, "\r\n\t("...)
		b = append(b, tls.VersionName(s.conn.TLS.Version)...)
		b = append(b, ", "...)
		b = append(b, tls.CipherSuiteName(s.conn.TLS.CipherSuite)...)
		b = append(b, ')')
	}
	// Of several recipients none is named: that would tell each of the others
	// (RFC 5321 section 7.2).
	if len(t.env.To) == 1 {
		b = append(b, "\r\n\tfor <"...)
		b = append(b, t.env.To[0].Address.String()...)
		b = append(b, '>')
	}
	b = append(b, ";\r\n\t"...)
	b = s.srv.o.Clock.Now().AppendFormat(b, time.RFC1123Z)
	return append(b, "\r\n"...)
}

// protocol is the name of what was spoken (RFC 3848, RFC 6531 section 4.3).
func (s *session) protocol(t *transaction) string {
	if !s.hello.extended {
		return "SMTP"
	}
	name := "ESMTP"
	switch {
	case s.srv.o.Mode == LMTP && t.env.Options.UTF8:
		name = "UTF8LMTP"
	case s.srv.o.Mode == LMTP:
		name = "LMTP"
	case t.env.Options.UTF8:
		name = "UTF8SMTP"
	}
	if s.conn.TLS != nil {
		name += "S"
	}
	if s.login != nil {
		name += "A"
	}
	return name
}

// envelopeTo is a field with all recipients of the envelope, a line each: for
// tests, where nobody's Bcc is a secret.
func envelopeTo(to []mta.Recipient) []byte {
	b := []byte("X-Envelope-To: ")
	for i, r := range to {
		if i > 0 {
			b = append(b, ",\r\n\t"...)
		}
		b = append(b, r.Address.String()...)
	}
	return append(b, "\r\n"...)
}
