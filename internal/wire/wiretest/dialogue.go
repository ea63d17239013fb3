package wiretest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Dialogue runs transcripts against a server. A transcript is text:
//
//	# a comment; empty lines are allowed too
//	S: +OK ready          the server's next line is this
//	S~ \+OK \d+ octets    the server's next line matches this regular expression
//	C: NOOP               the client sends this line, with CRLF; several C lines
//	                      in a row go in one write
//	C" "NOOP\n"           the client sends these octets, a Go string, as they are
//	wait 5m               time passes
//	tls                   the client does a TLS handshake
//	hang up               the client closes its end
//	closed                the server has closed, and said nothing more
//
// A number behind C or S, as in "C2: NOOP", is that of another connection,
// which is opened when it is first named; "tls 2", "hang up 2" and "closed 2"
// name it too. Any other line goes to Do. When the client speaks, and at the
// end, the server must have said nothing that the transcript does not have.
//
// Run must be called inside testing/synctest.
type Dialogue struct {
	Dial func(context.Context) (net.Conn, error)
	TLS  *tls.Config             // of the client
	Do   func(line string) error // nil: there are no other lines
}

// RunFiles runs each transcript that matches pattern in a bubble and as a
// subtest of its own; no match is a failure. setup builds what the transcript
// speaks to and registers its end with t.Cleanup.
func RunFiles(t *testing.T, pattern string, setup func(t *testing.T) Dialogue) {
	t.Helper()
	EachFile(t, pattern, func(t *testing.T, file, text string) {
		synctest.Test(t, func(t *testing.T) {
			d := setup(t)
			d.Run(t, file, text)
		})
	})
}

// EachFile calls fn for each file that matches pattern, as a subtest of its own;
// no match is a failure.
func EachFile(t *testing.T, pattern string, fn func(t *testing.T, file, text string)) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcript matches %s (%v)", pattern, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)), func(t *testing.T) { fn(t, file, string(text)) })
	}
}

// Run runs one transcript; name stands in front of line numbers in failures.
func (d Dialogue) Run(t testing.TB, name, script string) {
	t.Helper()
	r := &run{Dialogue: d, ends: map[string]*end{}}
	defer r.close()
	lines := strings.Split(strings.ReplaceAll(script, "\r\n", "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		at := fmt.Sprintf("%s:%d", name, i+1)
		if lines[i] == "" || strings.HasPrefix(lines[i], "#") {
			continue
		}
		n, err := r.step(lines[i:])
		if err != nil {
			t.Fatalf("%s: %s\n%v", at, lines[i], err)
		}
		i += n - 1
	}
	for id, e := range r.ends {
		if rest := e.rest(); rest != "" {
			t.Fatalf("%s: at the end the server had also said on connection %q: %q", name, id, rest)
		}
	}
}

// run is one transcript under way.
type run struct {
	Dialogue
	ends map[string]*end
}

var speech = regexp.MustCompile(`^([CS])(\d*)([:~"]) ?(.*)$`)

// step does the first of lines, and those behind it that belong to it; it
// returns how many they were.
func (r *run) step(lines []string) (int, error) {
	if m := speech.FindStringSubmatch(lines[0]); m != nil {
		e, err := r.end(m[2])
		if err != nil {
			return 0, err
		}
		if m[1] == "S" {
			return 1, e.expect(m[3] == "~", m[4])
		}
		return e.say(lines, m[1]+m[2])
	}
	word, id := lines[0], ""
	if i := strings.LastIndexByte(word, ' '); i > 0 {
		if _, err := strconv.Atoi(word[i+1:]); err == nil {
			word, id = word[:i], word[i+1:]
		}
	}
	e := r.ends[id]
	switch {
	case strings.HasPrefix(lines[0], "wait "):
		d, err := time.ParseDuration(strings.TrimPrefix(lines[0], "wait "))
		if err == nil {
			<-time.After(d)
			synctest.Wait()
		}
		return 1, err
	case word == "tls" && e != nil:
		return 1, e.startTLS(r.TLS)
	case word == "hang up" && e != nil:
		e.hangUp()
		return 1, nil
	case word == "closed" && e != nil:
		return 1, e.isClosed()
	case r.Do != nil:
		err := r.Do(lines[0])
		synctest.Wait()
		return 1, err
	}
	return 0, fmt.Errorf("no such line in a transcript")
}

// end finds a connection, or opens it.
func (r *run) end(id string) (*end, error) {
	if e := r.ends[id]; e != nil {
		return e, nil
	}
	conn, err := r.Dial(context.Background())
	if err != nil {
		return nil, err
	}
	e := &end{}
	e.attach(conn)
	r.ends[id] = e
	return e, nil
}

func (r *run) close() {
	for _, e := range r.ends {
		e.hangUp()
	}
	synctest.Wait()
}

// end is the client's end of one connection. A goroutine collects what comes.
type end struct {
	conn net.Conn
	done chan struct{} // closed when the collector ended

	mu   sync.Mutex
	got  string // not yet expected
	over bool   // nothing more will come
}

func (e *end) attach(conn net.Conn) {
	e.conn, e.done = conn, make(chan struct{})
	go e.collect()
}

func (e *end) collect() {
	defer close(e.done)
	buf := make([]byte, 4096)
	for {
		n, err := e.conn.Read(buf)
		e.mu.Lock()
		e.got += string(buf[:n])
		timeout := err != nil && os.IsTimeout(err)
		e.over = err != nil && !timeout
		e.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// rest waits until all is still and returns what nobody expected yet.
func (e *end) rest() string {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.got
}

// expect takes the server's next line and compares it.
func (e *end) expect(pattern bool, want string) error {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	line, rest, ok := strings.Cut(e.got, "\r\n")
	if !ok {
		return fmt.Errorf("the server said no whole line (%q, closed %v)", e.got, e.over)
	}
	e.got = rest
	if !pattern {
		if line != want {
			return fmt.Errorf("the server said %q", line)
		}
		return nil
	}
	re, err := regexp.Compile(`^(?:` + want + `)$`)
	if err != nil {
		return err
	}
	if !re.MatchString(line) {
		return fmt.Errorf("the server said %q", line)
	}
	return nil
}

// say sends the lines that begin with who, in one write.
func (e *end) say(lines []string, who string) (int, error) {
	if rest := e.rest(); rest != "" {
		return 0, fmt.Errorf("before that the server said %q", rest)
	}
	var out strings.Builder
	n := 0
	for ; n < len(lines); n++ {
		if text, ok := strings.CutPrefix(lines[n], who+":"); ok {
			out.WriteString(strings.TrimPrefix(text, " ") + "\r\n")
		} else if text, ok := strings.CutPrefix(lines[n], who+"\""); ok {
			raw, err := strconv.Unquote(strings.TrimSpace(text))
			if err != nil {
				return n, fmt.Errorf("%q is no Go string: %w", text, err)
			}
			out.WriteString(raw)
		} else {
			break
		}
	}
	if _, err := e.conn.Write([]byte(out.String())); err != nil {
		return n, fmt.Errorf("send: %w", err)
	}
	return n, nil
}

// startTLS does the client's part of a handshake.
func (e *end) startTLS(config *tls.Config) error {
	e.conn.SetReadDeadline(time.Unix(1, 0)) // ends the collector
	<-e.done
	e.conn.SetReadDeadline(time.Time{})
	c := tls.Client(e.conn, config)
	if err := c.Handshake(); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	e.attach(c)
	return nil
}

func (e *end) hangUp() { e.conn.Close() }

func (e *end) isClosed() error {
	rest := e.rest()
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.over || rest != "" {
		return fmt.Errorf("the connection is open (said %q, closed %v)", rest, e.over)
	}
	return nil
}
