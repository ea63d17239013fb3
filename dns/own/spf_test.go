package own

import (
	"bufio"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
)

func TestParseSPF(t *testing.T) {
	for _, s := range []string{
		"v=spf1", "v=spf1 -all", "v=spf1 +mx a:b.example/24 ?ip4:192.0.2.0/24 ~ip6:2001:db8::/32 -all", "v=spf1 a//64 mx/24//64 mx:b.example//64 ptr",
		"v=spf1 include:_spf.%{d2} exists:%{ir}.sbl.example redirect=_spf.b.example", "V=SPF1 MX -ALL", "v=spf1 unknown-modifier=x exp=e.b.example -all",
		"v=spf1 ip4:192.0.2.1 ip6:::1 -all", "v=spf1  -all ",
	} {
		if _, err := parseSPF(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for s, want := range map[string]string{
		"v=spf1 ipv4:192.0.2.1 -all":  `"ipv4:192.0.2.1" is not a mechanism`,
		"v=spf1 mx,-all":              "is not a mechanism",
		"v=spf1 all:x":                "takes no value",
		"v=spf1 include":              "needs a domain",
		"v=spf1 include: -all":        "needs a domain",
		"v=spf1 a: -all":              "needs a domain",
		"v=spf1 a/33":                 `"33" is not the length of a prefix`,
		"v=spf1 mx//129":              `"129" is not the length of a prefix`,
		"v=spf1 a/":                   "is not the length of a prefix",
		"v=spf1 ip4:192.0.2.256":      "is not a network",
		"v=spf1 ip4:2001:db8::1":      "is of the other family",
		"v=spf1 ip6:192.0.2.1":        "is of the other family",
		"v=spf1 redirect=":            "needs a domain",
		"v=spf1 -redirect=a.example":  "is not a term",
		"v=spf1 =x":                   "is not a term",
		"v=spf1 - all":                "is not a mechanism",
		"v=spf1 include:a.example/24": `"a.example/24" is not a domain`,
		"v=spf1 ptr/24":               "needs a domain",
		"v=spf1 ptr:":                 "needs a domain",
		"v=spf1 a:a..example -all":    `"a..example" is not a domain`,
		"v=spf1 a:. -all":             "needs a domain",
		"v=spf1 redirect=a.example/8": "is not a domain",
		"v=spf1 redirect=a.example redirect=b.example": "there may be only one redirect",
	} {
		if _, err := parseSPF(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", s, err, want)
		}
	}
}

// TestSPF: what is said of a policy in the zone.
func TestSPF(t *testing.T) {
	nested := func(n int) (records string) {
		for i := range n {
			records += fmt.Sprintf("s%d.hamburger.edu. TXT \"v=spf1 include:s%d.hamburger.edu a:ns1.hamburger.edu -all\"\n", i, i+1)
		}
		return records + fmt.Sprintf("s%d.hamburger.edu. TXT \"v=spf1 -all\"\n", n)
	}
	for _, tt := range []struct{ policy, more, want string }{
		{`"v=spf1 mx -all"`, "", ""},
		{`"v=spf1 " "mx -a" "ll"`, "", ""},
		{`"v=spf1 ip4:9.0.0.25 -all"`, "", ""},
		{`"v=spf1 include:s0.hamburger.edu mx -all"`, nested(3), ""}, // 1+3*2+1 = 8
		{`"v=spf1 include:s0.hamburger.edu mx -all"`, nested(5), `error +spf +hamburger\.edu\.: asks the DNS in 12 terms, and 10 are the most .*`},
		{`"v=spf1 include:s0.hamburger.edu mx -all"`, "s0.hamburger.edu. TXT \"v=spf1 include:hamburger.edu -all\"\n", `error .*in more than 39 terms.*`},
		{`"v=spf1 a:x.hamburger.edu a:y.hamburger.edu a:z.hamburger.edu mx -all"`, "", `error .*is broken: void lookup limit reached.*`},
		{`"v=spf1 include:none.hamburger.edu mx -all"`, "", `error .*include of none\.hamburger\.edu: it has 0 SPF records.*`},
		{`"v=spf1 mx -all"`, "hamburger.edu. TXT \"v=spf1 -all\"\n", `error .*has 2 SPF records, and must have one.*`},
		{`"v=spf1 mx +all"`, "", `error .*lets everybody send.* -- publish: hamburger\.edu\. 3600 IN TXT "v=spf1 mx -all"`},
		{`"v=spf1 -all"`, "", `error .*says fail of this server's address 9\.0\.0\.25.* -- publish: hamburger\.edu\. 3600 IN TXT "v=spf1 mx -all"`},
		{`"v=spf1 ?all"`, "", `error .*says neutral of.*`},
		{`"v=spf1 mx ptr -all"`, "", `note .*uses ptr.*`},
		{`"v=spf1 mx -all include:none.hamburger.edu"`, "", `note .*behind all is never looked at`},
		{`"v=spf1 mx -all ip4:9.0.0.1"`, "", `note .*behind all is never looked at`},
		{`"v=spf1 mx ipv4:9.0.0.1 -all"`, "", `error .*"ipv4:9\.0\.0\.1" is not a mechanism.* -- publish.*`},
		{`"v=spf10 mx -all"`, "", `warning .*has no SPF record.* -- publish: hamburger\.edu\. 3600 IN TXT "v=spf1 mx -all"`},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newTown(t)
			c.replace(`hamburger.edu.  IN TXT  "v=spf1 mx -all"`, "hamburger.edu. TXT "+tt.policy)
			c.zone += tt.more
			got := bad(t, c.check(t.Context()))
			if !regexp.MustCompile(`^(?:` + tt.want + `)\n?$`).MatchString(got) {
				t.Errorf("%s: found\n%swant %s", tt.policy, got, tt.want)
			}
		})
	}
}

// A policy that is accepted means the same when it is printed again.
func FuzzSPF(f *testing.F) {
	f.Add("v=spf1 +mx a:b.example/24 ?ip4:192.0.2.0/24 include:_spf.%{d2} redirect=x//64 a//64")
	f.Add("v=spf1 -all")
	f.Fuzz(func(t *testing.T, s string) {
		terms, err := parseSPF(s)
		if err != nil {
			return
		}
		var b strings.Builder
		b.WriteString("v=spf1")
		for _, term := range terms {
			sep := ":"
			switch {
			case term.modifier:
				sep = "="
			case term.value == "", strings.HasPrefix(term.value, "/"):
				sep = ""
			}
			b.WriteByte(' ')
			if !term.modifier {
				b.WriteByte(term.qualifier)
			}
			b.WriteString(term.name + sep + term.value)
			if d := term.domain("fallback."); strings.ContainsAny(d, " \t\r\n") {
				t.Errorf("%q: the domain %q", s, d)
			}
		}
		again, err := parseSPF(b.String())
		if err != nil || fmt.Sprint(again) != fmt.Sprint(terms) {
			t.Errorf("%q is %v, and as %q %v, %v", s, terms, b.String(), again, err)
		}
	})
}

// A reply has a bounded number of lines, and is of the code that was wanted.
func FuzzReply(f *testing.F) {
	f.Add("220 hi\r\n")
	f.Add("250-a\r\n250-b\r\n250 c\r\n")
	f.Add("250\n")
	f.Add(strings.Repeat("250-x\r\n", maxReplyLines+1))
	f.Fuzz(func(t *testing.T, s string) {
		lines, err := reply(bufio.NewReaderSize(strings.NewReader(s), maxReplyLine), 250)
		if err != nil {
			return
		}
		if len(lines) == 0 || len(lines) > maxReplyLines || !strings.HasPrefix(s, "250") {
			t.Errorf("%q: %q", s, lines)
		}
	})
}

func TestReplyLimits(t *testing.T) {
	for s, ok := range map[string]bool{
		strings.Repeat("250-x\r\n", maxReplyLines-1) + "250 x\r\n": true,
		strings.Repeat("250-x\r\n", maxReplyLines) + "250 x\r\n":   false,
		"250 " + strings.Repeat("x", maxReplyLine-6) + "\r\n":      true,
		"250 " + strings.Repeat("x", maxReplyLine) + "\r\n":        false,
		"250 x":      false,
		"550 no\r\n": false,
	} {
		if _, err := reply(bufio.NewReaderSize(strings.NewReader(s), maxReplyLine), 250); (err == nil) != ok {
			t.Errorf("%.40q (%d octets): %v", s, len(s), err)
		}
	}
}
