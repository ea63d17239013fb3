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

// TestClientCertificate: a certificate of openssl's making logs bob in, by
// programs that are not ours, on every protocol, as long as it is his.
func TestClientCertificate(t *testing.T) {
	s := newServer(t, options{})
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "bob.pem"), filepath.Join(dir, "bob.key")
	succeed(t, nil, "", "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
		"-subj", "/CN=bob's laptop", "-days", "30", "-keyout", key, "-out", cert)
	from := "bob@" + hostname

	gsasl := func(protocol, service string) (string, int) {
		t.Helper()
		return execute(t, nil, "", "gsasl", protocol, "--connect=localhost:"+s.port(service), "--starttls", "--x509-ca-file="+s.caFile(),
			"--x509-cert-file="+cert, "--x509-key-file="+key, "--mechanism=EXTERNAL", "--authorization-id="+from, "--application-data", "--verbose")
	}
	if out, code := gsasl("--smtp", "submission"); code == 0 || strings.Contains(out, "AUTH EXTERNAL\n250") {
		t.Errorf("before it was added: exit %d\n%s", code, out)
	}
	print := strings.TrimSpace(s.must("user", "cert", "add", from, cert))
	if list := s.must("user", "cert", "list"); !strings.Contains(list, print) || !strings.Contains(list, "CN=bob's laptop") {
		t.Errorf("the list is %q", list)
	}
	if _, stderr, code := s.run("", "user", "cert", "add", "alice@"+hostname, cert); code != 1 || !strings.Contains(stderr, from) {
		t.Errorf("the same key for alice: exit %d, %s", code, stderr)
	}
	if _, stderr, code := s.run("", "user", "cert", "add", from, key); code != 1 || !strings.Contains(stderr, "no certificate in PEM") {
		t.Errorf("a key without a certificate: exit %d, %s", code, stderr)
	}
	for _, how := range [][2]string{{"--smtp", "submission"}, {"--imap", "imap"}} {
		if out, code := gsasl(how[0], how[1]); code != 0 {
			t.Errorf("gsasl %s: exit %d\n%s", how[0], code, out)
		}
	}
	succeed(t, nil, letter(from, from, "msmtp external", "by msmtp"), "msmtp", "--host=localhost", "--port="+s.port("submissions"),
		"--tls=on", "--tls-starttls=off", "--tls-trust-file="+s.caFile(), "--tls-cert-file="+cert, "--tls-key-file="+key,
		"--auth=external", "--user="+from, "--from="+from, from)
	s.received("bob", "msmtp external")
	pop := []string{"-sS", "--cacert", s.caFile(), "--cert", cert, "--key", key, "-u", from + ":", "--login-options", "AUTH=EXTERNAL",
		"pop3s://localhost:" + s.port("pop3s") + "/1"}
	if out := succeed(t, nil, "", "curl", pop...); !strings.Contains(out, "Subject: msmtp external") {
		t.Errorf("curl by POP3: %q", out)
	}
	s.must("user", "cert", "remove", from, print[:16])
	if out, code := execute(t, nil, "", "curl", pop...); code == 0 {
		t.Errorf("after it was removed: %q", out)
	}
	if list := s.must("user", "cert", "list", "--json", from); strings.TrimSpace(list) != "[]" {
		t.Errorf("the list is %q", list)
	}
}
