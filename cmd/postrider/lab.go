package main

import (
	"fmt"
	"os/exec"
	"runtime"

	"postrider/lab"
)

type labCmd struct {
	Start labStartCmd `cmd:"" default:"withargs" help:"Run the lab (what lab does without another word)."`
	World labWorldCmd `cmd:"" help:"Print the built-in world file."`
	Run   notBuiltCmd `cmd:"" hidden:"" passthrough:""`
}

type labStartCmd struct {
	Keep   string `aliases:"data" placeholder:"DIR" help:"Keep the servers' data here; default: a temporary folder."`
	World  string `placeholder:"FILE" help:"World file; default: the built-in one."`
	Listen string `placeholder:"ADDR" help:"Address of this machine on a local network, for a class."`
}

func (c *labStartCmd) Run(e *env) error {
	w, err := lab.LoadWorld(c.World)
	if err != nil {
		return err
	}
	return lab.Run(e.ctx, lab.Options{World: w, Out: e.stdout, Keep: c.Keep, Listen: c.Listen, Telnet: telnet(), Program: self()})
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
