package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "postrider"

// tree is every Go source file, by package folder.
type tree struct {
	set   *token.FileSet
	files map[string][]*source
}

type source struct {
	name string // from the root
	text string
	ast  *ast.File
	test bool
}

func parseTree(t *testing.T) *tree {
	t.Helper()
	tr := &tree{set: token.NewFileSet(), files: map[string][]*source{}}
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() && name != ".." && (base == "testdata" || base == "data" || strings.HasPrefix(base, ".") || hasFile(name, "go.mod")) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(base, ".go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(tr.set, name, text, parser.ParseComments)
		if err != nil {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(name, "../"))
		dir := path.Dir(rel)
		tr.files[dir] = append(tr.files[dir], &source{rel, string(text), file, strings.HasSuffix(base, "_test.go")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(tr.files) < 10 {
		t.Fatalf("found only %d packages", len(tr.files))
	}
	return tr
}

func hasFile(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

// imports lists what a file imports.
func (s *source) imports() []string {
	var list []string
	for _, i := range s.ast.Imports {
		name, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			panic(err)
		}
		list = append(list, name)
	}
	return list
}

// layers is the import table: a package may import those that the first
// matching row allows. "x/..." is x and everything below it.
var layers = []struct {
	pkg   string
	may   []string
	never []string
}{
	{pkg: "internal/clock"},
	{pkg: "internal/journey"},
	{pkg: "internal/provenance"},
	{pkg: "internal/tomlkeys"},
	{pkg: "mta"},
	{pkg: "internal/wire/...", may: []string{"internal/wire/..."}},
	{pkg: "dns/server", may: []string{"dns/...", "internal/wire"}, never: []string{"dns"}},
	{pkg: "dns/...", may: []string{"dns/..."}},
	{pkg: "mailstore/...", may: []string{"mailstore/...", "internal/wire"}},
	{pkg: "internal/oauth"},
	{pkg: "internal/directory", may: []string{"mailstore/...", "internal/wire", "internal/oauth", "dns"}},
	{pkg: "internal/transfer", may: []string{"mailstore/...", "internal/directory"}},
	{pkg: "mta/...", may: []string{"internal/...", "mailstore/...", "dns"}, never: []string{"internal/node"}},
	{pkg: "pop3", may: []string{"mailstore/...", "internal/..."}, never: []string{"internal/node"}},
	{pkg: "imap/syntax", may: []string{"internal/wire"}},
	{pkg: "imap", may: []string{"imap/syntax", "mailstore/...", "internal/..."}, never: []string{"internal/node"}},
	{pkg: "internal/node", may: []string{"..."}, never: []string{"cmd/...", "lab/..."}},
	{pkg: "lab/...", may: []string{"..."}, never: []string{"cmd/..."}},
	{pkg: "cmd/postrider", may: []string{"..."}},
	{pkg: "integration"},
}

// foundation may be imported by all but integration.
var foundation = []string{"internal/clock", "internal/journey", "mta"}

func matches(pattern, pkg string) bool {
	root, all := strings.CutSuffix(pattern, "...")
	if !all {
		return pattern == pkg
	}
	return root == "" || pkg == strings.TrimSuffix(root, "/") || strings.HasPrefix(pkg, root)
}

func matchesAny(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, pkg) })
}

// TestTreeImports: imports point one way, by the table above. Tests may use the
// packages made for them (wiretest, dnstest, storetest), the product may not.
func TestTreeImports(t *testing.T) {
	tr := parseTree(t)
	for dir, files := range tr.files {
		i := slices.IndexFunc(layers, func(l struct {
			pkg   string
			may   []string
			never []string
		}) bool {
			return matches(l.pkg, dir)
		})
		if i < 0 {
			t.Errorf("%s has no row in the import table", dir)
			continue
		}
		row := layers[i]
		for _, f := range files {
			for _, imported := range f.imports() {
				rel, ours := strings.CutPrefix(imported, module+"/")
				if !ours {
					continue
				}
				forTests := strings.HasSuffix(rel, "test")
				inTest := f.test || strings.HasSuffix(dir, "test")
				ok := matchesAny(row.may, rel) && !matchesAny(row.never, rel) || slices.Contains(foundation, rel)
				switch {
				case dir == "integration":
					ok = false
				case forTests:
					ok = inTest
				}
				if !ok {
					t.Errorf("%s may not import %s", f.name, imported)
				}
			}
		}
	}
}

// TestTreeMTAParts: the parts of mta know each other by interfaces only.
func TestTreeMTAParts(t *testing.T) {
	tr := parseTree(t)
	for dir, files := range tr.files {
		if !strings.HasPrefix(dir, "mta/") {
			continue
		}
		for _, f := range files {
			for _, imported := range f.imports() {
				if strings.HasPrefix(imported, module+"/mta/") && imported != module+"/"+dir {
					t.Errorf("%s imports %s", f.name, imported)
				}
			}
		}
	}
}

// TestTreePackageComments: each package says what it is, in one place.
func TestTreePackageComments(t *testing.T) {
	tr := parseTree(t)
	for dir, files := range tr.files {
		var docs []string
		for _, f := range files {
			if f.ast.Doc == nil || f.test {
				continue
			}
			docs = append(docs, f.name)
			want := "Package " + f.ast.Name.Name + " "
			if f.ast.Name.Name == "main" {
				want = "Command " + path.Base(dir) + " "
			}
			if !strings.HasPrefix(f.ast.Doc.Text(), want) {
				t.Errorf("the package comment in %s does not begin with %q", f.name, want)
			}
		}
		if len(docs) != 1 {
			t.Errorf("%s has %d package comments: %v", dir, len(docs), docs)
		}
	}
}

// TestTreeGivenPackages: the libraries that the product is built on do work in it.
func TestTreeGivenPackages(t *testing.T) {
	tr := parseTree(t)
	for _, given := range []string{
		"github.com/emersion/go-smtp", "github.com/emersion/go-imap/v2",
		"github.com/emersion/go-message", "github.com/mattn/go-sqlite3",
	} {
		var users []string
		for _, dir := range slices.Sorted(maps.Keys(tr.files)) {
			for _, f := range tr.files[dir] {
				inUse := slices.ContainsFunc(f.imports(), func(i string) bool { return i == given || strings.HasPrefix(i, given+"/") })
				if inUse && !f.test && !strings.HasSuffix(dir, "test") {
					users = append(users, f.name)
				}
			}
		}
		if len(users) == 0 {
			t.Errorf("no production code imports %s", given)
		}
	}
}

// TestTreeExec: only the command line and tests run other programs.
func TestTreeExec(t *testing.T) {
	tr := parseTree(t)
	for dir, files := range tr.files {
		for _, f := range files {
			if slices.Contains(f.imports(), "os/exec") && !f.test && !strings.HasPrefix(dir, "cmd/") {
				t.Errorf("%s imports os/exec", f.name)
			}
		}
	}
}

// badWords are signs of work that was put off, of tests that do not test, and of
// one machine's folders. They are put together here so as not to find themselves.
var badWords = regexp.MustCompile(`TO` + `DO|FIX` + `ME|XX` + `X|not ` + `implemented|"un` + `implemented|place` + `holder value|t\.Sk` + `ip|"?/(wor` + `k|home|ro` + `ot)/`)

// TestTreeStyle: bounds on files and functions, no init, no names that say
// nothing, nothing put off, no test that skips itself, and none that sleeps but
// in the bubble of testing/synctest, where time is not spent.
func TestTreeStyle(t *testing.T) {
	tr := parseTree(t)
	for dir, files := range tr.files {
		if slices.Contains([]string{"util", "utils", "common", "types", "base", "helpers", "models"}, path.Base(dir)) {
			t.Errorf("%s: a package's name says what it has", dir)
		}
		for _, f := range files {
			if n := strings.Count(f.text, "\n"); n > 800 {
				t.Errorf("%s has %d lines", f.name, n)
			}
			for i, line := range strings.Split(f.text, "\n") {
				if m := badWords.FindString(line); m != "" {
					t.Errorf("%s:%d: %q", f.name, i+1, m)
				}
				if f.test && strings.Contains(line, "time.Sl"+"eep(") && !slices.Contains(f.imports(), "testing/synctest") {
					t.Errorf("%s:%d: a test that sleeps", f.name, i+1)
				}
			}
			for _, d := range f.ast.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok {
					continue
				}
				lines := tr.set.Position(fn.End()).Line - tr.set.Position(fn.Pos()).Line
				if lines > 100 {
					t.Errorf("%s: %s has %d lines", f.name, fn.Name.Name, lines)
				}
				if fn.Name.Name == "init" && fn.Recv == nil {
					t.Errorf("%s has an init", f.name)
				}
			}
		}
	}
}

// TestTreeTracked: what the tests run is in the repository, and no build
// product is.
func TestTreeTracked(t *testing.T) {
	out, err := exec.Command("git", "-C", "..", "ls-files").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.Lines(string(out)) {
		name = strings.TrimSpace(name)
		fi, err := os.Stat(filepath.Join("..", name))
		if err != nil {
			continue // removed in this working tree
		}
		if fi.Size() > 1<<20 {
			t.Errorf("%s has %d octets", name, fi.Size())
		}
		if strings.HasPrefix(name, "bin/") || strings.HasPrefix(name, "data/") {
			t.Errorf("%s is in the repository", name)
		}
	}
}
