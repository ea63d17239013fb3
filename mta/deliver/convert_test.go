package deliver

import (
	"bytes"
	"errors"
	"io"
	"mime/quotedprintable"
	"regexp"
	"strings"
	"testing"

	"postrider/mailstore/message"
	"postrider/mta"
)

// asContent is a message as an attempt has it.
func asContent(t testing.TB, text string) *content {
	t.Helper()
	m := new(content)
	m.open(New(Options{}), &mta.Delivery{Open: func() (mta.Content, error) { return memory(text), nil }})
	if m.err != nil {
		t.Fatal(m.err)
	}
	return m
}

func convertText(t testing.TB, text string) (string, error) {
	t.Helper()
	m := asContent(t, text)
	if err := m.converted(); err != nil {
		return "", err
	}
	var b strings.Builder
	if err := m.narrow.each(func(p []byte) error { b.Write(p); return nil }); err != nil {
		return "", err
	}
	if int64(b.Len()) != m.narrowLen {
		t.Errorf("%d octets, announced as %d", b.Len(), m.narrowLen)
	}
	return b.String(), nil
}

func lines(s ...string) string { return strings.Join(s, "\r\n") + "\r\n" }

func TestConvert(t *testing.T) {
	const head = "MIME-Version: 1.0"
	for _, tt := range []struct{ name, in, want string }{
		{"single", lines(head, "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", "Subject: x", "", "grün ", ".", "= "),
			lines(head, "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: quoted-printable", "Subject: x", "", "gr=C3=BCn=20", ".", "=3D=20")},
		{"no encoding", lines(head, "Content-Type: text/plain; charset=utf-8", "", "ü"),
			lines(head, "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: quoted-printable", "", "=C3=BC")},
		{"no MIME", lines("Subject: x", "", "ü"),
			lines("Subject: x", "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: quoted-printable", "", "=C3=BC")},
		{"latin", lines("Subject: x", "", "\xfc"),
			lines("Subject: x", "MIME-Version: 1.0", "Content-Type: text/plain; charset=unknown-8bit", "Content-Transfer-Encoding: quoted-printable", "", "=FC")},
		{"no header", lines("grün: ja", "ü"),
			lines("MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: quoted-printable", "", "gr=C3=BCn: ja", "=C3=BC")},
		{"encoding twice", lines(head, "Content-Type: text/plain", "Content-Transfer-Encoding:", " 8bit", "X: y", "content-transfer-encoding: binary", "", "ü"),
			lines(head, "Content-Type: text/plain", "Content-Transfer-Encoding: quoted-printable", "X: y", "", "=C3=BC")},
		{"no last line end", lines(head, "Content-Type: text/plain", "") + "ü",
			lines(head, "Content-Type: text/plain", "Content-Transfer-Encoding: quoted-printable", "") + "=C3=BC"},
		{"multipart", lines(head, "Content-Type: multipart/mixed; boundary=b", "Content-Transfer-Encoding: 8bit", "", "pre", "--b", "Content-Type: text/plain", "", "ascii",
			"--b", "Content-Type: application/x-thing", "Content-Transfer-Encoding: 8bit", "", "ü", "", "--b", "", "é", "--b--", "post"),
			lines(head, "Content-Type: multipart/mixed; boundary=b", "Content-Transfer-Encoding: 7bit", "", "pre", "--b", "Content-Type: text/plain", "", "ascii",
				"--b", "Content-Type: application/x-thing", "Content-Transfer-Encoding: quoted-printable", "", "=C3=BC", "", "--b", "Content-Transfer-Encoding: quoted-printable", "", "=C3=A9", "--b--", "post")},
		{"signed elsewhere", lines(head, "Content-Type: multipart/mixed; boundary=b", "", "--b", "Content-Type: multipart/signed; boundary=c", "Content-Transfer-Encoding: 8bit", "", "--c", "", "ascii", "--c--", "--b", "", "ü", "--b--"),
			lines(head, "Content-Type: multipart/mixed; boundary=b", "", "--b", "Content-Type: multipart/signed; boundary=c", "Content-Transfer-Encoding: 8bit", "", "--c", "", "ascii", "--c--", "--b", "Content-Transfer-Encoding: quoted-printable", "", "=C3=BC", "--b--")},
	} {
		got, err := convertText(t, tt.in)
		if err != nil || got != tt.want {
			t.Errorf("%s: %v\n got %q\nwant %q", tt.name, err, got, tt.want)
		}
	}
}

func TestConvertKeeps(t *testing.T) {
	for _, tt := range []struct{ why, in string }{
		{"a header has 8-bit text", lines("Subject: ü", "", "x")},
		{"a signed or encrypted part", lines("Content-Type: multipart/signed; boundary=b", "", "--b", "", "ü", "--b--")},
		{"a signed or encrypted part", lines("Content-Type: multipart/encrypted; boundary=b", "", "--b", "Content-Type: multipart/mixed; boundary=c", "", "--c", "", "ü", "--c--", "--b--")},
		{"an embedded message", lines("Content-Type: message/rfc822", "", "Subject: y", "", "ü")},
		{"an embedded message", lines("Content-Type: message/partial", "", "ü")},
		{"within its encoding \"base64\"", lines("Content-Type: text/plain", "Content-Transfer-Encoding: base64", "", "ü")},
		{"the text around its parts", lines("Content-Type: multipart/mixed; boundary=b", "", "ü", "--b", "", "x", "--b--")},
		{"the text around its parts", lines("Content-Type: multipart/mixed; boundary=b", "", "--b", "", "x", "--b--", "ü")},
		{"a part without a header", lines("Content-Type: multipart/mixed; boundary=b", "", "ü")},
		{"too many or too deep", deep(message.MaxDepth + 2)},
	} {
		_, err := convertText(t, tt.in)
		var keep *errKeep
		if !errors.As(err, &keep) || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%.60q: %v, want %s", tt.in, err, tt.why)
		}
	}
}

// deep is a multipart in a multipart in a multipart.
func deep(n int) string {
	var b strings.Builder
	for i := range n {
		s := strings.Repeat("b", i+1)
		b.WriteString(lines("Content-Type: multipart/mixed; boundary="+s, "", "--"+s))
	}
	return b.String() + lines("", "ü")
}

// A large message is converted in blocks.
func TestConvertLarge(t *testing.T) {
	text := strings.Repeat("grün, €\r\n", 100_000)
	got, err := convertText(t, "Subject: x\r\n\r\n"+text)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got, "charset=utf-8") {
		t.Errorf("%.200q", got)
	}
	if body := decoded(t, got)[0]; body != text {
		t.Errorf("%d octets came of %d", len(body), len(text))
	}
}

// decoded is the text of each single part, with CRLF.
func decoded(t testing.TB, text string) []string {
	t.Helper()
	x := message.Parse(strings.NewReader(text), int64(len(text)))
	var list []string
	var walk func(p *message.Part, number []int)
	walk = func(p *message.Part, number []int) {
		for i, c := range p.Children {
			walk(c, append(append([]int(nil), number...), i+1))
		}
		if len(p.Children) > 0 {
			return
		}
		if len(number) == 0 {
			number = []int{1}
		}
		r, ok := x.Binary(number)
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if ok && p.Message == nil {
			b = normalised(b)
		}
		list = append(list, string(b))
	}
	walk(x.Root, nil)
	return list
}

// What was converted is 7-bit, needs no second conversion, and its parts say
// what they said before.
func FuzzConvert(f *testing.F) {
	f.Add([]byte(lines("Content-Type: multipart/mixed; boundary=b", "Content-Transfer-Encoding: 8bit", "", "--b", "", "ü", "--b", "Content-Transfer-Encoding: base64", "", "eA==", "--b--")))
	f.Add([]byte("x: \r\n\xfc\r\n"))
	f.Add([]byte("\n\xfc \r\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		// The wire has CRLF alone, and so has what is compared.
		text := string(normalised(in))
		got, err := convertText(t, text)
		if err != nil {
			var keep *errKeep
			if !errors.As(err, &keep) {
				t.Fatal(err)
			}
			return
		}
		if isWide([]byte(got)) {
			t.Fatalf("%q became %q", text, got)
		}
		if !isWide([]byte(text)) {
			return
		}
		want, have := decoded(t, text), decoded(t, got)
		if len(want) != len(have) {
			t.Fatalf("%d parts became %d: %q became %q", len(want), len(have), text, got)
		}
		for i := range want {
			if want[i] != have[i] {
				t.Errorf("part %d: %q became %q in\n%q", i, want[i], have[i], got)
			}
		}
	})
}

func TestIsWide(t *testing.T) {
	for n := range 40 {
		b := bytes.Repeat([]byte{0x7f}, n)
		if isWide(b) {
			t.Errorf("%d ASCII octets are wide", n)
		}
		for i := range b {
			b[i] = 0x80
			if !isWide(b) {
				t.Errorf("octet %d of %d is not seen", i, n)
			}
			b[i] = 0
		}
	}
}

// Any text is read back by the library's decoder, in lines that are short and
// never look like a boundary.
func FuzzQuoter(f *testing.F) {
	f.Add([]byte("gr\xfcn \r\n--b\r\n\t\r \n="), 3)
	f.Add([]byte(strings.Repeat("x", 75)+"--b\r\n"), 100)
	f.Add([]byte(strings.Repeat("x", 74)+" \r\n"+strings.Repeat("x", 75)+"\r\n"), 100)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		var out bytes.Buffer
		q := newQuoter(func(p []byte) error { out.Write(p); return nil })
		for rest := in; len(rest) > 0; {
			n := min(max(cut, 1), len(rest))
			if _, err := q.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(out.Bytes())))
		want := regexp.MustCompile("\r\n|\r|\n").ReplaceAll(in, crlf)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%q is read as %q, %v", out.Bytes(), got, err)
		}
		before := ""
		for _, l := range strings.Split(out.String(), "\r\n") {
			if len(l) > maxQuoted+1 || strings.HasSuffix(l, " ") || strings.HasSuffix(l, "\t") || strings.HasSuffix(before, "=") && strings.HasPrefix(l, "-") {
				t.Errorf("a line %q", l)
			}
			before = l
		}
	})
}
