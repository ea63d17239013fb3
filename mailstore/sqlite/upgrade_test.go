package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"postrider/mailstore"
)

// oldData is a private copy of the data directory of version 1.
func oldData(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	copyPrivately(t, "testdata/v1", dir)
	return dir
}

// tree is every file of a directory but the lock, by path.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() == "lock" {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		if d.IsDir() {
			files[rel] = "directory"
			return nil
		}
		data, err := os.ReadFile(path)
		files[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func sameTree(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	for path, text := range want {
		if other, there := got[path]; !there || other != text {
			t.Errorf("%s: %s changed (there: %v)", what, path, there)
		}
	}
	for path := range got {
		if _, there := want[path]; !there {
			t.Errorf("%s: %s came", what, path)
		}
	}
}

func sampleCounts() Counts {
	return Counts{Domains: 1, Aliases: 1, Accounts: 1, Mailboxes: 2, Messages: 4, Bodies: 4, Queued: 1, Recipients: 2}
}

func TestUpgradeDryRun(t *testing.T) {
	dir := oldData(t)
	before := tree(t, dir)
	p := &UpgradeProgress{}
	u, err := Upgrade(context.Background(), dir, UpgradeOptions{DryRun: true, Progress: p})
	if err != nil {
		t.Fatal(err)
	}
	if u.From != 1 || u.To != Version || u.Kept != "" || u.Counts != sampleCounts() || u.Differ != 0 || len(u.Differences)+len(u.Findings) != 0 || u.Verified != 4 {
		t.Errorf("%+v", u)
	}
	if stage, done, total := p.State(); stage != "verify" || done != total || done == 0 {
		t.Errorf("progress ends with %s, %d of %d", stage, done, total)
	}
	sameTree(t, "a dry run", tree(t, dir), before)
	// What is left of one that was killed goes.
	scratch := filepath.Join(dir, "upgrade")
	if err := errors.Join(os.Mkdir(scratch, 0o700), os.WriteFile(filepath.Join(scratch, "postrider.db"), []byte("half"), 0o600),
		os.WriteFile(filepath.Join(scratch, "postrider.db-wal"), []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Upgrade(context.Background(), dir, UpgradeOptions{DryRun: true}); err != nil {
		t.Error(err)
	}
	sameTree(t, "a dry run after one that was killed", tree(t, dir), before)

	// A damaged body is found.
	body, err := filepath.Glob(filepath.Join(dir, "bodies", "??", "*"))
	if err != nil || len(body) != 1 {
		t.Fatal(body, err)
	}
	if err := os.Truncate(body[0], 100); err != nil {
		t.Fatal(err)
	}
	u, err = Upgrade(context.Background(), dir, UpgradeOptions{DryRun: true})
	if err != nil || len(u.Findings) == 0 || u.Differ != 0 {
		t.Errorf("a damaged body: %+v, %v", u, err)
	}
}

// TestUpgradeFromEach: from each version there is a way to the present one, a dry
// run shows it, and the old database is kept.
func TestUpgradeFromEach(t *testing.T) {
	for n := 1; n < Version; n++ {
		dir := filepath.Join(t.TempDir(), "data")
		copyPrivately(t, fmt.Sprint("testdata/v", n), dir)
		before := tree(t, dir)
		for _, dry := range []bool{true, false} {
			u, err := Upgrade(context.Background(), dir, UpgradeOptions{DryRun: dry})
			if err != nil || u.From != n || u.To != Version || u.Counts != sampleCounts() || u.Differ != 0 || len(u.Findings) != 0 {
				t.Errorf("version %d, dry run %v: %+v, %v", n, dry, u, err)
			}
			if dry {
				sameTree(t, "a dry run", tree(t, dir), before)
			} else if u.Kept != filepath.Join(dir, fmt.Sprint("postrider.db.v", n)) || tree(t, dir)[filepath.Base(u.Kept)] != before["postrider.db"] {
				t.Errorf("version %d is kept as %q", n, u.Kept)
			}
		}
		checkSample(t, dir)
		checkNotes(t, dir, n >= 3)
		checkRights(t, dir, false)
		verify(t, dir)
	}
}

// TestUpgradeDryRunLog: what is in the log only is part of a dry run, and stays
// in the log.
func TestUpgradeDryRunLog(t *testing.T) {
	from := oldData(t)
	c, err := connect(filepath.Join(from, "postrider.db"), role{write: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.script("UPDATE mailbox SET uidnext = 77; INSERT INTO alias VALUES('a@example.org', 'b@example.org')"); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	copyPrivately(t, from, dir) // as a crash leaves it
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	if len(before["postrider.db-wal"]) == 0 {
		t.Fatal("there is no log")
	}
	want := sampleCounts()
	want.Aliases++
	asked := 0
	held := func() error { asked++; return nil }
	u, err := Upgrade(context.Background(), dir, UpgradeOptions{DryRun: true, Held: held})
	if err != nil || u.Counts != want || u.Differ != 0 || asked != 2 {
		t.Errorf("%+v, %v, %d", u, err, asked)
	}
	sameTree(t, "a dry run", tree(t, dir), before)
	lost := errors.New("the hold was lost")
	if _, err := Upgrade(context.Background(), dir, UpgradeOptions{DryRun: true, Held: func() error { return lost }}); !errors.Is(err, lost) {
		t.Error(err)
	}
	sameTree(t, "a dry run without a hold", tree(t, dir), before)
	// In earnest, the log is part of the old database that is kept.
	u, err = Upgrade(context.Background(), dir, UpgradeOptions{})
	if err != nil || u.Counts != want {
		t.Errorf("%+v, %v", u, err)
	}
	back := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(back, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(u.Kept, filepath.Join(back, "postrider.db")); err != nil {
		t.Fatal(err)
	}
	if u, err := Upgrade(context.Background(), back, UpgradeOptions{DryRun: true}); err != nil || u.Counts != want {
		t.Errorf("the old database: %+v, %v", u, err)
	}
}

func TestUpgrade(t *testing.T) {
	dir := oldData(t)
	old := tree(t, dir)["postrider.db"]
	if _, err := Open(context.Background(), dir, Options{}); !errors.Is(err, ErrOlder) || !strings.Contains(err.Error(), "postrider upgrade") {
		t.Errorf("an old version is opened: %v", err)
	}
	sameTree(t, "refused", tree(t, dir), map[string]string{"postrider.db": old, ".": "directory", "bodies": "directory",
		"bodies/64": "directory", "bodies/64/647d3c53dbc75f579eb5ea64629b0260": tree(t, dir)["bodies/64/647d3c53dbc75f579eb5ea64629b0260"]})
	if err := os.WriteFile(filepath.Join(dir, "postrider.db.v1"), []byte("of another time"), 0o600); err != nil {
		t.Fatal(err)
	}
	u, err := Upgrade(context.Background(), dir, UpgradeOptions{Program: "7.7"})
	if err != nil || u.From != 1 || u.To != Version || u.Counts != sampleCounts() || u.Kept != filepath.Join(dir, "postrider.db.v1.1") {
		t.Errorf("%+v, %v", u, err)
	}
	files := tree(t, dir)
	if files["postrider.db.v1.1"] != old || files["postrider.db.v1"] != "of another time" || files["postrider.db"] == old {
		t.Error("the old database is not what was kept")
	}
	for path := range files {
		if strings.HasPrefix(path, "upgrade") || strings.HasSuffix(path, "-wal") || strings.HasSuffix(path, "-shm") {
			t.Errorf("%s is left", path)
		}
	}
	again, err := Upgrade(context.Background(), dir, UpgradeOptions{Program: "7.7"})
	if err != nil || again.From != Version || again.Kept != "" {
		t.Errorf("the second run: %+v, %v", again, err)
	}
	sameTree(t, "the second run", tree(t, dir), files)
	checkSample(t, dir)
	verify(t, dir)

	// Back, and forth again.
	if err := os.Rename(u.Kept, filepath.Join(dir, "postrider.db")); err != nil {
		t.Fatal(err)
	}
	e, err := Open(context.Background(), dir, Options{Upgrade: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, dir)["postrider.db.v1.1"]; got != old {
		t.Error("Open kept no old database")
	}
	checkSample(t, dir)
}

// TestUpgradeRefused: what is refused leaves everything as it was.
func TestUpgradeRefused(t *testing.T) {
	dir := oldData(t)
	before := tree(t, dir)
	for _, dry := range []bool{true, false} {
		x := newUpgrade(dir, UpgradeOptions{DryRun: dry})
		x.free = func(string) (int64, error) { return 1 << 20, nil }
		var space *SpaceError
		if _, err := x.run(context.Background()); !errors.As(err, &space) || !errors.Is(err, mailstore.ErrFull) || !strings.Contains(err.Error(), "make room") || space.Need < 80<<10 {
			t.Errorf("no space: %v", err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := Upgrade(ctx, dir, UpgradeOptions{DryRun: dry}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		s, err := claim(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Upgrade(context.Background(), dir, UpgradeOptions{DryRun: dry}); !errors.Is(err, ErrInUse) {
			t.Errorf("two upgrades: %v", err)
		}
		if err := s.remove(); err != nil {
			t.Error(err)
		}
		free, err := Lock(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Upgrade(context.Background(), dir, UpgradeOptions{DryRun: dry}); !errors.Is(err, ErrInUse) {
			t.Errorf("a server that runs: %v", err)
		}
		if err := free(); err != nil {
			t.Error(err)
		}
		sameTree(t, fmt.Sprint("refused, dry run: ", dry), tree(t, dir), before)
	}
	if err := os.Chmod(filepath.Join(dir, "postrider.db"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Upgrade(context.Background(), dir, UpgradeOptions{}); !errors.Is(err, ErrOpenToOthers) {
		t.Errorf("open to others: %v", err)
	}
	if _, err := Upgrade(context.Background(), t.TempDir(), UpgradeOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty directory: %v", err)
	}
}

// TestUpgradeDiffers: an upgrade that would change what clients see is not done.
func TestUpgradeDiffers(t *testing.T) {
	dir := oldData(t)
	c, err := connect(filepath.Join(dir, "postrider.db"), role{write: true})
	if err != nil {
		t.Fatal(err)
	}
	// What the program does wrong is a trigger here.
	err = c.script("CREATE TRIGGER wrong AFTER INSERT ON setting BEGIN UPDATE mailbox SET uidnext = uidnext + 1, uidvalidity = 9; " +
		"DELETE FROM block WHERE id >> 32 = 2; DELETE FROM queue_recipient WHERE id & 1; UPDATE body SET hash = zeroblob(32) WHERE id = 1; " +
		"INSERT INTO alias VALUES('more@example.org', 'x@example.org'); END")
	if err := errors.Join(err, c.close()); err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	u, err := Upgrade(context.Background(), dir, UpgradeOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range u.Differences {
		got = append(got, d.String())
	}
	want := []string{
		"alias more@example.org: only in the new database",
		"mailbox bob@example.org INBOX: UIDVALIDITY 9, UIDNEXT 5 instead of UIDVALIDITY ",
		"mailbox bob@example.org Sent: UIDVALIDITY 9, UIDNEXT 4 instead of ",
		"message bob@example.org Sent UID 1: only in the old database",
		"message bob@example.org Sent UID 2: only in the old database",
		"body 1: SHA-256 0000",
		"recipient 1 of queued message 1: only in the old database",
	}
	if !slices.EqualFunc(got, want, strings.HasPrefix) || u.Differ != len(want) || len(u.Findings) == 0 {
		t.Errorf("%d differences, %d findings:\n%s", u.Differ, len(u.Findings), strings.Join(got, "\n"))
	}
	if _, err := Upgrade(context.Background(), dir, UpgradeOptions{}); !errors.Is(err, ErrDiffers) || !strings.Contains(err.Error(), "7 differences, the first: alias more") {
		t.Errorf("upgrade: %v", err)
	}
	if _, err := Open(context.Background(), dir, Options{Upgrade: true}); !errors.Is(err, ErrDiffers) {
		t.Errorf("open: %v", err)
	}
	sameTree(t, "refused", tree(t, dir), before)
}

// TestUpgradeFields: a difference in any one value of a row is told, and the fast
// comparisons see what the fields see.
func TestUpgradeFields(t *testing.T) {
	distinct(t, "message", messageKind("x"), "Mailbox", "UID")
	distinct(t, "body", bodyKind(), "ID", "Data", "Coding")
	distinct(t, "expunge", expungeKind("x"), "First")
	distinct(t, "mailbox", mailboxKind("x"), "Account", "Subscribed", "Expunges")
	distinct(t, "queued", itemKind(), "ID")
	distinct(t, "recipient", recipientKind(), "Item", "Index")
	distinct(t, "account", accountKind(), "ID")
	distinct(t, "key of URLs", urlKeyKind("x"), "Mailbox")
	distinct(t, "rights", aclKind("x"), "Mailbox", "Identifier")
	distinct(t, "annotation", annotationKind("x"), "Account", "Mailbox", "Entry", "User")
	distinct(t, "alias", aliasKind(), "Address")
	distinct(t, "domain", domainKind(), "place")
}

// distinct changes each field of a row but some, the key above all.
func distinct[T any](t *testing.T, name string, k kind[T], but ...string) {
	t.Helper()
	var visit func(path string, get func(*T) reflect.Value)
	visit = func(path string, get func(*T) reflect.Value) {
		var a, b T
		v := get(&b)
		if slices.Contains(but, path[strings.LastIndexByte(path, '.')+1:]) {
			return
		}
		if v.Kind() == reflect.Struct && v.Type().String() != "time.Time" {
			for i := range v.NumField() {
				visit(path+"."+v.Type().Field(i).Name, func(x *T) reflect.Value { return get(x).Field(i) })
			}
			return
		}
		v.Set(sample(v.Type()))
		if slices.Equal(k.fields(&a), k.fields(&b)) {
			t.Errorf("%s: %s is not told", name, path)
		}
		if k.same != nil && (k.same(&a, &b) || !k.same(&a, &a)) {
			t.Errorf("%s: %s is not compared", name, path)
		}
	}
	visit("", func(x *T) reflect.Value { return reflect.ValueOf(x).Elem() })
}

// sample is a value that is not the zero one.
func sample(typ reflect.Type) reflect.Value {
	v := reflect.New(typ).Elem()
	switch typ.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Slice:
		v = reflect.Append(v, sample(typ.Elem()))
	case reflect.Array:
		v.Index(0).Set(sample(typ.Elem()))
	case reflect.Struct:
		v.Set(reflect.ValueOf(sampleTime()))
	}
	return v
}

// TestUpgradeNewer: a newer database is left alone, and says who made it.
func TestUpgradeNewer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e, err := Open(context.Background(), dir, Options{Program: "9.9"})
	if err != nil {
		t.Fatal(err)
	}
	err = e.writer.script(fmt.Sprintf("PRAGMA user_version = %d", Version+1))
	kept := filepath.Join(dir, fmt.Sprintf("postrider.db.v%d", Version))
	if err := errors.Join(err, e.Close(), os.WriteFile(kept, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, upgrade := Upgrade(context.Background(), dir, UpgradeOptions{Program: "0.1"})
	_, dry := Upgrade(context.Background(), dir, UpgradeOptions{Program: "0.1", DryRun: true})
	_, open := Open(context.Background(), dir, Options{Program: "0.1", Upgrade: true})
	for _, err := range []error{upgrade, dry, open} {
		want := fmt.Sprintf("has version %d, made by postrider 9.9, and this is postrider 0.1, which knows up to %d", Version+1, Version)
		if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), kept) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v", err)
		}
	}
}
