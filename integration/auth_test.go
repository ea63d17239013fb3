package integration

import (
	"os"
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
	// mutt with GNU SASL takes the best that is offered, and has no tls-exporter.
	unbound := newServer(t, options{config: "[auth]\nchannel_binding = false\n"})
	rc := writeFile(t, filepath.Join(home, "muttrc-smtp"), "set ssl_ca_certificates_file="+unbound.caFile()+" certificate_file="+unbound.caFile()+
		"\nset ssl_starttls=yes ssl_force_tls=yes from="+from+" use_from=yes envelope_from=yes\nset smtp_url=smtp://bob@localhost:"+
		unbound.port("submission")+"/ smtp_pass="+password+" folder="+home+"\n")
	succeed(t, []string{"HOME=" + home}, "by mutt\n", "mutt", "-F", rc, "-s", "mutt as it is", from)
	unbound.received("bob", "mutt as it is")
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

// TestPOP3Policy: Python's client says UTF8 and hears of LOGIN-DELAY; a client of
// ASCII is refused what it cannot read; what was retrieved expires.
func TestPOP3Policy(t *testing.T) {
	s := newServer(t, options{config: "[pop3]\nlogin_delay = \"1h\"\nexpire = \"0d\"\n"})
	from := "bob@" + hostname
	s.put(letter("zoë@crêpes.fr", from, "with accents", "1"), letter("alice@crepes.fr", from, "without", "2"))
	script := writeFile(t, filepath.Join(t.TempDir(), "client.py"), `
import poplib, sys
port, user, password = int(sys.argv[1]), sys.argv[2], sys.argv[3]
def login(utf8):
    c = poplib.POP3("localhost", port, timeout=30)
    print("capa", c.capa()["LOGIN-DELAY"], c.capa()["EXPIRE"], c.capa()["UTF8"])
    if utf8:
        c.utf8()
    c.user(user)
    c.pass_(password)
    return c
c = login(sys.argv[4] == "utf8")
for n in 1, 2:
    try:
        print("got", any("zo\u00eb" in l.decode("utf-8") for l in c.retr(n)[1]))
    except poplib.error_proto as e:
        print("refused", e)
c.quit()
try:
    login(True)
except poplib.error_proto as e:
    print("delayed", e)
`)
	client := func(user, how string) string {
		t.Helper()
		return succeed(t, nil, "", "python3", script, s.port("pop3"), user, password, how)
	}
	out := client(from, "ascii")
	for _, want := range []string{"capa ['3600'] ['0'] ['USER']", "refused b'-ERR [UTF8] message 1", "got False", "delayed b'-ERR [LOGIN-DELAY] one login in 3600 seconds"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	c, err := imap(s.addr["imap"], "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if all, err := c.imapAsk("STATUS INBOX (MESSAGES)"); err != nil || !strings.Contains(strings.Join(all, "\n"), "MESSAGES 1)") {
		t.Errorf("after the first was refused and the second retrieved: %q, %v", all, err)
	}
	s.stop()
	s.start() // the delay is in memory
	if out := client(from, "utf8"); !strings.Contains(out, "got True") {
		t.Errorf("with UTF8:\n%s", out)
	}
}

// TestFetchmailAndUTF8: a program that does not know UTF8 fetches the rest.
func TestFetchmailAndUTF8(t *testing.T) {
	s := newServer(t, options{})
	from := "bob@" + hostname
	s.put(letter("zoë@crêpes.fr", from, "with accents", "1"), letter("alice@crepes.fr", from, "without", "2"))
	home := t.TempDir()
	rc := writeFile(t, filepath.Join(home, "fetchmailrc"), "poll localhost protocol pop3 port "+s.port("pop3")+" uidl\n user \""+from+
		"\" password \""+password+"\" is bob here keep sslproto '' mda \"cat >> "+filepath.Join(home, "mbox")+"\"\n")
	out, code := execute(t, []string{"HOME=" + home, "FETCHMAILHOME=" + home, "LOGNAME=bob", "USER=bob"}, "", "fetchmail", "-f", rc, "--nosyslog", "-v")
	text, err := os.ReadFile(filepath.Join(home, "mbox"))
	if code != 0 || err != nil || strings.Count(string(text), "Subject: with") != 1 || !strings.Contains(string(text), "Subject: without") {
		t.Errorf("exit %d, %q, %v\n%s", code, text, err, out)
	}
}

// TestPOP3ChannelBinding: Python's TLS tells tls-unique, the rest is in the script:
// bound over TLS 1.2, refused when bound to something else or when the client says
// that it was offered nothing, and not offered without the Extended Master Secret.
func TestPOP3ChannelBinding(t *testing.T) {
	s := newServer(t, options{})
	script := writeFile(t, filepath.Join(t.TempDir(), "client.py"), `
import base64, hashlib, hmac, poplib, ssl, sys
port, user, password, ca = int(sys.argv[1]), sys.argv[2], sys.argv[3].encode(), sys.argv[4]
b64 = lambda b: base64.b64encode(b).decode()

def connect(options=0):
    context = ssl.create_default_context(cafile=ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.options |= options
    return poplib.POP3_SSL("localhost", port, context=context, timeout=30)

def scram(c, mech, hash, flag, binding):
    header = flag + ",,"
    bare = "n=" + user + ",r=fyko+d2lbbFgONRv9qkxdawL"
    first = c._shortcmd("AUTH %s %s" % (mech, b64((header + bare).encode()))).split(b" ", 1)[1]
    first = base64.b64decode(first).decode()
    said = dict(f.split("=", 1) for f in first.split(","))
    salted = hashlib.pbkdf2_hmac(hash, password, base64.b64decode(said["s"]), int(said["i"]))
    key = hmac.digest(salted, b"Client Key", hash)
    final = "c=%s,r=%s" % (b64(header.encode() + binding), said["r"])
    message = ",".join((bare, first, final)).encode()
    proof = bytes(a ^ b for a, b in zip(key, hmac.digest(hashlib.new(hash, key).digest(), message, hash)))
    last = c._shortcmd(b64((final + ",p=" + b64(proof)).encode())).split(b" ", 1)[1]
    server = hmac.digest(hmac.digest(salted, b"Server Key", hash), message, hash)
    assert base64.b64decode(last) == b"v=" + base64.b64encode(server), last
    return c._shortcmd("").decode()

for mech, hash in ("SCRAM-SHA-1-PLUS", "sha1"), ("SCRAM-SHA-256-PLUS", "sha256"):
    c = connect()
    assert mech in c.capa()["SASL"], c.capa()
    unique = c.sock.get_channel_binding("tls-unique")
    print(mech, scram(c, mech, hash, "p=tls-unique", unique))
    c.quit()
    for name, flag, binding in ("other", "p=tls-unique", bytes(12)), ("downgrade", "y", b""):
        c = connect()
        try:
            scram(c, mech if flag != "y" else mech[:-5], hash, flag, binding)
            print(mech, name, "passed")
        except poplib.error_proto as e:
            print(mech, name, "refused")
c = connect(options=1)  # SSL_OP_NO_EXTENDED_MASTER_SECRET
print("offered", [m for m in c.capa()["SASL"] if m.endswith("-PLUS")])
print("plain", scram(c, "SCRAM-SHA-1", "sha1", "y", b""))
`)
	out := succeed(t, nil, "", "python3", script, s.port("pop3s"), "bob", password, s.caFile())
	for _, want := range []string{"SCRAM-SHA-1-PLUS +OK user successfully logged on", "SCRAM-SHA-256-PLUS +OK user successfully logged on",
		"SCRAM-SHA-1-PLUS other refused", "SCRAM-SHA-1-PLUS downgrade refused", "SCRAM-SHA-256-PLUS other refused",
		"SCRAM-SHA-256-PLUS downgrade refused", "offered []", "plain +OK"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
