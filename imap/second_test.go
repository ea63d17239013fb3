package imap

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"mime"
	"net/mail"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"

	"postrider/internal/wire/wiretest"
	"postrider/mailstore"
)

// opinions are two servers that hear the same: ours, and go-imap's on its
// mailboxes in memory.
type opinions struct {
	t            *testing.T
	ours, theirs *client
	user         *imapmemserver.User
	listener     *wiretest.Listener // of theirs
	w            *world
}

func newOpinions(t *testing.T) *opinions {
	o := &opinions{t: t, w: newWorld(t, nil), user: imapmemserver.NewUser("bob", "hungry")}
	for _, s := range specials {
		if err := o.user.Create(s[0], nil); err != nil {
			t.Fatal(err)
		}
		if err := o.user.Subscribe(s[0]); err != nil {
			t.Fatal(err)
		}
	}
	memory := imapmemserver.New()
	memory.AddUser(o.user)
	server := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return memory.NewSession(), nil, nil
		},
		Caps: imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapUIDPlus: {}, imap.CapMove: {}, imap.CapESearch: {}, imap.CapSearchRes: {},
			imap.CapListExtended: {}, imap.CapListStatus: {}, imap.CapStatusSize: {}, imap.CapBinary: {}, imap.CapNamespace: {}},
		InsecureAuth: true,
		Logger:       log.New(io.Discard, "", 0),
	})
	l := wiretest.Listen()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends with Close
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	o.listener = l
	o.ours = o.w.connect()
	o.ours.ok("LOGIN bob hungry")
	o.dialTheirs()
	return o
}

// silent is for a server that may hang up.
type silent struct{ testing.TB }

func (silent) Errorf(string, ...any) {}

func (o *opinions) dialTheirs() {
	conn, err := o.listener.Dial(o.t.Context())
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { conn.Close() })
	o.theirs = &client{t: silent{o.t}, conn: conn, r: bufio.NewReader(conn)}
	o.theirs.line()
	o.theirs.do("LOGIN bob hungry")
}

// both says a command to both, and returns how each answers: OK, NO or BAD. When
// theirs hangs up instead, its answer is "--", and the mailbox is opened again.
func (o *opinions) both(command string) (ours, theirs string) {
	ours, theirs = o.ours.do(command), o.theirs.do(command)
	if theirs == "" {
		all := o.theirs.all
		o.dialTheirs()
		o.theirs.do("SELECT INBOX")
		o.theirs.all, theirs = all, "--"
	}
	return ours, theirs
}

// deliver adds a message to both.
func (o *opinions) deliver(text []byte) {
	o.t.Helper()
	o.w.deliver("bob", "INBOX", text, mailstore.Flags{}, 1)
	if _, err := o.user.Append("INBOX", literalReader{bytes.NewReader(text)}, &imap.AppendOptions{}); err != nil {
		o.t.Fatal(err)
	}
}

type literalReader struct{ *bytes.Reader }

func (r literalReader) Size() int64 { return r.Reader.Size() }

// said is a part of a response: a list, or a word.
type said struct {
	list []said
	word string
	nil  bool
	kind byte // '(' a list, '"' a string, 'a' an atom
}

// parseSaid reads one part of a response and returns the rest.
func parseSaid(s string) (said, string) {
	s = strings.TrimLeft(s, " ")
	switch {
	case s == "":
		return said{nil: true}, ""
	case s[0] == '(':
		n := said{kind: '('}
		s = s[1:]
		for s != "" && s[0] != ')' {
			var one said
			one, s = parseSaid(s)
			n.list = append(n.list, one)
			s = strings.TrimLeft(s, " ")
		}
		return n, strings.TrimPrefix(s, ")")
	case s[0] == '"':
		var b strings.Builder
		i := 1
		for ; i < len(s) && s[i] != '"'; i++ {
			if s[i] == '\\' {
				i++
			}
			b.WriteByte(s[i])
		}
		return said{kind: '"', word: b.String()}, s[min(i+1, len(s)):]
	case s[0] == '{', strings.HasPrefix(s, "~{"):
		size, rest, _ := strings.Cut(strings.TrimLeft(s, "~{"), "}\r\n")
		n, _ := strconv.Atoi(size)
		return said{kind: '"', word: rest[:n]}, rest[n:]
	}
	end := 0
	for depth := 0; end < len(s) && (depth > 0 || s[end] != ' ' && s[end] != ')' && s[end] != '('); end++ {
		switch s[end] { // BODY[HEADER.FIELDS (DATE)]
		case '[':
			depth++
		case ']':
			depth--
		}
	}
	word := s[:end]
	return said{kind: 'a', word: word, nil: strings.EqualFold(word, "NIL")}, s[end:]
}

// String writes a part in one way: whether a word came as an atom, in quotes or
// as a literal is the server's choice.
func (n said) String() string {
	switch {
	case n.kind == '(':
		var list []string
		for _, one := range n.list {
			list = append(list, one.String())
		}
		return "(" + strings.Join(list, " ") + ")"
	case n.nil:
		return "NIL"
	}
	return strconv.Quote(n.word)
}

// fetchedItems are the items of the FETCH response of the last command, by name.
func fetchedItems(c *client) map[string]said {
	quotes := strings.NewReplacer(`"`, "")
	items := make(map[string]said)
	for _, line := range c.all {
		rest, ok := strings.CutPrefix(line, "* ")
		if !ok {
			continue
		}
		_, rest, _ = strings.Cut(rest, " ")
		rest, ok = strings.CutPrefix(rest, "FETCH ")
		if !ok {
			continue
		}
		list, _ := parseSaid(rest)
		for i := 0; i+1 < len(list.list); i += 2 {
			items[quotes.Replace(strings.ToUpper(list.list[i].word))] = list.list[i+1]
		}
	}
	return items
}

// plainWords is an envelope as a reader sees it: theirs has words decoded and
// dates written anew.
func plainWords(n said) said {
	if n.kind == '(' {
		list := make([]said, len(n.list))
		for i := range n.list {
			list[i] = plainWords(n.list[i])
		}
		n.list = list
		return n
	}
	d := mime.WordDecoder{}
	if s, err := d.DecodeHeader(n.word); err == nil {
		n.word = s
	}
	if t, err := mail.ParseDate(n.word); err == nil {
		n.word = t.UTC().String()
	}
	return n
}

// partOf finds the structure of a part (RFC 9051 section 6.4.5.1); ok tells
// whether there is such a part.
func partOf(structure said, path []string) (part said, ok bool) {
	multipart := func(n said) bool { return len(n.list) > 0 && n.list[0].kind == '(' }
	for i, number := range path {
		n, _ := strconv.Atoi(number)
		if i > 0 && !multipart(structure) {
			if len(structure.list) < 9 || !strings.EqualFold(structure.list[0].word, "message") {
				return said{}, false
			}
			structure = structure.list[8]
		}
		switch {
		case multipart(structure):
			if n > len(structure.list) || structure.list[n-1].kind != '(' {
				return said{}, false
			}
			structure = structure.list[n-1]
		case n != 1:
			return said{}, false
		}
	}
	return structure, true
}

// noSuchPart tells whether an item is of a part that the message does not have:
// HEADER and TEXT of a part are those of a message in it.
func noSuchPart(structure said, item string) bool {
	_, section, ok := strings.Cut(strings.TrimSuffix(item, "]"), "[")
	if !ok || section == "" || section[0] < '1' || section[0] > '9' {
		return false
	}
	section, _, _ = strings.Cut(section, "]")
	path := strings.Split(section, ".")
	last := path[len(path)-1]
	if last[0] > '9' {
		path = path[:len(path)-1]
	}
	part, ok := partOf(structure, path)
	inMessage := ok && len(part.list) > 0 && strings.EqualFold(part.list[0].word, "message")
	return !ok || (last == "HEADER" || last == "TEXT") && !inMessage
}

// sameStructure compares what BODYSTRUCTURE may say in two ways: a text without
// Content-Type is in us-ascii (RFC 2045 section 5.2), whether that is told or
// not; and whether a last line without an end is a line is nowhere said.
func sameStructure(a, b said) bool {
	if len(a.list) != len(b.list) {
		only := said{kind: '(', list: []said{{kind: '"', word: "charset"}, {kind: '"', word: "us-ascii"}}}
		return b.nil && a.String() == only.String()
	}
	for i := range a.list {
		if !sameStructure(a.list[i], b.list[i]) {
			return false
		}
	}
	x, err1 := strconv.Atoi(a.word)
	y, err2 := strconv.Atoi(b.word)
	return len(a.list) > 0 || a.nil == b.nil && a.word == b.word || err1 == nil && err2 == nil && x == y+1
}

// TestSecondOpinionOnMessages compares what is told of each message of the
// fixtures.
func TestSecondOpinionOnMessages(t *testing.T) {
	files, err := filepath.Glob("../mailstore/message/testdata/*.msg")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	o := newOpinions(t)
	var names []string
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".msg")
		if text := fixture(t, name); len(text) > 0 {
			o.deliver(text)
			names = append(names, name)
		}
	}
	r := rand.New(rand.NewPCG(8, 8))
	for range 60 {
		o.deliver([]byte("From: =?utf-8?q?J=C3=B6rg?= <j@crepes.fr>\r\nTo: bob@hamburger.edu, \"B, C\" <c@d.example>\r\nDate: Mon, 12 Oct 1998 15:27:39 +0200\r\n" +
			"Subject: generated\r\nMessage-ID: <x@y>\r\nMIME-Version: 1.0\r\n" + generated(r, 0)))
		names = append(names, "generated")
	}
	o.both("SELECT INBOX")
	used := make(map[string]bool)
	for i, name := range names {
		var structure said
		for _, item := range messageItems() {
			ours, theirs := o.both(fmt.Sprintf("FETCH %d (%s)", i+1, item))
			told := partialSize.ReplaceAllString(item, "<$1>")
			a, b := fetchedItems(o.ours)[told], fetchedItems(o.theirs)[told]
			if strings.HasPrefix(item, "BINARY") && b.kind == 0 { // theirs forgets <1> (RFC 9051 section 9, msg-att-static)
				b = fetchedItems(o.theirs)[partialSize.ReplaceAllString(item, "")]
			}
			same := ours[:2] == theirs[:2] && a.String() == b.String()
			switch {
			case item == "BODYSTRUCTURE":
				structure = a
				same = sameStructure(a, b)
			case item == "BODY":
				same = sameStructure(a, b)
			case item == "ENVELOPE":
				same = plainWords(a).String() == plainWords(b).String()
			case noSuchPart(structure, item):
				// RFC 9051 section 6.4.5.1; theirs takes the part above.
				same = a.word == ""
			}
			if same {
				continue
			}
			why := ""
			for _, e := range theirMistakes() {
				if slices.Contains(strings.Fields(e.messages), name) && slices.ContainsFunc(strings.Fields(e.items), func(begin string) bool { return strings.HasPrefix(item, begin) }) {
					why = e.why
				}
			}
			if used[why] = true; why == "" {
				t.Errorf("%s %s\n ours %.2s %.600s\n theirs %.2s %.600s", name, item, ours, a, theirs, b)
			}
		}
	}
	for _, e := range theirMistakes() {
		if !used[e.why] {
			t.Errorf("not needed any more: %s", e.why)
		}
	}
}

// generated is a part at random, from its MIME fields on.
func generated(r *rand.Rand, depth int) string {
	text := strings.Repeat("a line\r\n", r.IntN(4)) + []string{"", "the end", "\r\n", " \t"}[r.IntN(4)]
	kind := r.IntN(8)
	switch {
	case kind < 3 && depth < 4:
		boundary := fmt.Sprintf("=_%d_%d", depth, r.IntN(1000))
		b := fmt.Sprintf("Content-Type: multipart/%s; boundary=\"%s\"\r\n\r\n%s", []string{"mixed", "alternative", "related"}[r.IntN(3)], boundary, []string{"", "preamble\r\n"}[r.IntN(2)])
		for range 1 + r.IntN(3) {
			b += "--" + boundary + "\r\n" + generated(r, depth+1) + "\r\n"
		}
		return b + "--" + boundary + "--" + []string{"", "\r\n", "\r\nepilogue\r\n"}[r.IntN(3)]
	case kind == 3 && depth < 4:
		return "Content-Type: message/rfc822\r\n\r\nSubject: inside\r\nFrom: a@b.example\r\n" + generated(r, depth+1)
	case kind == 4:
		return "Content-Type: image/png; name=\"a.png\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=a.png\r\n" +
			"Content-ID: <i@d>\r\nContent-Description: a picture\r\n\r\niVBORw0KGgo=\r\n"
	case kind == 5:
		return "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\nContent-Language: de\r\n\r\nGr=C3=BC=\r\n=C3=9Fe\r\n" + text
	}
	return "Content-Type: text/plain; charset=utf-8\r\n\r\n" + text
}

// messageItems are in the order in which they are asked for, BODYSTRUCTURE first.
func messageItems() []string {
	items := []string{"BODYSTRUCTURE", "BODY", "RFC822.SIZE", "ENVELOPE"}
	for _, section := range []string{
		"", "HEADER", "TEXT", "1", "2", "3", "1.MIME", "2.MIME", "1.1", "1.2", "2.1", "2.2", "1.HEADER", "1.TEXT", "2.HEADER", "2.TEXT", "1.1.1", "3.9",
		"HEADER.FIELDS (SUBJECT FROM)", "HEADER.FIELDS.NOT (SUBJECT)",
	} {
		items = append(items, "BODY["+section+"]")
	}
	return append(items, "BODY[]<10.50>", "BODY[TEXT]<0.5>", "BODY[1]<3.20>", "BODY[HEADER]<5.9999>", "BODY[TEXT]<100000.1>",
		"BINARY[1]", "BINARY[2]", "BINARY.SIZE[1]", "BINARY[1]<1.4>")
}

// partialSize is what a response does not repeat of <FIRST.SIZE>.
var partialSize = regexp.MustCompile(`<(\d+)\.\d+>`)

// mistake is where theirs is not as the RFCs have it.
type mistake struct{ messages, items, why string }

func theirMistakes() []mistake {
	return []mistake{
		{"alternative groups", "ENVELOPE", "groups of addresses are left out (RFC 9051 section 7.5.2, on address)"},
		{"eight-bit broken-addresses injected nul", "ENVELOPE", "a field is left out for one odd octet or address, where the others can be told"},
		{"bare-lf cr-only header-only", "BODY[ ENVELOPE", "headers are written anew, with line ends that they do not have (RFC 9051 section 6.4.5, on BODY[])"},
		{"broken-header header-8bit-name mbox no-blank-line no-colon noheader received-only", "BODY ENVELOPE BINARY", "a message whose header has one bad line is taken for empty"},
		{"boundary-inside-base64 same-boundary never-delimited no-boundary no-end type-multipart-mixed", "BODY BINARY", "boundaries are found within lines, and parts lost without a delimiter or a blank line; some such messages end the connection (RFC 2046 section 5.1.1)"},
		{"digest type-multipart-digest", "BODY", "the parts of a digest are messages (RFC 2046 section 5.1.5)"},
		{"eight-bit field-mime-version", "BINARY", "BINARY undoes the transfer encoding, and leaves the charset (RFC 9051 section 6.4.5, on BINARY)"},
		{"embedded-base64", "BINARY BODY", "BINARY is of leaves, and a message within a message is not encoded (RFC 2046 section 5.2.1)"},
		{"charset-comment field-content-type field-content-type-broken field-content-transfer-encoding injected", "BODY", "comments in MIME fields are no part of the values (RFC 2045 section 5.1)"},
		{"mixed-nested rfc2231 nul", "BODY", "parameters are told as they are in the message: decoding is for who knows RFC 2231 (RFC 9051 section 7.5.2)"},
		{"forwarded", "BODY", "dates are told as they are in the message (RFC 9051 section 7.5.2, on date)"},
		{"report type-octet-stream", "BODYSTRUCTURE BODY", "parameters are sorted, which says the same"},
		{"too-deep too-deep-messages", "BODY", "nesting has no limit"},
	}
}
