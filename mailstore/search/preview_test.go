package search

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"postrider/mailstore/message"
)

func TestPreview(t *testing.T) {
	long := strings.Repeat("ä ", 300)
	for text, want := range map[string]string{
		"\r\nhello\r\n  world \t!\r\n": "hello world !",
		"Content-Type: text/html\r\n\r\n<style>x{}</style><p>one</p><p>two&amp;three</p>":                           "one two&three",
		"\r\nOn Monday Bob wrote:\r\n> old\r\nnew\r\n":                                                              "new",
		"\r\n> only\r\n> quoted\r\n":                                                                                "> only > quoted",
		"Content-Type: image/png\r\n\r\nxxxx":                                                                       "",
		"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=E4=F6": "äö",
		"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<b>html</b>\r\n--b\r\n\r\nplain\r\n--b--": "plain",
		"\r\n" + long:         strings.TrimSpace(strings.Repeat("ä ", 100)),
		"\r\na\x00\x1bb\xffc": "a bc",
		"":                    "",
	} {
		x := message.Parse(bytes.NewReader([]byte(text)), int64(len(text)))
		got, err := Preview(x, 200)
		if err != nil || got != want {
			t.Errorf("%.80q: %q, %v, want %q", text, got, err, want)
		}
	}
}

// FuzzPreview: a preview is UTF-8, one line, and not longer than it may be.
func FuzzPreview(f *testing.F) {
	f.Add([]byte("Content-Type: text/html; charset=utf-16\r\n\r\n<a b='c'>x&#0;y"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Preview(message.Parse(bytes.NewReader(text), int64(len(text))), 50)
		if err != nil {
			return
		}
		if !utf8.ValidString(s) || utf8.RuneCountInString(s) > 50 || strings.ContainsAny(s, "\r\n\x00\t") || strings.TrimSpace(s) != s {
			t.Errorf("%q is the preview of %q", s, text)
		}
	})
}
