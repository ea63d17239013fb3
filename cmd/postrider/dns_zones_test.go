package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDNSZonesCheck: what is said of zone files, and that Debian's named-checkzone
// takes and refuses the same.
func TestDNSZonesCheck(t *testing.T) {
	p := newProgram(t)
	const good = "$TTL 60\n@ SOA ns hostmaster 10 1 1 1 1\n@ NS ns\nns A 192.0.2.1\n"
	file := filepath.Join(t.TempDir(), "zone")
	for _, c := range []struct {
		about, text string
		code        int
		want        string
		taken       bool // by named
	}{
		{"good", good, exitDone, "example.org.: serial 10, 3 records: can be served\n", true},
		{"doubtful", good + "@ MX 10 none\nsub NS ns.sub\n", exitFailed, "warning  example.org. MX none.example.org. does not exist\n" +
			"warning  sub.example.org. NS ns.sub.example.org. has no address here (RFC 1034 section 4.2.1)\n" +
			"example.org.: serial 10, 5 records: can be served\n", true},
		{"a line that is none", good + "$ORIGIN b.example.org.\n\na A nonsense\n", exitFailed, "error    " + file + `:7: not a valid zone: bad A A: "nonsense"` + "\n", false},
		{"an alias and more", good + "a CNAME ns\na A 192.0.2.2\n", exitFailed,
			"error    " + file + ": not a valid zone: a.example.org. is an alias (CNAME) and has a record of type A besides (RFC 1034 section 3.6.2)\n", false},
		{"no SOA", "$TTL 60\n@ NS ns\nns A 192.0.2.1\n", exitFailed, "error    " + file + ": not a valid zone: example.org. needs one SOA record, and has 0\n", false},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, errs := p.run("", "dns", "zones", "check", file, "Example.ORG")
		if code != c.code || out != c.want || errs != "" {
			t.Errorf("%s: exit %d, %s\n%swant\n%s", c.about, code, errs, out, c.want)
		}
		debian, err := exec.Command("named-checkzone", "example.org", file).CombinedOutput()
		if taken := err == nil; taken != c.taken {
			t.Errorf("%s: named-checkzone (integration/setup.sh installs it): %v\n%s", c.about, err, debian)
		}
	}
	code, out, _ := p.run("$ORIGIN example.org.\n"+good+"@ MX 10 none\n", "dns", "zones", "check", "-", "--json")
	var z checkedZone
	if err := json.Unmarshal([]byte(out), &z); err != nil || code != exitFailed || z.Zone != "example.org." || z.Serial != 10 || z.Records != 4 || len(z.Warnings) != 1 || z.Error != "" {
		t.Errorf("--json: exit %d, %v\n%s", code, err, out)
	}
	if code, _, errs := p.run("", "dns", "zones", "check", file, "a..b"); code != exitUsage || errs == "" {
		t.Errorf("a wrong name: exit %d, %s", code, errs)
	}
	if code, _, errs := p.run("", "dns", "zones", "check", filepath.Join(t.TempDir(), "none")); code != exitFailed || !strings.Contains(errs, "no such file") {
		t.Errorf("no file: exit %d, %s", code, errs)
	}
}
