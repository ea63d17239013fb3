package directory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"postrider/mailstore"
	"postrider/mta"
)

const (
	mechExternal = "EXTERNAL"
	// maxCertificates is how many certificates one account may have.
	maxCertificates = 32
	// minFingerprint is how much of a fingerprint names a certificate, in
	// hexadecimal digits.
	minFingerprint = 8
	// maxSubject bounds what is kept of a certificate's name, in octets.
	maxSubject = 256
)

// Where the store keeps certificates: one row for each, by its fingerprint; the
// fingerprints of an account, by its id; how many there are in all.
const (
	certificateSetting  = "directory/certificate/"
	certificatesSetting = "directory/certificates/"
	certificatesCount   = "directory/certificates"
)

// ErrNoCertificate: RemoveCertificate.
var ErrNoCertificate = errors.New("no such certificate")

// Certificate is a TLS client certificate that logs an account in. It stands for
// its public key: a certificate that renews it with the same key logs in, too.
type Certificate struct {
	Account     string    `json:"account"`     // address
	Fingerprint string    `json:"fingerprint"` // SHA-256 of the SubjectPublicKeyInfo, 64 hexadecimal digits
	Subject     string    `json:"subject"`
	NotAfter    time.Time `json:"not_after"` // of the certificate that was added
	Added       time.Time `json:"added"`
}

// certificateRow is how the store keeps a Certificate.
type certificateRow struct {
	ID mailstore.AccountID `json:"id"`
	Certificate
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// AsksCertificates tells whether any account has a certificate, so that it is of
// use to ask clients for theirs.
func (d *Directory) AsksCertificates() bool { return d.certificates.Load() > 0 }

// AddCertificate lets the first certificate in text (PEM) log the account in. A
// key belongs to one account at most (ErrExists).
func (d *Directory) AddCertificate(ctx context.Context, address string, text []byte) (Certificate, error) {
	a, err := parse(address)
	if err != nil {
		return Certificate{}, err
	}
	cert, err := parseCertificate(text)
	if err != nil {
		return Certificate{}, err
	}
	now := d.clock.Now()
	if now.After(cert.NotAfter) {
		return Certificate{}, fmt.Errorf("a certificate that ended on %s is %w", cert.NotAfter.Format(time.DateOnly), ErrInvalid)
	}
	row := certificateRow{Certificate: Certificate{
		Fingerprint: fingerprint(cert), Subject: shown(cert), NotAfter: cert.NotAfter.UTC(), Added: now.UTC().Truncate(time.Second),
	}}
	err = d.update(ctx, func(tx *mailstore.Tx) error {
		account, err := accountAt(&tx.View, a.Fold())
		if err != nil {
			return err
		}
		if account.Shared {
			return errShared(account.Address)
		}
		row.ID, row.Account = account.ID, account.Address
		return addCertificate(tx, row)
	})
	if err != nil {
		return Certificate{}, err
	}
	return row.Certificate, d.countCertificates(ctx)
}

func addCertificate(tx *mailstore.Tx, row certificateRow) error {
	other, err := certificateOf(&tx.View, row.Fingerprint)
	if err == nil {
		return fmt.Errorf("that key logs in %s: the certificate %w", other.Account, ErrExists)
	}
	if !errors.Is(err, mailstore.ErrNotFound) {
		return err
	}
	list, err := certificatesOf(&tx.View, row.ID)
	if err != nil {
		return err
	}
	if len(list) >= maxCertificates {
		return fmt.Errorf("more than %d certificates of an account are %w: remove one first", maxCertificates, ErrInvalid)
	}
	text, err := json.Marshal(row)
	if err != nil {
		return err
	}
	if err := tx.PutSetting(certificateSetting+row.Fingerprint, text); err != nil {
		return err
	}
	return putCertificates(tx, row.ID, append(list, row.Fingerprint), 1)
}

// parseCertificate reads the first certificate in PEM text.
func parseCertificate(text []byte) (*x509.Certificate, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the certificate is %w: %s", ErrInvalid, err)
		}
		return c, nil
	}
	return nil, fmt.Errorf("a file without a certificate in PEM (-----BEGIN CERTIFICATE-----) is %w", ErrInvalid)
}

// shown is a certificate's name, for people.
func shown(c *x509.Certificate) string {
	s := strings.ToValidUTF8(c.Subject.String(), "?")
	if len(s) > maxSubject {
		s = strings.ToValidUTF8(s[:maxSubject], "")
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// Certificates lists those of an account, or of all when address is "".
func (d *Directory) Certificates(ctx context.Context, address string) ([]Certificate, error) {
	list := []Certificate{}
	err := d.store.View(ctx, func(v *mailstore.View) error {
		accounts, err := accountsNamed(v, address)
		if err != nil {
			return err
		}
		for _, account := range accounts {
			prints, err := certificatesOf(v, account.ID)
			if err != nil {
				return err
			}
			for _, f := range prints {
				row, err := certificateOf(v, f)
				if err != nil {
					return err
				}
				list = append(list, row.Certificate)
			}
		}
		return nil
	})
	return list, err
}

// accountsNamed is the account with the address, or all when it is "".
func accountsNamed(v *mailstore.View, address string) ([]mailstore.Account, error) {
	if address == "" {
		return v.Accounts()
	}
	a, err := parse(address)
	if err != nil {
		return nil, err
	}
	account, err := accountAt(v, a.Fold())
	return []mailstore.Account{account}, err
}

// RemoveCertificate ends what AddCertificate began. A part of the fingerprint from
// its beginning will do, of 8 digits at least, where it fits one certificate.
func (d *Directory) RemoveCertificate(ctx context.Context, address, print string) error {
	a, err := parse(address)
	if err != nil {
		return err
	}
	print = strings.ToLower(strings.ReplaceAll(print, ":", ""))
	if len(print) < minFingerprint {
		return fmt.Errorf("less than %d digits of a fingerprint are %w", minFingerprint, ErrInvalid)
	}
	err = d.update(ctx, func(tx *mailstore.Tx) error {
		account, err := accountAt(&tx.View, a.Fold())
		if err != nil {
			return err
		}
		list, err := certificatesOf(&tx.View, account.ID)
		if err != nil {
			return err
		}
		fits := func(f string) bool { return strings.HasPrefix(f, print) }
		i := slices.IndexFunc(list, fits)
		switch {
		case i < 0:
			return fmt.Errorf("%s of %s: %w", print, account.Address, ErrNoCertificate)
		case slices.ContainsFunc(list[i+1:], fits):
			return fmt.Errorf("a fingerprint that fits several certificates is %w: give more of it", ErrInvalid)
		}
		if err := tx.PutSetting(certificateSetting+list[i], nil); err != nil {
			return err
		}
		return putCertificates(tx, account.ID, slices.Delete(list, i, i+1), -1)
	})
	if err != nil {
		return err
	}
	return d.countCertificates(ctx)
}

// dropCertificates removes those of an account that goes.
func dropCertificates(tx *mailstore.Tx, account mailstore.AccountID) error {
	list, err := certificatesOf(&tx.View, account)
	if err != nil || len(list) == 0 {
		return err
	}
	for _, f := range list {
		if err := tx.PutSetting(certificateSetting+f, nil); err != nil {
			return err
		}
	}
	return putCertificates(tx, account, nil, -len(list))
}

// certificateOf is the certificate with a fingerprint; mailstore.ErrNotFound.
func certificateOf(v *mailstore.View, print string) (row certificateRow, err error) {
	text, err := v.Setting(certificateSetting + print)
	if err != nil {
		return row, err
	}
	if err := json.Unmarshal(text, &row); err != nil {
		return row, fmt.Errorf("the row of certificate %s is damaged", print)
	}
	return row, nil
}

// certificatesOf lists the fingerprints of an account.
func certificatesOf(v *mailstore.View, account mailstore.AccountID) ([]string, error) {
	text, err := v.Setting(accountCertificates(account))
	if errors.Is(err, mailstore.ErrNotFound) {
		return nil, nil
	}
	return strings.Fields(string(text)), err
}

func accountCertificates(account mailstore.AccountID) string {
	return certificatesSetting + strconv.FormatInt(int64(account), 10)
}

// putCertificates writes the list of an account, and how many there are in all,
// which is more by change.
func putCertificates(tx *mailstore.Tx, account mailstore.AccountID, list []string, change int) error {
	var text []byte
	if len(list) > 0 {
		text = []byte(strings.Join(list, "\n"))
	}
	if err := tx.PutSetting(accountCertificates(account), text); err != nil {
		return err
	}
	n, err := certificateCount(&tx.View)
	if err != nil {
		return err
	}
	if n += change; n <= 0 {
		return tx.PutSetting(certificatesCount, nil)
	}
	return tx.PutSetting(certificatesCount, []byte(strconv.Itoa(n)))
}

func certificateCount(v *mailstore.View) (int, error) {
	text, err := v.Setting(certificatesCount)
	if errors.Is(err, mailstore.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil {
		return 0, errors.New("the count of certificates is damaged")
	}
	return n, nil
}

// countCertificates reads how many there are.
func (d *Directory) countCertificates(ctx context.Context) error {
	return d.store.View(ctx, func(v *mailstore.View) error {
		n, err := certificateCount(v)
		if err == nil {
			d.certificates.Store(int64(n))
		}
		return err
	})
}

// presented is the certificate that the client of a connection has shown and
// proved to have the key of; nil without one.
func presented(p Peer) *x509.Certificate {
	if p.TLS == nil || len(p.TLS.PeerCertificates) == 0 {
		return nil
	}
	return p.TLS.PeerCertificates[0]
}

// certified is the account whose certificate p has shown; ID 0 for nobody's.
func (d *Directory) certified(ctx context.Context, p Peer) (account mailstore.Account, err error) {
	cert := presented(p)
	if cert == nil || !d.AsksCertificates() {
		return mailstore.Account{}, nil
	}
	err = d.store.View(ctx, func(v *mailstore.View) error {
		row, err := certificateOf(v, fingerprint(cert))
		if err != nil {
			return err
		}
		found, err := v.Account(row.ID)
		if err == nil && found.Address == row.Account && !found.Shared {
			account = found
		}
		return err
	})
	if errors.Is(err, mailstore.ErrNotFound) {
		err = nil
	}
	return account, err
}

// external is RFC 4422 appendix A: the client says who it wants to be, or nothing,
// and has shown who it is by its certificate.
func (x *exchange) external(response []byte) ([]byte, bool, error) {
	if response == nil {
		x.step = x.external
		return []byte{}, false, nil
	}
	d, cert := x.d, presented(x.peer)
	first, err := d.ourDomains(x.ctx)
	if err != nil {
		return nil, false, err
	}
	// Nobody guesses a key: what counts against the name of an account, or for it,
	// is of its passwords alone.
	w := d.throttle.attempt(x.peer.Addr, "certificate "+fingerprint(cert), mta.Address{})
	if err := d.throttle.wait(x.ctx, w); err != nil {
		return nil, false, err
	}
	account, err := d.certified(x.ctx, x.peer)
	if err != nil {
		return nil, false, err
	}
	now := d.clock.Now()
	current := !now.Before(cert.NotBefore) && !now.After(cert.NotAfter)
	own := len(response) == 0 || key(loginAddress(string(response), first)) == account.Address
	if account.ID == 0 || !current || !own {
		if account.ID != 0 && !current {
			d.log.Info("the certificate of a login has ended, or not begun", "account", account.Address,
				"from", cert.NotBefore, "until", cert.NotAfter)
		}
		return nil, false, d.reject(x.peer, w, account)
	}
	return x.finish(d.admit(x.peer, w, account), nil)
}
