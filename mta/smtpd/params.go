package smtpd

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-smtp"

	"postrider/mta"
)

// param is one esmtp-param of RFC 5321 section 4.1.2.
type param struct {
	key   string // in capitals
	value string // "" without "="
}

// parseParams splits the parameters of MAIL or RCPT. The error is a 501.
func parseParams(s string) ([]param, *mta.Reply) {
	var list []param
	for word := range strings.FieldsSeq(s) {
		key, value, valued := strings.Cut(word, "=")
		p := param{strings.ToUpper(key), value}
		switch {
		case !validKeyword(p.key), valued && value == "", !validValue(value):
			return nil, newReply(501, "5.5.4", "A parameter is malformed: it must be like KEYWORD or KEYWORD=value")
		case len(list) == maxParams:
			return nil, newReply(501, "5.5.4", "Too many parameters")
		}
		for _, q := range list {
			if q.key == p.key {
				return nil, newReply(501, "5.5.4", "The parameter "+p.key+" stands there twice")
			}
		}
		list = append(list, p)
	}
	return list, nil
}

func validKeyword(s string) bool {
	if s == "" || s[0] == '-' || len(s) > 32 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// validValue holds s to esmtp-value with the change of RFC 6531 section 3.3.
func validValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == '=' || c == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

func unknownParam(command, key string) *mta.Reply {
	return newReply(555, "5.5.4", "The parameter "+key+" of "+command+" is not known here")
}

func badParam(key, want string) *mta.Reply {
	return newReply(501, "5.5.4", key+" must be "+want)
}

// mailOptions reads the parameters of MAIL.
func mailOptions(params []param) (o smtp.MailOptions, bad *mta.Reply) {
	for _, p := range params {
		switch p.key {
		case "SIZE":
			o.Size, bad = parseSize(p.value)
		case "BODY":
			o.Body, bad = parseBody(p.value)
		case "SMTPUTF8":
			o.UTF8 = true
			if p.value != "" {
				bad = newReply(501, "5.5.4", "SMTPUTF8 has no value")
			}
		case "RET":
			o.Return = smtp.DSNReturn(strings.ToUpper(p.value))
			if o.Return != smtp.DSNReturnFull && o.Return != smtp.DSNReturnHeaders {
				bad = badParam("RET", "FULL or HDRS")
			}
		case "ENVID":
			id, err := mta.DecodeXtext(p.value)
			if err != nil || id == "" || len(p.value) > maxEnvID {
				bad = badParam("ENVID", "xtext of at most 100 characters")
			}
			o.EnvelopeID = id
		case "AUTH":
			bad = checkAuthParam(p.value)
		default:
			bad = unknownParam("MAIL", p.key)
		}
		if bad != nil {
			return smtp.MailOptions{}, bad
		}
	}
	return o, nil
}

// parseSize reads 1*20DIGIT (RFC 1870 section 3). What does not fit is a size
// that is over any limit.
func parseSize(s string) (int64, *mta.Reply) {
	if s == "" || len(s) > 20 || strings.Trim(s, "0123456789") != "" {
		return 0, badParam("SIZE", "a number of octets")
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		n = math.MaxInt64
	}
	return n, nil
}

func parseBody(s string) (smtp.BodyType, *mta.Reply) {
	switch b := smtp.BodyType(strings.ToUpper(s)); b {
	case smtp.Body7Bit, smtp.Body8BitMIME:
		return b, nil
	}
	return "", badParam("BODY", "7BIT or 8BITMIME")
}

// checkAuthParam reads AUTH= of RFC 4954 section 5. Its value is dropped: no
// client is trusted to speak for others.
func checkAuthParam(s string) *mta.Reply {
	if s == "<>" {
		return nil
	}
	a, err := mta.DecodeXtext(s)
	if err == nil {
		_, err = mta.ParseAddress(a)
	}
	if err != nil {
		return badParam("AUTH", "<> or an address in xtext")
	}
	return nil
}

// rcptOptions reads the parameters of RCPT. utf8 tells that MAIL had SMTPUTF8.
func rcptOptions(params []param, utf8 bool) (o smtp.RcptOptions, bad *mta.Reply) {
	for _, p := range params {
		switch p.key {
		case "NOTIFY":
			o.Notify, bad = parseNotify(p.value)
		case "ORCPT":
			var err error
			o.OriginalRecipientType, o.OriginalRecipient, err = mta.ParseORCPT(p.value)
			switch {
			case err != nil:
				bad = badParam("ORCPT", "like rfc822;user@example.com in xtext")
			case !utf8 && strings.IndexFunc(p.value, beyondASCII) >= 0:
				bad = newReply(501, "5.5.4", "Non-ASCII characters in ORCPT need SMTPUTF8 in MAIL")
			}
		default:
			bad = unknownParam("RCPT", p.key)
		}
		if bad != nil {
			return smtp.RcptOptions{}, bad
		}
	}
	return o, nil
}

func beyondASCII(r rune) bool { return r >= utf8.RuneSelf }

// parseNotify reads NOTIFY of RFC 3461 section 4.1.
func parseNotify(s string) ([]smtp.DSNNotify, *mta.Reply) {
	bad := badParam("NOTIFY", "NEVER, or some of SUCCESS,FAILURE,DELAY")
	var list []smtp.DSNNotify
	for word := range strings.SplitSeq(s, ",") {
		n := smtp.DSNNotify(strings.ToUpper(word))
		switch n {
		case smtp.DSNNotifyNever, smtp.DSNNotifyDelayed, smtp.DSNNotifyFailure, smtp.DSNNotifySuccess:
		default:
			return nil, bad
		}
		for _, m := range list {
			if m == n || m == smtp.DSNNotifyNever || n == smtp.DSNNotifyNever {
				return nil, bad
			}
		}
		list = append(list, n)
	}
	return list, nil
}
