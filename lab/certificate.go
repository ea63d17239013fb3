package lab

import (
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
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority is the lab's certificate authority, which all its hosts trust.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte // of cert
}

// certificateLife is that of the lab's certificates; jumps of the clock stay
// within it.
const certificateLife = 10 * 365 * 24 * time.Hour

const (
	caFile  = "ca.pem" // the CA's certificate, for clients to import
	caKey   = "ca-key.pem"
	tlsCert = "tls-cert.pem"
	tlsKey  = "tls-key.pem"
)

// openAuthority reads the CA of an earlier run, or makes one.
func openAuthority(dir string, now time.Time) (*authority, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, caFile), filepath.Join(dir, caKey))
	if err == nil {
		key, ok := pair.PrivateKey.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("%s holds no key that signs", caKey)
		}
		return &authority{cert: pair.Leaf, key: key, pem: encodeCertificate(pair.Leaf.Raw)}, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("the lab's certificate authority in %s: %w", dir, err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{Organization: []string{"postrider"}, CommonName: "postrider lab CA"},
		IsCA:    true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, key, err := certify(template, nil, now.Add(-time.Hour), now.Add(certificateLife))
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	a := &authority{cert: cert, key: key, pem: encodeCertificate(der)}
	return a, writePair(dir, caFile, caKey, der, key)
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// certify signs a certificate for a new key, by a or by itself.
func certify(t *x509.Certificate, a *authority, from, to time.Time) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if t.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, nil, err
	}
	t.NotBefore, t.NotAfter = from, to
	parent, signer := t, crypto.Signer(key)
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	return der, key, err
}

func writePair(dir, certFile, keyFile string, der []byte, key *ecdsa.PrivateKey) error {
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	if err := replace(filepath.Join(dir, keyFile), text, 0o600); err != nil {
		return err
	}
	return replace(filepath.Join(dir, certFile), encodeCertificate(der), 0o644)
}

// replace puts a file in the place of another in one step. The lab keeps nothing
// in it that a crash may not take.
func replace(path string, text []byte, mode os.FileMode) error {
	if err := os.WriteFile(path+".new", text, mode); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// issue writes a certificate for a host into its folder; one that has expired
// where that is asked for.
func (a *authority) issue(dir string, h *Host, now time.Time, expired bool) error {
	t := &x509.Certificate{
		Subject:     pkix.Name{Organization: []string{"postrider"}, CommonName: h.Name},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{h.Name, "localhost"},
		IPAddresses: []net.IP{net.IP(h.Address.AsSlice()), net.IPv4(127, 0, 0, 1)},
	}
	from, to := now.Add(-time.Hour), a.cert.NotAfter
	if expired {
		from, to = now.Add(-48*time.Hour), now.Add(-24*time.Hour)
	}
	der, key, err := certify(t, a, from, to)
	if err != nil {
		return err
	}
	return writePair(dir, tlsCert, tlsKey, der, key)
}

// peers is how the lab's hosts verify each other.
func (l *Lab) peers() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(l.authority.cert)
	return &tls.Config{RootCAs: pool, Time: l.clock.Now}
}

// certificates gives a host, or those of a site, certificates anew, as the
// faults in force ask.
func (l *Lab) certificates(name string) error {
	l.mu.Lock()
	machines := l.machines
	l.mu.Unlock()
	var errs []error
	for _, m := range machines {
		if m.host.Kind == KindMail && (m.host.Name == name || m.host.Site == name) {
			errs = append(errs, m.certify())
		}
	}
	return errors.Join(errs...)
}

// certify writes the host's certificate and has a running server take it: by a
// restart, or clients would go on with the sessions that they have.
func (m *machine) certify() error {
	expired := false
	for _, f := range m.lab.Faults() {
		expired = expired || f.Kind == FaultExpired && (f.Host == m.host.Name || f.Host == m.host.Site)
	}
	m.mu.Lock()
	n := m.node
	m.mu.Unlock()
	if err := os.MkdirAll(m.dir(), 0o700); err != nil {
		return err
	}
	if err := m.lab.authority.issue(m.dir(), m.host, m.lab.clock.Now(), expired); err != nil || n == nil {
		return err
	}
	return m.lab.Restart(m.lab.ctx, m.host.Name)
}
