package wire

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// logBuffer is what was logged, for tests to read meanwhile.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Reset()
}

func testLog() (*slog.Logger, *logBuffer) {
	b := new(logBuffer)
	return slog.New(slog.NewTextHandler(b, nil)), b
}

// writePair writes a self-signed certificate and its key as an operator would.
func writePair(t *testing.T, cert, key, name string, life time.Duration) {
	t.Helper()
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: name},
		DNSNames:  []string{name},
		NotBefore: time.Now().Add(-time.Hour),
		NotAfter:  time.Now().Add(life),
	}
	both := filepath.Join(t.TempDir(), "pair.pem")
	pair, err := makePair(both, template, nil)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	write(t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := replaceFile(path, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func name(t *testing.T, c *Certificates) string {
	t.Helper()
	pair, err := c.Config().GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf.Subject.CommonName
}

func TestLoadCertificatesReloads(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	synctest.Test(t, func(t *testing.T) {
		log, logged := testLog()
		writePair(t, cert, key, "one.example", 90*24*time.Hour)
		c, err := LoadCertificates(cert, key, log)
		if err != nil {
			t.Fatal(err)
		}
		if c.CAFile() != "" || name(t, c) != "one.example" {
			t.Errorf("CA file %q, name %q", c.CAFile(), name(t, c))
		}
		writePair(t, cert, key, "two.example", 90*24*time.Hour)
		if got := name(t, c); got != "one.example" {
			t.Errorf("looked within a second: %s", got)
		}
		time.Sleep(lookEvery)
		if got := name(t, c); got != "two.example" {
			t.Errorf("after a second: %s", got)
		}

		// Certificate and key are replaced one after the other: between the
		// two, and while a file is missing, the last valid pair stays.
		writePair(t, filepath.Join(dir, "new-cert.pem"), filepath.Join(dir, "new-key.pem"), "three.example", 90*24*time.Hour)
		for _, step := range []func() error{
			func() error { return os.Rename(filepath.Join(dir, "new-cert.pem"), cert) },
			func() error { return os.Remove(key) },
		} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
			logged.Reset()
			for range 3 {
				time.Sleep(lookEvery)
				if got := name(t, c); got != "two.example" {
					t.Errorf("halfway: %s", got)
				}
			}
			if n := strings.Count(logged.String(), "last valid one stays"); n != 1 {
				t.Errorf("logged %d times:\n%s", n, logged)
			}
			if err := c.Reload(); err == nil {
				t.Error("Reload has nothing to say about a pair that does not fit")
			}
		}
		if err := os.Rename(filepath.Join(dir, "new-key.pem"), key); err != nil {
			t.Fatal(err)
		}
		if err := c.Reload(); err != nil || name(t, c) != "three.example" {
			t.Errorf("Reload: %v, %s", err, name(t, c))
		}

		if err := os.Chmod(key, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := c.Reload(); err == nil || !strings.Contains(err.Error(), "chmod 0600") {
			t.Errorf("a key that all can read: %v", err)
		}
		if _, err := LoadCertificates(cert, key, nil); err == nil {
			t.Error("started with a key that all can read")
		}
	})
}

func TestExpiryWarning(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	synctest.Test(t, func(t *testing.T) {
		log, logged := testLog()
		writePair(t, cert, key, "a.example", 15*24*time.Hour)
		c, err := LoadCertificates(cert, key, log)
		if err != nil || logged.String() != "" {
			t.Fatalf("%v, %s", err, logged)
		}
		for day := 1; day <= 16; day++ {
			time.Sleep(24 * time.Hour)
			logged.Reset()
			name(t, c)
			time.Sleep(lookEvery)
			name(t, c)
			want := "ends soon"
			if day >= 15 {
				want = "has expired"
			}
			if n := strings.Count(logged.String(), want); n != 1 {
				t.Errorf("day %d: %q logged %d times: %s", day, want, n, logged)
			}
		}
	})
}

func TestLoadCertificatesErrors(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, cert, key, "a.example", time.Hour)
	other := filepath.Join(dir, "other.pem")
	writePair(t, filepath.Join(dir, "x"), other, "b.example", time.Hour)
	garbage := filepath.Join(dir, "garbage.pem")
	write(t, garbage, "no PEM")
	for _, tt := range []struct{ cert, key string }{
		{cert, other}, {cert, garbage}, {garbage, key}, {filepath.Join(dir, "none"), key}, {cert, filepath.Join(dir, "none")},
	} {
		_, err := LoadCertificates(tt.cert, tt.key, nil)
		if err == nil || (!strings.Contains(err.Error(), tt.cert) && !strings.Contains(err.Error(), tt.key)) {
			t.Errorf("LoadCertificates(%s, %s): %v", tt.cert, tt.key, err)
		}
	}
}

func TestLocalCertificates(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	names := []string{"mail.example.test", "localhost", "127.0.0.1"}
	c, err := LocalCertificates(dir, names, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(c.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte("PRIVATE")) {
		t.Error("the CA's file for clients has its key")
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		t.Fatal("no certificate in the CA's file")
	}
	for _, n := range names {
		if _, err := c.Leaf().Verify(x509.VerifyOptions{DNSName: n, Roots: roots}); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("%v, %v", entries, err)
	}
	for _, e := range entries {
		if info, _ := e.Info(); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
	if err := os.WriteFile(filepath.Join(dir, unfinished+"1"), []byte("half a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := LocalCertificates(dir, names, nil)
	if err != nil || !again.Leaf().Equal(c.Leaf()) {
		t.Errorf("a second start: %v, the same certificate: %v", err, again.Leaf().Equal(c.Leaf()))
	}
	if _, err := os.Stat(filepath.Join(dir, unfinished+"1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a crash left stays: %v", err)
	}
	renamed, err := LocalCertificates(dir, []string{"other.example.test"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := renamed.Leaf().Verify(x509.VerifyOptions{DNSName: "other.example.test", Roots: roots}); err != nil {
		t.Errorf("after a change of names: %v", err)
	}
}

// TestAuthority: what it issues is by it, for the names and the time that were asked
// for, and ends with it; another run has the same one.
func TestAuthority(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	a, err := OpenAuthority(dir, "test CA", now)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "host.pem")
	for _, tt := range []struct{ from, to, end time.Duration }{{-48 * time.Hour, -24 * time.Hour, -24 * time.Hour}, {-time.Hour, 2 * caLife, caLife}} {
		pair, err := a.Issue(path, []string{"mx.example.test", "127.0.0.2"}, now.Add(tt.from), now.Add(tt.to))
		if err != nil {
			t.Fatal(err)
		}
		leaf := pair.Leaf
		if leaf.CheckSignatureFrom(a.Certificate()) != nil || leaf.VerifyHostname("mx.example.test") != nil || leaf.VerifyHostname("127.0.0.2") != nil || leaf.VerifyHostname("test") == nil {
			t.Errorf("issued for %v and %v by %v", leaf.DNSNames, leaf.IPAddresses, leaf.Issuer)
		}
		if got := leaf.NotAfter.Sub(now.Add(tt.end)).Abs(); got > time.Second {
			t.Errorf("asked to end after %v: ends %v, %v off", tt.to, leaf.NotAfter, got)
		}
		kept, err := readPair(path) // refuses a key that others can read
		if err != nil || !kept.Leaf.Equal(leaf) {
			t.Errorf("kept: %v", err)
		}
	}
	again, err := OpenAuthority(dir, "another name", now)
	if err != nil || !again.Certificate().Equal(a.Certificate()) {
		t.Errorf("opened again: %v", err)
	}
}

func TestLocalCertificatesRenew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	synctest.Test(t, func(t *testing.T) {
		log, logged := testLog()
		c, err := LocalCertificates(dir, []string{"mail.example.test"}, log)
		if err != nil {
			t.Fatal(err)
		}
		ca, err := readPair(filepath.Join(dir, caKeyFile))
		if err != nil {
			t.Fatal(err)
		}
		first := c.Leaf()
		time.Sleep(leafLife - renewBefore - time.Minute)
		name(t, c)
		if !c.Leaf().Equal(first) {
			t.Error("renewed too early")
		}
		time.Sleep(2 * time.Minute)
		name(t, c)
		second := c.Leaf()
		if second.Equal(first) || second.CheckSignatureFrom(ca.Leaf) != nil {
			t.Error("not renewed by the same CA 30 days before the end")
		}
		// The disk fails at the next renewal: the certificate stays until it ends.
		if err := os.Rename(dir, dir+".gone"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(leafLife - renewBefore + time.Minute)
		logged.Reset()
		name(t, c)
		if !c.Leaf().Equal(second) || !strings.Contains(logged.String(), "stays") {
			t.Errorf("after a failed renewal: %s", logged)
		}
		if err := os.Rename(dir+".gone", dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retryRenewal)
		name(t, c)
		if c.Leaf().Equal(second) {
			t.Error("the renewal was not tried again")
		}
		// Near its own end the CA is made anew.
		time.Sleep(caLife)
		name(t, c)
		now, err := readPair(filepath.Join(dir, caKeyFile))
		if err != nil || now.Leaf.Equal(ca.Leaf) || c.Leaf().CheckSignatureFrom(now.Leaf) != nil {
			t.Errorf("the CA ended and no new one signs: %v", err)
		}
	})
}

func TestLocalCertificatesRefuses(t *testing.T) {
	make := func(t *testing.T) string {
		dir := filepath.Join(t.TempDir(), "tls")
		if _, err := LocalCertificates(dir, []string{"a.example"}, nil); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for _, tt := range []struct {
		what  string
		spoil func(dir string) error
		want  string
	}{
		{"open directory", func(d string) error { return os.Chmod(d, 0o750) }, "chmod 0700"},
		{"open CA key", func(d string) error { return os.Chmod(filepath.Join(d, caKeyFile), 0o640) }, "chmod 0600"},
		{"open key", func(d string) error { return os.Chmod(filepath.Join(d, leafFile), 0o604) }, "chmod 0600"},
		{"damaged key", func(d string) error { return os.Truncate(filepath.Join(d, leafFile), 100) }, "damaged"},
	} {
		dir := make(t)
		if err := tt.spoil(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := LocalCertificates(dir, []string{"a.example"}, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.what, err)
		}
	}
	dir := make(t)
	if err := os.Remove(filepath.Join(dir, CAFile)); err != nil {
		t.Fatal(err)
	}
	c, err := LocalCertificates(dir, []string{"a.example"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.CAFile()); err != nil {
		t.Errorf("the CA's file for clients was not made again: %v", err)
	}
	if _, err := LocalCertificates(filepath.Join(t.TempDir(), "tls"), nil, nil); err == nil {
		t.Error("a certificate for no name")
	}
}

func TestConfigRefusesOldVersions(t *testing.T) {
	c, err := LocalCertificates(filepath.Join(t.TempDir(), "tls"), []string{"a.example"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if v := c.Config().MinVersion; v != tls.VersionTLS12 {
		t.Errorf("MinVersion = %x", v)
	}
}
