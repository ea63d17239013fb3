package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"postrider/mailstore"
)

const killDir = "POSTRIDER_TEST_KILL_DIR" // where the child process works

// killText is the text of a message by its number: some small, some in files.
func killText(n int) string {
	return strings.Repeat(fmt.Sprintf("%d\r\n", n), 1+n%7*3000)
}

// TestKillChild is the child process of TestKill: it appends and expunges as
// fast as it can and prints what was acknowledged. On its own it does nothing.
func TestKillChild(t *testing.T) {
	dir := os.Getenv(killDir)
	if dir == "" {
		return
	}
	s, _ := openStore(t, dir)
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	first := rand.IntN(1 << 30)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				n := first + 4*i + g
				uid, err := deliver(s, 1, killText(n))
				if err != nil {
					say("error %v", err)
					return
				}
				say("have %d %d", uid, n)
				if i%3 != 0 {
					continue
				}
				say("remove %d", uid)
				err = s.Update(context.Background(), func(tx *mailstore.Tx) error {
					_, err := tx.Expunge(1, []mailstore.UID{uid})
					return err
				})
				if err != nil {
					say("error %v", err)
					return
				}
				say("gone %d", uid)
			}
		})
	}
	wg.Wait()
}

// killed is what was acknowledged in all rounds.
type killed struct {
	have      map[mailstore.UID]int  // number by UID
	uncertain map[mailstore.UID]bool // an expunge was under way
	gone      map[mailstore.UID]bool
}

// TestKill kills a process at random instants: what it was told is there.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, _ := openStore(t, dir)
	newInbox(t, s)
	closeStore(t, s)
	k := killed{make(map[mailstore.UID]int), make(map[mailstore.UID]bool), make(map[mailstore.UID]bool)}
	for range 8 {
		k.round(t, dir)
		k.check(t, dir)
		verify(t, dir)
	}
	if len(k.have) == 0 || len(k.gone) == 0 {
		t.Errorf("%d appended, %d expunged: nothing was tested", len(k.have), len(k.gone))
	}
}

// round runs the child until it has acknowledged some operations.
func (k *killed) round(t *testing.T, dir string) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillChild$")
	cmd.Env = append(os.Environ(), killDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for n := rand.IntN(400); lines.Scan(); n-- {
		k.line(t, strings.Fields(lines.Text()))
		if n == 0 {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	_ = cmd.Wait() // it was killed
}

// line takes one line of the child's. The last may be cut short.
func (k *killed) line(t *testing.T, words []string) {
	number := func(i int) int {
		n, err := strconv.Atoi(words[i])
		if err != nil {
			t.Fatalf("child: %v", words)
		}
		return n
	}
	switch {
	case len(words) == 3 && words[0] == "have":
		uid := mailstore.UID(number(1))
		if _, ok := k.have[uid]; ok || k.gone[uid] {
			t.Errorf("UID %d was given twice", uid)
		}
		k.have[uid] = number(2)
	case len(words) == 2 && words[0] == "remove":
		k.uncertain[mailstore.UID(number(1))] = true
	case len(words) == 2 && words[0] == "gone":
		uid := mailstore.UID(number(1))
		k.gone[uid] = true
		delete(k.have, uid)
	default:
		t.Errorf("child: %v", words)
	}
}

// check compares the mailbox with what was acknowledged.
func (k *killed) check(t *testing.T, dir string) {
	t.Helper()
	s, _ := openStore(t, dir)
	defer closeStore(t, s)
	msgs := make(map[mailstore.UID]mailstore.Message)
	err := s.View(context.Background(), func(v *mailstore.View) error {
		return v.Messages(1, 1, 0, func(m mailstore.Message) bool {
			msgs[m.UID] = m
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	for uid, n := range k.have {
		m, ok := msgs[uid]
		if !ok && k.uncertain[uid] {
			delete(k.have, uid)
			k.gone[uid] = true
			continue
		}
		if !ok {
			t.Errorf("UID %d was acknowledged and is lost", uid)
			continue
		}
		c, err := s.OpenMessage(context.Background(), m)
		if err != nil {
			t.Errorf("UID %d: %v", uid, err)
			continue
		}
		want := killText(n)
		got := make([]byte, c.Size())
		if n, err := c.ReadAt(got, 0); n < len(got) || string(got) != want {
			t.Errorf("UID %d came back otherwise: %v", uid, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	for uid := range k.gone {
		if _, ok := msgs[uid]; ok {
			t.Errorf("UID %d was expunged and is back", uid)
		}
	}
}
