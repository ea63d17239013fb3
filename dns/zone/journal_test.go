package zone

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	miekg "github.com/miekg/dns"
)

// history makes n versions after z, each with one name more.
func history(t testing.TB, z *Zone, n int) ([]*Zone, []Diff) {
	t.Helper()
	zones, diffs := []*Zone{z}, []Diff(nil)
	for i := range n {
		next, d, rcode := z.Update(message(t, z.Origin(), fmt.Sprintf("! v%d.%s 300 IN TXT version-%d", i, z.Origin(), i)))
		if rcode != miekg.RcodeSuccess {
			t.Fatal(rcode)
		}
		z = next
		zones, diffs = append(zones, z), append(diffs, d)
	}
	return zones, diffs
}

func openJournal(t testing.TB, path string, maxOctets int64) *Journal {
	t.Helper()
	j, err := OpenJournal(path, maxOctets)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

// TestJournal: what was appended is there after opening again, and leads from
// each version to the newest. It holds for a journal in memory, too.
func TestJournal(t *testing.T) {
	zones, diffs := history(t, mustRead(t, "example.", small), 5)
	check := func(j *Journal) {
		t.Helper()
		for i, z := range zones {
			if got := j.Since(z.Serial()); len(got) != 5-i || got == nil {
				t.Errorf("since %d: %d differences", z.Serial(), len(got))
			}
			got, err := j.Replay(z)
			if err != nil || text(got) != text(zones[5]) {
				t.Errorf("from serial %d: %v", z.Serial(), err)
			}
		}
		if j.Since(3) != nil {
			t.Error("the journal knows a serial that never was")
		}
		if _, err := j.Replay(mustRead(t, "example.", "@ 1 SOA a b 3 1 1 1 1\n@ 1 NS a\n")); !errors.Is(err, ErrMismatch) {
			t.Errorf("a file that was edited: %v", err)
		}
		if err := j.Append(diffs[1]); !errors.Is(err, ErrMismatch) {
			t.Errorf("a difference that does not follow: %v", err)
		}
	}
	path := filepath.Join(t.TempDir(), "example.journal")
	for _, p := range []string{path, ""} {
		j := openJournal(t, p, 0)
		if z, err := j.Replay(zones[0]); err != nil || z != zones[0] || j.Since(10) != nil {
			t.Errorf("an empty journal: %v", err)
		}
		if err := errors.Join(j.Append(diffs[0]), j.Append(diffs[1:4]...), j.Append(), j.Append(diffs[4])); err != nil {
			t.Fatal(err)
		}
		check(j)
		if p != "" {
			j.Close()
			check(openJournal(t, p, 0))
		}
	}
}

// memory is a file that needs no disk.
type memory struct{ data []byte }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.data).ReadAt(p, off)
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.data = append(m.data, make([]byte, max(0, int(off)+len(p)-len(m.data)))...)
	return copy(m.data[off:], p), nil
}

func (m *memory) Truncate(size int64) error { m.data = m.data[:size]; return nil }
func (m *memory) Sync() error               { return nil }
func (m *memory) Close() error              { return nil }

func loadJournal(t *testing.T, data []byte) *Journal {
	t.Helper()
	j := &Journal{max: 1 << 20}
	if err := j.load(&memory{bytes.Clone(data)}, int64(len(data))); err != nil {
		t.Fatal(err)
	}
	return j
}

// TestJournalTorn cuts the file at each octet, and fills what is missing with
// zeros, as a crash may: the differences before are there, and appending goes on.
func TestJournalTorn(t *testing.T) {
	zones, diffs := history(t, mustRead(t, "example.", small), 3)
	j := loadJournal(t, nil)
	var ends []int64
	for _, d := range diffs {
		if err := j.Append(d); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, j.end)
	}
	whole := j.f.(*memory).data
	for size := range len(whole) + 1 {
		for _, zeros := range []int64{0, 100} {
			if zeros > 0 && (size < len(journalMagic) || size == len(whole)) {
				continue
			}
			for _, end := range ends { // the file grows by one frame at most
				if int64(size) < end {
					zeros = min(zeros, end-int64(size))
					break
				}
			}
			want := 0
			for want < 3 && ends[want] <= int64(size) {
				want++
			}
			j := loadJournal(t, append(bytes.Clone(whole[:size]), make([]byte, zeros)...))
			if len(j.entries) != want && want+1 != len(j.entries) { // zeros may be what was cut off
				t.Fatalf("%d octets and %d zeros: %d differences, want %d", size, zeros, len(j.entries), want)
			}
			if err := j.Append(diffs[len(j.entries):]...); err != nil {
				t.Fatal(err)
			}
			j = loadJournal(t, j.f.(*memory).data)
			if z, err := j.Replay(zones[0]); err != nil || text(z) != text(zones[3]) || j.Cut() != 0 {
				t.Fatalf("%d octets and %d zeros: after appending: %v", size, zeros, err)
			}
		}
	}
}

// TestJournalDamaged: what was acknowledged and is not the last frame is never
// dropped in silence.
func TestJournalDamaged(t *testing.T) {
	_, diffs := history(t, mustRead(t, "example.", small), 3)
	path := filepath.Join(t.TempDir(), "j")
	j := openJournal(t, path, 0)
	for _, d := range diffs {
		if err := j.Append(d); err != nil {
			t.Fatal(err)
		}
	}
	whole, _ := os.ReadFile(path)
	for _, at := range []int{0, 5, len(journalMagic) + 6, len(journalMagic) + 30, int(j.entries[1].off)} {
		bad := append([]byte(nil), whole...)
		bad[at] ^= 0x40
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenJournal(path, 0); !errors.Is(err, ErrCorrupt) {
			t.Errorf("octet %d changed: %v", at, err)
		}
	}
	if err := os.WriteFile(path, []byte("$ORIGIN example.\n@ SOA a b 1 2 3 4 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenJournal(path, 0); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a master file is taken for a journal: %v", err)
	}
}

// TestJournalTrim: a full journal drops what the master file has, and no more.
func TestJournalTrim(t *testing.T) {
	zones, diffs := history(t, mustRead(t, "example.", small), 40)
	path := filepath.Join(t.TempDir(), "j")
	j := openJournal(t, path, 2000)
	if err := j.Append(diffs...); err != nil {
		t.Fatal(err)
	}
	if !j.Full() {
		t.Fatalf("%d octets are not too many", j.end)
	}
	if err := j.Trim(zones[3].Serial()); err != nil || len(j.entries) != 37 {
		t.Errorf("the file has 3 of 40: %d are left, %v", len(j.entries), err)
	}
	if err := j.Trim(zones[40].Serial()); err != nil || j.Full() || j.end > 1100 || len(j.entries) == 0 {
		t.Errorf("the file has all: %d octets, %d left, %v", j.end, len(j.entries), err)
	}
	oldest := j.entries[0].from
	_, more, _ := zones[40].Update(message(t, "example.", "! more.example. 300 IN TXT more"))
	if err := j.Append(more); err != nil {
		t.Fatal(err)
	}
	j.Close()
	j = openJournal(t, path, 2000)
	if j.entries[0].from != oldest || j.Since(zones[40].Serial()) == nil {
		t.Error("after opening again another part is there")
	}
	if err := j.Reset(); err != nil || j.Since(zones[40].Serial()) != nil {
		t.Errorf("reset: %v", err)
	}
	if err := j.Append(diffs[7]); err != nil {
		t.Errorf("after reset any serial may begin: %v", err)
	}
	memory := openJournal(t, "", 2000)
	for _, d := range diffs {
		if err := memory.Append(d); err != nil {
			t.Fatal(err)
		}
	}
	if memory.end > 2000 || len(memory.Since(zones[38].Serial())) != 2 {
		t.Errorf("in memory: %d octets", memory.end)
	}
}

// faulty fails at the calls that it is told to.
type faulty struct {
	journalFile
	write, sync error
}

func (f *faulty) WriteAt(p []byte, off int64) (int, error) {
	if f.write != nil {
		n, _ := f.journalFile.WriteAt(p[:len(p)/2], off)
		return n, f.write
	}
	return f.journalFile.WriteAt(p, off)
}

func (f *faulty) Sync() error {
	if f.sync != nil {
		return f.sync
	}
	return f.journalFile.Sync()
}

// TestJournalFaults: a full disk refuses one difference and may take the next; a
// failed sync ends the journal.
func TestJournalFaults(t *testing.T) {
	zones, diffs := history(t, mustRead(t, "example.", small), 2)
	path := filepath.Join(t.TempDir(), "j")
	j := openJournal(t, path, 0)
	f := &faulty{journalFile: j.f}
	j.f = f
	f.write = errors.New("no space")
	if err := j.Append(diffs[0]); !errors.Is(err, f.write) || j.Since(zones[0].Serial()) != nil {
		t.Errorf("a full disk: %v", err)
	}
	f.write = nil
	if err := j.Append(diffs[0]); err != nil {
		t.Errorf("when there is space again: %v", err)
	}
	failed := errors.New("i/o error")
	f.sync = failed
	if err := j.Append(diffs[1]); !errors.Is(err, failed) || len(j.Since(zones[0].Serial())) != 1 {
		t.Errorf("a failed sync: %v", err)
	}
	f.sync = nil
	if err := j.Append(diffs[1]); !errors.Is(err, failed) {
		t.Errorf("the sync was tried again: %v", err)
	}
}
