package transfer

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postrider/mailstore"
)

// FuzzMaildirName: a name that was read is written so that it reads the same.
func FuzzMaildirName(f *testing.F) {
	for _, s := range []string{"1.M2P3.host,S=4,W=5:2,DFPRSTabz", "x:2,", "y", "z:1,exp", "a,exact:2,Sa,more", "b:2,Sqqé"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := parseMaildirName(s)
		again := parseMaildirName(n.String())
		if diff := cmp.Diff(n, again, cmp.AllowUnexported(maildirName{})); diff != "" {
			t.Errorf("%q (-first +again):\n%s", s, diff)
		}
	})
}

// FuzzLevel: a level of a name is written without a full stop or slash, in
// ASCII, and reads the same.
func FuzzLevel(f *testing.F) {
	for _, s := range []string{"Sent", "a & b", "Entwürfe", "a.b", "日本語", "\U0001F600", "&", "-", "&-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		decodeLevel(s)
		escaped := escapeLevel(s)
		if unescapeLevel(escaped) != s || strings.HasPrefix(escaped, ".") || strings.HasSuffix(escaped, mboxSuffix) {
			t.Errorf("%q as a file: %q", s, escaped)
		}
		s = mailboxName([]string{s})
		code := encodeLevel(s)
		if strings.ContainsAny(code, "./") || strings.ContainsFunc(code, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q is written %q", s, code)
		}
		if got := decodeLevel(code); got != s {
			t.Errorf("%q is written %q and read %q", s, code, got)
		}
	})
}

func TestCompareNatural(t *testing.T) {
	want := []string{"9.M1", "10.M1", "10.M2P9", "10.M2P010", "10.M10", "a", "b"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, compareNatural)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestMaildirForeign: a Maildir as Dovecot writes it, and what does not belong.
func TestMaildirForeign(t *testing.T) {
	dir := t.TempDir()
	day := time.Date(2010, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, text := range map[string]string{
		"cur/10.M2P1.h,S=6,W=7:2,FSac":       "a: b\n\n",
		"cur/9.M10P1.h:2,PRTb":               "a: b\r\n\r\n",
		"new/11.M1P1.h":                      "n: w\n",
		"tmp/12.M1P1.h":                      "unfinished",
		"cur/.nfs01":                         "x",
		"dovecot-keywords":                   "0 $Junk\n2 work\n",
		".Sent/cur/1.x:2,S":                  "s: t\n",
		".Archive.2010/cur/1.x:2,":           "s: t\n",
		".Entw&APw-rfe.a&AC4-b/new/1.x":      "d: r\n",
		".Trash/maildirfolder":               "",
		"dovecot-uidlist":                    "3 V1 N1\n",
		".Archive.2010/cur/dir/not-a-letter": "x",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, day, day); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "cur/13.link:2,S")); err != nil {
		t.Fatal(err)
	}
	l := newLab(t)
	s := l.mustImport(open(t, "maildir", dir), ImportOptions{Account: "a@x"})
	if s.Messages != 6 || s.Failed != 1 || s.Dropped != 1 || !strings.Contains(s.Skipped[0].Where, "13.link") {
		t.Errorf("%+v", s)
	}
	want := map[string][]sample{
		"INBOX": {
			{"a: b\r\n\r\n", mailstore.Flags{System: mailstore.Answered | mailstore.Deleted, Keywords: []string{"$Forwarded"}}, day},
			{"a: b\r\n\r\n", mailstore.Flags{System: mailstore.Seen | mailstore.Flagged, Keywords: []string{"$Junk", "work"}}, day},
			{"n: w\r\n", mailstore.Flags{}, day},
		},
		"Sent":         {{"s: t\r\n", mailstore.Flags{System: mailstore.Seen}, day}},
		"Archive":      nil,
		"Archive/2010": {{"s: t\r\n", mailstore.Flags{}, day}},
		"Entwürfe":     nil,
		"Entwürfe/a.b": {{"d: r\r\n", mailstore.Flags{}, day}},
	}
	if diff := cmp.Diff(want, l.mail("a@x")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
