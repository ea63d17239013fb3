package server

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
)

// TestChangeKeys: keys of a zone are shown and changed, and the zone follows at
// once.
func TestChangeKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "zone")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(shortZone, "SERIAL", "1")), 0o600); err != nil {
			t.Fatal(err)
		}
		m := &memory{t: t}
		s := m.host("192.0.2.1", Options{Dir: dir}, Settings{Zones: []ZoneConfig{
			{Name: "example.test.", File: file, Sign: &dnssec.Policy{}}, {Name: "plain.test.", File: file},
		}})
		change := func(c KeyChange) string {
			t.Helper()
			lines, err := s.ChangeKeys("Example.test", c)
			if err != nil {
				t.Fatal(err)
			}
			return strings.Join(lines, "\n")
		}
		records := func(typ uint16) []miekg.RR {
			t.Helper()
			z, err := s.Zone("example.test.")
			if err != nil {
				t.Fatal(err)
			}
			return z.Find("example.test.", typ)
		}
		if text := change(KeyChange{}); strings.Count(text, "\n") != 1 || !strings.Contains(text, "KSK") || !strings.Contains(text, "ZSK") {
			t.Errorf("two keys: %s", text)
		}
		if text := change(KeyChange{Roll: dnssec.ZSK}); !strings.Contains(text, "published, signs from") || len(records(miekg.TypeDNSKEY)) != 3 {
			t.Errorf("rolled: %s\n%v", text, records(miekg.TypeDNSKEY))
		}
		change(KeyChange{Unsign: true})
		if cds := records(miekg.TypeCDS); len(cds) != 1 || !strings.HasSuffix(cds[0].String(), "0 0 0 00") {
			t.Errorf("CDS %v", cds)
		}
		change(KeyChange{Sign: true})
		if cds := records(miekg.TypeCDS); len(cds) != 0 {
			t.Errorf("CDS %v", cds)
		}
		time.Sleep(30 * 24 * time.Hour)
		synctest.Wait()
		if text := change(KeyChange{}); !strings.Contains(text, "Publish this record at the parent") || len(records(miekg.TypeDNSKEY)) != 2 {
			t.Errorf("a month later: %s\n%v", text, records(miekg.TypeDNSKEY))
		}
		for name, want := range map[string]error{"other.test": ErrNoZone, "plain.test.": errNotSigned} {
			if _, err := s.ChangeKeys(name, KeyChange{}); !errors.Is(err, want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, c := range []KeyChange{{Sign: true, Unsign: true}, {Roll: dnssec.CSK}} {
			if lines, err := s.ChangeKeys("example.test.", c); err == nil {
				t.Errorf("%+v: %v", c, lines)
			}
		}
	})
}

// TestLeftUnsigned: a zone that is no longer to be signed, though its parent says
// that it is, is complained about; one that was made unsigned first is not.
func TestLeftUnsigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "zone")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(shortZone, "SERIAL", "1")), 0o600); err != nil {
			t.Fatal(err)
		}
		var log logBuffer
		parent := fixed{"example.test. DS": "example.test. 300 IN DS 1 13 2 " + strings.Repeat("00", 32)}
		m := &memory{t: t}
		config := func(sign *dnssec.Policy) Settings {
			return Settings{Zones: []ZoneConfig{{Name: "example.test.", File: file, Sign: sign}}}
		}
		s := m.host("192.0.2.1", Options{Dir: dir, Recursor: parent, Log: slog.New(slog.NewTextHandler(&log, nil))}, config(nil))
		set := func(sign *dnssec.Policy) {
			t.Helper()
			if err := s.Configure(config(sign)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		complains := func() bool {
			t.Helper()
			lines, err := s.ChangeKeys("example.test.", KeyChange{})
			if err != nil {
				t.Fatal(err)
			}
			said := strings.Contains(log.take(), stillSigned)
			if advised := slices.Contains(lines, stillSigned+"."); advised != said {
				t.Errorf("logged %t, advised %t: %v", said, advised, lines)
			}
			return said
		}
		if _, err := s.ChangeKeys("example.test.", KeyChange{}); !errors.Is(err, errNotSigned) {
			t.Errorf("never signed: %v", err)
		}
		set(&dnssec.Policy{})
		if complains() {
			t.Error("a complaint about a signed zone")
		}
		set(nil)
		if !complains() {
			t.Error("no complaint about a zone left unsigned")
		}
		time.Sleep(signEvery)
		synctest.Wait()
		if !complains() {
			t.Error("no complaint six hours later")
		}
		if _, err := s.ChangeKeys("example.test.", KeyChange{Unsign: true}); !errors.Is(err, errNotSigned) {
			t.Errorf("unsign what is not signed: %v", err)
		}

		set(&dnssec.Policy{})
		parent["example.test. DS"] = "" // the parent has deleted it
		if _, err := s.ChangeKeys("example.test.", KeyChange{Unsign: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * 24 * time.Hour)
		synctest.Wait()
		set(nil)
		if _, err := s.ChangeKeys("example.test.", KeyChange{}); !errors.Is(err, errNotSigned) {
			t.Errorf("made unsigned: %v", err)
		}
	})
}

// logBuffer holds what was logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// take returns what was logged since the last call.
func (b *logBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.buf.Reset()
	return b.buf.String()
}
