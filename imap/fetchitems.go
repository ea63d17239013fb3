package imap

import (
	"hash/crc32"
	"strconv"

	"postrider/imap/syntax"
	"postrider/mailstore"
	"postrider/mailstore/message"
)

// rowItem is a FETCH item that the row of a message tells.
type rowItem struct {
	name   string
	rank   int // items come in this order
	want   mailstore.Columns
	append func(b []byte, m *mailstore.Message) []byte
}

// rowItems has all of them but UID, FLAGS and MODSEQ, which come unasked too.
var rowItems = map[string]rowItem{
	"INTERNALDATE": {rank: 1, want: mailstore.ColumnInternal, append: func(b []byte, m *mailstore.Message) []byte {
		return syntax.AppendDateTime(b, m.Internal)
	}},
	"RFC822.SIZE": {rank: 2, want: mailstore.ColumnSize, append: func(b []byte, m *mailstore.Message) []byte {
		return syntax.AppendNumber(b, m.Size)
	}},
	"SAVEDATE": {rank: 3, want: mailstore.ColumnSaved, append: func(b []byte, m *mailstore.Message) []byte { // RFC 8514
		if m.Saved.IsZero() || m.Saved.Unix() == 0 {
			return append(b, "NIL"...)
		}
		return syntax.AppendDateTime(b, m.Saved)
	}},
	"EMAILID": {rank: 4, want: mailstore.ColumnBody | mailstore.ColumnPrefix, append: func(b []byte, m *mailstore.Message) []byte { // RFC 8474
		return append(append(append(b, '('), emailID(m)...), ')')
	}},
	"THREADID": {rank: 5, want: mailstore.ColumnThread, append: func(b []byte, m *mailstore.Message) []byte {
		if m.Thread == 0 {
			return append(b, "NIL"...)
		}
		return append(append(append(b, '('), threadID(m)...), ')')
	}},
}

// emailID names what a message consists of: its body and what stands before it.
func emailID(m *mailstore.Message) string {
	id := "M" + strconv.FormatInt(int64(m.Body), 10)
	if m.Prefix != "" {
		id += "-" + strconv.FormatUint(uint64(crc32.ChecksumIEEE([]byte(m.Prefix))), 36)
	}
	return id
}

// threadID names the conversation of a message.
func threadID(m *mailstore.Message) string { return "T" + strconv.FormatInt(int64(m.Thread), 10) }

// recordItem is a FETCH item that the record of a body tells, as long as it is
// of a usual length.
type recordItem struct {
	name   string
	rank   int
	has    func(r *message.Stored) bool
	append func(b []byte, r *message.Stored) []byte
	parse  func(b []byte, x *message.Index) ([]byte, error) // where it has not
}

func hasStructure(r *message.Stored) bool { return r.BodyStructure != nil }

var recordItems = map[string]recordItem{
	"ENVELOPE": {
		rank:   1,
		has:    func(r *message.Stored) bool { return r.Envelope != nil },
		append: func(b []byte, r *message.Stored) []byte { return append(b, r.Envelope...) },
		parse: func(b []byte, x *message.Index) ([]byte, error) {
			h, err := x.Header(x.Root)
			if err != nil {
				return b, err
			}
			date, _ := h.Get("Date")
			return appendEnvelope(b, h.Envelope(), date), nil
		},
	},
	"BODY": {
		rank:   2,
		has:    hasStructure,
		append: func(b []byte, r *message.Stored) []byte { return r.AppendBody(b) },
		parse:  func(b []byte, x *message.Index) ([]byte, error) { return parseStructure(b, x, false) },
	},
	"BODYSTRUCTURE": {
		rank:   3,
		has:    hasStructure,
		append: func(b []byte, r *message.Stored) []byte { return append(b, r.BodyStructure...) },
		parse:  func(b []byte, x *message.Index) ([]byte, error) { return parseStructure(b, x, true) },
	},
}

func parseStructure(b []byte, x *message.Index, extended bool) ([]byte, error) {
	s, err := x.BodyStructure()
	if err != nil {
		return b, err
	}
	return appendStructure(b, s, extended), nil
}
