package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"postrider/lab"
	"postrider/lab/scenario"
)

type labCmd struct {
	Start     labStartCmd     `cmd:"" default:"withargs" help:"Run the lab (what lab does without another word)."`
	Run       labRunCmd       `cmd:"" help:"Play scenarios, built-in ones by number or name, or files."`
	Scenarios labScenariosCmd `cmd:"" help:"List the built-in scenarios."`
	World     labWorldCmd     `cmd:"" help:"Print the built-in world file."`
	Hosts     labHostsCmd     `cmd:"" help:"List the hosts of the lab that runs, and where they listen."`
	Register  labRegisterCmd  `cmd:"" help:"Register a domain in the lab that runs."`
	Fault     labFaultCmd     `cmd:"" help:"Break something in the lab that runs."`
	Clear     labClearCmd     `cmd:"" help:"End faults in the lab that runs."`
	Jump      labJumpCmd      `cmd:"" help:"Set the clock of the lab that runs ahead, such as 5d."`
}

type labStartCmd struct {
	Keep     string `aliases:"data" placeholder:"DIR" help:"Keep the servers' data here; default: a temporary folder."`
	World    string `placeholder:"FILE" help:"World file; default: the built-in one."`
	Listen   string `placeholder:"ADDR" help:"Address of this machine on a local network, for a class."`
	Students int    `placeholder:"N" help:"Disposable accounts for a class, student1 to studentN, with passwords of their own."`
	labCatch
	labPage
}

func (c *labStartCmd) Run(e *env) error {
	if c.Catch {
		return c.catch(e, c.Listen, c.Keep)
	}
	w, err := lab.LoadWorld(c.World)
	if err != nil {
		return err
	}
	return c.run(e, c.Listen, lab.Options{World: w, Out: e.stdout, Keep: c.Keep, Listen: c.Listen, Students: c.Students,
		Control: true, Telnet: telnet(), Program: self()})
}

type labWorldCmd struct{}

func (labWorldCmd) Run(e *env) error {
	_, err := fmt.Fprintf(e.stdout, "%s", lab.DefaultWorld())
	return err
}

// telnet is what this system has to type into a connection, with the option that
// its nc needs to end lines as protocols do.
func telnet() string {
	for _, t := range []struct{ program, with string }{
		{"telnet", "telnet"}, {"ncat", "ncat -C"}, {"nc", "nc -C"}, {"busybox", "busybox telnet"},
	} {
		if _, err := exec.LookPath(t.program); err == nil {
			if t.program == "nc" && runtime.GOOS == "darwin" {
				return "nc -c"
			}
			return t.with
		}
	}
	return "telnet"
}

type labScenariosCmd struct {
	JSON bool `help:"As JSON."`
}

func (c *labScenariosCmd) Run(e *env) error {
	list, err := scenario.Builtin()
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(e.stdout).Encode(list)
	}
	t := tabwriter.NewWriter(e.stdout, 0, 8, 2, ' ', 0)
	for _, s := range list {
		fmt.Fprintf(t, "%02d\t%s\t%s\n", s.Number, s.Topic, s.Title)
	}
	return t.Flush()
}

type labRunCmd struct {
	Scenarios []string `arg:"" help:"Numbers or names of built-in scenarios, or files; all = every built-in one."`
	Grade     bool     `help:"Print the outcome of each step as JSON."`
	Hints     bool     `help:"Print what each is about and its hints, and run nothing."`
}

func (c *labRunCmd) Run(e *env) error {
	var list []*scenario.Scenario
	for _, name := range c.Scenarios {
		more, err := findScenarios(name)
		if err != nil {
			return usageError{err}
		}
		list = append(list, more...)
	}
	if c.Hints {
		return showHints(e, list)
	}
	var shared *lab.Lab
	defer func() {
		if shared != nil {
			shared.Close()
		}
	}()
	results := []scenario.Result{}
	failed := 0
	for _, s := range list {
		l := shared
		if l == nil || s.Alone || s.World != "" {
			w, err := lab.LoadWorld(s.World)
			if err != nil {
				return err
			}
			if l, err = lab.Start(e.ctx, lab.Options{World: w, FreePorts: true, Instant: true}); err != nil {
				return err
			}
			if s.Alone || s.World != "" {
				defer l.Close()
			} else {
				shared = l
			}
		}
		r := scenario.Run(e.ctx, l, s)
		if !r.Passed {
			failed++
		}
		results = append(results, r)
		if !c.Grade {
			report(e, s, r)
		}
	}
	if c.Grade {
		out := json.NewEncoder(e.stdout)
		out.SetIndent("", "  ")
		if err := out.Encode(results); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d scenarios failed", failed, len(list))
	}
	return nil
}

// report prints how a scenario went.
func report(e *env, s *scenario.Scenario, r scenario.Result) {
	word := map[bool]string{true: "pass", false: "FAIL"}
	fmt.Fprintf(e.stdout, "%s  %s  (%d ms)\n", word[r.Passed], s.Title, r.Millis)
	for _, step := range r.Steps {
		switch {
		case step.Skipped:
			fmt.Fprintf(e.stdout, "      -     %s\n", step.Name)
		case step.Passed:
			fmt.Fprintf(e.stdout, "      pass  %s\n", step.Name)
		default:
			fmt.Fprintf(e.stdout, "      FAIL  %s\n            line %d: %s\n", step.Name, step.Line, strings.ReplaceAll(step.Error, "\n", "\n            "))
		}
	}
}

// findScenarios reads a file, or finds built-in scenarios by number or name.
func findScenarios(name string) ([]*scenario.Scenario, error) {
	if strings.HasSuffix(name, ".lab") {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		s, err := scenario.Parse(name, text)
		if err != nil {
			return nil, err
		}
		if s.World != "" && !filepath.IsAbs(s.World) {
			s.World = filepath.Join(filepath.Dir(name), s.World)
		}
		return []*scenario.Scenario{s}, nil
	}
	all, err := scenario.Builtin()
	if err != nil || name == "all" {
		return all, err
	}
	n, err := strconv.Atoi(name)
	for _, s := range all {
		if err == nil && s.Number == n || s.Name == name {
			return []*scenario.Scenario{s}, nil
		}
	}
	return nil, fmt.Errorf("%s is no built-in scenario (see postrider lab scenarios), and files end in .lab", name)
}

// realAddress is {real HOST SERVICE} in a hint.
var realAddress = regexp.MustCompile(`\{real (\S+) (\S+)\}`)

// showHints prints hints, with the addresses of the lab that runs, if one does.
func showHints(e *env, list []*scenario.Scenario) error {
	at := map[string]string{}
	r, err := lab.Ask(e.ctx, "", lab.Request{Do: "hosts"})
	for _, h := range r.Hosts {
		for _, p := range h.Endpoints {
			at[h.Name+" "+p.Service] = p.Real
		}
	}
	for _, s := range list {
		fmt.Fprintf(e.stdout, "%02d  %s\n\n%s\n\n", s.Number, s.Title, s.About)
		for i, h := range s.Hints {
			h = realAddress.ReplaceAllStringFunc(h, func(m string) string {
				f := realAddress.FindStringSubmatch(m)
				host, port, splitErr := net.SplitHostPort(at[f[1]+" "+f[2]])
				switch {
				case splitErr != nil:
					return f[1]
				case f[2] == "dns" && port == "53":
					return host
				case f[2] == "dns":
					return host + " -p " + port
				}
				return host + " " + port
			})
			fmt.Fprintf(e.stdout, "  %d. %s\n", i+1, h)
		}
		fmt.Fprintln(e.stdout)
	}
	if err != nil {
		fmt.Fprintln(e.stdout, "(With a lab running, the hints have its addresses.)")
	}
	return nil
}

// labOf names the lab that a command is for.
type labOf struct {
	Keep string `placeholder:"DIR" help:"Folder of the lab, if it was started with --keep."`
}

func (l labOf) ask(e *env, q lab.Request) (lab.Reply, error) { return lab.Ask(e.ctx, l.Keep, q) }

type labRegisterCmd struct {
	labOf
	Domain string `arg:"" help:"Name directly below a top-level domain of the lab, such as networkutopia.com."`
}

func (c *labRegisterCmd) Run(e *env) error {
	r, err := c.ask(e, lab.Request{Do: "register", Domain: c.Domain})
	if err != nil {
		return err
	}
	for _, step := range r.Registration.Steps {
		fmt.Fprintln(e.stdout, step)
	}
	return nil
}

type labFaultCmd struct {
	labOf
	Words []string `arg:"" optional:"" help:"KIND HOST [to PEER] ..., such as: slow mx.crepes.fr 200ms. Without: lists the kinds and what is broken."`
}

func (c *labFaultCmd) Run(e *env) error {
	if len(c.Words) == 0 {
		t := tabwriter.NewWriter(e.stdout, 0, 8, 2, ' ', 0)
		for _, k := range lab.FaultKinds() {
			fmt.Fprintf(t, "%s\t%s\t%s\n", k.Kind, strings.Join(k.Takes, ", "), k.About)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		r, err := c.ask(e, lab.Request{Do: "faults"})
		for _, f := range r.Faults {
			fmt.Fprintln(e.stdout, f.ID, f)
		}
		return err
	}
	f, err := scenario.ParseFault(strings.Join(c.Words, " "))
	if err != nil {
		return usageError{err}
	}
	r, err := c.ask(e, lab.Request{Do: "fault", Fault: f})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.stdout, r.Fault.ID, r.Fault)
	return err
}

type labClearCmd struct {
	labOf
	Host string `arg:"" optional:"" help:"Host or site; all when there is none."`
	Kind string `arg:"" optional:"" help:"Kind of fault; all when there is none."`
}

func (c *labClearCmd) Run(e *env) error {
	if c.Host == "all" {
		c.Host = ""
	}
	_, err := c.ask(e, lab.Request{Do: "clear", Host: c.Host, Kind: c.Kind})
	return err
}

type labJumpCmd struct {
	labOf
	By string `arg:"" help:"By how much, such as 90s, 2h or 5d."`
}

func (c *labJumpCmd) Run(e *env) error {
	d, err := lab.ParseDuration(c.By)
	if err != nil {
		return usageError{err}
	}
	r, err := c.ask(e, lab.Request{Do: "jump", Duration: lab.Duration(d)})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.stdout, "it is", r.Now.Format(time.DateTime))
	return err
}

type labHostsCmd struct {
	labOf
	JSON bool `help:"As JSON."`
}

func (c *labHostsCmd) Run(e *env) error {
	r, err := c.ask(e, lab.Request{Do: "hosts"})
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(e.stdout).Encode(r.Hosts)
	}
	t := tabwriter.NewWriter(e.stdout, 0, 8, 2, ' ', 0)
	for _, h := range r.Hosts {
		var at []string
		for _, p := range h.Endpoints {
			at = append(at, p.Service+" "+p.Real)
		}
		about := h.About
		if !h.Up {
			about = strings.TrimSpace("down. " + about)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", h.Name, h.Kind, strings.Join(at, ", "), about)
	}
	return t.Flush()
}
