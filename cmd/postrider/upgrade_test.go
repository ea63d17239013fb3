package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"postrider/mailstore/sqlite"
)

// oldProgram is a program whose data directory is of version 1.
func oldProgram(t *testing.T) (p *program, data string) {
	t.Helper()
	p = newProgram(t)
	data = filepath.Join(p.dir, "data")
	from := os.DirFS("../../mailstore/sqlite/testdata/v1")
	err := fs.WalkDir(from, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(data, path)
		if d.IsDir() {
			return os.Mkdir(to, 0o700)
		}
		text, err := fs.ReadFile(from, path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, text, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return p, data
}

// TestUpgradeTranscript: testdata/upgrade.txt is what is typed and what comes.
func TestUpgradeTranscript(t *testing.T) {
	want, err := os.ReadFile("testdata/upgrade.txt")
	if err != nil {
		t.Fatal(err)
	}
	p, data := oldProgram(t)
	var got bytes.Buffer
	commands := 0
	for line := range strings.Lines(string(want)) {
		if strings.HasPrefix(line, "#") {
			got.WriteString(line)
			continue
		}
		command, ok := strings.CutPrefix(line, "$ postrider ")
		if !ok {
			continue
		}
		commands++
		code, out, errs := p.run("", strings.Fields(command)...)
		text := strings.ReplaceAll(out+errs, data, "DATA")
		text = regexp.MustCompile(`\d+(\.\d+)?m?s\b`).ReplaceAllString(text, "TIME")
		text = regexp.MustCompile(`by process \d+`).ReplaceAllString(text, "by process N")
		fmt.Fprintf(&got, "%s%s", line, text)
		if code != 0 {
			fmt.Fprintf(&got, "exit %d\n", code)
		}
	}
	if commands < 5 || got.String() != string(want) {
		t.Errorf("%d commands; got\n%s", commands, got.String())
	}
}

// serverOfBefore is what a dry run needs of an old server: a hold.
type serverOfBefore struct{ begun, checked, ended atomic.Int64 }

func (s *serverOfBefore) HoldBegin(struct{}, *struct{}) error { s.begun.Add(1); return nil }
func (s *serverOfBefore) HoldCheck(struct{}, *struct{}) error { s.checked.Add(1); return nil }
func (s *serverOfBefore) HoldEnd(struct{}, *struct{}) error   { s.ended.Add(1); return nil }

// TestUpgradeRunning: while an old server runs there are dry runs, and no more.
func TestUpgradeRunning(t *testing.T) {
	p, data := oldProgram(t)
	free, err := sqlite.Lock(data)
	if err != nil {
		t.Fatal(err)
	}
	p.want(exitFailed, "", "stop the server first", "", "upgrade")
	l, err := net.Listen("unix", filepath.Join(data, "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	old := &serverOfBefore{}
	server := rpc.NewServer()
	if err := server.RegisterName("Admin", old); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go server.ServeCodec(jsonrpc.NewServerCodec(conn))
		}
	}()
	p.want(exitDone, "Clients see no difference: 1 domains", "", "", "upgrade", "--dry-run")
	if b, c, e := old.begun.Load(), old.checked.Load(), old.ended.Load(); b != 1 || c != 2 || e != 1 {
		t.Errorf("hold: begun %d, checked %d, ended %d", b, c, e)
	}
	p.want(exitFailed, "", "stop the server first", "", "upgrade")
	l.Close()
	if err := free(); err != nil {
		t.Fatal(err)
	}
	p.want(exitDone, `"verdict": "upgraded"`, "", "", "upgrade", "--json")
	p.want(exitDone, "bob@example.org", "", "", "user", "list")
}

// TestUpgradeStart: init upgrades as the server does, keeps the old database and
// says so; other commands do not upgrade.
func TestUpgradeStart(t *testing.T) {
	p, data := oldProgram(t)
	p.want(exitFailed, "", "run postrider upgrade", "", "verify")
	code, _, errs := p.run("", "init")
	if code != exitDone || !strings.Contains(errs, "the old one is kept") || !strings.Contains(errs, "postrider.db.v1") {
		t.Errorf("init: exit %d, %q", code, errs)
	}
	if _, err := os.Stat(filepath.Join(data, "postrider.db.v1")); err != nil {
		t.Error(err)
	}
	p.want(exitDone, "ok: 4 messages", "", "", "verify")
	p.want(exitDone, "example.org", "", "", "init")
}
