package sqlite

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"postrider/internal/clock"
	"postrider/mailstore"
)

// mails makes messages as they come: a head, and words from a vocabulary of
// 3,000 or an attachment of random octets in base64. size is of each; 0 draws
// kinds and sizes as in the bodies of people: 60 % plain text, 30 % text with
// HTML, 10 % attachments of up to 300 KiB.
func mails(n, size int, attached bool) [][]byte {
	r := rand.New(rand.NewPCG(3, uint64(size)))
	words := make([]string, 3000)
	for i := range words {
		for range 1 + r.IntN(4) {
			words[i] += string("bcdfghjklmnprstvw"[r.IntN(17)]) + string("aeiou"[r.IntN(5)])
		}
	}
	text := func(b *bytes.Buffer, upTo int) {
		for b.Len() < upTo {
			for range 9 {
				b.WriteString(words[r.IntN(len(words))])
				b.WriteByte(' ')
			}
			b.WriteString("\r\n")
		}
	}
	list := make([][]byte, n)
	for i := range list {
		var b bytes.Buffer
		fmt.Fprintf(&b, "Received: from mx.sender.test (mx.sender.test [192.0.2.%d])\r\n\tby mail.bench.test with ESMTPS id %016x;\r\n\tMon, 3 Jan 2022 08:00:%02d +0000\r\n"+
			"Message-ID: <%d.3@sender.test>\r\nDate: Mon, 3 Jan 2022 08:00:00 +0000\r\nFrom: %s <%s@sender%d.test>\r\nTo: <u1@bench.test>\r\nSubject: %s %s\r\nMIME-Version: 1.0\r\n",
			1+r.IntN(250), r.Uint64(), i%60, i, words[r.IntN(400)], words[r.IntN(300)], r.IntN(40), words[r.IntN(3000)], words[r.IntN(3000)])
		kind, length := r.IntN(100), size
		if size > 0 {
			kind = 0
			if attached {
				kind = 99
			}
		}
		switch {
		case kind < 60:
			b.WriteString("Content-Type: text/plain; charset=us-ascii\r\n\r\n")
			text(&b, max(size, 1000+r.IntN(2400)))
		case kind < 90:
			b.WriteString("Content-Type: multipart/alternative; boundary=\"b\"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n")
			text(&b, 1000+r.IntN(2400))
			b.WriteString("--b\r\nContent-Type: text/html\r\n\r\n<html><body><p>")
			text(&b, b.Len()+2000+r.IntN(9000))
			b.WriteString("</p></body></html>\r\n--b--\r\n")
		default:
			if size == 0 {
				if length = 10<<10 + r.IntN(50<<10); r.IntN(10) == 0 {
					length = 130<<10 + r.IntN(260<<10)
				}
			}
			b.WriteString("Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n")
			for b.Len() < length {
				var raw [57]byte
				for j := range raw {
					raw[j] = byte(r.Uint32())
				}
				b.WriteString(base64.StdEncoding.EncodeToString(raw[:]) + "\r\n")
			}
		}
		if size > 0 {
			b.Truncate(size - 2)
			b.WriteString("\r\n")
		}
		list[i] = b.Bytes()
	}
	return list
}

// kinds of mails that bodies are measured with.
func kinds() map[string][][]byte {
	m := map[string][][]byte{"mixed": mails(500, 0, false)}
	for size, name := range map[int]string{1 << 10: "1KiB", 4 << 10: "4KiB", 32 << 10: "32KiB", 64 << 10: "64KiB", 128 << 10: "128KiB", 1 << 20: "1MiB"} {
		m["text"+name] = mails(min(100, 8<<20/size), size, false)
		m["base64"+name] = mails(min(100, 8<<20/size), size, true)
	}
	return m
}

// stored is a store for a benchmark of bodies, with one mailbox.
func stored(b *testing.B, compress bool) (s *mailstore.Store, box mailstore.MailboxID, dir string) {
	b.Helper()
	dir = filepath.Join(b.TempDir(), "data")
	s = openWith(b, dir, mailstore.Options{Compress: compress})
	return s, makeBoxes(b, s, 1)[0], dir
}

// onDisk is the size of a data directory without what is kept in reserve.
func onDisk(b *testing.B, dir string) (size int64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "reserve" {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += (info.Size() + 4095) / 4096 * 4096
		}
		return err
	})
	if err != nil {
		b.Error(err)
	}
	return size
}

// BenchmarkBodies delivers mails of each kind, 16 at once, reads them, and
// closes the store, so that what checkpoints cost is counted too: octets on disk
// for each of the mails', and the processor's time for reading one.
func BenchmarkBodies(b *testing.B) {
	for kind, list := range kinds() {
		for _, compress := range []bool{false, true} {
			b.Run(strings.Join([]string{kind, map[bool]string{false: "plain", true: "zstd"}[compress]}, "/"), func(b *testing.B) {
				benchBodies(b, list, compress)
			})
		}
	}
}

func benchBodies(b *testing.B, list [][]byte, compress bool) {
	s, box, dir := stored(b, compress)
	next := make(chan []byte, 64)
	go func() {
		defer close(next)
		for i := range b.N {
			next <- list[i%len(list)]
		}
	}()
	start := clock.Processor()
	octets, files := 0, 0
	for i := range b.N {
		octets += len(list[i%len(list)])
		files += (len(list[i%len(list)]) + 4095) / 4096 * 4096 // as a file of its own takes
	}
	measure(b, 16, func(int) {
		m := body(b, s, <-next)
		update(b, s, func(tx *mailstore.Tx) error {
			_, err := tx.Append(box, mailstore.NewMessage{Body: m})
			return err
		})
		m.Release()
	})
	read := clock.Processor()
	readAll(b, s, box, b.N)
	b.ReportMetric(float64(clock.Processor()-read)/float64(b.N), "cpu-ns/read")
	start += clock.Processor() - read
	if err := s.Close(); err != nil {
		b.Error(err)
	}
	b.ReportMetric(float64(clock.Processor()-start)/float64(b.N), "cpu-ns/op") // with the last checkpoint
	b.ReportMetric(float64(onDisk(b, dir))/float64(octets), "disk/octet")
	b.ReportMetric(float64(files)/float64(octets), "maildir/octet")
}

// readAll reads the first n messages.
func readAll(b *testing.B, s *mailstore.Store, box mailstore.MailboxID, n int) {
	b.StopTimer()
	buf := make([]byte, 1<<20)
	for i := range n {
		c, err := s.OpenUID(context.Background(), box, mailstore.UID(i+1))
		if err != nil {
			b.Fatal(err)
		}
		if n, err := c.ReadAt(buf[:min(int(c.Size()), len(buf))], 0); n == 0 {
			b.Fatal(err)
		}
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkZstd compresses and reads mails, in frames of 64 KiB, by the ways that
// the library has: its levels with literals always entropy coded, the lowest as it
// comes, and with a dictionary of six other mails.
func BenchmarkZstd(b *testing.B) {
	var dictionary []byte
	for _, m := range mails(6, 1200, false) {
		dictionary = append(dictionary, m...)
	}
	all := zstd.WithAllLitEntropyCompression(true)
	for kind, list := range kinds() {
		for name, how := range map[string][]zstd.EOption{
			"fastest": {all, zstd.WithEncoderLevel(zstd.SpeedFastest)},
			"default": {all, zstd.WithEncoderLevel(zstd.SpeedDefault)},
			"better":  {all, zstd.WithEncoderLevel(zstd.SpeedBetterCompression)},
			"as-is":   {zstd.WithEncoderLevel(zstd.SpeedFastest)},
			"dict":    {all, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderDictRaw(1, dictionary)},
		} {
			b.Run(kind+"/"+name, func(b *testing.B) { benchZstd(b, list, how, dictionary) })
		}
	}
}

func benchZstd(b *testing.B, list [][]byte, how []zstd.EOption, dictionary []byte) {
	how = append(how, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithWindowSize(mailstore.ChunkSize))
	enc, err := zstd.NewWriter(nil, how...)
	if err != nil {
		b.Fatal(err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderDictRaw(1, dictionary))
	if err != nil {
		b.Fatal(err)
	}
	var in, out time.Duration
	var before, after int
	var kept, got []byte
	for i := range b.N {
		for chunk := range slices.Chunk(list[i%len(list)], mailstore.ChunkSize) {
			start := clock.Processor()
			kept = enc.EncodeAll(chunk, kept[:0])
			middle := clock.Processor()
			if got, err = dec.DecodeAll(kept, got[:0]); err != nil || !bytes.Equal(got, chunk) {
				b.Fatal(err)
			}
			out += clock.Processor() - middle
			in += middle - start
			before += len(chunk)
			after += len(kept)
		}
	}
	b.ReportMetric(float64(in)/float64(b.N), "cpu-ns/in")
	b.ReportMetric(float64(out)/float64(b.N), "cpu-ns/out")
	b.ReportMetric(float64(after)/float64(before), "size/octet")
}
