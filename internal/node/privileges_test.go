package node

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"postrider/internal/wire"
)

// dropEnv has, in a process that TestDropPrivileges started, the data directory
// and the TLS files to use, with newlines between.
const dropEnv = "POSTRIDER_TEST_DROP"

// dropOwnerEnv is set where that process names no user.
const dropOwnerEnv = "POSTRIDER_TEST_DROP_OWNER"

func TestMain(m *testing.M) {
	if args := os.Getenv(dropEnv); args != "" {
		f := strings.Split(args, "\n")
		if err := serveDropped(f[0], f[1], f[2]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serveDropped does what `serve` does as root: bind, become nobody, run.
func serveDropped(dataDir, cert, key string) error {
	o := DefaultOptions()
	o.Hostname, o.DataDir, o.TLSCert, o.TLSKey = "hamburger.edu", dataDir, cert, key
	o.Listen.SMTP = []string{"127.0.0.1:0"}
	o.Resolver, o.HostsFile = "127.0.0.1:9", ""
	ls, err := Bind(o)
	if err != nil {
		return err
	}
	name := "nobody"
	if os.Getenv(dropOwnerEnv) != "" {
		name = ""
	}
	root, err := DropPrivileges(name, dataDir)
	if err != nil {
		return err
	}
	if err := syscall.Setuid(0); root || err == nil {
		return fmt.Errorf("still root: %v, %v", root, err)
	}
	n, err := New(context.Background(), o, ls)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return n.Run(ctx, func() {
		fmt.Println("ready", os.Getuid(), os.Getgid())
		cancel()
	})
}

// started runs serveDropped as root in a process of its own, and checks the one
// line that it says.
func started(t *testing.T, ok bool, data, cert, key string, want ...string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), dropEnv+"="+strings.Join([]string{data, cert, key}, "\n"))
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if (err == nil) != ok || bytes.Count(out, []byte("\n")) != 1 {
		t.Errorf("%v: %s", err, out)
	}
	for _, w := range want {
		if !strings.Contains(string(out), w) {
			t.Errorf("%q is not in %s", w, out)
		}
	}
}

// openDir is a directory of the test that every user can pass.
func openDir(t *testing.T) string {
	t.Helper()
	top := t.TempDir()
	for _, d := range []string{filepath.Dir(top), top} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return top
}

// nobody is the user that the tests become; nil where they do not run as root,
// as they do on a fresh machine.
func nobody(t *testing.T) *user.User {
	t.Helper()
	if os.Geteuid() != 0 {
		if root, err := DropPrivileges("nobody", t.TempDir()); err != nil || root {
			t.Errorf("not as root: %v, %v", root, err)
		}
		return nil
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// As root the server hands the data directory to its user and becomes that user
// for good. What root makes there later becomes the user's at the next start;
// what has a name elsewhere, or stands behind a link, does not.
func TestDropPrivileges(t *testing.T) {
	if root, err := DropPrivileges("", t.TempDir()); err != nil || root != (os.Geteuid() == 0) {
		t.Errorf("without a user: %v, %v", root, err)
	}
	u := nobody(t)
	if u == nil {
		return
	}
	if _, err := DropPrivileges("no-such-user", t.TempDir()); err == nil || !strings.Contains(err.Error(), "useradd --system no-such-user") {
		t.Errorf("an unknown user: %v", err)
	}
	top := openDir(t)
	data := filepath.Join(top, "new", "data")
	started(t, true, data, "", "", "ready "+u.Uid+" "+u.Gid)
	// Without a name, root becomes the one whose directory it is.
	t.Setenv(dropOwnerEnv, "1")
	started(t, true, data, "", "", "ready "+u.Uid+" "+u.Gid)
	os.Unsetenv(dropOwnerEnv)
	outside := filepath.Join(top, "outside")
	for _, path := range []string{outside, filepath.Join(data, "made-by-root")} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(outside, filepath.Join(data, "hard")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(top, filepath.Join(data, "soft")); err != nil {
		t.Fatal(err)
	}
	started(t, true, data, "", "", "ready")
	owners := map[string]string{"made-by-root": u.Uid, "postrider.db": u.Uid, ".": u.Uid, "hard": "0", "../../outside": "0"}
	for name, uid := range owners {
		if got := owner(t, filepath.Join(data, name)); got != uid {
			t.Errorf("%s belongs to %s, want %s", name, got, uid)
		}
	}
	// A folder that the user cannot pass.
	if err := os.Chmod(filepath.Join(top, "new"), 0o700); err != nil {
		t.Fatal(err)
	}
	started(t, false, data, "", "", "nobody cannot open the data directory", "chmod o+x")
}

// Keys are read after the change of user, as they are when they are renewed. One
// that only root can read stops the start with a word on what to do.
func TestKeyOfRoot(t *testing.T) {
	u := nobody(t)
	if u == nil {
		return
	}
	top := openDir(t)
	data := filepath.Join(top, "data")
	if _, err := wire.LocalCertificates(filepath.Join(top, "tls"), []string{"hamburger.edu"}, nil); err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(filepath.Join(top, "tls", "server.pem"))
	if err != nil {
		t.Fatal(err)
	}
	cert, key := filepath.Join(top, "cert.pem"), filepath.Join(top, "key.pem")
	for path, mode := range map[string]os.FileMode{cert: 0o644, key: 0o600} {
		if err := os.WriteFile(path, pem, mode); err != nil {
			t.Fatal(err)
		}
	}
	started(t, false, data, cert, key, key, "permission denied", "nobody must be able to read it")
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(key, 0, gid); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(key, 0o640); err != nil {
		t.Fatal(err)
	}
	started(t, true, data, cert, key, "ready")
}

func owner(t *testing.T, path string) string {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(fi.Sys().(*syscall.Stat_t).Uid)
}
