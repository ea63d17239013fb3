package deliver

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"postrider/internal/clock"
	"postrider/mta"
)

// TestVouched: a certificate that nobody verifies is said to be so, and to have
// expired when it has.
func TestVouched(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		policy mta.TLSPolicy
		until  time.Time
		want   string
	}{
		{mta.TLSOpportunistic, now.Add(time.Hour), "not verified"},
		{mta.TLSOpportunistic, now.Add(-24 * time.Hour), "not verified; it expired on " + now.Add(-24*time.Hour).UTC().Format(time.DateOnly)},
		{mta.TLSRequired, now.Add(time.Hour), "verified"},
	} {
		s := &session{key: key{tls: c.policy}, c: &Client{o: Options{Clock: clock.System()}}}
		if got := s.vouched(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{{NotAfter: c.until}}}); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
