package pop3

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"postrider/mailstore/message"
)

// scanned judges a message that comes in pieces.
func scanned(text []byte, size int) bool {
	var h headerScan
	for len(text) > 0 && !h.feed(text[:min(size, len(text))]) {
		text = text[min(size, len(text)):]
	}
	return h.international()
}

func TestHeaderScan(t *testing.T) {
	long := strings.Repeat("X: y\r\n", message.MaxHeader/6)
	for text, want := range map[string]bool{
		"":                                    false,
		"Subject: a\r\n\r\n\u00e9\r\n":        false,
		"Subject: a\n\n\u00e9\n":              false,
		"\r\nSubject: \u00e9\r\n\r\n":         false,
		"Subject: \u00e9":                     true,
		"Subject: a\r\n \u00e9\r\n\r\nb":      true,
		"Subject: a\r\r\n \U0001F600\n\nb":    true,
		"Subject: \u00e9 \xe9\r\n\r\n":        false,
		"Subject: \xe9\r\nTo: \u00e9\r\n\r\n": false,
		"Subject: \u00e9\xc3\r\n\r\n":         false,
		"Subject: \xc3":                       false,
		"Subject: \xed\xa0\x80\r\n\r\n":       false, // a surrogate is no character
		long + "Subject: \u00e9\r\n":          false, // beyond the bound it is body
	} {
		sizes := []int{1, 2, 3, 4, 5, 7, len(text) + 1}
		if len(text) > 1000 {
			sizes = []int{bufferSize}
		}
		for _, size := range sizes {
			if got := scanned([]byte(text), size); got != want {
				t.Errorf("%.60q in pieces of %d: %v", text, size, got)
			}
		}
	}
}

// FuzzHeaderScan: the verdict does not depend on the pieces, and what is called
// international has a header in UTF-8 that is not ASCII.
func FuzzHeaderScan(f *testing.F) {
	f.Add([]byte("Subject: \u00e9\r\n\r\n\xff"), uint8(3))
	f.Add([]byte("a\r\n\r\n\u00e9"), uint8(1))
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		whole := scanned(text, len(text)+1)
		if got := scanned(text, int(size)+1); got != whole {
			t.Errorf("%q in pieces of %d: %v", text, int(size)+1, got)
		}
		header := text
		for i := 0; i < len(text); {
			n := bytes.IndexByte(text[i:], '\n') + 1
			if n == 0 {
				break
			}
			if i += n; len(bytes.Trim(text[i-n:i], "\r\n")) == 0 {
				header = text[:i]
				break
			}
		}
		ascii := bytes.IndexFunc(header, func(r rune) bool { return r >= 0x80 }) < 0
		if whole != (utf8.Valid(header) && !ascii) {
			t.Errorf("%q: %v", text, whole)
		}
	})
}
