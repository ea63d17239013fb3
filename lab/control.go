package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"postrider/internal/node"
)

// The control socket of a running lab: one request and one reply, JSON, for each
// connection. Only the user who runs the lab can reach it.
const (
	maxRequest      = 64 << 10
	maxReply        = 4 << 20
	controlPatience = 3 * time.Minute // a jump of many days takes a while
	maxControlled   = 8
	// controlName is the socket's in the folder of a lab, or in that of the user.
	controlName = "postrider-lab.sock"
)

// Request asks a running lab to do something.
type Request struct {
	Do       string   `json:"do"` // register, fault, clear, jump, hosts, faults
	Domain   string   `json:"domain,omitempty"`
	Fault    Fault    `json:"fault,omitzero"`
	Host     string   `json:"host,omitempty"`
	Kind     string   `json:"kind,omitempty"`
	Duration Duration `json:"duration,omitempty"`
}

// Reply is what came of it.
type Reply struct {
	Error        string        `json:"error,omitempty"`
	Registration *Registration `json:"registration,omitempty"`
	Fault        *Fault        `json:"fault,omitempty"`
	Faults       []Fault       `json:"faults,omitempty"`
	Hosts        []HostState   `json:"hosts,omitempty"`
	Now          time.Time     `json:"now,omitzero"`
}

// userDir is the folder in which the lab of this user is reached: a part of the
// login session, or one that we make.
func userDir() (dir string, ours bool) {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return dir, false
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("postrider-lab-%d", os.Getuid())), true
}

// private tells why a folder is not one that only we can enter.
func private(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || info.Mode().Perm() != 0o700 || owner.Uid != uint32(os.Getuid()) {
		return fmt.Errorf("%s is not a folder that only you can enter", dir)
	}
	return nil
}

// control listens on the control socket: in the folder that the lab keeps, or for
// the first lab of a user in the user's, else in its own.
func (l *Lab) control() error {
	dir, ours := userDir()
	if l.o.Keep != "" || !vacant(dir, ours) {
		dir, ours, l.reach = l.dir, false, " --keep "+word(l.dir)
	}
	s, err := node.ListenInDir(dir, controlName)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(l.ctx, func() { s.Close() })
	l.running.Go(func() {
		defer stop()
		l.controlled(s)
		s.Close()
		os.Remove(filepath.Join(dir, controlName))
		if ours {
			os.Remove(dir) // unless another lab is in it
		}
	})
	return nil
}

// vacant tells whether no other lab is reached in the user's folder.
func vacant(dir string, ours bool) bool {
	if ours && os.MkdirAll(dir, 0o700) != nil || private(dir) != nil {
		return false
	}
	c, err := node.DialInDir(dir, controlName)
	if err != nil {
		return true
	}
	c.Close()
	return false
}

// controlled serves requests until the socket is closed.
func (l *Lab) controlled(s net.Listener) {
	slots := make(chan struct{}, maxControlled)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := s.Accept()
		if err != nil {
			return
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			defer c.Close()
			stop := context.AfterFunc(l.ctx, func() { c.Close() })
			defer stop()
			_ = c.SetDeadline(time.Now().Add(controlPatience))
			var q Request
			if err := json.NewDecoder(io.LimitReader(c, maxRequest)).Decode(&q); err != nil {
				return
			}
			ctx, cancel := context.WithTimeout(l.ctx, controlPatience)
			defer cancel()
			_ = json.NewEncoder(c).Encode(l.Do(ctx, q)) // who went away does not read it
		})
	}
}

// Do does what a request asks for.
func (l *Lab) Do(ctx context.Context, q Request) Reply {
	var r Reply
	var err error
	switch q.Do {
	case "register":
		r.Registration, err = l.Register(ctx, q.Domain)
	case "fault":
		var f Fault
		if f, err = l.SetFault(ctx, q.Fault); err == nil {
			r.Fault = &f
		}
	case "clear":
		err = l.ClearFaults(ctx, q.Host, FaultKind(q.Kind))
	case "jump":
		err = l.Jump(ctx, time.Duration(q.Duration))
	case "hosts":
		r.Hosts = l.Hosts()
	case "faults":
	default:
		err = fmt.Errorf("%q is nothing that a lab does", q.Do)
	}
	if err != nil {
		r.Error = err.Error()
	}
	r.Faults, r.Now = l.Faults(), l.clock.Now()
	return r
}

// Ask gives a request to the lab that runs, of a folder or of this user.
func Ask(ctx context.Context, keep string, q Request) (Reply, error) {
	dir := keep
	if dir == "" {
		dir, _ = userDir()
		if err := private(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Reply{}, err
		}
	}
	c, err := node.DialInDir(dir, controlName)
	if err != nil {
		return Reply{}, fmt.Errorf("no lab runs here (start one with postrider lab): %w", err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if err := json.NewEncoder(c).Encode(q); err != nil {
		return Reply{}, err
	}
	var r Reply
	if err := json.NewDecoder(io.LimitReader(c, maxReply)).Decode(&r); err != nil {
		return Reply{}, fmt.Errorf("the lab ended before it answered: %w", err)
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}
