package sqlite

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"postrider/mailstore"
)

// TestShape: a database without all that its version should have is refused with
// words that name what is missing, and one that has more is not.
func TestShape(t *testing.T) {
	for script, want := range map[string]string{
		"DROP TABLE held":                         "lacks table held;",
		"ALTER TABLE body DROP COLUMN coding":     "lacks column body.coding;",
		"ALTER TABLE usage RENAME messages TO m":  "lacks column usage.messages;",
		"DROP INDEX queue_due; DROP TABLE thread": "lacks index queue_due, table thread;",
		"DROP TABLE usage; CREATE TABLE usage(account INTEGER PRIMARY KEY, storage TEXT NOT NULL, messages INTEGER NOT NULL)": "lacks column usage.storage as it should be;",
		"CREATE TABLE more(x); CREATE INDEX more_x ON more(x); ALTER TABLE usage ADD COLUMN more":                             "",
	} {
		dir := filepath.Join(t.TempDir(), "data")
		if err := open(t, dir).Close(); err != nil {
			t.Fatal(err)
		}
		c, err := connect(filepath.Join(dir, "postrider.db"), role{cache: readerCache, write: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.script(script), c.close()); err != nil {
			t.Fatal(err)
		}
		e, err := Open(context.Background(), dir, Options{})
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", script, err)
			} else if err := e.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		if !errors.Is(err, mailstore.ErrDamaged) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "postrider restore") {
			t.Errorf("%s: %v", script, err)
		}
	}
}

// BenchmarkShape is what the comparison adds to an open.
func BenchmarkShape(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "data")
	e, err := Open(context.Background(), dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	for b.Loop() {
		if err := hasShape(e.writer, dir, Version); err != nil {
			b.Fatal(err)
		}
	}
}
