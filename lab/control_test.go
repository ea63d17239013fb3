package lab

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postrider/mailstore/sqlite"
)

// introduced is what a lab says of itself.
func introduced(l *Lab) string {
	var b strings.Builder
	l.Introduce(&b)
	return b.String()
}

// Commands reach the lab that they are for: the first of a user without more, any
// other by its folder, as the start-up text says; and nothing is left of it.
func TestControl(t *testing.T) {
	session := filepath.Join(t.TempDir(), "session")
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("TMPDIR", filepath.Dir(session))
	if _, err := Ask(t.Context(), "", Request{Do: "hosts"}); err == nil || !strings.Contains(err.Error(), "no lab runs here") {
		t.Errorf("without a lab: %v", err)
	}
	keep := filepath.Join(t.TempDir(), "it's kept", strings.Repeat("long", 30))
	labs := []*Lab{}
	for _, dir := range []string{"", "", keep} {
		l, _ := start(t, Options{Control: true, Keep: dir})
		labs = append(labs, l)
	}
	for i, l := range labs {
		at := l.Dir()
		if i == 0 {
			at = ""
		}
		r, err := Ask(t.Context(), at, Request{Do: "hosts"})
		if err != nil {
			t.Fatalf("lab %d: %v", i, err)
		}
		if want := l.real(t, "mx.crepes.fr", "smtp"); r.Hosts[len(r.Hosts)-1].Name == "" || endpoint(r.Hosts, "mx.crepes.fr", "smtp") != want {
			t.Errorf("lab %d: another one answered", i)
		}
		want := " lab clear\n"
		if i > 0 {
			want = " lab clear --keep " + word(l.Dir()) + "\n"
		}
		if text := introduced(l); !strings.Contains(text, want) {
			t.Errorf("lab %d does not say %q:\n%s", i, want, text)
		}
	}
	if got := word(keep); !strings.HasPrefix(got, "'/") || !strings.Contains(got, `/it'\''s kept/`) {
		t.Errorf("for a shell: %s", got)
	}
	if _, err := Start(t.Context(), Options{Keep: keep, FreePorts: true}); !errors.Is(err, sqlite.ErrInUse) {
		t.Errorf("two labs on one folder: %v", err)
	}
	for _, l := range labs {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(session)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(keep, controlName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a socket that nobody listens on: %v", err)
	}
}

// endpoint is where a service of a host is reached, as a lab lists it.
func endpoint(hosts []HostState, host, service string) string {
	for _, h := range hosts {
		for _, e := range h.Endpoints {
			if h.Name == host && e.Service == service {
				return e.Real
			}
		}
	}
	return ""
}

// A folder of the user's that others can enter, or a file in its place, is not
// used.
func TestControlPrivate(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, _ := start(t, Options{Control: true})
	if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := Ask(t.Context(), "", Request{Do: "hosts"}); err == nil || !strings.Contains(err.Error(), "only you can enter") {
		t.Error(err)
	}
	if _, err := Ask(t.Context(), l.Dir(), Request{Do: "jump"}); err == nil || !strings.Contains(err.Error(), "a jump is ahead") {
		t.Error(err)
	}
}
