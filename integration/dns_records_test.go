package integration

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestReadmeDNS: the commands of the README about the DNS, against a server that
// serves its own zone, and Debian's programs about the same zone.
func TestReadmeDNS(t *testing.T) {
	port := fmt.Sprint(freePort(t))
	s := newServer(t, options{domain: "example.org", config: fmt.Sprintf(`[listen]
smtp = ["127.0.0.1:0"]
imaps = ["127.0.0.1:0"]
dns = ["127.0.0.1:%[1]s"]
[dns]
resolver = "127.0.0.1:%[1]s"
hosts = ""
own = ["example.org", "%[2]s"]
recursion = []
`, port, hostname)})
	records := s.must("dns", "records", "example.org")
	mx := "10 " + hostname + "."
	for _, want := range []string{"; example.org.  IN MX   " + mx, `"v=spf1 mx -all"`, "_imaps._tcp.example.org.  IN SRV  0 1 ", "_pop3s._tcp.example.org.  IN SRV  0 0 0 .", "give it to the zone above"} {
		if !strings.Contains(records, want) {
			t.Errorf("no %q in\n%s", want, records)
		}
	}
	out := s.must("dns", "query", "example.org", "MX")
	if !regexp.MustCompile(`(?m)^;; flags: qr aa rd`).MatchString(out) || !strings.Contains(out, "MX\t"+mx) {
		t.Errorf("dns query says\n%s", out)
	}
	// Nobody delegates the zone to this server, and port 25 is another one: the
	// check says so.
	out, stderr, code := s.run("", "dns", "check", "example.org", "--dns-port", port)
	for _, want := range []string{`ok +zone +example\.org\.: has the name servers `, `ok +delegation +example\.org\.: its name servers at 127\.0\.0\.1 answer with authority`,
		`ok +mx +example\.org\.: mail goes to 10 hamburger\.edu`, `ok +spf +example\.org\.: "v=spf1 mx -all"`, `error +smtp +hamburger\.edu\.: mail cannot come in .* -- this server listens on port`} {
		if code != 1 || !regexp.MustCompile(`(?m)^`+want).MatchString(out) {
			t.Errorf("dns check: no %q; exit %d, %s\n%s", want, code, stderr, out)
		}
	}
	s.agreesWithDebian(port)
}

// agreesWithDebian asks the same questions with dig, host and nslookup.
func (s *server) agreesWithDebian(port string) {
	t := s.t
	t.Helper()
	for _, q := range []string{"example.org MX", "example.org TXT", "example.org NS", "_imaps._tcp.example.org SRV", "_pop3._tcp.example.org SRV", "example.org SOA"} {
		name, typ, _ := strings.Cut(q, " ")
		var ours struct {
			Flags  []string
			Answer []struct{ Data string }
		}
		if err := json.Unmarshal([]byte(s.must("dns", "query", name, typ, "--json")), &ours); err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, r := range ours.Answer {
			want = append(want, r.Data)
		}
		slices.Sort(want)
		got := strings.Split(strings.TrimSpace(succeed(t, nil, "", "dig", "@127.0.0.1", "-p", port, "+short", name, typ)), "\n")
		slices.Sort(got)
		if !slices.Equal(got, want) || len(want) == 0 || !slices.Contains(ours.Flags, "aa") {
			t.Errorf("%s: dig has %q, we have %q with %q", q, got, want, ours.Flags)
		}
	}
	if out := succeed(t, nil, "", "host", "-p", port, "-t", "MX", "example.org", "127.0.0.1"); !strings.Contains(out, "example.org mail is handled by 10 "+hostname+".") {
		t.Errorf("host says %s", out)
	}
	out := succeed(t, nil, "", "nslookup", "-port="+port, "-type=MX", "example.org", "127.0.0.1")
	if !strings.Contains(out, "mail exchanger = 10 "+hostname) || strings.Contains(out, "Non-authoritative") {
		t.Errorf("nslookup says %s", out)
	}
}
