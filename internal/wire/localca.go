package wire

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The files of a local CA's directory. Each holds all that must agree, so that
// no crash leaves a certificate beside the key of another.
const (
	caKeyFile = "ca-key.pem" // the CA's certificate and key
	leafFile  = "server.pem" // the server's certificate and key

	// CAFile has the CA's certificate alone, to give to clients.
	CAFile = "ca.pem"
)

const (
	caLife      = 10 * 365 * 24 * time.Hour
	leafLife    = 398 * 24 * time.Hour
	renewBefore = 30 * 24 * time.Hour
	backdate    = time.Hour // for clients whose clock is slow
	// retryRenewal spaces the attempts to renew after one that failed.
	retryRenewal = time.Hour
)

// LocalCertificates makes or opens a CA and a certificate for names in dir
// (0700; files 0600). names may hold IP addresses. It renews the certificate when
// fewer than 30 days are left or the names changed, also while the server runs.
// CAFile names the CA's PEM.
func LocalCertificates(dir string, names []string, log *slog.Logger) (*Certificates, error) {
	if len(names) == 0 {
		return nil, errors.New("a local certificate needs a name")
	}
	if err := privateDirectory(dir); err != nil {
		return nil, err
	}
	return newCertificates(&localCA{dir: dir, names: names}, filepath.Join(dir, CAFile), log)
}

// LocalCertificate reads the server's certificate, in PEM and with its key, that
// LocalCertificates made in dir; fs.ErrNotExist before it did.
func LocalCertificate(dir string) ([]byte, error) {
	return os.ReadFile(filepath.Join(dir, leafFile))
}

// localCA is a CA and the one certificate that it signs. While the server runs
// the directory is its own, so that only the first load reads it.
type localCA struct {
	dir    string
	names  []string
	leaf   *tls.Certificate
	failed time.Time
}

func (l *localCA) load(now time.Time) (*tls.Certificate, error) {
	if l.leaf != nil && l.leaf.Leaf.NotAfter.Sub(now) >= renewBefore {
		return nil, nil
	}
	if !l.failed.IsZero() && now.Sub(l.failed) < retryRenewal {
		return nil, nil
	}
	leaf, err := l.openOrMake(now)
	if err != nil {
		l.failed = now
		return nil, err
	}
	l.leaf, l.failed = leaf, time.Time{}
	return leaf, nil
}

func (l *localCA) openOrMake(now time.Time) (*tls.Certificate, error) {
	ca, err := OpenAuthority(l.dir, "postrider local CA of "+l.names[0], now)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(l.dir, leafFile)
	leaf, err := readPair(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil && l.fits(leaf.Leaf, ca.Certificate(), now) {
		return leaf, nil
	}
	return ca.Issue(path, l.names, now.Add(-backdate), now.Add(leafLife))
}

// fits tells whether a certificate is by this CA, for these names, and for long
// enough.
func (l *localCA) fits(leaf, ca *x509.Certificate, now time.Time) bool {
	names, addrs := splitNames(l.names)
	sameAddr := func(a, b net.IP) bool { return a.Equal(b) }
	return leaf.CheckSignatureFrom(ca) == nil &&
		leaf.NotAfter.Sub(now) >= renewBefore && now.After(leaf.NotBefore) &&
		slices.Equal(leaf.DNSNames, names) && slices.EqualFunc(leaf.IPAddresses, addrs, sameAddr)
}

// Authority is a certificate authority in a directory.
type Authority struct {
	pair *tls.Certificate
}

// OpenAuthority reads the authority of a directory that only we can enter, or makes
// one with that name for ten years. Its certificate stands alone in CAFile there, for
// clients.
func OpenAuthority(dir, name string, now time.Time) (*Authority, error) {
	path := filepath.Join(dir, caKeyFile)
	ca, err := readPair(path)
	// All clients have to trust a new one; the old one ends anyway.
	if ending := err == nil && ca.Leaf.NotAfter.Sub(now) < renewBefore; ending || errors.Is(err, fs.ErrNotExist) {
		ca, err = makePair(path, &x509.Certificate{
			Subject:               pkix.Name{Organization: []string{"postrider"}, CommonName: name},
			NotBefore:             now.Add(-backdate),
			NotAfter:              now.Add(caLife),
			IsCA:                  true,
			BasicConstraintsValid: true,
			MaxPathLenZero:        true,
			KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}, nil)
	}
	if err != nil {
		return nil, err
	}
	a := &Authority{pair: ca}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Leaf.Raw})
	path = filepath.Join(dir, CAFile)
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, public) {
		return a, nil
	}
	return a, replaceFile(path, public)
}

// Certificate is that of the authority itself.
func (a *Authority) Certificate() *x509.Certificate { return a.pair.Leaf }

// Issue makes a server's key and a certificate for its names, some of which may be
// IP addresses, and keeps both in one file. It holds no longer than the authority's.
func (a *Authority) Issue(path string, names []string, from, to time.Time) (*tls.Certificate, error) {
	t := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"postrider"}, CommonName: names[0]},
		NotBefore:             from,
		NotAfter:              to,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if end := a.Certificate().NotAfter; t.NotAfter.After(end) {
		t.NotAfter = end
	}
	t.DNSNames, t.IPAddresses = splitNames(names)
	return makePair(path, t, a.pair)
}

func splitNames(list []string) (names []string, addrs []net.IP) {
	for _, n := range list {
		if ip := net.ParseIP(n); ip != nil {
			addrs = append(addrs, ip)
		} else {
			names = append(names, n)
		}
	}
	return names, addrs
}

// makePair makes a key and a certificate signed by ca, or by itself, and keeps
// both in one file.
func makePair(path string, template *x509.Certificate, ca *tls.Certificate) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a TLS key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a TLS certificate: %w", err)
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	parent, signer := template, crypto.PrivateKey(key)
	if ca != nil {
		parent, signer = ca.Leaf, ca.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("make a TLS certificate for %q: %w", template.Subject.CommonName, err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make a TLS key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
	if err := replaceFile(path, text); err != nil {
		return nil, err
	}
	return parsePair(path, text)
}

// readPair reads what makePair wrote; the file must be private.
func readPair(path string) (*tls.Certificate, error) {
	if err := private(path, 0o600, "file"); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parsePair(path, text)
}

func parsePair(path string, text []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, fmt.Errorf("%s is damaged; remove it to have a new one made: %w", path, err)
	}
	return &pair, nil
}

// unfinished begins the names of files that replaceFile has not renamed yet.
const unfinished = ".new-"

// privateDirectory makes dir, or checks that nobody else can enter it, and
// removes what a crash within replaceFile left there.
func privateDirectory(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := private(dir, 0o700, "directory"); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), unfinished) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func private(path string, most fs.FileMode, what string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if perm := info.Mode().Perm(); perm&^most != 0 {
		return fmt.Errorf("%s %s holds secrets and has mode %04o; chmod %04o it", what, path, perm, most)
	}
	return nil
}

// replaceFile makes path hold text, in one step that survives a crash.
func replaceFile(path string, text []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, unfinished+"*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
