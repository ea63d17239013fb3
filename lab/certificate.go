package lab

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// The lab has a certificate authority in its folder, which all its hosts trust;
// tlsFile, in the folder of a mail host, is the host's certificate with its key.
const (
	authorityName = "postrider lab CA"
	tlsFile       = "server.pem"
)

// issue writes the certificate of a host; one that has expired where that is asked
// for. Else it holds as long as the authority: jumps of the clock stay within.
func (m *machine) issue(expired bool) error {
	now := m.lab.clock.Now()
	ca := m.lab.authority
	from, to := now.Add(-time.Hour), ca.Certificate().NotAfter
	if expired {
		from, to = now.Add(-48*time.Hour), now.Add(-24*time.Hour)
	}
	if err := os.MkdirAll(m.dir(), 0o700); err != nil {
		return err
	}
	names := []string{m.host.Name, "localhost", m.host.Address.String(), "127.0.0.1"}
	_, err := ca.Issue(filepath.Join(m.dir(), tlsFile), names, from, to)
	return err
}

// peers is how the lab's hosts verify each other.
func (l *Lab) peers() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(l.authority.Certificate())
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
	if err := m.issue(expired); err != nil || n == nil {
		return err
	}
	return m.lab.Restart(m.lab.ctx, m.host.Name)
}
