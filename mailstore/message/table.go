package message

import (
	"encoding/binary"
	"fmt"
)

// The values that most parts have are a number in the part table: their place
// here. The order belongs to the format; new ones go to the end.
var (
	tableTypes = [...][2]string{
		{}, {"text", "plain"}, {"text", "html"}, {"multipart", "mixed"}, {"multipart", "alternative"},
		{"multipart", "related"}, {"multipart", "signed"}, {"multipart", "report"}, {"message", "rfc822"},
		{"message", "delivery-status"}, {"application", "octet-stream"}, {"application", "pdf"},
		{"image", "jpeg"}, {"image", "png"}, {"image", "gif"}, {"text", "calendar"},
		{"application", "pkcs7-signature"}, {"application", "pgp-signature"},
	}
	tableEncodings = [...]string{"", "7bit", "8bit", "binary", "base64", "quoted-printable"}
	tableCharsets  = [...]string{
		"\x00", "", "utf-8", "UTF-8", "us-ascii", "US-ASCII", "iso-8859-1", "ISO-8859-1",
		"windows-1252", "Windows-1252", "iso-8859-15", "ISO-8859-15", "utf8", "UTF8",
	}
)

const (
	partImplied = 1 << iota
	partOpaque
	partMessage
	partMultipart
	partEncoding // and above: the place in tableEncodings
)

// appendTable appends the part table: the number of parts, then each part
// before those in it. A part is an octet of flags and encoding; a place in
// tableTypes; of a text, one in tableCharsets; the octets between its
// predecessor or the start of the body around and its header (not for a
// message in a part, which begins with it); the lengths of its header and its
// body; its lines; of a multipart, the number of its parts. All are varints; a
// text that has no place follows its place 0, after its length.
func appendTable(dst []byte, root *Part) []byte {
	dst = binary.AppendUvarint(dst, uint64(countParts(root)))
	return appendRow(dst, root, 0)
}

func countParts(p *Part) int {
	n := 1
	for _, c := range p.Children {
		n += countParts(c)
	}
	if p.Message != nil {
		n += countParts(p.Message)
	}
	return n
}

func appendRow(dst []byte, p *Part, from int64) []byte {
	if len(dst) > maxStoredParts {
		return dst
	}
	encoding := place(tableEncodings[:], p.Encoding)
	flags := encoding * partEncoding
	if p.implied {
		flags |= partImplied
	}
	if p.opaque {
		flags |= partOpaque
	}
	if p.Message != nil {
		flags |= partMessage
	}
	if len(p.Children) > 0 {
		flags |= partMultipart
	}
	dst = append(dst, byte(flags))
	if encoding == 0 {
		dst = appendCounted(dst, p.Encoding)
	}
	typ := place(tableTypes[:], [2]string{p.Type, p.Subtype})
	dst = append(dst, byte(typ))
	if typ == 0 {
		dst = appendCounted(dst, p.Type)
		dst = appendCounted(dst, p.Subtype)
	}
	if p.Type == "text" {
		charset := place(tableCharsets[:], p.Charset)
		dst = append(dst, byte(charset))
		if charset == 0 {
			dst = appendCounted(dst, p.Charset)
		}
	}
	for _, n := range [...]int64{p.Header.Start - from, p.Header.Len(), p.Body.Len(), p.Lines} {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	from = p.Body.Start
	if len(p.Children) > 0 {
		dst = binary.AppendUvarint(dst, uint64(len(p.Children)))
	}
	for _, c := range p.Children {
		dst = appendRow(dst, c, from)
		from = c.Body.End
	}
	if p.Message != nil {
		dst = appendRow(dst, p.Message, from)
	}
	return dst
}

// place is where v stands in a table, 0 for nowhere.
func place[T comparable](table []T, v T) int {
	for i := 1; i < len(table); i++ {
		if table[i] == v {
			return i
		}
	}
	return 0
}

func appendCounted(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// shortestRow is what a part takes at least in the table.
const shortestRow = 6

// readTable makes the parts of a table; the first prefix octets belong to the
// header of the message.
func readTable(b []byte, prefix, size int64) (*Part, error) {
	r := tableReader{recordReader: recordReader{b: b}}
	n := r.uvarint()
	if n == 0 || n > uint64(len(b)/shortestRow) {
		return nil, fmt.Errorf("%w: %d parts", ErrRecord, n)
	}
	r.room = make([]Part, n)
	root := r.row(Range{0, size}, 0, prefix)
	if r.bad || len(r.room) > 0 || len(r.b) > 0 || root.Body.End != size {
		return nil, fmt.Errorf("%w: part table of %d octets", ErrRecord, len(b))
	}
	return root, nil
}

type tableReader struct {
	recordReader
	room []Part
}

// maxTableDepth is more than Parse makes of any message: a part and a message
// in it for each of the MaxDepth, and one inside.
const maxTableDepth = 2*MaxDepth + 2

// row reads one part, which lies within a range, and those in it. After a
// fault it returns a part of no use.
func (r *tableReader) row(within Range, depth int, prefix int64) *Part {
	if len(r.room) == 0 || depth > maxTableDepth {
		r.fail()
		return new(Part)
	}
	p := &r.room[0]
	r.room = r.room[1:]
	flags := r.octet()
	p.implied = flags&partImplied != 0
	p.opaque = flags&partOpaque != 0
	p.Encoding = text(r, tableEncodings[:], flags/partEncoding)
	r.mediaType(p)
	if p.Type == "text" {
		p.Charset = text(r, tableCharsets[:], r.octet())
	}
	p.Header.Start = within.Start + r.length(within)
	within.Start = p.Header.Start
	p.Header.End = p.Header.Start + r.length(within) + prefix
	within.Start = p.Header.End
	p.Body.Start = p.Header.End
	p.Body.End = p.Body.Start + r.length(within)
	within = p.Body
	p.Lines = r.length(within)
	if flags&partMultipart != 0 {
		n := r.uvarint()
		if n == 0 || n > uint64(len(r.room)) {
			r.fail()
			return p
		}
		p.Children = make([]*Part, 0, n)
		for range n {
			c := r.row(within, depth+1, 0)
			if r.bad {
				return p
			}
			p.Children = append(p.Children, c)
			within.Start = c.Body.End
		}
	}
	if flags&partMessage != 0 {
		p.Message = r.row(within, depth+1, 0)
	}
	return p
}

func (r *tableReader) mediaType(p *Part) {
	i := r.octet()
	switch {
	case int(i) >= len(tableTypes):
		r.fail()
	case i == 0:
		p.Type = string(r.take(r.uvarint()))
		p.Subtype = string(r.take(r.uvarint()))
	default:
		p.Type, p.Subtype = tableTypes[i][0], tableTypes[i][1]
	}
}

// length reads a number that is at most the length of a range.
func (r *tableReader) length(within Range) int64 {
	n := r.uvarint()
	if within.Len() < 0 || n > uint64(within.Len()) {
		r.fail()
		return 0
	}
	return int64(n)
}

// text is the value at a place of a table, or the one that follows.
func text(r *tableReader, table []string, i byte) string {
	switch {
	case int(i) >= len(table):
		r.fail()
		return ""
	case i == 0:
		return string(r.take(r.uvarint()))
	}
	return table[i]
}
