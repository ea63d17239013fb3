package provenance

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
)

var update = flag.Bool("update", false, "write the .want files anew")

// TestExplain holds letters as many servers write them against what is said of them.
func TestExplain(t *testing.T) {
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(files) < 9 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			if err := Explain(text, Options{}).Print(&b); err != nil {
				t.Fatal(err)
			}
			crlf := strings.ReplaceAll(string(text), "\n", "\r\n")
			var c strings.Builder
			if err := Explain([]byte(crlf), Options{}).Print(&c); err != nil || b.String() != c.String() {
				t.Error("with CRLF it is another message", err)
			}
			name := strings.TrimSuffix(file, ".eml") + ".want"
			if *update {
				if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(name)
			if err != nil || b.String() != string(want) {
				t.Errorf("%v\ngot\n%s", err, b.String())
			}
		})
	}
}

// TestTrust: the fields above and of the named server are believed.
func TestTrust(t *testing.T) {
	text, err := os.ReadFile("testdata/postfix.eml")
	if err != nil {
		t.Fatal(err)
	}
	for trust, want := range map[string]int{"": 1, "store.hamburger.edu": 1, "IMAP.hamburger.edu": 2, "mail.crepes.fr": 3} {
		x := Explain(text, Options{Trust: trust})
		n := 0
		for _, h := range x.Path {
			if h.Trusted {
				n++
			}
		}
		if n != want || len(x.Notes) != 0 {
			t.Errorf("%q: %d trusted, %v", trust, n, x.Notes)
		}
	}
	if x := Explain(text, Options{Trust: "nobody.example"}); len(x.Notes) != 1 || !x.Path[2].Trusted || x.Path[1].Trusted {
		t.Error(x.Notes)
	}
}

// TestTrustForged: who writes the name of a trusted server into a field of his own
// gains nothing; a server that hands a letter to itself is believed twice.
func TestTrustForged(t *testing.T) {
	const filter = "Received: from localhost (localhost [127.0.0.1]) by mx.hamburger.edu; 2 Nov 2026 08:15:42 -0000\n"
	const border = "Received: from mail.crepes.fr (mail.crepes.fr [192.0.2.9]) by mx.hamburger.edu; 2 Nov 2026 08:15:41 -0000\n"
	const forged = "Received: from localhost (localhost [127.0.0.1]) by mx.hamburger.edu; 2 Nov 2026 08:15:40 -0000\n"
	for text, want := range map[string]int{border + forged + forged: 1, filter + border + forged: 2, filter + filter + border + forged: 3} {
		x := Explain([]byte(text), Options{Trust: "mx.hamburger.edu"})
		n := 0
		for _, h := range x.Path {
			if h.Trusted {
				n++
			}
		}
		if n != want {
			t.Errorf("%d trusted, want %d, of\n%s", n, want, text)
		}
	}
}

func TestSlowest(t *testing.T) {
	text, err := os.ReadFile("testdata/postfix.eml")
	if err != nil {
		t.Fatal(err)
	}
	x := Explain(text, Options{})
	if x.Slowest != 2 || time.Duration(x.Path[1].Delay) != 3*time.Minute+40*time.Second || time.Duration(x.Total) != 3*time.Minute+41*time.Second {
		t.Error(x.Slowest, x.Path[1].Delay, x.Total)
	}
}

// TestBounds: as much as anybody may send.
func TestBounds(t *testing.T) {
	for name, text := range map[string]string{
		"fields":   strings.Repeat("Received: from a by b; 2 Nov 2026 08:15:40 -0000\r\n", 2*maxFields),
		"a field":  "Received: from " + strings.Repeat("(", MaxHeader),
		"words":    "Received: " + strings.Repeat("from by ", 100_000),
		"folds":    "X: " + strings.Repeat("\r\n y", 100_000),
		"foldings": strings.Repeat("X:"+strings.Repeat("\n y", maxValue/2)+"\n", 40),
		"no field": strings.Repeat("x\n", 100_000),
	} {
		x := Explain([]byte(text), Options{})
		if len(x.Fields) > maxFields || len(x.Notes) > maxNotes {
			t.Errorf("%s: %d fields, %d notes", name, len(x.Fields), len(x.Notes))
		}
		for _, f := range x.Fields {
			if len(f.Value) > maxValue+10 {
				t.Errorf("%s: a value of %d octets", name, len(f.Value))
			}
		}
	}
}

// FuzzExplain: there is a hop for each Received field, in order, and what is printed
// cannot steer a terminal.
func FuzzExplain(f *testing.F) {
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), "mx.hamburger.edu")
	}
	f.Fuzz(func(t *testing.T, text, trust string) {
		x := Explain([]byte(text), Options{Trust: trust})
		received := 0
		for _, field := range x.Fields {
			if isReceived(field.Name) {
				received++
			}
			if field.Who == "" || field.Why == "" {
				t.Errorf("nobody wrote %q", field.Name)
			}
		}
		if received != len(x.Path) {
			t.Errorf("%d Received fields, %d hops", received, len(x.Path))
		}
		for i, h := range x.Path {
			if h.Number != i+1 || h.Delay < 0 {
				t.Errorf("hop %d has number %d and took %d", i+1, h.Number, h.Delay)
			}
		}
		if x.Slowest < 0 || x.Slowest > len(x.Path) {
			t.Error(x.Slowest)
		}
		var b strings.Builder
		if err := x.Print(&b); err != nil {
			t.Fatal(err)
		}
		if i := strings.IndexFunc(b.String(), func(r rune) bool { return unicode.IsControl(r) && r != '\n' }); i >= 0 {
			t.Errorf("a control character: %q", b.String()[i:])
		}
		if _, err := json.Marshal(x); err != nil {
			t.Error(err)
		}
	})
}
