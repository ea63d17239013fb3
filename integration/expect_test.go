package integration

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// person is a program with somebody at its keyboard.
type person struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	keys io.Writer
	seen *log          // all that was on the screen
	read int           // how much of it expect has passed
	done chan struct{} // closed when the program ended
}

// onTerminal runs a program on a terminal of its own, as a person would.
func onTerminal(t testing.TB, env []string, name string, args ...string) *person {
	t.Helper()
	master, tty := openPTY(t)
	p := &person{t: t, name: name, keys: master, seen: &log{}, done: make(chan struct{})}
	p.cmd = exec.Command(program(t, name), args...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = tty, tty, tty
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	p.start(env)
	tty.Close()
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		io.Copy(p.seen, master) // until the program has closed its side
	}()
	go func() {
		p.cmd.Wait()
		<-copied
		master.Close()
		close(p.done)
	}()
	return p
}

// onPipe runs a program on pipes, as a script would.
func onPipe(t testing.TB, name string, args ...string) *person {
	t.Helper()
	p := &person{t: t, name: name, seen: &log{}, done: make(chan struct{})}
	p.cmd = exec.Command(program(t, name), args...)
	p.cmd.Stdout, p.cmd.Stderr = p.seen, p.seen
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	keys, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.keys = keys
	p.start(nil)
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	return p
}

func (p *person) start(env []string) {
	p.t.Helper()
	p.cmd.Env = append(append(os.Environ(), "TERM=vt100", "LINES=40", "COLUMNS=100"), env...)
	p.seen.Write([]byte("\n")) // so that each line has one before it
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
	})
}

// openPTY opens a pseudo-terminal.
func openPTY(t testing.TB) (master, tty *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var unlock, number int32
	for request, arg := range map[uintptr]*int32{syscall.TIOCSPTLCK: &unlock, syscall.TIOCGPTN: &number} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), request, uintptr(unsafe.Pointer(arg))); errno != 0 {
			t.Fatal(errno)
		}
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, tty
}

// sees waits until want stands on the screen, after what was seen before.
func (p *person) sees(want string) {
	p.t.Helper()
	found := func() error {
		text := strings.ReplaceAll(p.seen.String(), "\r\n", "\n")
		i := strings.Index(text[min(p.read, len(text)):], want)
		if i < 0 {
			return fmt.Errorf("%s shows no %q after\n%s", p.name, want, text)
		}
		p.read += i + len(want)
		return nil
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for {
		err := found()
		if err == nil {
			return
		}
		select {
		case <-p.done:
			if err := found(); err != nil {
				p.t.Fatalf("%v\nand has ended", err)
			}
			return
		case <-end:
			p.t.Fatal(err)
		case <-tick.C:
		}
	}
}

// types sends keys.
func (p *person) types(keys string) {
	p.t.Helper()
	if _, err := io.WriteString(p.keys, keys); err != nil {
		p.t.Fatal(err)
	}
}

// follows goes through a dialogue: lines "S: ..." are what the screen must
// show at the beginning of a line, lines "C: ..." are typed.
func (p *person) follows(dialogue string) {
	p.t.Helper()
	for line := range strings.Lines(strings.Trim(dialogue, "\n")) {
		line = strings.Trim(line, "\t\n")
		if text, ok := strings.CutPrefix(line, "C:"); ok {
			p.types(strings.TrimPrefix(text, " ") + "\n")
		} else {
			p.sees("\n" + strings.TrimPrefix(line, "S: "))
		}
	}
}

// ends waits for the end of the program. A pipe to it is closed first.
func (p *person) ends() {
	p.t.Helper()
	if pipe, ok := p.keys.(*os.File); !ok || !strings.HasPrefix(pipe.Name(), "/dev/") {
		p.keys.(io.Closer).Close()
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s goes on after\n%s", p.name, p.seen)
	}
	var exit *exec.ExitError
	if err := p.cmd.Err; err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
}
