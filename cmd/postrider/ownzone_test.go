package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// freePort is a port that is free at an address for UDP and TCP, or was just now.
func freePort(t *testing.T, at string) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", net.JoinHostPort(at, "0"))
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		p, err := net.ListenPacket("udp", l.Addr().String())
		l.Close()
		if err == nil {
			p.Close()
			return port
		}
	}
}

// newPair writes a certificate and its key, and returns what TLSA says of it.
func newPair(t *testing.T, dir string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mx.hamburger.edu"}, NotAfter: time.Now().Add(1000 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sum := sha256.Sum256(spki)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// dig asks with Debian's dig and returns the data of the answer.
func dig(t *testing.T, at, port string, args ...string) string {
	t.Helper()
	out, err := exec.Command("dig", append([]string{"@" + at, "-p", port, "+short", "+tries=3"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("dig (of bind9-dnsutils) %q: %v\n%s", args, err, out)
	}
	return strings.ReplaceAll(string(out), "\n", "; ")
}

// soon waits until what is asked for has come.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		if ok() {
			return
		}
	}
	t.Fatalf("not in a minute: %s", what)
}

func serial(t *testing.T, at, port string) uint64 {
	t.Helper()
	fields := strings.Fields(dig(t, at, port, "hamburger.edu", "SOA"))
	if len(fields) < 7 {
		t.Fatalf("no SOA record: %q", fields)
	}
	n, err := strconv.ParseUint(fields[2], 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestOwnZone: the zone of our own records is served, signed, and follows the
// domains, the certificate and the configuration by itself.
func TestOwnZone(t *testing.T) {
	const at = "127.66.1.1"
	p := newProgram(t)
	port := freePort(t, at)
	key := newPair(t, p.dir)
	config := func(more string) {
		text := fmt.Sprintf(`hostname = "mx.hamburger.edu"
data_dir = "data"
[listen]
dns = ["%s:%s"]
smtp = ["%s:0"]
imaps = ["%s:0"]
[tls]
cert = "cert.pem"
key = "key.pem"
[dns]
hosts = ""
resolver = "127.0.0.1:9"
own = ["Hamburger.edu"]
own_servers = ["mx.hamburger.edu", "ns.example.net"]
own_records = ["more.zone"]
%s`, at, port, at, at, more)
		if err := os.WriteFile(filepath.Join(p.dir, "config.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config("")
	if err := os.WriteFile(filepath.Join(p.dir, "more.zone"), []byte("www A 192.0.2.80\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.want(exitDone, "", "", "", "init", "--domain", "hamburger.edu")
	t.Run("first", func(t *testing.T) {
		p := &program{t, p.dir}
		p.serve()
		for question, want := range map[string]string{
			"hamburger.edu MX": "10 mx.hamburger.edu.; ", "mx.hamburger.edu A": at + "; ", "www.hamburger.edu A": "192.0.2.80; ",
			"hamburger.edu NS": "mx.hamburger.edu.; ns.example.net.; ", "_pop3._tcp.hamburger.edu SRV": "0 0 0 .; ", "hamburger.edu TXT": "\"v=spf1 mx -all\"; ",
			"_25._tcp.mx.hamburger.edu TLSA": "3 1 1 " + key[:56] + " " + key[56:] + "; ",
		} {
			got := dig(t, at, port, strings.Fields(question)...)
			if question == "hamburger.edu NS" && got == "ns.example.net.; mx.hamburger.edu.; " {
				continue // in turn
			}
			if got != want {
				t.Errorf("%s: %q, want %q", question, got, want)
			}
		}
		checkSigned(t, p, at, port)

		before := serial(t, at, port)
		p.want(exitDone, "", "", "", "domain", "add", "cs.hamburger.edu")
		soon(t, "the new domain's MX", func() bool { return dig(t, at, port, "cs.hamburger.edu", "MX") == "10 mx.hamburger.edu.; " })
		added := serial(t, at, port)
		if added <= before {
			t.Errorf("serial %d, then %d", before, added)
		}
		key = newPair(t, p.dir)
		config("own_addresses = [\"192.0.2.25\"]\n")
		syscall.Kill(os.Getpid(), syscall.SIGHUP)
		soon(t, "the new certificate's TLSA", func() bool {
			return dig(t, at, port, "_25._tcp.mx.hamburger.edu", "TLSA") == "3 1 1 "+key[:56]+" "+key[56:]+"; "
		})
		soon(t, "the new address", func() bool { return dig(t, at, port, "mx.hamburger.edu", "A") == "192.0.2.25; " })
		if n := serial(t, at, port); n <= added {
			t.Errorf("serial %d, then %d", added, n)
		}
		checkSigned(t, p, at, port)
	})
	t.Run("again", func(t *testing.T) {
		p := &program{t, p.dir}
		p.serve()
		if got := dig(t, at, port, "mx.hamburger.edu", "A"); got != "192.0.2.25; " {
			t.Errorf("after a restart: %q", got)
		}
		checkSigned(t, p, at, port)
		// Signed or not is as the configuration says, at once.
		for _, c := range []struct {
			more string
			sign bool
		}{{"own_sign = false\n", false}, {"", true}} {
			config("own_addresses = [\"192.0.2.25\"]\n" + c.more)
			syscall.Kill(os.Getpid(), syscall.SIGHUP)
			soon(t, fmt.Sprintf("signed: %t", c.sign), func() bool {
				return (dig(t, at, port, "hamburger.edu", "DNSKEY") != "") == c.sign && (dig(t, at, port, "hamburger.edu", "NSEC") != "") == c.sign
			})
		}
		checkSigned(t, p, at, port)
	})
}

// checkSigned has our own validator and Debian's delv check the zone, with the
// DS record that is to be published as the anchor.
func checkSigned(t *testing.T, p *program, at, port string) {
	t.Helper()
	_, records, errs := p.run("", "dns", "records", "hamburger.edu")
	if !strings.Contains(records, "; hamburger.edu.  IN NS   mx.hamburger.edu.  ; give it to the zone above") || // the key is too young for a DS record
		!strings.Contains(records, "; hamburger.edu.  IN DS   (not yet)  ; KSK ") ||
		!strings.Contains(records, "; hamburger.edu.  IN MX   10 mx.hamburger.edu.  ; served by this server") {
		t.Fatalf("the records: %s\n%s", errs, records)
	}
	ksk := regexp.MustCompile(`257 3 13 (\S+) (\S+);`).FindStringSubmatch(dig(t, at, port, "hamburger.edu", "DNSKEY"))
	if ksk == nil {
		t.Fatal("the zone has no key")
	}
	anchors, trusted := filepath.Join(p.dir, "anchors"), filepath.Join(p.dir, "delv.anchors")
	if err := os.WriteFile(anchors, []byte("hamburger.edu. IN DNSKEY 257 3 13 "+ksk[1]+ksk[2]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("trust-anchors { \"hamburger.edu.\" static-key 257 3 13 \"%s\"; };\n", ksk[1]+ksk[2])
	if err := os.WriteFile(trusted, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"hamburger.edu MX", "_25._tcp.mx.hamburger.edu TLSA", "nothing.hamburger.edu A"} {
		_, out, errs := p.run("", append([]string{"dns", "query", "--server", net.JoinHostPort(at, port), "--dnssec", "--trust-anchors", anchors}, strings.Fields(q)...)...)
		if !strings.Contains(out, ";; security: secure") {
			t.Errorf("%s: %s\n%s", q, errs, out)
		}
		delv, err := exec.Command("delv", append([]string{"@" + at, "-p", port, "-a", trusted, "+root=hamburger.edu"}, strings.Fields(q)...)...).CombinedOutput()
		if !strings.Contains(string(delv), "fully validated") {
			t.Errorf("delv (of bind9-dnsutils) %s: %v\n%s", q, err, delv)
		}
	}
}
