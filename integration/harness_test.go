package integration

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	buildTags = "sqlite_fts5"
	hostname  = "hamburger.edu"
	password  = "hungry" // bob's, by init --demo on loopback

	// patience bounds a wait for something that takes no time of its own.
	patience = 30 * time.Second
)

// binaries are made by the first test that needs them, and once.
var binaries struct {
	once sync.Once
	dir  string
	bins
	err error
}

// bins are the paths of the binaries.
type bins struct {
	plain string // as released
	race  string // with the race detector, where the tests have it; else plain
}

func TestMain(m *testing.M) {
	code := m.Run()
	if binaries.dir != "" {
		if err := os.RemoveAll(binaries.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

// built returns the binaries.
func built(t testing.TB) bins {
	t.Helper()
	b := &binaries
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "postrider-integration-"); b.err != nil {
			return
		}
		b.plain = filepath.Join(b.dir, "postrider")
		b.race = b.plain
		b.err = build(b.plain)
		if raceEnabled && b.err == nil {
			b.race = filepath.Join(b.dir, "postrider-race")
			b.err = build(b.race, "-race")
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.bins
}

func build(out string, flags ...string) error {
	args := append([]string{"build", "-tags", buildTags, "-o", out}, flags...)
	cmd := exec.Command("go", append(args, "./cmd/postrider")...)
	cmd.Dir = ".."
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, text)
	}
	return nil
}

// options says how a server differs from the usual one.
type options struct {
	config string // appended to the configuration; [listen] is in it already
	plain  bool   // the binary as released, also in race tests: for measurements
	// wrap is put in front of the command line, such as strace -o FILE.
	wrap []string
	env  []string
	args []string // behind serve
	// domain is the mail domain; "" means hamburger.edu.
	domain string
	dir    string // an existing server's; "" = a new one
	quiet  bool   // do not stop it when the test ends
	// expected is a part of the error lines that the log may have.
	expected string
}

// server is one running postrider.
type server struct {
	t    testing.TB
	o    options
	bin  string
	dir  string // config.toml and data
	cmd  *exec.Cmd
	addr map[string]string // of each service
	out  *log              // standard output
	err  *log              // standard error
	done chan struct{}     // closed when the process ended
	end  error             // of cmd.Wait
}

// log collects what a process says.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newServer sets up a data directory with the demo accounts and starts a
// server, which ends with the test.
func newServer(t testing.TB, o options) *server {
	t.Helper()
	s := prepare(t, o)
	s.init()
	s.start()
	return s
}

// prepare writes the configuration of a server.
func prepare(t testing.TB, o options) *server {
	t.Helper()
	s := &server{t: t, o: o, bin: built(t).race, dir: o.dir}
	if o.plain {
		s.bin = built(t).plain
	}
	if s.dir == "" {
		s.dir = t.TempDir()
		s.writeConfig(o.config)
	}
	return s
}

// writeConfig writes a configuration with every service on a free port of
// loopback, and nothing that would look at the world outside.
func (s *server) writeConfig(extra string) {
	s.t.Helper()
	text := `hostname = "` + hostname + `"
data_dir = "data"
`
	if !strings.Contains(extra, "[listen]") {
		text += "[listen]\n"
		for _, service := range []string{"smtp", "submission", "submissions", "lmtp", "pop3", "pop3s", "imap", "imaps", "metrics"} {
			text += service + " = [\"127.0.0.1:0\"]\n"
		}
	}
	if !strings.Contains(extra, "[dns]") {
		text += "[dns]\nresolver = \"127.0.0.1:9\"\nhosts = \"\"\n"
	}
	if err := os.WriteFile(s.configFile(), []byte(text+extra), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) configFile() string { return filepath.Join(s.dir, "config.toml") }

// caFile is the certificate of the server's own CA.
func (s *server) caFile() string {
	m := regexp.MustCompile(`(?m)^Trust this server: (\S+)`).FindStringSubmatch(s.out.String())
	if m == nil {
		s.t.Fatalf("the start-up text names no CA:\n%s", s.out)
	}
	return m[1]
}

// init makes the domain and the accounts alice and bob. Alice gets bob's
// password, so that tests need not read it.
func (s *server) init() {
	s.t.Helper()
	domain := s.o.domain
	if domain == "" {
		domain = hostname
	}
	s.must("init", "--domain", domain, "--demo")
	s.mustWith(password+"\n", "user", "passwd", "alice@"+domain, "--password-stdin")
}

// run runs another command of the binary and returns its output.
func (s *server) run(stdin string, args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	cmd := exec.Command(s.bin, append([]string{"--config", s.configFile()}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (s *server) must(args ...string) string { s.t.Helper(); return s.mustWith("", args...) }

func (s *server) mustWith(stdin string, args ...string) string {
	s.t.Helper()
	stdout, stderr, code := s.run(stdin, args...)
	if code != 0 {
		s.t.Fatalf("postrider %s: exit %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// start runs serve and waits for "ready".
func (s *server) start() {
	s.t.Helper()
	s.cmd = s.command()
	s.out, s.err, s.done = &log{}, &log{}, make(chan struct{})
	s.cmd.Stderr = s.err
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ready := make(chan bool, 1)
	go s.watch(stdout, ready)
	if !s.o.quiet {
		s.t.Cleanup(s.stop)
	}
	select {
	case ok := <-ready:
		if !ok {
			<-s.done
			s.t.Fatalf("serve ended (%v) before it was ready:\n%s%s", s.end, s.out, s.err)
		}
	case <-time.After(patience):
		s.kill()
		s.t.Fatalf("serve was not ready after %v:\n%s%s", patience, s.out, s.err)
	}
	s.addr = map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z0-9_]+) +(\S+:\d+)`).FindAllStringSubmatch(s.out.String(), -1) {
		s.addr[m[1]] = m[2]
	}
}

// command is the one that serves.
func (s *server) command() *exec.Cmd {
	line := append(append([]string{}, s.o.wrap...), s.bin, "--config", s.configFile(), "serve")
	line = append(line, s.o.args...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(os.Environ(), s.o.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// watch reads standard output, tells when "ready" came, and waits for the end.
func (s *server) watch(stdout interface{ Read([]byte) (int, error) }, ready chan<- bool) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		fmt.Fprintln(s.out, lines.Text())
		if lines.Text() == "ready" {
			ready <- true
		}
	}
	s.end = s.cmd.Wait()
	select {
	case ready <- false:
	default:
	}
	close(s.done)
}

// pid is the process id of postrider itself.
func (s *server) pid() int {
	if len(s.o.wrap) == 0 {
		return s.cmd.Process.Pid
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.Fields(string(text) + " 0")[0])
	if err != nil || pid == 0 {
		return s.cmd.Process.Pid // the wrapper became the server by exec
	}
	return pid
}

// kill is kill -9.
func (s *server) kill() {
	syscall.Kill(s.pid(), syscall.SIGKILL)
	<-s.done
}

// stop ends the server by SIGTERM and wants exit 0, no panic and no data race.
func (s *server) stop() {
	s.t.Helper()
	select {
	case <-s.done:
		return
	default:
	}
	syscall.Kill(s.pid(), syscall.SIGTERM)
	select {
	case <-s.done:
		if s.end != nil {
			s.t.Errorf("SIGTERM: %v\n%s", s.end, s.err)
		}
	case <-time.After(patience):
		s.kill()
		s.t.Errorf("the server did not stop within %v of SIGTERM\n%s", patience, s.err)
	}
	s.checkLog()
}

// checkLog fails for what must never be in a log.
func (s *server) checkLog() {
	s.t.Helper()
	text := s.err.String()
	if s.o.expected != "" {
		var rest strings.Builder
		for line := range strings.Lines(text) {
			if !strings.Contains(line, s.o.expected) {
				rest.WriteString(line)
			}
		}
		text = rest.String()
	}
	for _, never := range []string{"DATA RACE", "panic", "goroutine ", password, "level=ERROR"} {
		if i := strings.Index(text, never); i >= 0 {
			s.t.Errorf("the log has %q:\n%s", never, text[max(0, i-500):min(len(text), i+3000)])
		}
	}
	if s.t.Failed() {
		s.t.Logf("log of the server:\n%s", text[max(0, len(text)-6000):])
	}
}

// host and port of a service.
func (s *server) port(service string) string {
	addr := s.addr[service]
	if addr == "" {
		s.t.Fatalf("no listener for %s in:\n%s", service, s.out)
	}
	return addr[strings.LastIndexByte(addr, ':')+1:]
}

// program finds a program that setup.sh installs.
func program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing; integration/setup.sh installs it", name)
	}
	return path
}

// execute runs a program to its end, which must come soon.
func execute(t testing.TB, env []string, stdin string, name string, args ...string) (output string, code int) {
	t.Helper()
	cmd := exec.Command(program(t, name), args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out log
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(2*patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// succeed is execute of a program that must exit with 0.
func succeed(t testing.TB, env []string, stdin string, name string, args ...string) string {
	t.Helper()
	out, code := execute(t, env, stdin, name, args...)
	if code != 0 {
		t.Fatalf("%s %s: exit %d\n%s", name, strings.Join(args, " "), code, out)
	}
	return out
}

// eventually calls check until it returns nil; it fails when that takes too
// long.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("after %v: %v", patience, err)
		}
	}
}

func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
