package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postrider/lab"
)

func startLab(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.Start(t.Context(), lab.Options{FreePorts: true, Instant: true, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// Every built-in scenario passes.
func TestBuiltin(t *testing.T) {
	list, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		t.Fatal("there are none")
	}
	var shared *lab.Lab
	numbers := map[int]string{}
	for _, s := range list {
		if other := numbers[s.Number]; s.Number == 0 || other != "" {
			t.Errorf("%s has the number of %s, or none", s.Name, other)
		}
		numbers[s.Number] = s.Name
		if !strings.HasPrefix(s.Name, fmt.Sprintf("%02d-", s.Number)) {
			t.Errorf("%s has number %d", s.Name, s.Number)
		}
		if len(s.Hints) == 0 || s.About == "" {
			t.Errorf("%s has no hints, or does not say what it shows", s.Name)
		}
		if shared == nil && !s.Alone {
			shared = startLab(t)
		}
		t.Run(s.Name, func(t *testing.T) {
			l := shared
			if s.Alone {
				t.Parallel()
				l = startLab(t)
			}
			r := Run(t.Context(), l, s)
			for _, step := range r.Steps {
				if !step.Passed && !step.Skipped {
					t.Errorf("%s:%d: step %q: %s", s.Name, step.Line, step.Name, step.Error)
				}
			}
			if !r.Passed && !t.Failed() {
				t.Error("it did not pass, and no step says why")
			}
		})
	}
}

// A scenario whose expectations do not hold fails, with the line and what there
// was instead.
func TestFailures(t *testing.T) {
	l := startLab(t)
	// The servers are up before patience is short.
	for _, host := range []string{"mx.hamburger.edu", "mx.crepes.fr"} {
		if err := l.Restart(t.Context(), host); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ commands, want string }{
		{"connect mx.hamburger.edu smtp\nS: 221", "the server said \"220 mx.hamburger.edu"},
		{"connect mx.hamburger.edu smtp\nS: 220\nC: HELO x\nS: 250\nclosed", "still open"},
		{"connect nobody.test smtp", "no host"},
		{"expect mailbox bob@hamburger.edu 1", "it is 0"},
		{"expect queue mx.crepes.fr > 0", "it is 0"},
		{"ask dns.crepes.fr hamburger.edu MX\nD: rcode NXDOMAIN", "it is NOERROR"},
		{"ask dns.crepes.fr hamburger.edu MX\nD: answer hamburger.edu. MX 5", "it has"},
		{"ask dns.crepes.fr hamburger.edu MX\nD: flags aa", "flag aa: false"},
		{"ask dns.crepes.fr hamburger.edu MX\nD: ttl < 2", "it is"},
		{"letter alice@crepes.fr -> nobody@crepes.fr x\n| y\nrefused 250", "550"},
		{"letter alice@crepes.fr -> bob@hamburger.edu times 101 x\n| y", "from 1 to 100"},
		{"configure mx.crepes.fr resolver mx.crepes.fr", "is no resolver"},
		{"let a = b - c", "is no value"},
		{"let a = reply (x)", "the form is"},
		{"connect mx.hamburger.edu smtp\nS: 220\nlet a = reply (nobody)", "it was \"220 mx.hamburger.edu"},
		{"connect mx.hamburger.edu smtp\nS: 220\nlet a = reply 220 ([a-z]+)\nC: HELO {a}x\nS: 250 Hello {a},", "the server said \"250 Hello mxx,"},
		{"flood ns.kiwi.nz www.kiwi.nz A 3\nexpect value firsts > 3", "it is "},
		{"fault slow mx.crepes.fr", "latency"},
		{"fault greylist dns.crepes.fr", "not for a host of kind resolver"},
		{"register crepes.fr", "registered already"},
		{"register a.b.com", "directly below"},
		{"expect event queue.bounce", "did not happen"},
		{"expect cache dns.crepes.fr nosuch.test A 1", "remembers"},
	} {
		s, err := Parse("x", []byte("title: x\nstep one\n"+c.commands+"\nstep two\ntimer\n"))
		if err != nil {
			t.Fatal(err)
		}
		r := run(t.Context(), l, s, time.Second)
		if r.Passed || !strings.Contains(r.Steps[0].Error, c.want) || r.Steps[0].Line == 0 || !r.Steps[1].Skipped {
			t.Errorf("%s: %+v, want %s", c.commands, r, c.want)
		}
	}
}

// Problems of a file are named with their lines.
func TestParseProblems(t *testing.T) {
	for in, want := range map[string]string{
		"step a\ntimer":                                                 "x:1: title: is missing",
		"title: a\nstep a":                                              "no step does anything",
		"title: a\ncolour: red\nstep a\ntimer":                          "x:2: colour: is not one of",
		"title: a\nstep a\nfly away":                                    `x:3: "fly" is not a command`,
		"title: a\nnumber: -1\nstep a\ntimer":                           "x:2: number",
		"title: a\n| b\nstep a\ntimer":                                  "x:2: a line of a block",
		"title: a\nstep a\n" + strings.Repeat("timer\n", maxCommands+1): "more than 1000 commands",
		strings.Repeat("#", maxFile+1):                                  "at most",
	} {
		if _, err := Parse("x", []byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %s", in, err, want)
		}
	}
}

// The documentation has every command and every expectation.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "scenarios.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range known() {
		if !strings.Contains(string(text), "`"+verb) {
			t.Errorf("docs/scenarios.md does not tell of %s", verb)
		}
	}
	for what := range expectations {
		if !strings.Contains(string(text), "`"+what+" ") {
			t.Errorf("docs/scenarios.md does not tell of expect %s", what)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("title: a\nnumber: 3\nstep b\nC: HELO x\nS: 250\ntext\n| .\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse("x.lab", []byte(text))
		if err != nil {
			return
		}
		n := 0
		for _, step := range s.Steps {
			for _, c := range step.Commands {
				n++
				if verbs[c.Verb] == nil || c.Line < step.Line {
					t.Errorf("%+v", c)
				}
			}
		}
		if n == 0 || n > maxCommands || s.Title == "" {
			t.Errorf("%d commands, title %q", n, s.Title)
		}
	})
}

func FuzzParseFault(f *testing.F) {
	f.Add("slow mx.crepes.fr to crepes 200ms")
	f.Add("spoof a.nic.edu 3 times record hamburger.edu. 60 MX 1 thief.mallory.test.")
	f.Fuzz(func(t *testing.T, text string) {
		fault, err := ParseFault(text)
		if err == nil && (fault.Kind == "" || fault.Host == "") {
			t.Errorf("%q: %+v", text, fault)
		}
	})
}
