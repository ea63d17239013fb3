package wire

import (
	"crypto/tls"
	"log/slog"
)

// Certificates is a source of a server's certificate: PEM files reloaded when
// they change, or a certificate of a local CA kept in a directory.
type Certificates struct{ _ struct{} }

// LoadCertificates reads cert and key (PEM) and looks at them again whenever a
// handshake comes at least a second after the last look. A pair that does not
// load or fit keeps the last valid one and is logged.
func LoadCertificates(cert, key string, log *slog.Logger) (*Certificates, error) {
	panic("unimplemented")
}

// LocalCertificates makes or opens a CA and a certificate for names in dir
// (0700; files 0600). names may hold IP addresses. It renews the certificate when
// fewer than 30 days are left or the names changed. CAFile names the CA's PEM.
func LocalCertificates(dir string, names []string, log *slog.Logger) (*Certificates, error) {
	panic("unimplemented")
}

// CAFile is the path of the local CA's certificate; "" for loaded certificates.
func (c *Certificates) CAFile() string { panic("unimplemented") }

// Reload looks at the files now (SIGHUP).
func (c *Certificates) Reload() error { panic("unimplemented") }

// Config is a server configuration: TLS 1.2 and up, this certificate.
func (c *Certificates) Config() *tls.Config { panic("unimplemented") }
