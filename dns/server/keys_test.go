package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
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
