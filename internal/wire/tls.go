package wire

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"postrider/internal/clock"
)

const (
	// lookEvery spaces the looks at the files of a certificate.
	lookEvery = time.Second
	// warnBefore is when the end of a certificate is worth a warning, and
	// warnEvery how often.
	warnBefore = 14 * 24 * time.Hour
	warnEvery  = 24 * time.Hour
)

// Certificates is a source of a server's certificate: PEM files reloaded when
// they change, or a certificate of a local CA kept in a directory. It is safe
// for concurrent use.
type Certificates struct {
	source source
	caFile string
	clock  clock.Clock
	log    *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate // the last valid one; its Leaf is set
	looked  time.Time
	warned  time.Time
	problem string // the last look's, as it was logged
}

// source is where a certificate comes from.
type source interface {
	// load returns the certificate if it is not what load returned last, and
	// nil if it is. An error stays until something changes.
	load(now time.Time) (*tls.Certificate, error)
}

// LoadCertificates reads cert and key (PEM) and looks at them again whenever a
// handshake comes at least a second after the last look. A pair that does not
// load or fit keeps the last valid one and is logged. A certificate that ends
// within 14 days is logged once a day.
func LoadCertificates(cert, key string, log *slog.Logger) (*Certificates, error) {
	return newCertificates(&pemFiles{cert: cert, key: key}, "", log)
}

func newCertificates(src source, caFile string, log *slog.Logger) (*Certificates, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Certificates{source: src, caFile: caFile, clock: clock.System(), log: log}
	if err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// CAFile is the path of the local CA's certificate; "" for loaded certificates.
func (c *Certificates) CAFile() string { return c.caFile }

// Reload looks at the files now (SIGHUP).
func (c *Certificates) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lookLocked(c.clock.Now())
}

// Leaf is the certificate in use.
func (c *Certificates) Leaf() *x509.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current.Leaf
}

// Config is a server configuration: TLS 1.2 and up, this certificate.
func (c *Certificates) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.certificate(), nil
		},
	}
}

// AskingConfig is Config for a service whose clients may log in by a certificate:
// while ask returns true, a handshake asks for one. It goes on without: whose key
// the client has shown is for the caller to judge, who signed it is not looked at.
func (c *Certificates) AskingConfig(ask func() bool) *tls.Config {
	asking := c.Config()
	asking.ClientAuth = tls.RequestClientCert
	// Tickets under keys of its own: a session that began when nobody asked is not
	// resumed now, as it would have no certificate.
	asking.WrapSession = asking.EncryptTicket
	asking.UnwrapSession = asking.DecryptTicket
	config := c.Config()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if ask() {
			return asking, nil
		}
		return nil, nil // config itself
	}
	return config
}

func (c *Certificates) certificate() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	if since := now.Sub(c.looked); since >= lookEvery || since < 0 {
		c.complainLocked(c.lookLocked(now))
	}
	return c.current
}

// complainLocked logs a problem when it is new.
func (c *Certificates) complainLocked(err error) {
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	if problem != "" && problem != c.problem {
		c.log.Error("certificate not replaced, the last valid one stays", "err", err)
	}
	c.problem = problem
}

func (c *Certificates) lookLocked(now time.Time) error {
	c.looked = now
	fresh, err := c.source.load(now)
	if fresh != nil {
		if c.current != nil {
			c.log.Info("certificate replaced", "subject", fresh.Leaf.Subject.String(), "until", fresh.Leaf.NotAfter)
		}
		c.current, c.warned = fresh, time.Time{}
	}
	if c.current != nil {
		c.warnLocked(now)
	}
	return err
}

func (c *Certificates) warnLocked(now time.Time) {
	left := c.current.Leaf.NotAfter.Sub(now)
	if left > warnBefore || (!c.warned.IsZero() && now.Sub(c.warned) < warnEvery) {
		return
	}
	c.warned = now
	if left <= 0 {
		c.log.Error("the TLS certificate has expired", "subject", c.current.Leaf.Subject.String(), "until", c.current.Leaf.NotAfter)
		return
	}
	c.log.Warn("the TLS certificate ends soon", "subject", c.current.Leaf.Subject.String(), "until", c.current.Leaf.NotAfter,
		"days", int(left/(24*time.Hour)))
}

// pemFiles is a certificate chain and its key in two files.
type pemFiles struct {
	cert, key         string
	certInfo, keyInfo os.FileInfo // as last read; nil before
	err               error       // what came of that
}

func (f *pemFiles) load(time.Time) (*tls.Certificate, error) {
	certInfo, err := os.Stat(f.cert)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate: %w", err)
	}
	keyInfo, err := os.Stat(f.key)
	if err != nil {
		return nil, fmt.Errorf("TLS key: %w", err)
	}
	if unchanged(f.certInfo, certInfo) && unchanged(f.keyInfo, keyInfo) {
		return nil, f.err
	}
	f.certInfo, f.keyInfo = certInfo, keyInfo
	pair, err := f.read(keyInfo.Mode().Perm())
	f.err = err
	return pair, err
}

func (f *pemFiles) read(keyMode os.FileMode) (*tls.Certificate, error) {
	if keyMode&0o037 != 0 {
		return nil, fmt.Errorf("TLS key %s has mode %04o: others than its owner and group can use it; chmod 0600 it", f.key, keyMode)
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, fmt.Errorf("load TLS certificate %s with key %s: %w", f.cert, f.key, err)
	}
	return &pair, nil
}

// unchanged tells whether a file is the one that was read.
func unchanged(was, is os.FileInfo) bool {
	return was != nil && os.SameFile(was, is) && was.Size() == is.Size() &&
		was.ModTime().Equal(is.ModTime()) && was.Mode() == is.Mode()
}

// TLSName is the version and the cipher suite of a connection; "" without TLS.
func TLSName(state *tls.ConnectionState) string {
	if state == nil {
		return ""
	}
	return tls.VersionName(state.Version) + " " + tls.CipherSuiteName(state.CipherSuite)
}
