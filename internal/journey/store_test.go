package journey

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// letter records the acceptance of a message.
func letter(r *Recorder, id, from, to string) {
	r.Record(Event{Kind: MessageAccepted, Message: id, Session: "s-" + id, Peer: "192.0.2.1",
		Attrs: []Attr{{"from", from}, {"to", to}, {"message-id", "<" + id + "@crepes.fr>"}, {"size", "1234"}}})
}

func find(t *testing.T, r *Recorder, q Query) []string {
	t.Helper()
	found, err := r.Find(q)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range found.Events {
		list = append(list, e.Message)
	}
	return list
}

func wantFound(t *testing.T, r *Recorder, q Query, want ...string) {
	t.Helper()
	if got := find(t, r, q); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v: got %v, want %v", q, got, want)
	}
}

func TestFind(t *testing.T) {
	for _, o := range []Options{{Dir: t.TempDir()}, {Memory: 100}} {
		r := New(o)
		letter(r, "1", "alice@crepes.fr", "bob@hamburger.edu")
		letter(r, "2", "alice@crepes.fr", "carol@hamburger.edu")
		letter(r, "3", "eve@crepes.fr", "bob@hamburger.edu")
		r.Record(Event{Kind: QueueAttempt, Message: "1"})
		wantFound(t, r, Query{Message: "1"}, "1", "1")
		wantFound(t, r, Query{From: "Alice@crepes.fr"}, "1", "1", "2")
		wantFound(t, r, Query{From: "alice@crepes.fr", Messages: 1}, "2")
		wantFound(t, r, Query{To: "bob@hamburger.edu"}, "1", "1", "3")
		wantFound(t, r, Query{To: "bob@hamburger.edu", From: "alice@crepes.fr"}, "1", "1")
		wantFound(t, r, Query{MessageID: "<3@crepes.fr>"}, "3")
		wantFound(t, r, Query{Session: "s-2"}, "2")
		wantFound(t, r, Query{Message: "4"})
		wantFound(t, r, Query{})
		if found, err := r.Find(Query{From: "alice@crepes.fr", Messages: 1}); err != nil || !found.More {
			t.Error(found, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFindFetched: what a client did with a message is found by its content, and
// is told once for each client.
func TestFindFetched(t *testing.T) {
	r := New(Options{Dir: t.TempDir()})
	defer r.Close()
	r.Record(Event{Kind: MailboxDelivered, Message: "1", Attrs: []Attr{{"content", "M1"}, {"account", "bob"}}})
	for i, client := range []string{"a", "b", "a"} {
		r.Record(Event{Kind: MailboxFetched, Text: fmt.Sprint(i), Attrs: []Attr{{"content", "M1"}, {"account", "bob"}, {"client", client}}})
	}
	r.Record(Event{Kind: MailboxFetched, Attrs: []Attr{{"content", "M2"}}})
	found, err := r.Find(Query{Message: "1"})
	if err != nil || len(found.Events) != 3 || found.Events[1].Text != "0" || found.Events[2].Text != "1" {
		t.Error(found, err)
	}
}

// TestReopen: a second start goes on with the file of the first, and what a crash
// left of a write is cut off.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	for i := range 4 {
		r := New(Options{Dir: dir})
		letter(r, fmt.Sprint(i), "alice@crepes.fr", "bob@hamburger.edu")
		want := []string{"0", "1", "2", "3"}[:i+1]
		wantFound(t, r, Query{From: "alice@crepes.fr"}, want...)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		names, err := filepath.Glob(dir + "/*")
		if err != nil || len(names) != 1 {
			t.Fatal(names, err)
		}
		e := Event{Kind: MessageAccepted, Message: "x", Time: time.Now()}
		half := appendRecord(nil, &e)
		appendFile(t, names[0], half[:len(half)-i]) // the first is whole, and stays
	}
}

func appendFile(t *testing.T, name string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.Write(b)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestDamagedIsSetAside: neither a file of another kind nor one that is damaged
// in its middle stops anything.
func TestDamagedIsSetAside(t *testing.T) {
	for name, damage := range map[string]func(b []byte) []byte{
		"magic":     func(b []byte) []byte { b[0] = 'x'; return b },
		"empty":     func(b []byte) []byte { return nil },
		"a record":  func(b []byte) []byte { b[30] ^= 1; return b },
		"zeros":     func(b []byte) []byte { clear(b); return b },
		"too large": func(b []byte) []byte { return append(b, make([]byte, maxSegment)...) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := New(Options{Dir: dir})
			letter(r, "1", "alice@crepes.fr", "bob@hamburger.edu")
			letter(r, "2", "alice@crepes.fr", "bob@hamburger.edu")
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			names, _ := filepath.Glob(dir + "/*" + suffix)
			b, err := os.ReadFile(names[0])
			if err == nil {
				err = os.WriteFile(names[0], damage(b), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			r = New(Options{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
			letter(r, "3", "alice@crepes.fr", "bob@hamburger.edu")
			wantFound(t, r, Query{From: "alice@crepes.fr"}, "3")
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(dir + "/last" + damaged); err != nil || !strings.Contains(log.String(), "set aside") {
				t.Error(err, log.String())
			}
		})
	}
}

// TestRetention: the oldest files go when they are too old, or all too large.
func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := New(Options{Dir: dir, Keep: 8 * time.Hour})
		for i := range 12 {
			letter(r, fmt.Sprint(i), "alice@crepes.fr", "bob@hamburger.edu")
			time.Sleep(time.Hour + time.Minute)
		}
		got := find(t, r, Query{From: "alice@crepes.fr"})
		if len(got) < 7 || len(got) > 9 || got[len(got)-1] != "11" {
			t.Error(got)
		}
		time.Sleep(10 * time.Hour)
		wantFound(t, r, Query{From: "alice@crepes.fr"})
		if names, _ := filepath.Glob(dir + "/*"); len(names) != 0 {
			t.Error(names)
		}
		letter(r, "new", "alice@crepes.fr", "bob@hamburger.edu")
		wantFound(t, r, Query{From: "alice@crepes.fr"}, "new")
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSize(t *testing.T) {
	dir := t.TempDir()
	const size = 8 * minSegmentSize
	r := New(Options{Dir: dir, Size: size})
	wire := make([]byte, 1000)
	for i := range 2000 {
		r.Record(Event{Kind: DNSReply, Message: fmt.Sprint(i % 1000), Wire: wire})
		if i%20 == 0 {
			r.writer.flush()
		}
	}
	if got := find(t, r, Query{Message: "999"}); len(got) != 1 {
		t.Error(got)
	}
	wantFound(t, r, Query{Message: "1"})
	var total int64
	names, _ := filepath.Glob(dir + "/*")
	for _, n := range names {
		fi, err := os.Stat(n)
		if err != nil {
			t.Fatal(err)
		}
		total += fi.Size()
	}
	if total > size || total < size/2 {
		t.Errorf("%d octets in %d files", total, len(names))
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = New(Options{Dir: dir, Size: size}) // sealed files are found, too
	defer r.Close()
	if got := find(t, r, Query{Message: "700"}); len(got) != 1 {
		t.Error(got)
	}
}

// slowFile is a disk that stalls until it may go on, or fails.
type slowFile struct {
	*os.File
	gate *sync.RWMutex
	err  *error
}

func (f slowFile) WriteAt(b []byte, at int64) (int, error) {
	f.gate.RLock()
	defer f.gate.RUnlock()
	if *f.err != nil {
		n, _ := f.File.WriteAt(b[:len(b)/2], at)
		return n, *f.err
	}
	return f.File.WriteAt(b, at)
}

func slowRecorder(t *testing.T, dir string) (r *Recorder, gate *sync.RWMutex, fail *error, log *bytes.Buffer) {
	gate, fail, log = new(sync.RWMutex), new(error), new(bytes.Buffer)
	r = New(Options{Dir: dir, Log: slog.New(slog.NewTextHandler(log, nil)), create: func(path string) (file, error) {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		return slowFile{f, gate, fail}, err
	}})
	return r, gate, fail, log
}

// TestStalledDisk: recording goes on within bounds, and what was lost is said.
func TestStalledDisk(t *testing.T) {
	r, gate, _, _ := slowRecorder(t, t.TempDir())
	gate.Lock()
	wire := make([]byte, maxWire)
	const events = 3 * maxWaiting / maxWire
	for i := range events {
		r.Record(Event{Kind: DNSReply, Message: fmt.Sprint(i), Wire: wire})
	}
	r.mu.Lock()
	if n := len(r.waiting.records); n > maxWaiting+2*maxWire {
		t.Errorf("%d octets wait", n)
	}
	r.mu.Unlock()
	gate.Unlock()
	wantFound(t, r, Query{Message: "0"}, "0")
	if r.Lost() == 0 || r.Lost() > events {
		t.Error(r.Lost())
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(r.store.segments[0].path)
	if err != nil || !bytes.Contains(b, []byte(Lost)) {
		t.Error("no event says what was lost", err)
	}
}

// TestFailingDisk: half a write is no harm to what comes later.
func TestFailingDisk(t *testing.T) {
	dir := t.TempDir()
	r, _, fail, log := slowRecorder(t, dir)
	letter(r, "1", "a@b.c", "d@e.f")
	r.writer.flush()
	*fail = errors.New("no space left on device")
	letter(r, "2", "a@b.c", "d@e.f")
	letter(r, "3", "a@b.c", "d@e.f")
	r.writer.flush()
	letter(r, "4", "a@b.c", "d@e.f")
	r.writer.flush()
	*fail = nil
	letter(r, "5", "a@b.c", "d@e.f")
	wantFound(t, r, Query{From: "a@b.c"}, "1", "5")
	if r.Lost() != 3 || strings.Count(log.String(), "events are lost") != 1 {
		t.Error(r.Lost(), log.String())
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = New(Options{Dir: dir})
	defer r.Close()
	wantFound(t, r, Query{From: "a@b.c"}, "1", "5")
}

func TestBadDirectory(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := New(Options{Dir: name})
	letter(r, "1", "a@b.c", "d@e.f")
	if _, err := r.Find(Query{Message: "1"}); err == nil {
		t.Error("found something in a file")
	}
	if err := r.Close(); err != nil || r.Lost() != 1 {
		t.Error(err, r.Lost())
	}
}

// genEvent makes any event within the bounds.
func genEvent(t *rapid.T) Event {
	s := rapid.StringN(0, 50, maxName)
	e := Event{
		Seq: rapid.Uint64().Draw(t, "seq"), Time: time.Unix(0, rapid.Int64().Draw(t, "time")).UTC(),
		Kind: Kind(s.Draw(t, "kind")), Node: s.Draw(t, "node"), Message: s.Draw(t, "message"), Session: s.Draw(t, "session"),
		Peer: s.Draw(t, "peer"), Text: s.Draw(t, "text"), RFC: s.Draw(t, "rfc"),
	}
	for range rapid.IntRange(0, maxAttrs).Draw(t, "attrs") {
		e.Attrs = append(e.Attrs, Attr{s.Draw(t, "key"), s.Draw(t, "value")})
	}
	if w := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "wire"); len(w) > 0 {
		e.Wire = w
	}
	return e
}

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := genEvent(t)
		b := appendRecord(nil, &e)
		got, n, err := readRecord(append(b, "more"...))
		if err != nil || n != len(b) || !reflect.DeepEqual(got, e) {
			t.Errorf("%v, %v, %v", e, got, err)
		}
		if _, _, err := readRecord(b[:len(b)-1]); err == nil {
			t.Error("half a record is one")
		}
	})
}

// FuzzReadRecord: what is read can be written, and then reads the same.
func FuzzReadRecord(f *testing.F) {
	e := Event{Kind: DNSReply, Attrs: []Attr{{"name", "crepes.fr."}}, Wire: []byte("x")}
	f.Add(appendRecord(nil, &e))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, _, err := readRecord(b)
		if err != nil {
			return
		}
		got, _, err := readRecord(appendRecord(nil, &e))
		want := e // within the bounds
		want.Node, want.Kind = cut(e.Node, maxName), Kind(cut(string(e.Kind), maxName))
		want.Message, want.Session = cut(e.Message, maxName), cut(e.Session, maxName)
		want.Peer, want.Text, want.RFC = cut(e.Peer, maxName), cut(e.Text, maxText), cut(e.RFC, maxName)
		want.Wire = e.Wire[:min(len(e.Wire), maxWire)]
		want.Attrs = nil
		for _, a := range e.Attrs {
			want.Attrs = append(want.Attrs, Attr{cut(a.Key, maxName), cut(a.Value, maxText)})
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v, %v, %v", e, got, err)
		}
	})
}

// FuzzOpenSegment: whatever is in a file, it is opened or set aside, and what is
// opened can be read and sealed.
func FuzzOpenSegment(f *testing.F) {
	e := Event{Kind: DNSReply, Message: "1"}
	f.Add(appendRecord([]byte(segmentMagic), &e), uint32(8))
	f.Fuzz(func(t *testing.T, b []byte, at uint32) {
		path := filepath.Join(t.TempDir(), "1"+suffix)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		seg, err := openSegment(1, path)
		if err != nil {
			return
		}
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		_, _ = seg.event(file, at)
		hash := hashKey(byMessage, "1")
		before, err := seg.offsets(file, hash)
		if err != nil || seg.sealed {
			return
		}
		if err := seg.seal(file); err != nil {
			t.Fatal(err)
		}
		seg, err = openSegment(1, path)
		if err != nil || !seg.sealed {
			t.Fatal(err)
		}
		if after, err := seg.offsets(file, hash); err != nil || len(after) != len(before) {
			t.Error(before, after, err)
		}
	})
}

// TestSortEntries: the index is in the order of hashes, and of offsets within one.
func TestSortEntries(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 3, 1000, 70_000} {
		list := make([]entry, n)
		for i := range list {
			hash := random.Uint32()
			if i%3 == 0 {
				hash &= 0xff0000ff // some more than once
			}
			list[i] = entry(hash)<<32 | entry(8+100*i)
		}
		want := slices.Sorted(slices.Values(list))
		if sortEntries(list); !slices.Equal(list, want) {
			t.Errorf("%d entries are out of order", n)
		}
	}
}
