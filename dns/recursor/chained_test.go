package recursor

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	miekg "github.com/miekg/dns"
)

// chain makes a name server ask the next one on behalf of who asks it.
func chain(t testing.TB, w *world, addr string) *Resolver {
	r := newTest(t, w, Options{Chained: true})
	w.twist(addr, func(q asking, m *miekg.Msg) []*miekg.Msg {
		m = m.Copy()
		m.RecursionAvailable = true
		if !q.query.RecursionDesired || m.Authoritative || len(m.Ns) == 0 {
			return []*miekg.Msg{m}
		}
		a := r.Resolve(t.Context(), q.query.Question[0], Ask{CheckingDisabled: true, Referral: slices.Concat(m.Ns, m.Extra)})
		m.Rcode, m.Answer, m.Ns = a.Rcode, a.Answer, a.Ns
		m.Extra = slices.DeleteFunc(m.Extra, func(rr miekg.RR) bool { return rr.Header().Rrtype != miekg.TypeOPT })
		return []*miekg.Msg{m}
	})
	return r
}

// Recursion through the root: each server asks the next one.
func TestChained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		for _, a := range []string{"198.41.0.4", "198.41.0.5", "192.5.6.30", "192.5.6.31", "192.5.6.40", "9.9.9.1", "9.9.9.2"} {
			chain(t, w, a)
		}
		r := newTest(t, w, Options{Chained: true})
		for name, want := range map[string]string{
			"web.example.com.":  "NOERROR; A 9.9.9.80",
			"www.example.com.":  "NOERROR; CNAME web.example.com.; A 9.9.9.80",
			"out.example.com.":  "NOERROR; CNAME web.glueless.com.; A 9.9.9.81",
			"none.example.com.": "NXDOMAIN",
			"none.":             "NXDOMAIN",
		} {
			if a := ask(t, r, name, miekg.TypeA); data(a) != want {
				t.Errorf("%s: %s, %v", name, data(a), a.Err)
			}
		}
		r.Flush(".")
		w.queries()
		ask(t, r, "mx.example.com.", miekg.TypeA)
		var path []string
		for _, q := range w.queries() {
			path = append(path, fmt.Sprint(q.addr)[:4])
			if !q.query.RecursionDesired || q.name != "mx.example.com." {
				t.Errorf("asked %v", q)
			}
		}
		if got := strings.Join(path, " "); got != "198. 192. 9.9." {
			t.Errorf("asked %s", got)
		}
	})
}
