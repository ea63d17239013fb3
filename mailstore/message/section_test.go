package message

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/emersion/go-imap/v2"
)

func load(t *testing.T, name string) *Index {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".msg")
	if err != nil {
		t.Fatal(err)
	}
	return Parse(bytes.NewReader(b), int64(len(b)))
}

func TestSection(t *testing.T) {
	const header, text, mime = imap.PartSpecifierHeader, imap.PartSpecifierText, imap.PartSpecifierMIME
	tests := []struct {
		file string
		s    imap.FetchItemBodySection
		want string
	}{
		{"plain", imap.FetchItemBodySection{Specifier: text}, "Do you like ketchup?\r\nHow about pickles?\r\n"},
		{"plain", imap.FetchItemBodySection{Part: []int{1}}, "Do you like ketchup?\r\nHow about pickles?\r\n"},
		{"plain", imap.FetchItemBodySection{Part: []int{1}, Partial: &imap.SectionPartial{Offset: 3, Size: 8}}, "you like"},
		{"plain", imap.FetchItemBodySection{Part: []int{1}, Partial: &imap.SectionPartial{Offset: 38, Size: 1 << 62}}, "s?\r\n"},
		{"plain", imap.FetchItemBodySection{Part: []int{1}, Partial: &imap.SectionPartial{Offset: 1 << 62, Size: 1 << 62}}, ""},
		{"plain", imap.FetchItemBodySection{Part: []int{2}}, ""},
		{"plain", imap.FetchItemBodySection{Part: []int{1, 1}}, ""},
		{"plain", imap.FetchItemBodySection{Part: []int{1}, Specifier: text}, ""},
		{"jpeg", imap.FetchItemBodySection{Specifier: header, HeaderFields: []string{"SUBJECT", "from", "X"}},
			"From: alice@crepes.fr\r\nSubject: Picture of yummy crepe.\r\n\r\n"},
		{"jpeg", imap.FetchItemBodySection{Specifier: header, HeaderFields: []string{"X"}}, "\r\n"},
		{"jpeg", imap.FetchItemBodySection{Specifier: header, HeaderFieldsNot: []string{"Subject", "From", "to", "content-type"}},
			"MIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\n"},
		{"alternative", imap.FetchItemBodySection{Specifier: header, HeaderFields: []string{"Subject", "Message-ID"}},
			"Subject: =?utf-8?b?w6TDtsO8?=\r\n =?utf-8?b?w58=?= folded\r\nMessage-ID:\r\n <e@f>\r\n\r\n"},
		{"header-only", imap.FetchItemBodySection{Specifier: header, HeaderFields: []string{"subject"}}, "Subject: nothing else\r\n\r\n"},
		{"mixed-nested", imap.FetchItemBodySection{Part: []int{1, 2}}, "AQID"},
		{"mixed-nested", imap.FetchItemBodySection{Part: []int{1, 2, 1}}, ""},
		{"mixed-nested", imap.FetchItemBodySection{Part: []int{1}, Specifier: mime},
			"Content-Type: multipart/related; boundary=\"inner\"; type=\"text/html\"\r\n\r\n"},
		{"mixed-nested", imap.FetchItemBodySection{Part: []int{0}}, ""},
		{"mixed-nested", imap.FetchItemBodySection{Part: []int{3}}, ""},
		{"mixed-nested", imap.FetchItemBodySection{Part: []int{-1}}, ""},
		{"forwarded", imap.FetchItemBodySection{Part: []int{2, 1}}, "one"},
		{"forwarded", imap.FetchItemBodySection{Part: []int{2, 2, 1}}, "deep\r\ntext"},
		{"forwarded", imap.FetchItemBodySection{Part: []int{2, 2}, Specifier: text}, "deep\r\ntext"},
		{"forwarded", imap.FetchItemBodySection{Part: []int{2}, Specifier: header, HeaderFields: []string{"Subject"}}, "Subject: inner\r\n\r\n"},
		{"forwarded", imap.FetchItemBodySection{Part: []int{2, 2}, Specifier: mime}, "Content-Type: message/rfc822\r\n\r\n"},
		{"embedded-top", imap.FetchItemBodySection{Part: []int{1}, Specifier: header}, "From: b@example.org\r\nSubject: inside\r\n\r\n"},
		{"embedded-top", imap.FetchItemBodySection{Part: []int{1, 1}}, "text\r\n"},
		{"embedded-top", imap.FetchItemBodySection{Part: []int{1, 1, 1}}, ""},
	}
	for _, test := range tests {
		if got := string(sectionBytes(t, load(t, test.file), &test.s)); got != test.want {
			t.Errorf("%s %+v = %q, want %q", test.file, test.s, got, test.want)
		}
	}
}

func TestBinary(t *testing.T) {
	tests := []struct {
		file   string
		number []int
		want   string
		ok     bool
	}{
		{"jpeg", []int{1}, "hello crepe", true},
		{"alternative", []int{1}, "Grüße an alle", true},
		{"mixed-nested", []int{2}, "Hello", true},
		{"mixed-nested", []int{1, 2}, "\x01\x02\x03", true},
		{"mixed-nested", []int{9}, "", true},
		{"broken-header", []int{1}, "this is no field\r\nSubject: not seen\r\n\r\nbody\r\n", false},
	}
	for _, test := range tests {
		r, ok := load(t, test.file).Binary(test.number)
		b, err := io.ReadAll(r)
		if string(b) != test.want || ok != test.ok || err != nil {
			t.Errorf("%s %v = %q, %v, %v, want %q, %v", test.file, test.number, b, ok, err, test.want, test.ok)
		}
	}
}

func TestDecoders(t *testing.T) {
	tests := []struct {
		t        func() transfer
		in, want string
	}{
		{newBase64, "aGVsbG8=", "hello"},
		{newBase64, "aGVs\r\nbG8", "hello"},
		{newBase64, "a G\x00V!s\r\nbG8=\r\nd29ybGQ=", "helloworld"},
		{newBase64, "a", ""},
		{newBase64, "====", ""},
		{newQuoted, "a=3Db=C3=bc", "a=bü"},
		{newQuoted, "soft =\r\nbreak=\nhere = \t\r\nend", "soft breakhere end"},
		{newQuoted, "trailing \t \r\nspace  ", "trailing\r\nspace"},
		{newQuoted, "100% = full =4 =GG =", "100% = full =4 =GG "},
		{newQuoted, "=4", "=4"},
		{newQuoted, "a\rb\r\rc\r\n", "a\rb\r\rc\r\n"},
		{newQuoted, "==41=", "=A"},
		{newQuoted, strings.Repeat(" ", 3000) + "x", strings.Repeat(" ", 3000) + "x"},
	}
	for _, test := range tests {
		for _, read := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.DataErrReader} {
			got, err := io.ReadAll(newDecoder(read(strings.NewReader(test.in)), test.t()))
			if string(got) != test.want || err != nil {
				t.Errorf("%q = %q, %v, want %q", test.in, got, err, test.want)
			}
		}
	}
}

func newBase64() transfer { return &base64Decoder{} }
func newQuoted() transfer { return &quotedPrintable{} }

func TestDecodeWords(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                                 "plain",
		"=?utf-8?q?J=C3=B6rg?= Smith":           "Jörg Smith",
		"=?utf-8?b?w6TDtsO8?= =?utf-8?b?w58=?=": "äöüß",
		"=?iso-2022-jp?B?GyRCRnxLXDhsGyhC?=":    "日本語",
		"=?no-such?q?abc?=":                     "=?no-such?q?abc?=",
		"gr\xfc\xdfe":                           "grüße",
		"=?utf-8?q?open":                        "=?utf-8?q?open",
	} {
		if got := DecodeWords(in); got != want {
			t.Errorf("DecodeWords(%q) = %q, want %q", in, got, want)
		}
	}
}

type failing struct {
	io.ReaderAt
	from int64
}

var errDisk = errors.New("disk")

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, errDisk
	}
	return f.ReaderAt.ReadAt(p, off)
}

// A message that cannot be read is not described.
func TestReadError(t *testing.T) {
	b := []byte("From: a@example.org\r\n\r\n" + strings.Repeat("line\r\n", 20000))
	x := Parse(failing{bytes.NewReader(b), 50000}, int64(len(b)))
	if !errors.Is(x.Err(), errDisk) {
		t.Errorf("Err() = %v", x.Err())
	}
	if _, err := x.BodyStructure(); !errors.Is(err, errDisk) {
		t.Errorf("BodyStructure: %v", err)
	}
	x = Parse(bytes.NewReader(b[:100]), int64(len(b)))
	if x.Err() == nil {
		t.Error("a message cut short is no error")
	}
}
