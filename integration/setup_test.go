package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSetup: setup.sh is done at once where nothing is missing; for somebody
// who may not install, it prints the one command that does, and fails.
func TestSetup(t *testing.T) {
	succeed(t, nil, "", "./setup.sh")

	bin := t.TempDir()
	writeFile(t, filepath.Join(bin, "id"), "#!/bin/sh\necho 1000\n")
	if err := os.Chmod(filepath.Join(bin, "id"), 0o700); err != nil {
		t.Fatal(err)
	}
	out, code := execute(t, []string{"PATH=" + bin}, "", "./setup.sh")
	if code == 0 || strings.Count(out, "\n") != 2 {
		t.Errorf("exit %d, %q", code, out)
	}
	for _, want := range []string{"apt-get update && apt-get install -y", " inetutils-telnet ", " thunderbird", " fetchmail "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
}
