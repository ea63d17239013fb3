package message

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"postrider/internal/clock"
)

// typical is a letter of about 4 KiB with two texts and a small attachment, as
// it comes with three hops of trace fields.
func typical() []byte {
	var b strings.Builder
	for range 3 {
		b.WriteString("Received: from mx.example.org (mx.example.org [192.0.2.7])\r\n\tby mail.example.net with ESMTPS id 7f3a9c2b\r\n\tfor <bob@example.net>; Fri, 27 Nov 2026 03:40:31 +0000\r\n")
	}
	b.WriteString("From: Alice Example <alice@example.org>\r\n" +
		"To: \"Bob, the builder\" <bob@example.net>, carol@example.com\r\n" +
		"Cc: Dave <dave@example.com>\r\n" +
		"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe_aus_der_K=C3=BCche?=\r\n" +
		"Date: Fri, 27 Nov 2026 04:40:31 +0100\r\n" +
		"Message-ID: <20261127034031.7f3a9c2b@example.org>\r\n" +
		"In-Reply-To: <20261126034031.11111111@example.net>\r\n" +
		"References: <20261125034031.00000000@example.org>\r\n <20261126034031.11111111@example.net>\r\n" +
		"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=_outer\"\r\n\r\n" +
		"--=_outer\r\nContent-Type: multipart/alternative; boundary=\"=_inner\"\r\n\r\n" +
		"--=_inner\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	b.WriteString(strings.Repeat("The quick brown fox jumps over the lazy dog, =C3=BCber and =C3=BCber.\r\n", 14))
	b.WriteString("--=_inner\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n")
	b.WriteString(strings.Repeat("<p>The quick brown fox jumps over the lazy dog.</p>\r\n", 16))
	b.WriteString("--=_inner--\r\n--=_outer\r\nContent-Type: image/png; name=\"dot.png\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"dot.png\"\r\n\r\n")
	b.WriteString(strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 8))
	b.WriteString("--=_outer--\r\n")
	return []byte(b.String())
}

func BenchmarkDescribe(b *testing.B) {
	msg := typical()
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	var d Describer
	var record []byte
	start := clock.Processor()
	for b.Loop() {
		s, err := d.Describe(bytes.NewReader(msg), int64(len(msg)))
		if err != nil {
			b.Fatal(err)
		}
		record = s.Append(record[:0])
	}
	b.ReportMetric(float64(clock.Processor()-start)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(len(record)), "record-B")
}

func BenchmarkReadStored(b *testing.B) {
	msg := typical()
	var d Describer
	s, _ := d.Describe(bytes.NewReader(msg), int64(len(msg)))
	record := s.Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadStored(record); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStoredIndex(b *testing.B) {
	msg := typical()
	var d Describer
	s, _ := d.Describe(bytes.NewReader(msg), int64(len(msg)))
	r := bytes.NewReader(msg)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Index(r, 0, int64(len(msg))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseTypical(b *testing.B) {
	msg := typical()
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		x := Parse(bytes.NewReader(msg), int64(len(msg)))
		x.Envelope()
		x.BodyStructure()
	}
}

func BenchmarkDecodeEscapes(b *testing.B) {
	for _, unit := range []string{"=\r", "==4", "=C3=BC", "plain text\r\n"} {
		text := strings.Repeat(unit, 1<<20/len(unit))
		b.Run(unit, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := io.Copy(io.Discard, newDecoder(strings.NewReader(text), &quotedPrintable{})); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
