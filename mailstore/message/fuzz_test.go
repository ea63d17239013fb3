package message

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"strings"
	"testing"
)

// FuzzDecode: what was encoded by the book comes back, and nothing grows.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("hello\r\n= \t\r\n=3D\x00\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, tr := range []transfer{&base64Decoder{}, &quotedPrintable{}} {
			out, err := io.ReadAll(newDecoder(bytes.NewReader(in), tr))
			if err != nil || len(out) > len(in) {
				t.Errorf("%q = %q, %v", in, out, err)
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
