package zone

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"
)

// TestReadRFC1035 reads the file of RFC 1035 section 5.3, which has no TTL at all
// and includes another, in the form that its authors meant.
func TestReadRFC1035(t *testing.T) {
	files := map[string]string{"isi-mailboxes.txt": `
MOE     MB      A.ISI.EDU.
LARRY   MB      A.ISI.EDU.
CURLEY  MB      A.ISI.EDU.
STOOGES MG      MOE
        MG      LARRY
        MG      CURLEY
`}
	text := `
@   IN  SOA     VENERA      Action\.domains (
                                 20     ; SERIAL
                                 7200   ; REFRESH
                                 600    ; RETRY
                                 3600000; EXPIRE
                                 60)    ; MINIMUM

        NS      A.ISI.EDU.
        NS      VENERA
        NS      VAXA
        MX      10      VENERA
        MX      20      VAXA

A       A       26.3.0.103

VENERA  A       10.1.0.52
        A       128.9.0.32

VAXA    A       10.2.0.27
        A       128.9.0.33


$INCLUDE isi-mailboxes.txt
VLSI    A       10.9.9.9
`
	z, err := Read(strings.NewReader(text), Options{Origin: "isi.edu.", File: "<SUBSYS>ISI-DOMAINS", Open: opener(files)})
	if err != nil {
		t.Fatal(err)
	}
	if got := z.SOA(); got.Mbox != `Action\.domains.isi.edu.` || got.Hdr.Ttl != 60 || got.Serial != 20 {
		t.Errorf("SOA %v", got)
	}
	if got := z.Find("venera.isi.edu.", miekg.TypeA); len(got) != 2 || got[0].Header().Ttl != 60 {
		t.Errorf("VENERA %v", got)
	}
	if len(z.Find("moe.isi.edu.", miekg.TypeMB)) != 1 || len(z.Find("stooges.isi.edu.", miekg.TypeMG)) != 3 || len(z.Find("vlsi.isi.edu.", miekg.TypeA)) != 1 {
		t.Error("what is included, or comes behind it, is missing")
	}
}

// opener opens files of a map, by the last part of their name.
func opener(files map[string]string) func(string) (io.ReadCloser, error) {
	return func(name string) (io.ReadCloser, error) {
		text, ok := files[filepath.Base(name)]
		if !ok {
			return nil, fmt.Errorf("%s: %w", name, os.ErrNotExist)
		}
		return io.NopCloser(strings.NewReader(text)), nil
	}
}

const head = "$TTL 300\n@ SOA ns host 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n"

// TestReadDirectives: $ORIGIN, $INCLUDE with an origin, which ends with the file,
// $TTL and $GENERATE in its forms.
func TestReadDirectives(t *testing.T) {
	files := map[string]string{"sub": "a A 192.0.2.7\n$ORIGIN deep\nb A 192.0.2.8\n$TTL 77\nc A 192.0.2.9\n"}
	for _, c := range []struct{ about, text, want string }{
		{"$ORIGIN", "$ORIGIN x\na A 192.0.2.7\n", "a.x.example. 300 A 192.0.2.7"},
		{"a TTL with units", "a 1h30m A 192.0.2.7\n", "a.example. 5400 A 192.0.2.7"},
		{"$TTL counts from here on", "a A 192.0.2.7\n$TTL 60\nb A 192.0.2.8\n", "a.example. 300 A 192.0.2.7|b.example. 60 A 192.0.2.8"},
		{"parentheses, comments, quotes", "a TXT ( \"x;y\" ; no\n z )\n", `a.example. 300 TXT "x;y" "z"`},
		{"the owner of the line before", "a A 192.0.2.7\n  A 192.0.2.8\n", "a.example. 300 A 192.0.2.7|a.example. 300 A 192.0.2.8"},
		{"escapes", `a\.b\032c A 192.0.2.7` + "\n", `a\.b\ c.example. 300 A 192.0.2.7`},
		{"one spelling", `\097 A 192.0.2.7` + "\na A 192.0.2.7\n", "a.example. 300 A 192.0.2.7"},
		{"unknown types, RFC 3597", "a TYPE65280 \\# 3 0a0b0c\nb CLASS1 TYPE1 \\# 4 c0000207\n", `a.example. 300 CLASS1 TYPE65280 \# 3 0a0b0c|b.example. 300 A 192.0.2.7`},
		{"$INCLUDE", "$INCLUDE sub inc\nz A 192.0.2.1\n", "a.inc.example. 300 A 192.0.2.7|b.deep.inc.example. 300 A 192.0.2.8|c.deep.inc.example. 77 A 192.0.2.9|z.example. 300 A 192.0.2.1"},
		{"$INCLUDE of a quoted name", "$INCLUDE \"/a b/sub\" inc ; x\n", "a.inc.example. 300 A 192.0.2.7|b.deep.inc.example. 300 A 192.0.2.8|c.deep.inc.example. 77 A 192.0.2.9"},
		{"$GENERATE", "$GENERATE 1-3/2 h$ A 192.0.2.$\n", "h1.example. 300 A 192.0.2.1|h3.example. 300 A 192.0.2.3"},
		{"$GENERATE with offset, width and base", "$GENERATE 10-11 h${-9,3,d} A 192.0.2.${5}\n", "h001.example. 300 A 192.0.2.15|h002.example. 300 A 192.0.2.16"},
		{"$GENERATE with bases", "$generate 26-26 h${0,4,x}-${0,0,X}-${0,0,o} 60 IN A 192.0.2.1\n", "h001a-1A-32.example. 60 A 192.0.2.1"},
		{"$GENERATE of nibbles", "$GENERATE 18-18 ${0,3,n} PTR h\n", "2.1.example. 300 PTR h.example."},
		{"$GENERATE of dollars", "$GENERATE 1-1 h$$\\$x TXT \"$\"\n", `h$$x.example. 300 TXT "1"`},
		{"a TTL of all bits is none", "a 2147483647 A 192.0.2.7\nb 2147483648 A 192.0.2.7\n", "a.example. 2147483647 A 192.0.2.7|b.example. 0 A 192.0.2.7"},
		{"one TTL for a set", "a 60 A 192.0.2.7\na 30 A 192.0.2.8\n", "a.example. 30 A 192.0.2.7|a.example. 30 A 192.0.2.8"},
		{"duplicates", "a A 192.0.2.7\nA A 192.0.2.7\n", "a.example. 300 A 192.0.2.7"},
	} {
		z, err := Read(strings.NewReader(head+c.text), Options{Origin: "example", File: "dir/zone", Open: opener(files)})
		if err != nil {
			t.Errorf("%s: %v", c.about, err)
			continue
		}
		var got []string
		for rr := range z.All() {
			if n := rr.Header().Name; n == "example." || n == "ns.example." {
				continue
			}
			line := strings.Join(strings.Fields(strings.Replace(rr.String(), "\tIN\t", "\t", 1)), " ")
			got = append(got, line)
		}
		if s := strings.Join(got, "|"); s != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.about, s, c.want)
		}
	}
}

// TestReadErrors: each says the file and the line.
func TestReadErrors(t *testing.T) {
	files := map[string]string{"bad": "a A 192.0.2.7\n\nb A nonsense\n", "loop": "$INCLUDE loop\n", "good": "a A 192.0.2.7\n"}
	for _, c := range []struct {
		about, text, want string
		is                error
	}{
		{"not a record", head + "a A 1.2.3\n", "dir/zone:5: ", ErrInvalid},
		{"no data", head + "a A\n", "dir/zone:5: not a valid zone: a.example. A: it has no data", ErrInvalid},
		{"no data of fields that may be zero", head + "a MX\n", "dir/zone:5: not a valid zone: a.example. MX: it has no data", ErrInvalid},
		{"no data of a service", head + "a HTTPS\n", "dir/zone:5: not a valid zone: a.example. HTTPS: it has no data", ErrInvalid},
		{"data cut short", head + "a MX \\# 2 000a\n", "dir/zone:5: not a valid zone: a.example. MX: its data is cut short", ErrInvalid},
		{"data cut short in the middle", head + "a SRV \\# 2 000a\n", "dir/zone:5: not a valid zone: a.example. SRV: its data is cut short", ErrInvalid},
		{"a record over some lines", head + "; x\na MX (\n 10\n)\n", "dir/zone:6: ", ErrInvalid},
		{"another class", head + "a CH TXT x\n", "dir/zone:5: not a valid zone: a.example. TXT: its class is CH", ErrInvalid},
		{"outside the zone", head + "a.example.org. A 192.0.2.1\n", "dir/zone:5: not a valid zone: a.example.org. is outside the zone example.", ErrInvalid},
		{"a name that only ends alike", head + "xexample. A 192.0.2.1\n", "dir/zone:5: ", ErrInvalid},
		{"a meta type", head + "a TYPE252 \\# 0\n", "dir/zone:5: ", ErrInvalid},
		{"in an included file", head + "$INCLUDE bad\n", "dir/bad:3: ", ErrInvalid},
		{"behind directives", head + "$ORIGIN b.example.\n$TTL 60\n\na A nonsense\n", "dir/zone:8: ", ErrInvalid},
		{"behind an included file", head + "$INCLUDE good\n\na A nonsense\n", "dir/zone:7: ", ErrInvalid},
		{"behind $GENERATE", head + "$GENERATE 1-2 a$ A 192.0.2.$\n\na A nonsense\n", "dir/zone:7: ", ErrInvalid},
		{"no such file", head + "$INCLUDE none\n", "dir/zone:5: $INCLUDE: dir/none: file does not exist", os.ErrNotExist},
		{"a file that includes itself", head + "$INCLUDE loop\n", "dir/loop:1: ", ErrInvalid},
		{"$GENERATE", head + "\n$GENERATE 3-1 a$ A 192.0.2.1\n", "dir/zone:6: ", ErrInvalid},
		{"what $GENERATE makes", head + "$GENERATE 1-999 a$ A 192.0.2.$\n", "dir/zone:5: ", ErrInvalid},
		{"$GENERATE too many", head + "$GENERATE 0-65536 a$ A 192.0.2.1\n", "dir/zone:5: ", ErrTooLarge},
		{"$GENERATE of directives", head + "$GENERATE 1-2 $$INCLUDE bad\n", "dir/zone:5: ", ErrInvalid},
		{"a long line", head + "a TXT " + strings.Repeat("x ", maxLine) + "\n", "dir/zone:5: ", ErrTooLarge},
		{"no SOA", "$TTL 1\n@ NS ns\n", "dir/zone: not a valid zone: example. needs one SOA record", ErrInvalid},
		{"two SOA", head + "@ SOA ns host 2 2 3 4 5\n", "dir/zone: not a valid zone: example. needs one SOA record, and has 2", ErrInvalid},
		{"no NS", "$TTL 1\n@ SOA ns host 1 2 3 4 5\n", "dir/zone: not a valid zone: example. has no NS record", ErrInvalid},
		{"no TTL and no SOA", "@ NS ns\n", "dir/zone: not a valid zone: neither a TTL", ErrInvalid},
		{"SOA elsewhere", head + "a SOA ns host 2 2 3 4 5\n", "dir/zone: not a valid zone: a.example. has a record of type SOA", ErrInvalid},
		{"CNAME and other data", head + "a CNAME ns\na A 192.0.2.1\n", "dir/zone: not a valid zone: a.example. is an alias", ErrInvalid},
		{"two CNAME", head + "a CNAME ns\na CNAME b\n", "dir/zone: not a valid zone: a.example. has 2 records of type CNAME", ErrInvalid},
		{"DNAME and NS", head + "a DNAME b\na NS b\n", "dir/zone: not a valid zone: a.example. has DNAME and NS", ErrInvalid},
		{"DS at the origin", head + "@ DS 1 8 2 00\n", "dir/zone: not a valid zone: example. has a DS", ErrInvalid},
	} {
		_, err := Read(strings.NewReader(c.text), Options{Origin: "example.", File: "dir/zone", Open: opener(files)})
		var e *Error
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || !errors.Is(err, c.is) || !errors.As(err, &e) {
			t.Errorf("%s: %v\nwant %s", c.about, err, c.want)
		}
	}
	if _, err := Read(strings.NewReader(head+"$INCLUDE bad\n"), Options{Origin: "example."}); err == nil || !strings.Contains(err.Error(), "INCLUDE") {
		t.Errorf("$INCLUDE without Open: %v", err)
	}
}

// TestReadLimits: records, octets, and files.
func TestReadLimits(t *testing.T) {
	read := func(o Options, text string) error {
		o.Origin = "example."
		_, err := Read(strings.NewReader(head+text), o)
		return err
	}
	if err := read(Options{MaxRecords: 5}, "$GENERATE 1-2 a$ A 192.0.2.1\n"); err != nil {
		t.Errorf("five records of five: %v", err)
	}
	if err := read(Options{MaxRecords: 5}, "$GENERATE 1-3 a$ A 192.0.2.1\n"); !errors.Is(err, ErrTooLarge) {
		t.Errorf("six records of five: %v", err)
	}
	size := int64(len(head))
	if err := read(Options{MaxBytes: size}, ""); err != nil {
		t.Errorf("all octets: %v", err)
	}
	if err := read(Options{MaxBytes: size - 1}, ""); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one octet more: %v", err)
	}
	if err := read(Options{MaxBytes: size + 60}, "$GENERATE 1-1000 a$ A 192.0.2.1\n"); !errors.Is(err, ErrTooLarge) {
		t.Errorf("octets of $GENERATE: %v", err)
	}
	files := map[string]string{"empty": ""}
	include := strings.Repeat("$INCLUDE empty\n", maxIncludes)
	if err := read(Options{Open: opener(files)}, include); err != nil {
		t.Errorf("%d files: %v", maxIncludes, err)
	}
	if err := read(Options{Open: opener(files)}, include+"$INCLUDE empty\n"); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one file more: %v", err)
	}
}

// TestOriginOfFile: a file that is told no origin says it itself.
func TestOriginOfFile(t *testing.T) {
	for _, text := range []string{"$ORIGIN example.\n" + head, "; x\n\n" + strings.Replace(head, "@ SOA", "example. SOA", 1)} {
		z, err := Read(strings.NewReader(text), Options{})
		if err != nil || z.Origin() != "example." {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := Read(strings.NewReader(head), Options{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("no origin: %v", err)
	}
}

// TestProblems: what can be served and is probably wrong.
func TestProblems(t *testing.T) {
	z := mustRead(t, "example.", head+`
sub NS ns.sub
sib NS ns.sub
ext NS ns.example.org.
own NS ns
mx MX 10 alias
mx MX 20 nowhere
alias CNAME ns
below.sub TXT "never seen"
d DNAME example.org.
x.d A 192.0.2.1
*.w NS ns
`)
	want := []string{
		"*.w.example. NS: its meaning at a wildcard is undefined (RFC 4592 sections 4.2 and 4.4)",
		"below.sub.example. TXT is below a delegation or DNAME and is never seen",
		"mx.example. MX alias.example. is an alias (RFC 2181 section 10.3)",
		"mx.example. MX nowhere.example. does not exist",
		"sib.example. NS ns.sub.example. has no address here (RFC 1034 section 4.2.1)",
		"sub.example. NS ns.sub.example. has no address here (RFC 1034 section 4.2.1)",
	}
	got := z.Problems(0)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
	if len(z.Problems(2)) != 2 {
		t.Error("the limit does not hold")
	}
	if got := mustRead(t, "example.", small).Problems(0); len(got) > 1 || len(got) == 1 && !strings.Contains(got[0], "other.test") {
		t.Errorf("a good zone: %q", got)
	}
}

// TestWrite: for people, and back.
func TestWrite(t *testing.T) {
	z := mustRead(t, "example.", small)
	want := `$ORIGIN example.
$TTL 300
@                               SOA     ns1.example. host.example. (
                                        10         ; serial
                                        7200       ; refresh
                                        900        ; retry
                                        604800     ; expire
                                        60         ; minimum
                                        )
                                NS      ns1.example.
                                NS      ns2.example.
alias                           CNAME   www.example.
dn                              DNAME   other.test.
ns1                             A       192.0.2.1
ns2                             A       192.0.2.2
sub                             NS      ns.sub.example.
ns.sub                          A       192.0.2.53
below.tree                      A       192.0.2.9
www                             A       192.0.2.80
                                A       192.0.2.81
                                TXT     "hello"
`
	if got := text(z); got != want {
		t.Errorf("%s", got)
	}
	path := filepath.Join(t.TempDir(), "zone")
	if err := os.WriteFile(path, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := z.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	back, err := Load(path, "")
	if err != nil || text(back) != want {
		t.Errorf("%v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode is %v", info.Mode())
	}
	if list, _ := os.ReadDir(filepath.Dir(path)); len(list) != 1 {
		t.Error("a temporary file is left")
	}
}

// TestWriteTypes: every type reads back as it was.
func TestWriteTypes(t *testing.T) {
	z := mustRead(t, "example.", head+`
a AAAA 2001:db8::1
a TXT "quote \" backslash \\ semicolon ;" "\000\255" ""
a SRV 1 2 3 .
a PTR x.example.org.
a CAA 128 issue "ca.example; policy=\"x\""
a TLSA 3 1 1 0123456789abcdef
a SSHFP 4 2 0123456789abcdef
a HTTPS 0 svc
b HTTPS 1 . alpn="h2,h3" port=8443 ipv4hint=192.0.2.1 key667="a\,b"
b SVCB 16 foo mandatory=alpn alpn="x"
b DS 60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118
b NAPTR 100 10 "U" "E2U+sip" "!^.*$!sip:info@example.com!" .
b LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m
b HINFO "PC" "Linux \"6\""
b RP mbox.example. txt.example.
b APL 1:192.168.32.0/21 !1:192.168.38.0/28
b TYPE65280 \# 3 0a0b0c
b TYPE65281 \# 0
b NULL \# 2 0102
b URI 10 1 "https://example/"
b OPENPGPKEY AQID
b CERT PGP 0 0 AQID
b SMIMEA 3 1 1 0123
b EUI48 00-00-5e-00-53-2a
b CDS 0 0 0 00
b CDNSKEY 0 3 0 AA==
b ZONEMD 1 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
b NID 10 0014:4fff:ff20:ee64
b CSYNC 66 3 A NS AAAA
$ORIGIN odd.example.
\$TTL A 192.0.2.1
\@ A 192.0.2.1
x\.y A 192.0.2.1
two\032words A 192.0.2.1
\032\009 CNAME \032\".\010
\; A 192.0.2.1
a\\ A 192.0.2.1
\000\255 A 192.0.2.1
`)
	once := text(z)
	back, err := Read(strings.NewReader(once), Options{Origin: "example."})
	if err != nil {
		t.Fatalf("%v\n%s", err, once)
	}
	d := Between(z, back)
	if !d.Empty() || text(back) != once || back.Len() != z.Len() {
		t.Errorf("lost %v\nnew %v\n%s", d.Deleted, d.Added, once)
	}
}
