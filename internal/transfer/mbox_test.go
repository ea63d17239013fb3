package transfer

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"postrider/mailstore"
)

// sample is a message with what belongs to it.
type sample struct {
	Text     string
	Flags    mailstore.Flags
	Internal time.Time
}

var dialects = []Dialect{MboxO, MboxRD, MboxCL, MboxCL2}

// readMbox reads all messages of a file.
func readMbox(t interface{ Fatalf(string, ...any) }, file string, d Dialect) []sample {
	r := strings.NewReader(file)
	m := newMboxReader(r, int64(len(file)), d)
	var all []sample
	for {
		msg, err := m.next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		text, err := io.ReadAll(msg.open(r))
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		if !msg.hidden {
			all = append(all, sample{string(text), msg.flags, msg.internal})
		}
	}
}

// pieces are what messages are made of: all that a reader might take for
// something else.
var pieces = []string{
	"From ", ">From ", ">>From ", "From a@b Tue Jan  2 03:04:05 2024", ">", "F", "\r\n", "\r\n", "\r\n\r\n", "\n", "\r", "\n\n", "\x00", "é",
	"Subject: x\r\n", "Status: RO\r\n", "X-Status: A\r\n", "X-Keywords: a b\r\n", "Content-Length: 3\r\n", "X-Mbox: mboxcl2; exact; unended\r\n",
	"X-UID: 7\r\n", "X-Mozilla-Status: 0001\r\n", " folded\r\n", "text", strings.Repeat("long", 20000),
}

func genSample(t *rapid.T) sample {
	text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 12).Draw(t, "text"), "")
	kept, _ := keepFlags(mailstore.SystemFlags(rapid.IntRange(0, 31).Draw(t, "system")),
		rapid.SliceOfN(rapid.SampledFrom([]string{"$Junk", "work", "a-b", "$Forwarded", "x;y", "D"}), 0, 3).Draw(t, "keywords"))
	return sample{text, kept, time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "date"), 0).UTC()}
}

// TestMboxRoundTrip: what is written is read again, byte for byte and flag for
// flag, in every dialect that can express it, told the dialect or not.
func TestMboxRoundTrip(t *testing.T) {
	for _, d := range dialects {
		t.Run(string(d), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				var file bytes.Buffer
				var want []sample
				for _, s := range rapid.SliceOfN(rapid.Custom(genSample), 0, 4).Draw(t, "messages") {
					before := file.Len()
					err := writeMbox(&file, d, strings.NewReader(s.Text), s.Flags, s.Internal)
					switch {
					case err == nil:
						want = append(want, s)
					case !errors.Is(err, errDialect) || d == MboxRD || d == MboxCL2:
						t.Fatalf("write: %v", err)
					case file.Len() != before:
						t.Fatalf("a part of a message that can not be expressed was written")
					}
				}
				for _, told := range []Dialect{d, ""} {
					if diff := cmp.Diff(want, readMbox(t, file.String(), told)); diff != "" {
						t.Fatalf("read as %q (-wrote +read):\n%s\n%q", told, diff, file.String())
					}
				}
			})
		})
	}
}

// FuzzMbox: whatever the file, reading ends, and what was read can be written
// as mboxrd and read again.
func FuzzMbox(f *testing.F) {
	f.Add("From a Tue Jan  2 03:04:05 2024\nSubject: x\nStatus: RO\n\nbody\n>From me\n\nFrom b Tue Jan  2 03:04:05 2024\n\n")
	f.Add("From - Tue Jan  2 03:04:05 2024\r\nX-Mozilla-Status: 0001\r\nX-Mozilla-Keys: a    \r\n\r\nx\r\n")
	f.Add("From a Tue Jan  2 03:04:05 2024\nStatus: O\nContent-Length: 7\n\nFrom b\n\nFrom c Tue Jan  2 03:04:05 2024\n\nx")
	f.Fuzz(func(t *testing.T, text string) {
		for _, d := range []Dialect{"", MboxO, MboxCL, MboxCL2} {
			r := strings.NewReader(text)
			m := newMboxReader(r, int64(len(text)), d)
			var file bytes.Buffer
			var want []sample
			for at := int64(-1); ; {
				msg, err := m.next()
				if err != nil {
					break
				}
				if msg.start <= at || msg.next <= msg.start || msg.end > msg.next || msg.from > msg.cut || msg.cut > msg.resume || msg.resume > msg.end {
					t.Fatalf("%q: %+v behind %d", text, msg, at)
				}
				at = msg.start
				got, err := io.ReadAll(msg.open(r))
				if err != nil {
					t.Fatal(err)
				}
				s := sample{string(got), msg.flags, msg.internal}
				if s.Internal.IsZero() {
					s.Internal = time.Unix(0, 0).UTC()
				}
				if err := writeMbox(&file, MboxRD, strings.NewReader(s.Text), s.Flags, s.Internal); err != nil {
					t.Fatalf("%q: write: %v", s.Text, err)
				}
				want = append(want, s)
			}
			if diff := cmp.Diff(want, readMbox(t, file.String(), "")); diff != "" {
				t.Fatalf("%q as %s (-read +again):\n%s\n%q", text, d, diff, file.String())
			}
		}
	})
}

// TestMboxForeign: files as other programs write them.
func TestMboxForeign(t *testing.T) {
	day := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	seen := mailstore.Flags{System: mailstore.Seen}
	for _, c := range []struct {
		name, file string
		want       []sample
	}{
		{"traditional", "From a@b Tue Jan  2 03:04:05 2024\nSubject: 1\nStatus: RO\n\nhi\n>From you\n\nFrom c Tue Jan 02 03:04 2024\nSubject: 2\n\n\n", []sample{
			{"Subject: 1\r\n\r\nhi\r\nFrom you\r\n", seen, day}, {"Subject: 2\r\n\r\n", mailstore.Flags{}, day.Truncate(time.Minute)}}},
		{"no empty line at the end", "From a Tue Jan 2 03:04:05 2024\nA: b\n\nhi\n", []sample{{"A: b\r\n\r\nhi\r\n", mailstore.Flags{}, day}}},
		{"no newline at the end", "From a Tue Jan 2 03:04:05 2024\nA: b\n\nhi", []sample{{"A: b\r\n\r\nhi", mailstore.Flags{}, day}}},
		{"text that begins with From", "From a Tue Jan 2 03:04:05 2024\nA: b\n\nhi\n\nFrom here to eternity\n\n", []sample{{"A: b\r\n\r\nhi\r\n\r\nFrom here to eternity\r\n", mailstore.Flags{}, day}}},
		{"zone", "From a Tue Jan 2 05:04:05 +0200 2024\nA: b\n\nhi\n\n", []sample{{"A: b\r\n\r\nhi\r\n", mailstore.Flags{}, day}}},
		{"zone behind, with a name", "From a Mon Jan 1 22:04:05 EST 2024 -0500\nA: b\n\n\n", []sample{{"A: b\r\n\r\n", mailstore.Flags{}, day}}},
		{"pine", "From a Tue Jan 2 03:04:05 2024\nSubject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\nStatus: RO\n\nx\n\n" +
			"From a Tue Jan 2 03:04:05 2024\nSubject: 1\nStatus: RO\nX-Status: AF\nX-Keywords: work          \nX-UID: 2\n\nhi\n\n", []sample{
			{"Subject: 1\r\n\r\nhi\r\n", mailstore.Flags{System: mailstore.Seen | mailstore.Answered | mailstore.Flagged, Keywords: []string{"work"}}, day}}},
		{"thunderbird", "From - Tue Jan 2 03:04:05 2024\r\nX-Mozilla-Status: 1005\r\nX-Mozilla-Status2: 00000000\r\nX-Mozilla-Keys: $label1      \r\nA: b\r\n\r\nhi\r\n\r\n" +
			"From - Tue Jan 2 03:04:05 2024\r\nX-Mozilla-Status: 0009\r\n\r\ndeleted\r\n\r\n", []sample{
			{"A: b\r\n\r\nhi\r\n", mailstore.Flags{System: mailstore.Seen | mailstore.Flagged, Keywords: []string{"$Forwarded", "$label1"}}, day}}},
		{"mboxcl2 by its lengths", "From a Tue Jan 2 03:04:05 2024\nA: b\nContent-Length: 51\n\nhi\n\nFrom a Tue Jan  2 03:04:05 2024\n>From here on\n\n\nFrom b Tue Jan 2 03:04:05 2024\nContent-Length: 3\n\nhi\n\n", []sample{
			{"A: b\r\n\r\nhi\r\n\r\nFrom a Tue Jan  2 03:04:05 2024\r\n>From here on\r\n\r\n", mailstore.Flags{}, day}, {"\r\nhi\r\n", mailstore.Flags{}, day}}},
		{"mboxcl by its lengths", "From a Tue Jan 2 03:04:05 2024\nA: b\nStatus: RO\nContent-Length: 14\n\n>From here on\n\n", []sample{{"A: b\r\n\r\nFrom here on\r\n", seen, day}}},
		{"a wrong length", "From a Tue Jan 2 03:04:05 2024\nA: b\nContent-Length: 4\n\nhi there\n\nFrom b Tue Jan 2 03:04:05 2024\n\nx\n", []sample{
			{"A: b\r\nContent-Length: 4\r\n\r\nhi there\r\n", mailstore.Flags{}, day}, {"\r\nx\r\n", mailstore.Flags{}, day}}},
		{"a status of another meaning", "From a Tue Jan 2 03:04:05 2024\nA: b\nStatus: closed\n\nhi\n\n", []sample{{"A: b\r\nStatus: closed\r\n\r\nhi\r\n", mailstore.Flags{}, day}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, readMbox(t, c.file, "")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	if _, err := newMboxReader(strings.NewReader("Subject: x\n"), 11, "").next(); !errors.Is(err, errNotMbox) {
		t.Errorf("a message: %v", err)
	}
}
