package mta

import (
	"fmt"
	"strconv"
)

// Reply is the outcome of one SMTP command, ours or a peer's (RFC 5321 section
// 4.2). It is the error that tells a caller what to do next: a 4xx may pass
// later, a 5xx will not.
type Reply struct {
	Code   int    // 250, 451, 550
	Status string // RFC 3463, such as "5.1.1"; "" when a peer gave none
	Text   string // one line per "\n", safe to show to the peer
	// Close says that the connection ends after this reply.
	Close bool
}

func (r *Reply) Error() string {
	code := strconv.Itoa(r.Code)
	if r.Status == "" {
		return code + " " + r.Text
	}
	return code + " " + r.Status + " " + r.Text
}

// Temporary tells whether the same command may succeed later.
func (r *Reply) Temporary() bool { return r.Code/100 == 4 }

// Success tells whether the command did what it asked for.
func (r *Reply) Success() bool { return r.Code/100 == 2 }

// Errorf makes a Reply; status is an enhanced code of RFC 3463.
func Errorf(code int, status, format string, args ...any) *Reply {
	return &Reply{Code: code, Status: status, Text: fmt.Sprintf(format, args...)}
}
