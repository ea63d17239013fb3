package deliver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode"
	"unicode/utf8"
)

func readReply(src io.Reader) (*replyReader, func() (string, error)) {
	r := &replyReader{src: src}
	return r, func() (string, error) {
		rep, err := r.reply(nil)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%d|%s|%s", rep.Code, rep.Status, rep.Text), nil
	}
}

func TestReply(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		err      error
	}{
		{"250 ok\r\n", "250||ok", nil},
		{"250\r\n", "250||", nil},
		{"250 \r\n", "250||", nil},
		{"250-\r\n250\r\n", "250||\n", nil},
		{"250 2.1.5 ok\r\n", "250|2.1.5|ok", nil},
		{"550 5.1.1\r\n", "550|5.1.1|", nil},
		{"550-5.1.1 no\r\n550-5.1.1 such\r\n550 5.1.1 user\r\n", "550|5.1.1|no\nsuch\nuser", nil},
		{"550 4.1.1 of another class\r\n", "550||4.1.1 of another class", nil},
		{"250 2.1 ok\r\n", "250||2.1 ok", nil},
		{"250 2.1.5.6 ok\r\n", "250||2.1.5.6 ok", nil},
		{"250 2.1000.1 ok\r\n", "250||2.1000.1 ok", nil},
		{"250 2..1 ok\r\n", "250||2..1 ok", nil},
		{"354 3.0.0 go\r\n", "354||3.0.0 go", nil},
		{"250 a\x00b\x1b[31mc\xffd\te\r\n", "250||a?b?[31mc?d e", nil},
		{"250 \u00fc\u0085\u2028\r\n", "250||\u00fc??", nil},
		{"250 ok\n", "250||ok", nil},
		{"250 o\rk\r\n", "250||o?k", nil},
		{"", "", io.EOF},
		{"250 ok", "", io.EOF},
		{"250-ok\r\n", "", io.EOF},
		{"\r\n", "", errReplyForm},
		{"25 ok\r\n", "", errReplyForm},
		{"2500 ok\r\n", "", errReplyForm},
		{"25x ok\r\n", "", errReplyForm},
		{" 250 ok\r\n", "", errReplyForm},
		{"199 ok\r\n", "", errReplyForm},
		{"600 ok\r\n", "", errReplyForm},
		{"000 ok\r\n", "", errReplyForm},
		{"250-a\r\n251 b\r\n", "", errReplyForm},
		{"250_ok\r\n", "", errReplyForm},
		{"250 " + strings.Repeat("x", maxReplyLine-6) + "\r\n", "250||" + strings.Repeat("x", maxReplyLine-6), nil},
		{"250 " + strings.Repeat("x", maxReplyLine-5) + "\r\n", "", errReplyLine},
		{"250-" + strings.Repeat("x", maxReplyLine-6) + "\r\n250 yyyy\r\n", "250||" + strings.Repeat("x", maxReplyLine-6) + "\ny", nil},
		{strings.Repeat("250-\r\n", maxReplyLines-1) + "250 x\r\n", "250||" + strings.Repeat("\n", maxReplyLines-1) + "x", nil},
		{strings.Repeat("250-\r\n", maxReplyLines) + "250 x\r\n", "", errReplyLines},
	} {
		for name, src := range map[string]io.Reader{"whole": strings.NewReader(tt.in), "byte by byte": iotest.OneByteReader(strings.NewReader(tt.in))} {
			_, read := readReply(src)
			if got, err := read(); got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%.40q, %s: %.60q, %v; want %.60q, %v", tt.in, name, got, err, tt.want, tt.err)
			}
		}
	}
}

// However the octets are cut into reads, the same replies come; each is within
// the limits, and printing its code and text as one reply reads the same.
func FuzzReply(f *testing.F) {
	f.Add([]byte("220 hi\r\n250-a\r\n250 2.0.0 b\r\n"), 3)
	f.Add([]byte("250-\r\n250\n421 4.7.0 \x80\r\n"), 1)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		_, whole := readReply(bytes.NewReader(in))
		r := &replyReader{src: &chopped{in, max(cut, 1)}}
		for {
			want, wantErr := whole()
			rep, err := r.reply(nil)
			if err != nil || wantErr != nil {
				if fmt.Sprint(err) != fmt.Sprint(wantErr) {
					t.Fatalf("cut at %d: %v, whole: %v", cut, err, wantErr)
				}
				return
			}
			if got := fmt.Sprintf("%d|%s|%s", rep.Code, rep.Status, rep.Text); got != want {
				t.Fatalf("cut at %d: %q, whole: %q", cut, got, want)
			}
			if rep.Code < 200 || rep.Code > 599 || len(rep.Text) > maxReplyText || !utf8.ValidString(rep.Text) {
				t.Fatalf("%d %q", rep.Code, rep.Text)
			}
			if strings.ContainsFunc(rep.Text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) {
				t.Fatalf("a control character in %q", rep.Text)
			}
			lines := strings.Split(rep.Text, "\n")
			var b strings.Builder
			for i, l := range lines {
				sep := "-"
				if i == len(lines)-1 {
					sep = " "
				}
				if rep.Status != "" {
					l = rep.Status + " " + l
				}
				fmt.Fprintf(&b, "%d%s%s\r\n", rep.Code, sep, l)
			}
			_, again := readReply(strings.NewReader(b.String()))
			if got, err := again(); rep.Status != "" && len(rep.Text) < 1000 && (got != want || err != nil) {
				t.Fatalf("%q reads as %q, %v; was %q", b.String(), got, err, want)
			}
		}
	})
}

// chopped gives its octets n at a time.
type chopped struct {
	b []byte
	n int
}

func (c *chopped) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.b[:min(c.n, len(c.b))])
	c.b = c.b[n:]
	return n, nil
}

// A list of what EHLO offers has no bound of its own but that of the reply, and
// nothing in it may lead astray.
func FuzzCaps(f *testing.F) {
	f.Add("SIZE 9223372036854775808")
	f.Add("AUTH=PLAIN LOGIN")
	f.Add("LIMITS RCPTMAX=1000000 MAILMAX=-1")
	f.Fuzz(func(t *testing.T, line string) {
		var c caps
		for n := range 4 {
			c.add(n, []byte(line))
		}
		if c.size < 0 || c.rcptMax < 0 || c.mailMax < 0 || c.rcptMax > 999999 || c.mailMax > 999999 || len(c.auth) > maxAuth {
			t.Errorf("%q: %+v", line, c)
		}
	})
}
