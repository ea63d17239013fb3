package integration

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// marionette drives a Thunderbird over its Marionette port: JSON in
// netstrings, [0, id, command, arguments] there, [1, id, error, result] back.
type marionette struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	id   int
}

func dialMarionette(t testing.TB, addr string) *marionette {
	t.Helper()
	m := &marionette{t: t}
	eventually(t, func() error {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		m.conn, m.r = conn, bufio.NewReader(conn)
		return nil
	})
	t.Cleanup(func() { m.conn.Close() })
	if _, err := m.receive(); err != nil { // the greeting
		t.Fatal(err)
	}
	m.command("WebDriver:NewSession", map[string]any{"capabilities": map[string]any{}})
	m.command("WebDriver:SetTimeouts", map[string]any{"script": patience.Milliseconds()})
	m.command("Marionette:SetContext", map[string]any{"value": "chrome"})
	return m
}

func (m *marionette) receive() (json.RawMessage, error) {
	m.conn.SetReadDeadline(time.Now().Add(2 * patience))
	size, err := m.r.ReadString(':')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(size, ":"))
	if err != nil {
		return nil, err
	}
	text := make([]byte, n)
	_, err = io.ReadFull(m.r, text)
	return text, err
}

// try sends one command and returns its result.
func (m *marionette) try(name string, args any) (json.RawMessage, error) {
	m.id++
	text, err := json.Marshal([]any{0, m.id, name, args})
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(m.conn, "%d:%s", len(text), text); err != nil {
		return nil, err
	}
	text, err = m.receive()
	if err != nil {
		return nil, err
	}
	var answer [4]json.RawMessage
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, err
	}
	if string(answer[2]) != "null" {
		return nil, fmt.Errorf("%s: %s", name, answer[2])
	}
	return answer[3], nil
}

func (m *marionette) command(name string, args any) json.RawMessage {
	m.t.Helper()
	result, err := m.try(name, args)
	if err != nil {
		m.t.Fatal(err)
	}
	return result
}

// evaluate runs the body of an async function with the program's rights. What
// it returns goes into value; what it throws is the error.
func (m *marionette) evaluate(body string, value any, args ...any) error {
	script := `
const done = arguments[arguments.length - 1];
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const { MailUtils } = ChromeUtils.importESModule("resource:///modules/MailUtils.sys.mjs");
(async (...args) => {` + body + `})(...arguments).then(
  v => done({ value: v === undefined ? null : v }),
  e => done({ failure: String(e) + "\n" + (e && e.stack) }));`
	if args == nil {
		args = []any{}
	}
	result, err := m.try("WebDriver:ExecuteAsyncScript", map[string]any{
		"script": script, "args": args, "sandbox": "system", "newSandbox": true,
	})
	if err != nil {
		return err
	}
	var answer struct {
		Value struct {
			Value   json.RawMessage
			Failure string
		}
	}
	if err := json.Unmarshal(result, &answer); err != nil {
		return err
	}
	if answer.Value.Failure != "" {
		return fmt.Errorf("in Thunderbird: %s", answer.Value.Failure)
	}
	if value == nil {
		return nil
	}
	return json.Unmarshal(answer.Value.Value, value)
}

// screenshot returns the window as PNG.
func (m *marionette) screenshot() []byte {
	m.t.Helper()
	var answer struct{ Value string }
	if err := json.Unmarshal(m.command("WebDriver:TakeScreenshot", map[string]any{"full": true, "hash": false}), &answer); err != nil {
		m.t.Fatal(err)
	}
	png, err := base64.StdEncoding.DecodeString(answer.Value)
	if err != nil {
		m.t.Fatal(err)
	}
	return png
}

// background starts a program that the end of the test kills.
func background(t testing.TB, cmd *exec.Cmd) *log {
	t.Helper()
	out := &log{}
	cmd.Stderr = out
	if cmd.Stdout == nil {
		cmd.Stdout = out
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its own children too
		cmd.Wait()
	})
	return out
}

// display starts a screen that nobody sees, and returns its name.
func display(t testing.TB) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(program(t, "Xvfb"), "-displayfd", "3", "-screen", "0", "1280x800x24", "-nolisten", "tcp")
	cmd.ExtraFiles = []*os.File{w}
	out := background(t, cmd)
	w.Close()
	r.SetReadDeadline(time.Now().Add(patience))
	number, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("Xvfb: %v\n%s", err, out)
	}
	return ":" + strings.TrimSpace(number)
}

// installation is a Thunderbird of the test's own: links to the installed one,
// so that policies.json stands beside the program as an administrator would
// put it, and the machine's own is left alone.
func installation(t testing.TB, policies string) (binary string) {
	t.Helper()
	program(t, "thunderbird")
	const installed = "/usr/lib/thunderbird"
	dir := t.TempDir()
	entries, err := os.ReadDir(installed)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		from, to := filepath.Join(installed, e.Name()), filepath.Join(dir, e.Name())
		if e.Name() != "thunderbird-bin" {
			err = os.Symlink(from, to)
		} else {
			err = copyFile(from, to) // it finds the rest beside itself
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dir, "distribution", "policies.json"), policies)
	return filepath.Join(dir, "thunderbird-bin")
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o700)
}

// freePort returns a port of loopback, for TCP and UDP, for a program that opens it
// itself: not one of those that the system gives to clients, which could have it
// before the program does.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 10000 + rand.IntN(20000)
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		c, err := net.ListenPacket("udp", addr)
		l.Close()
		if err == nil {
			c.Close()
			return port
		}
	}
	t.Fatal("no port between 10000 and 30000 is free")
	return 0
}
