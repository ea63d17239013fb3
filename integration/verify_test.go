package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sql changes the database of a server that does not run.
func (s *server) sql(text string) { s.t.Helper(); s.sqlIn("postrider.db", text) }

func (s *server) sqlIn(file, text string) {
	s.t.Helper()
	succeed(s.t, nil, "", "python3", "-c", "import sqlite3, sys\nsqlite3.connect(sys.argv[1]).executescript('BEGIN;' + sys.argv[2] + ';COMMIT')",
		filepath.Join(s.dir, "data", file), text)
}

// bodyFiles are the large bodies of a data directory.
func bodyFiles(t *testing.T, data string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(data, "bodies", "??", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no body files in %s: %v", data, err)
	}
	return files
}

// fill gives bob and alice mail of both kinds, flags, a copy and something that
// was expunged.
func (s *server) fill(n int) {
	s.t.Helper()
	dir := s.t.TempDir()
	s.must("import", writeFile(s.t, filepath.Join(dir, "small"), mboxMessages(n, 500)), "--to", "bob@"+hostname)
	s.must("import", writeFile(s.t, filepath.Join(dir, "large"), mboxMessages(3, 100000)), "--to", "bob@"+hostname, "--mailbox", "Archive")
	s.must("import", writeFile(s.t, filepath.Join(dir, "alice"), mboxMessages(4, 700)), "--to", "alice@"+hostname)
}

// TestVerify: each kind of damage is found, what is derived is mended, and what
// is lost is named.
func TestVerify(t *testing.T) {
	s := prepare(t, options{})
	s.init()
	s.fill(20)
	if out := s.must("verify"); !strings.HasPrefix(out, "ok: 27 messages, 27 bodies") {
		t.Fatalf("a sound store: %q", out)
	}
	for _, c := range []struct{ name, sql, kind string }{
		{"counter of a mailbox", "UPDATE mailbox SET messages = messages + 3, unseen = 1, size = 5 WHERE name = 'INBOX'", "mailbox"},
		{"UIDNEXT", "UPDATE mailbox SET uidnext = 2 WHERE name = 'Archive'", "mailbox"},
		{"mod-sequence", "UPDATE mailbox SET modseq = 1 WHERE name = 'Archive'", "mailbox"},
		{"usage", "UPDATE usage SET messages = 1", "usage"},
		{"too few references", "UPDATE body_share SET extra = 0; DELETE FROM body_share; INSERT INTO body_share SELECT min(id), 4 FROM body", "references"},
		{"body that nothing refers to", "INSERT INTO body SELECT 900, size, hash, sums, NULL, data, coding FROM body WHERE data IS NOT NULL LIMIT 1", "references"},
		{"queue length", "INSERT INTO counter VALUES('queue length', 7) ON CONFLICT DO UPDATE SET value = 7", "queue"},
		{"next id", "UPDATE counter SET value = 3 WHERE name = 'body'", "counter"},
		{"record", "UPDATE content SET record = x'0102' WHERE body = (SELECT min(body) FROM content)", "record"},
		{"checksums", "UPDATE body SET sums = x'01020304' WHERE id = (SELECT min(id) FROM body)", "checksums"},
		{"block's row", "UPDATE block SET unseen = unseen + 1, size = 4", "block"},
		{"record without a body", "INSERT INTO content VALUES(100000, x'01')", "database"},
		{"annotation without an account", "INSERT INTO annotation VALUES(77, 0, '/private/x', 77, 'x')", "database"},
		{"annotation without a mailbox", "INSERT INTO annotation VALUES(1, 77, '/private/x', 1, 'x')", "database"},
		{"rights without a mailbox", "INSERT INTO acl VALUES(77, 'anyone', 'lr')", "database"},
		{"key of URLs without a mailbox", "INSERT INTO urlkey VALUES(1, 77, x'01')", "database"},
		{"last UIDVALIDITY", "UPDATE counter SET value = 5 WHERE name = 'uidvalidity'", "counter"},
		{"record of expunges", "INSERT INTO expunge SELECT id, modseq, 9, 2 FROM mailbox WHERE name = 'INBOX'", "mailbox"},
		{"UIDNEXT below a record", "INSERT INTO expunge SELECT id, modseq, 800, 900 FROM mailbox WHERE name = 'Archive'", "mailbox"},
		{"name that is not clean", "UPDATE mailbox SET name = 'inbox' WHERE name = 'INBOX'", "mailbox"},
		{"name that cannot be", "UPDATE mailbox SET name = 'Archive//2020' WHERE name = 'Archive' AND messages > 0", "mailbox"},
		{"expunges without a mailbox", "INSERT INTO expunge VALUES(77, 1, 1, 1)", "database"},
	} {
		s.sql(c.sql)
		out, stderr, code := s.run("", "verify", "--json")
		var v struct {
			Verdict  string
			Findings []struct {
				Kind string
				Lost bool
			}
		}
		if err := json.Unmarshal([]byte(out), &v); err != nil || code != 1 || v.Verdict != "damaged" || len(v.Findings) == 0 {
			t.Errorf("%s: exit %d, %v\n%s%s", c.name, code, err, out, stderr)
			continue
		}
		for _, f := range v.Findings {
			if f.Lost || f.Kind != c.kind {
				t.Errorf("%s: found %+v", c.name, f)
			}
		}
		if out := s.must("verify", "--repair"); !strings.HasPrefix(out, "ok: 27 messages") || !strings.Contains(out, " repaired") {
			t.Errorf("%s: --repair says %q", c.name, out)
		}
		if out := s.must("verify"); strings.Contains(out, ";") || !strings.HasPrefix(out, "ok: 27 messages, 27 bodies") {
			t.Errorf("%s: after --repair %q", c.name, out)
		}
	}
}

// TestVerifyBlock: damage to what says which messages a mailbox has is told, hides
// nothing else that is wrong, and does not keep the rest from being exported and
// indexed, nor mail from arriving.
func TestVerifyBlock(t *testing.T) {
	s := prepare(t, options{expected: "level=ERROR"})
	s.init()
	s.fill(20)
	s.must("reindex")
	s.sql("UPDATE block_data SET data = x'00' WHERE id = (SELECT max(b.id) FROM block b, mailbox m WHERE b.id >> 32 = m.id AND m.name = 'INBOX' AND m.messages = 20)")
	s.sql("UPDATE usage SET messages = messages + 1 WHERE messages = 4")
	s.start()
	out, _, code := s.run("", "verify", "--repair")
	if code != 1 || !strings.HasPrefix(out, "damaged: 7 messages, 27 bodies") || !strings.Contains(out, "LOST: block: bob@"+hostname+" INBOX: UID 1: 20 messages, UID 1 to 20, cannot be read") ||
		!strings.Contains(out, "repaired: usage: alice@") {
		t.Errorf("verify: exit %d\n%s", code, out)
	}
	conn, err := smtp(s.addr["smtp"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.mail("alice@crepes.fr", []string{"bob@" + hostname}, "Subject: behind\r\n\r\nit\r\n"); err != nil {
		t.Errorf("mail for the mailbox: %v", err)
	}
	if out := s.must("reindex"); !strings.HasPrefix(out, "8 messages indexed") {
		t.Errorf("reindex says %q", out)
	}
	dest := filepath.Join(t.TempDir(), "out")
	out, stderr, code := s.run("", "export", "bob@"+hostname, dest, "--format", "mbox")
	if code != 1 || !strings.HasPrefix(out, "exported 4 messages") || !strings.Contains(stderr, "skipped INBOX: UID 1 to 20: they are damaged") {
		t.Errorf("export: exit %d, %s%s", code, out, stderr)
	}
}

// TestVerifySearch: a damaged search index is found, beside a server and without
// one, and made anew.
func TestVerifySearch(t *testing.T) {
	s := newServer(t, options{})
	s.fill(20)
	s.must("reindex")
	for _, running := range []bool{true, false} {
		if !running {
			s.stop()
		}
		if out := s.must("verify"); !strings.HasPrefix(out, "ok: 27 messages") || strings.Contains(out, ";") {
			t.Errorf("running %v: a sound index: %q", running, out)
		}
		s.sqlIn("search.db", "UPDATE place SET data = substr(data, 1, length(data) - 1) || x'00' WHERE mailbox = 1; UPDATE account SET live = live + 1 WHERE id = 1")
		out, _, code := s.run("", "verify")
		if code != 1 || !strings.HasPrefix(out, "damaged: 27 messages") || strings.Count(out, "search: the index for SEARCH: ") != 2 || strings.Count(out, ", of alice@"+hostname) != 2 {
			t.Errorf("running %v: exit %d, %q", running, code, out)
		}
		if out := s.must("verify", "--repair"); !strings.HasPrefix(out, "ok: 27 messages") || !strings.Contains(out, "2 repaired") {
			t.Errorf("running %v: --repair says %q", running, out)
		}
		if out := s.must("verify"); !strings.HasPrefix(out, "ok: 27 messages") || strings.Contains(out, ";") {
			t.Errorf("running %v: after --repair: %q", running, out)
		}
		if running {
			s.must("reindex", "alice@"+hostname)
		}
	}
}

// TestVerifyLost: damaged texts are named by mailbox, UID and subject, also by a
// server that runs, and nothing is thrown away.
func TestVerifyLost(t *testing.T) {
	s := prepare(t, options{expected: "level=ERROR"})
	s.init()
	s.fill(8)
	s.sql("UPDATE body SET data = CAST(replace(CAST(data AS TEXT), 'From here', 'Frem here') AS BLOB) WHERE id = (SELECT min(id) FROM body)")
	files := bodyFiles(t, filepath.Join(s.dir, "data"))
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 4
	if err := os.WriteFile(files[0], text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(files[1]); err != nil {
		t.Fatal(err)
	}
	s.sql("DELETE FROM body WHERE id = (SELECT max(id) FROM body)")
	s.start()
	for _, args := range [][]string{{"verify"}, {"verify", "--repair"}} {
		out, _, code := s.run("", args...)
		if code != 1 || !strings.HasPrefix(out, "damaged: 15 messages, 14 bodies") || strings.Count(out, "LOST: body: ") != 4 {
			t.Errorf("exit %d\n%s", code, out)
		}
		for _, want := range []string{
			"bob@hamburger.edu INBOX: UID 1: its body has other octets than were stored (subject \"moving 0\")",
			"bob@hamburger.edu Archive: UID", "the file of its body is gone", "alice@hamburger.edu INBOX: UID 4: its body has no row",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("nothing of %q in\n%s", want, out)
			}
		}
	}
	c, err := imap(s.addr["imap"], "alice")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, command := range []string{"SELECT INBOX", `STORE 4 +FLAGS.SILENT (\Deleted)`, "EXPUNGE"} {
		if _, err := c.imapAsk(command); err != nil {
			t.Errorf("%s: %v", command, err)
		}
	}
	if n := fmt.Sprint(len(bodyFiles(t, filepath.Join(s.dir, "data")))); n != "2" {
		t.Errorf("%s body files are left", n)
	}
}
