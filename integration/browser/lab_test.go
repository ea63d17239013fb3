package browser

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program is the built postrider.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "postrider-browser-")
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "postrider")
	build := exec.Command("go", "build", "-tags", "sqlite_fts5", "-o", name, "./cmd/postrider")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return name, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if name, err := program(); err == nil {
		os.RemoveAll(filepath.Dir(name))
	}
	os.Exit(code)
}

// run starts the program and returns what its start-up text has for the pattern.
func run(t *testing.T, pattern string, args ...string) []string {
	t.Helper()
	name, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said, wrong bytes.Buffer
	cmd.Stderr = &wrong
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("it does not end")
			cmd.Process.Kill()
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err, wrong.String())
		}
	})
	ready := make(chan struct{})
	go func() {
		defer close(ended)
		r := bufio.NewReader(out)
		for line := ""; line != "ready\n"; {
			if line, err = r.ReadString('\n'); err != nil {
				return
			}
			said.WriteString(line)
		}
		close(ready)
		io.Copy(io.Discard, r)
	}()
	select {
	case <-ready:
	case <-ended:
		t.Fatalf("it ended: %s %s", said.String(), wrong.String())
	case <-time.After(patience):
		t.Fatal("it is not ready")
	}
	found := regexp.MustCompile(pattern).FindStringSubmatch(said.String())
	if found == nil {
		t.Fatalf("no %s in %s", pattern, said.String())
	}
	return found
}

// arrived is the kind of event that a letter ends with.
const arrived = "mailbox.delivered"

// page is a lab and its page in a browser.
type page struct {
	*tab
	url string
}

// openLab starts a lab and opens its page, where steps come fast.
func openLab(t *testing.T, width, height int64) *page {
	t.Helper()
	p := &page{url: run(t, `Watch it in a browser: (\S+)`, "lab", "--page", "127.0.0.1:0")[1]}
	p.tab = newTab(t, width, height)
	p.open(p.url)
	p.wait(`document.querySelectorAll("#map .host").length > 20`)
	p.fill("pace", "40")
	return p
}

// step is a step of the diagram.
type step struct {
	Seq                           uint64
	From, To, Via, Kind, Label    string
	Tone, Say, RFC, Message, Wire string
	For                           []string
	Fields                        [][2]string
}

// steps are what the page's server has of the journey.
func (p *page) steps() []step {
	p.t.Helper()
	answer, err := http.Get(p.url + "api/steps")
	if err != nil {
		p.t.Fatal(err)
	}
	defer answer.Body.Close()
	var list []step
	if err := json.NewDecoder(answer.Body).Decode(&list); err != nil {
		p.t.Fatal(err)
	}
	return list
}

// find returns the first step of a kind and host after seq; it waits for it.
func (p *page) find(after uint64, kind, from string) step {
	p.t.Helper()
	var list []step
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		list = p.steps()
		for _, s := range list {
			if s.Seq > after && s.Kind == kind && (from == "" || s.From == from) {
				return s
			}
		}
	}
	for _, s := range list {
		p.t.Logf("%d %s > %s %s %s", s.Seq, s.From, s.To, s.Kind, s.Label)
	}
	p.t.Fatalf("no %s at %s", kind, from)
	return step{}
}

// last is the number of the latest step.
func (p *page) last() uint64 {
	p.t.Helper()
	list := p.steps()
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1].Seq
}

// drawn waits until the diagram shows a step.
func (p *page) drawn(seq uint64) {
	p.t.Helper()
	p.wait(fmt.Sprintf(`document.querySelector('#steps [data-seq="%d"]')`, seq))
}

// sendLetter sends the letter that the form has, and waits until the diagram
// shows it in the mailbox.
func (p *page) sendLetter() step {
	p.t.Helper()
	after := p.last()
	p.click(`#letter button[type=submit]`)
	s := p.find(after, arrived, "mx.hamburger.edu")
	p.drawn(s.Seq)
	return s
}
