package page

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// maxRequest bounds the body of a request, in octets: a letter with room.
const maxRequest = 256 << 10

// contentPolicy is the content security policy of the page: its own files, and
// nothing inline (Content Security Policy Level 3).
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Guard stands in front of every handler of the lab's HTTP servers. It refuses
// requests under a Host that is neither an address, nor localhost, nor one of
// names (another site's name may lead here: DNS rebinding), requests that pages
// of other sites make, and bodies above maxRequest; and it sets the headers that
// keep a browser strict. A handler may replace the content security policy.
func Guard(names []string, next http.Handler) http.Handler {
	foreign := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !knownHost(r.Host, names) {
			http.Error(w, "This server is reached by an address or as localhost, not under this name.", http.StatusMisdirectedRequest)
			return
		}
		if err := sameSite(r, foreign); err != nil {
			http.Error(w, "Pages of other sites may not ask for this.", http.StatusForbidden)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		next.ServeHTTP(w, r)
	})
}

// knownHost tells whether the Host field can only have come from somebody who
// meant this server.
func knownHost(host string, names []string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host == "localhost" || slices.Contains(names, host)
}

// sameSite refuses what a page of another site asks for: changes by the rules
// of CrossOriginProtection, and reading too, but for links that lead here.
func sameSite(r *http.Request, foreign *http.CrossOriginProtection) error {
	if err := foreign.Check(r); err != nil {
		return err
	}
	site := r.Header.Get("Sec-Fetch-Site")
	if site != "cross-site" && site != "same-site" {
		return nil
	}
	if r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document" {
		return nil
	}
	return fmt.Errorf("a request from another site: %s", site)
}
