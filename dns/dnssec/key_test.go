package dnssec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	for _, alg := range []uint8{dns.ECDSAP256SHA256, dns.ED25519} {
		for _, zone := range []string{"example.", ".", "0/25.2.0.192.in-addr.arpa."} {
			k, err := GenerateKey(zone, KSK, alg, 3600)
			if err != nil {
				t.Fatal(err)
			}
			path, err := k.Write(dir)
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(path + ".private"); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info, err)
			}
			for _, name := range []string{path, path + ".key", path + ".private"} {
				got, err := ReadKey(name)
				if err != nil || got.record.String() != k.record.String() || got.Tag() != k.Tag() || !got.SEP() {
					t.Errorf("%s: %v, %v", name, got, err)
				}
			}
			if _, err := k.Write(dir); err == nil {
				t.Error("a key was written over")
			}
			if err := os.Chmod(path+".private", 0o640); err != nil {
				t.Fatal(err)
			}
			if _, err := ReadKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
				t.Errorf("a private key for others to read: %v", err)
			}
		}
	}
	if _, err := GenerateKey("example.", ZSK, dns.RSASHA256, 3600); err == nil {
		t.Error("made a key of RSA")
	}
}

// TestKeyTagZero: a key that cannot sign is refused when it is read.
func TestKeyTagZero(t *testing.T) {
	for {
		k := newTestKey(t, "example.", 0, dns.ED25519)
		k.Flags = -k.KeyTag()
		if k.KeyTag() != 0 {
			continue
		}
		if _, err := newKey(k.DNSKEY, k.signer); err == nil || !strings.Contains(err.Error(), "tag is 0") {
			t.Errorf("%v", err)
		}
		return
	}
}

// TestKeyFilesRefused: what is not a pair of keys.
func TestKeyFilesRefused(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, b := newTestKey(t, "example.", 257, dns.ED25519), newTestKey(t, "example.", 257, dns.ED25519)
	write("other.key", a.String()+"\n")
	write("other.private", b.PrivateKeyString(b.signer))
	write("none.key", "; nothing\n")
	write("a.key", "example. 3600 IN A 192.0.2.1\n")
	write("old.key", "example. 3600 IN DNSKEY 257 2 15 "+a.PublicKey+"\n")
	write("junk.key", a.String()+"\n")
	write("junk.private", "Private-key-format: v1.3\nAlgorithm: 15 (ED25519)\nPrivateKey: AAAA\n")
	p := newTestKey(t, "example.", 257, dns.ECDSAP256SHA256)
	write("half.key", p.String()+"\n")
	write("half.private", "Private-key-format: v1.3\nAlgorithm: 13 (ECDSAP256SHA256)\n")
	write("zero.key", p.String()+"\n")
	write("zero.private", "Private-key-format: v1.3\nAlgorithm: 13 (ECDSAP256SHA256)\nPrivateKey: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
	write("large.key", strings.Repeat("; comment\n", maxKeyFile/10+1)+a.String()+"\n")
	write("alone.key", a.String()+"\n")
	for _, name := range []string{"other", "none", "a", "old", "junk", "half", "zero", "large", "alone", "missing"} {
		if k, err := ReadKey(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s: %v", name, k)
		}
	}
	// An RSA key can be read, and signs.
	r := newTestKey(t, "example.", 257, dns.RSASHA256)
	write("rsa.key", r.String()+"\n")
	write("rsa.private", r.PrivateKeyString(r.signer))
	k, err := ReadKey(filepath.Join(dir, "rsa"))
	if err != nil {
		t.Fatal(err)
	}
	set := []dns.RR{record(t, "www.example. 60 IN A 192.0.2.1")}
	if sig, err := k.Sign(set, start, start.Add(time.Hour)); err != nil || sig.Verify(r.DNSKEY, set) != nil {
		t.Errorf("%v, %v", sig, err)
	}
}

func FuzzReadKey(f *testing.F) {
	k, err := GenerateKey("example.", ZSK, dns.ED25519, 3600)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(k.record.String()), []byte(k.record.PrivateKeyString(k.signer)))
	f.Add([]byte("example. IN DNSKEY 256 3 8 AwEAAag="), []byte("Private-key-format: v1.2\nAlgorithm: 8\nModulus: AA==\n"))
	f.Fuzz(func(t *testing.T, public, private []byte) {
		dir := t.TempDir()
		for name, text := range map[string][]byte{"k.key": public, "k.private": private} {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		k, err := ReadKey(filepath.Join(dir, "k"))
		if err != nil {
			return
		}
		set := []dns.RR{record(t, "www.example. 60 IN A 192.0.2.1")}
		set[0].Header().Name = k.record.Hdr.Name
		if sig, err := k.Sign(set, start, start.Add(time.Hour)); err != nil || sig.Verify(k.record, set) != nil {
			t.Errorf("a key that was read does not sign: %v, %v", sig, err)
		}
	})
}
