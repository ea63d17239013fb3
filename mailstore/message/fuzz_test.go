package message

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"strings"
	"testing"
	"testing/iotest"
)

// FuzzDecode: what was encoded by the book comes back, nothing grows, and it
// makes no difference in which pieces the octets come.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"hello\r\n= \t\r\n=3D\x00\xff", "==4=\r=\r\n=4=\r =\n", "a \r\n\r\r\n=3=3D=\t="} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, tr := range []func() transfer{newBase64, newQuoted} {
			out, err := io.ReadAll(newDecoder(bytes.NewReader(in), tr()))
			if err != nil || len(out) > len(in) {
				t.Errorf("%q = %q, %v", in, out, err)
			}
			slow, err := io.ReadAll(newDecoder(iotest.OneByteReader(bytes.NewReader(in)), tr()))
			if err != nil || !bytes.Equal(out, slow) {
				t.Errorf("%q = %q, octet by octet %q, %v", in, out, slow, err)
			}
		}
		b64 := base64.StdEncoding.EncodeToString(in)
		if out, _ := io.ReadAll(newDecoder(strings.NewReader(b64), &base64Decoder{})); !bytes.Equal(out, in) {
			t.Errorf("base64 of %q = %q", in, out)
		}
		var qp bytes.Buffer
		w := quotedprintable.NewWriter(&qp)
		w.Binary = true
		w.Write(in)
		w.Close()
		if out, _ := io.ReadAll(newDecoder(&qp, &quotedPrintable{})); !bytes.Equal(out, in) {
			t.Errorf("quoted-printable of %q = %q", in, out)
		}
	})
}

// FuzzMediaType: decoded parameters are no longer than the field.
func FuzzMediaType(f *testing.F) {
	for _, s := range []string{`text/plain; charset=utf-8`, `a/b; name*0*=utf-8''%C3%BC; name*1*=%62; name*3=z`, `(c) text / plain ; a = "b\"c"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		typ, sub, ps := parseMediaType(in, nil)
		if (typ == "") != (sub == "") || typ != strings.ToLower(typ) || len(ps) > maxParams {
			t.Errorf("%q = %q/%q %v", in, typ, sub, ps)
		}
		for _, p := range ps {
			base, _, _ := strings.Cut(p.name, "*")
			if v := ps.get(base); len(v) > len(in) {
				t.Errorf("%q: %s = %q", in, base, v)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	msg := []byte("From: a@example.org\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n" +
		strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 1<<14) + "--x--\r\n")
	b.SetBytes(int64(len(msg)))
	for b.Loop() {
		Parse(bytes.NewReader(msg), int64(len(msg)))
	}
}
