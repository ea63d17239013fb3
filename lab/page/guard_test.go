package page

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// request is what a browser or another program sends.
func request(method, target, body string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "127.0.0.1:8080"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

func answer(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestGuard: names that lead here by DNS rebinding, and pages of other sites,
// reach nothing; programs and links do.
func TestGuard(t *testing.T) {
	h := Guard([]string{"lab.example"}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("in")) }))
	for _, c := range []struct {
		name    string
		method  string
		headers []string
		want    int
	}{
		{"address", "GET", nil, 200},
		{"IPv6", "GET", []string{"Host", "[::1]:8080"}, 200},
		{"localhost", "GET", []string{"Host", "LocalHost:8080"}, 200},
		{"name given", "GET", []string{"Host", "lab.example"}, 200},
		{"rebinding", "GET", []string{"Host", "evil.example:8080"}, 421},
		{"rebinding by sub-domain", "GET", []string{"Host", "localhost.evil.example"}, 421},
		{"address in a name", "GET", []string{"Host", "127.0.0.1.evil.example"}, 421},
		{"no host", "GET", []string{"Host", ""}, 421},
		{"own page", "POST", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"other site", "POST", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"other port", "POST", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"other origin, old browser", "POST", []string{"Origin", "http://evil.example"}, 403},
		{"own origin, old browser", "POST", []string{"Origin", "http://127.0.0.1:8080"}, 200},
		{"null origin", "POST", []string{"Origin", "null"}, 403},
		{"curl", "POST", nil, 200},
		{"other site reads", "GET", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}, 403},
		{"other site frames", "GET", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, 403},
		{"a link", "GET", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 200},
	} {
		w := answer(h, request(c.method, "/", "", c.headers...))
		if w.Code != c.want {
			t.Errorf("%s: %d, want %d", c.name, w.Code, c.want)
		}
		policy := w.Header().Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
			t.Errorf("%s: policy %q", c.name, policy)
		}
		if w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: sniffing is allowed", c.name)
		}
	}
}

// TestGuardBody: a body above the bound is refused, and one at it is read.
func TestGuardBody(t *testing.T) {
	s, _ := open(t)
	letter := func(n int) string {
		const frame = `{"from":"a@b","to":["c@d"],"body":""}`
		return strings.Replace(frame, `"body":"`, `"body":"`+strings.Repeat("x", n-len(frame)), 1)
	}
	if w := answer(s.Handler(), request("POST", "/api/letter", letter(maxRequest))); w.Code != 200 {
		t.Errorf("%d octets: %d %s", maxRequest, w.Code, w.Body)
	}
	if w := answer(s.Handler(), request("POST", "/api/letter", letter(maxRequest+1))); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("one more: %d %s", w.Code, w.Body)
	}
}
