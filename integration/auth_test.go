package integration

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestGsasl: GNU SASL, an implementation that is not ours, logs in by every SCRAM
// mechanism over SMTP and IMAP, bound to each version of TLS.
func TestGsasl(t *testing.T) {
	s := newServer(t, options{})
	gsasl := func(service, mech, priority, secret string, more ...string) (string, int) {
		t.Helper()
		protocol := "--smtp"
		if service == "imap" {
			protocol = "--imap"
		}
		return execute(t, nil, "", "gsasl", append([]string{protocol, "--connect=localhost:" + s.port(service), "--starttls",
			"--x509-ca-file=" + s.caFile(), "--priority=" + priority, "--mechanism=" + mech, "--authentication-id=bob@" + hostname,
			"--authorization-id=", "--password=" + secret, "--application-data", "--verbose"}, more...)...)
	}
	const (
		modern = "NORMAL"
		older  = "NORMAL:-VERS-TLS1.3"
		weak   = "NORMAL:-VERS-TLS1.3:%NO_SESSION_HASH" // without the Extended Master Secret
	)
	for _, service := range []string{"submission", "imap"} {
		if out, code := gsasl(service, "SCRAM-SHA-256-PLUS", modern, "wrong"); code == 0 {
			t.Errorf("a wrong password over %s:\n%s", service, out)
		}
		for _, mech := range []string{"SCRAM-SHA-256", "SCRAM-SHA-1"} {
			for _, tls := range []string{modern, older} {
				if out, code := gsasl(service, mech+"-PLUS", tls, password); code != 0 {
					t.Errorf("%s-PLUS over %s with %s: exit %d\n%s", mech, service, tls, code, out)
				}
			}
			if out, code := gsasl(service, mech, weak, password, "--no-cb"); code != 0 || strings.Contains(out, "-PLUS") {
				t.Errorf("%s over %s with a TLS that has no binding: exit %d\n%s", mech, service, code, out)
			}
		}
	}
}

// TestSCRAMPrograms: programs that people send and read mail with.
func TestSCRAMPrograms(t *testing.T) {
	s := newServer(t, options{})
	from := "bob@" + hostname
	for _, mech := range []string{"scram-sha-1", "scram-sha-256"} {
		succeed(t, nil, letter(from, from, "msmtp "+mech, "by msmtp"), "msmtp", "--host=localhost", "--port="+s.port("submission"),
			"--tls=on", "--tls-starttls=on", "--tls-trust-file="+s.caFile(), "--auth="+mech,
			"--user="+from, "--passwordeval=echo "+password, "--from="+from, from)
		s.received("bob", "msmtp "+mech)
	}
	home := t.TempDir()
	for _, mech := range []string{"SCRAM-SHA-256", "SCRAM-SHA-1"} {
		rc := writeFile(t, filepath.Join(home, "muttrc"), `
set certificate_file=`+s.caFile()+` ssl_ca_certificates_file=`+s.caFile()+`
set pop_user="`+from+`" pop_pass="`+password+`" pop_authenticators="`+mech+`"
set spoolfile="pops://localhost:`+s.port("pop3s")+`/" folder=`+home+`
set quit=yes sleep_time=0 header_cache="" mbox_type=mbox confirmcreate=no confirmappend=no
`)
		p := onTerminal(t, []string{"HOME=" + home}, "mutt", "-F", rc, "-R")
		p.sees("msmtp scram-sha-1")
		p.types("x")
		p.ends()
	}
}
