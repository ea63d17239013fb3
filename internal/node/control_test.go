package node

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"postrider/internal/clock"
	"postrider/internal/wire"
	"postrider/mailstore"
	"postrider/mailstore/storetest"
	"postrider/mta/queue"
	"postrider/mta/route"
)

// commands gives every command once and returns what was said to each, times
// and ids left out.
func commands(t *testing.T, o Options) []string {
	t.Helper()
	a, err := OpenAdmin(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var said []string
	call := func(method string, args, reply any) {
		t.Helper()
		line := method + ": "
		if err := a.Call(method, args, reply); err != nil {
			line += "error: " + err.Error()
		} else if b, err := json.Marshal(reply); err != nil {
			t.Fatal(err)
		} else {
			line += string(b)
		}
		said = append(said, line)
	}
	var none None
	call("DomainAdd", "hamburger.edu", &none)
	call("DomainAdd", "HAMBURGER.edu", &none)
	call("DomainAdd", "crepes.fr", &none)
	call("DomainRemove", "crepes.fr", &none)
	call("DomainList", None{}, new([]string))
	call("UserAdd", UserArgs{"bob@hamburger.edu", "hungry"}, &none)
	call("UserAdd", UserArgs{"bob@elsewhere.example", "hungry"}, &none)
	call("UserPasswd", UserArgs{"eve@hamburger.edu", "x"}, &none)
	call("UserPasswd", UserArgs{"bob@hamburger.edu", "thirsty"}, &none)
	call("AliasAdd", AliasArgs{"list@hamburger.edu", []string{"bob@hamburger.edu", "eve@far.example"}}, &none)
	call("AliasRemove", AliasArgs{"list@hamburger.edu", []string{"eve@far.example"}}, &none)
	call("AliasList", None{}, new([]AliasArgs))
	call("CheckAddress", CheckArgs{Address: "list@hamburger.edu"}, new(route.Explanation))
	call("CheckAddress", CheckArgs{Address: "nobody"}, new(route.Explanation))
	call("QueueList", QueuePage{}, new(QueueListing))
	call("QueueShow", []string{"nothing"}, new([]QueueShown))
	call("QueueRetry", []string(nil), new([]queue.Change))
	call("QueueHold", []string(nil), new([]queue.Change))
	call("QueueRelease", []string{"nothing"}, new([]queue.Change))
	call("QueueRemove", []string(nil), new([]queue.Change))
	call("Reindex", "eve@hamburger.edu", new(SearchStatus))
	call("Reindex", "", new(SearchStatus))
	call("SearchStatus", None{}, new(SearchStatus))
	call("Nonsense", None{}, &none)
	var users []User
	if err := a.Call("UserList", None{}, &users); err != nil || len(users) != 1 || users[0].Address != "bob@hamburger.edu" {
		t.Errorf("UserList: %v, %v", users, err)
	}
	var status Status
	if err := a.Call("Status", None{}, &status); err != nil || status.Hostname != o.Hostname || len(status.Domains) != 1 {
		t.Errorf("Status: %+v, %v", status, err)
	}
	call("UserRemove", "bob@hamburger.edu", &none)
	call("DomainRemove", "hamburger.edu", &none)
	return said
}

// Commands say the same whether a server runs or not.
func TestCommands(t *testing.T) {
	r := start(t, options(t))
	online := commands(t, r.options)
	offline := commands(t, options(t))
	if !reflect.DeepEqual(online, offline) {
		for i := range min(len(online), len(offline)) {
			if online[i] != offline[i] {
				t.Errorf("running: %s\nalone:   %s", online[i], offline[i])
			}
		}
	}
	if !strings.Contains(online[0], "{}") || !strings.Contains(online[1], "exists already") {
		t.Errorf("%q", online)
	}
}

// Mail is submitted to a running server, and kept without one: local mail in
// the mailbox, other mail in the queue.
func TestSubmission(t *testing.T) {
	o := options(t)
	r := start(t, o)
	people(t, r.Node)
	submit := func() {
		t.Helper()
		conn, closeNode, err := OpenSubmission(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer closeNode()
		c := talk(t, conn, "220")
		c.say("EHLO localhost", "250")
		c.letter("bob@hamburger.edu", "250")
		c.letter("carol@far.example", "250")
		c.say("QUIT", "221")
	}
	submit()
	r.end()
	submit()
	if n := messages(t, o); n != 2 {
		t.Errorf("%d messages", n)
	}
	a, err := OpenAdmin(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var waiting QueueListing
	if err := a.Call("QueueList", QueuePage{}, &waiting); err != nil || len(waiting.Items) != 2 || a.Running {
		t.Errorf("%+v, %v", waiting, err)
	}
}

// A queue comes in parts, each of few recipients and of whole messages.
func TestQueuePages(t *testing.T) {
	o := options(t)
	n, err := New(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, recipients := range []int{maxListed - 2, 1, 1, maxListed, 1} {
		w := n.Store.NewBody()
		body, err := w.Commit()
		if err != nil {
			t.Fatal(err)
		}
		err = n.Store.Update(t.Context(), func(tx *mailstore.Tx) error {
			_, _, err := tx.Enqueue(body, mailstore.QueueItem{Envelope: "x"}, make([]mailstore.QueueRecipient, recipients))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		body.Release()
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	a, err := OpenAdmin(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var got [][]int
	for page := (QueuePage{}); ; {
		var l QueueListing
		if err := a.Call("QueueList", page, &l); err != nil {
			t.Fatal(err)
		}
		var part []int
		for _, item := range l.Items {
			part = append(part, len(item.Recipients))
		}
		got = append(got, part)
		if page.After = l.Next; l.Next == 0 {
			break
		}
	}
	if want := [][]int{{maxListed - 2, 1}, {1, maxListed}, {1}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Whatever comes on the control socket, commands go on, and the end is not
// held up.
func TestControlAbuse(t *testing.T) {
	o := options(t)
	r := start(t, o)
	open := func() net.Conn {
		t.Helper()
		c, err := DialInDir(o.DataDir, controlSocket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, text := range []string{
		"", "\x00\xff", "GET / HTTP/1.0\r\n\r\n", "{}", "[]", "null", `{"method":"Admin.UserAdd","params":[],"id":1}`,
		`{"method":"Admin.UserAdd","params":[{"Address":5}],"id":1}`, `{"method":"Admin.QueueShow","params":[null],"id":{}}`,
		`{"method":"Admin.Close","params":[{}],"id":1}`, `{"method":"x","params":[{}],"id":1}`, strings.Repeat("[", 100000),
		`{"method":"` + strings.Repeat("x", 2*maxControlInput), `{"method":"Admin.DomainList","params":[{}],"id":"` + strings.Repeat("y", 1000) + `"}`,
	} {
		c := open()
		_, _ = io.WriteString(c, text) // what is too much is cut off
		c.(*net.UnixConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
		c.Close()
	}
	if n := messages(t, o); n != 0 {
		t.Errorf("%d messages", n)
	}
	// Too many connections: the last ones are closed at once.
	for range maxControlConns {
		_, _ = io.WriteString(open(), `{"method":`)
	}
	_, err := open().Read(make([]byte, 1))
	if err == nil {
		t.Error("one connection more than the limit was served")
	}
	begun := time.Now()
	r.end() // with those connections half-way in a command
	if took := time.Since(begun); took > 2*controlGrace {
		t.Errorf("the end took %v", took)
	}
	if n := r.panics.Load(); n != 0 {
		t.Errorf("%d panics", n)
	}
}

// A command that is being worked on when the end comes is answered.
func TestCommandAtTheEnd(t *testing.T) {
	o := options(t)
	r := start(t, o)
	people(t, r.Node)
	a, err := OpenAdmin(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	got := make(chan error, 1)
	go func() { got <- a.Call("UserAdd", UserArgs{"carol@hamburger.edu", "hungry"}, &None{}) }()
	r.end()
	err = <-got
	b, oerr := OpenAdmin(t.Context(), o)
	if oerr != nil {
		t.Fatal(oerr)
	}
	defer b.Close()
	var users []User
	if err := b.Call("UserList", None{}, &users); err != nil {
		t.Fatal(err)
	}
	switch {
	case err == nil && len(users) != 2:
		t.Error("acknowledged and not done")
	case err != nil && !strings.Contains(err.Error(), "ended before it answered"):
		t.Errorf("got %v", err)
	}
	if err := a.Call("DomainList", None{}, new([]string)); err == nil || !strings.Contains(err.Error(), "ended before it answered") {
		t.Errorf("after the end: %v", err)
	}
}

// A fault in a command is an error to the one who gave it.
func TestCommandPanics(t *testing.T) {
	n := &Node{log: slog.New(slog.DiscardHandler)}
	a := &Admin{n: n, base: context.Background()}
	if err := a.DomainList(None{}, new([]string)); err == nil || n.panics.Load() != 1 {
		t.Errorf("%v, %d panics", err, n.panics.Load())
	}
}

func TestMetrics(t *testing.T) {
	o := options(t)
	r := start(t, o)
	people(t, r.Node)
	c := dial(t, r.Addr("smtp"), "220")
	c.say("EHLO crepes.fr", "250")
	c.letter("bob@hamburger.edu", "250")
	status, figures := fetch(t, r.Addr("metrics"), "/metrics")
	for _, want := range []string{
		"postrider_smtp_accepted_total 1", "postrider_queue_local_total 1", "postrider_queue_recipients 0", "postrider_panics_total 0",
		"postrider_connections 1", "postrider_connections_accepted_total 1", "postrider_store_waiting 0", "postrider_queue_attempts 0",
		"postrider_queue_suspended_domains 0", "postrider_store_failed_commits_total 0", "go_goroutines", "process_open_fds",
	} {
		if !strings.Contains(figures, "\n"+want) {
			t.Errorf("%s: no %s in\n%s", status, want, figures)
		}
	}
	if status, said := fetch(t, r.Addr("metrics"), "/healthz"); !strings.Contains(status, "200") || said != "ok\n" {
		t.Errorf("/healthz: %s, %q", status, said)
	}
	if status, _ := fetch(t, r.Addr("metrics"), "/"); !strings.Contains(status, "404") {
		t.Errorf("/: %s", status)
	}
	r.end()
	w := httptest.NewRecorder()
	r.metrics.handler().ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
	if w.Code != 503 {
		t.Errorf("/healthz of a closed node: %d", w.Code)
	}
}

// /healthz is 503 from the moment when the disk failed under a commit.
func TestHealthOfFailedStore(t *testing.T) {
	engine := storetest.NewEngine()
	store, err := mailstore.Open(t.Context(), engine, mailstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	n := &Node{Store: store, log: slog.New(slog.DiscardHandler), options: Options{Clock: clock.System()}}
	n.server, n.gate = wire.NewServer(wire.ServerOptions{}), wire.NewGate(wire.GateOptions{})
	h := newMetrics(n).handler()
	health := func() int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
		return w.Code
	}
	if code := health(); code != 200 {
		t.Errorf("at first: %d", code)
	}
	engine.SetFault(func(op string) error {
		if op == storetest.OpCommit {
			return io.ErrShortWrite
		}
		return nil
	})
	err = store.Update(t.Context(), func(tx *mailstore.Tx) error { return tx.PutSetting("x", []byte("y")) })
	if err == nil {
		t.Fatal("the commit did not fail")
	}
	if code := health(); code != 503 {
		t.Errorf("after a failed sync: %d", code)
	}
}

// Where the socket in the way is a dead one's, the next server takes its place.
func TestDeadSockets(t *testing.T) {
	o := options(t)
	if err := build(t, o).Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{controlSocket, submitSocket} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(o.DataDir, name)})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
	}
	if n := messages(t, o); n != 0 { // alone: a dead socket is no server
		t.Errorf("%d messages", n)
	}
	r := start(t, o)
	a, err := OpenAdmin(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if !a.Running {
		t.Error("the running server was not found")
	}
	r.end()
}
