package server

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
)

// updater makes updates at random.
type updater struct {
	*rand.Rand
	t *testing.T
}

func (u updater) of(list ...string) string { return list[u.IntN(len(list))] }

func (u updater) name() string {
	name := u.of("", "www.", "alias.", "a.", "b.", "c.a.", "d.c.a.", "x.wild.", "*.wild.", "sub.", "h.sub.", "_x._tcp.") + "example.test."
	if u.IntN(10) == 0 {
		return strings.ToUpper(name)
	}
	return name
}

// record is one of a name. What named refuses by a policy of its own is not among
// them: DNAME and DS records, a wildcard that is a delegation, and exchangers in the
// zone that do not exist.
func (u updater) record() miekg.RR {
	u.t.Helper()
	name := u.name()
	texts := []string{"A 192.0.2." + u.of("1", "2", "3"), "AAAA 2001:db8::" + u.of("1", "2"), "TXT " + u.of(`"a"`, `"A"`, `"b c" "d"`), "MX " + u.of("1", "2") + " mail.example.net.",
		"CNAME " + u.of("www", "b", "c.a") + ".example.test.", "SRV 0 1 " + u.of("1", "2") + " www.example.test.", "PTR Www.example.test.", `CAA 0 issue "x"`,
		"SOA ns1.example.test. h.example.test. " + u.of("1", "9", "50", "400000000", "2147483000") + " 3600 600 86400 60"}
	if !strings.Contains(name, "*") {
		texts = append(texts, "NS "+u.of("ns1.example.test.", "NS2.Example.test.", "q.example.net."))
	}
	rr, err := miekg.NewRR(fmt.Sprintf("%s %s IN %s", name, u.of("60", "60", "30", "300", "0"), u.of(texts...)))
	if err != nil {
		u.t.Fatal(err)
	}
	return rr
}

func (u updater) message() *miekg.Msg {
	m := new(miekg.Msg)
	m.SetUpdate("example.test.")
	for range max(0, u.IntN(5)-2) {
		conditions := []func([]miekg.RR){m.NameNotUsed, m.NameUsed, m.RRsetNotUsed, m.RRsetUsed, m.Used}
		conditions[u.IntN(len(conditions))]([]miekg.RR{u.record()})
	}
	for range 1 + u.IntN(3) {
		changes := []func([]miekg.RR){m.Insert, m.Insert, m.Insert, m.Remove, m.RemoveRRset, m.RemoveName}
		changes[u.IntN(len(changes))]([]miekg.RR{u.record()})
	}
	return m
}

// holds is a zone as a server transfers it, in one order and case.
func holds(t *testing.T, addr string) []string {
	t.Helper()
	m := new(miekg.Msg)
	m.SetAxfr("example.test.")
	m.SetTsig("k.", miekg.HmacSHA256, 300, time.Now().Unix())
	in, err := (&miekg.Transfer{TsigSecret: map[string]string{"k.": secret}}).In(m, addr)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for e := range in {
		if e.Error != nil {
			t.Fatal(e.Error)
		}
		for _, rr := range e.RR {
			data := strings.TrimPrefix(rr.String(), rr.Header().String())
			if rr.Header().Rrtype != miekg.TypeTXT {
				data = strings.ToLower(data)
			}
			list = append(list, strings.ToLower(rr.Header().String())+data)
		}
	}
	slices.Sort(list)
	return list
}

// without are those of a that are not in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// TestUpdatesLikeNamed: of updates at random, with conditions and without, named and
// we make the same zone, and say the same.
func TestUpdatesLikeNamed(t *testing.T) {
	w := newTown(t, Options{Dir: t.TempDir()}, Settings{Keys: []*Key{key(t, "k", "hmac-sha256", secret)},
		Zones: []ZoneConfig{{Name: "example.test.", AllowTransfer: ACL{Keys: []string{"k"}}, AllowUpdate: ACL{Keys: []string{"k"}}}}})
	if err := w.s.Publish(parse(t, "example.test.", exampleZone)); err != nil {
		t.Fatal(err)
	}
	w.listen()
	named := startOther(t, others[0], "1", false)
	named.until(t, named.addr, 10)
	u := updater{rand.New(rand.NewPCG(1, 2)), t}
	c := &miekg.Client{Net: "tcp", Timeout: 20 * time.Second, TsigSecret: map[string]string{"k.": secret}}
	changed := 0
	for i := range 200 {
		m := u.message()
		text := m.String()
		var rcodes [2]int
		var zones [2][]string
		for j, addr := range []string{w.tcp, named.addr} {
			signed := m.Copy()
			signed.SetTsig("k.", miekg.HmacSHA256, 300, time.Now().Unix())
			r, _, err := c.Exchange(signed, addr)
			if err != nil {
				t.Fatalf("%s: %v", addr, err)
			}
			rcodes[j], zones[j] = r.Rcode, holds(t, addr)
		}
		if rcodes[0] != rcodes[1] || !slices.Equal(zones[0], zones[1]) {
			t.Fatalf("update %d: we say %s, named %s\n%s\nonly we have %q, only named %q", i, miekg.RcodeToString[rcodes[0]], miekg.RcodeToString[rcodes[1]], text,
				without(zones[0], zones[1]), without(zones[1], zones[0]))
		}
		if rcodes[0] == miekg.RcodeSuccess {
			changed++
		}
	}
	if changed < 80 {
		t.Errorf("%d updates were done", changed)
	}
}
