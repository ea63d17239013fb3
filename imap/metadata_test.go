package imap

import (
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2/imapclient"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

// TestMetadataLimits: one more than each limit is refused, and changes nothing.
func TestMetadataLimits(t *testing.T) {
	w := newWorld(t, nil)
	c := w.client("INBOX")
	set := func(entries ...string) string { return c.do("SETMETADATA INBOX (" + strings.Join(entries, " ") + ")") }
	value := func(name string, size int) string {
		return fmt.Sprintf("%s {%d+}\r\n%s", name, size, strings.Repeat("v", size))
	}
	want := func(what, got, prefix string) {
		t.Helper()
		if !strings.HasPrefix(got, prefix) {
			t.Errorf("%s: %q, want %q", what, got, prefix)
		}
	}
	want("largest value", set(value("/private/big", mailstore.MaxAnnotationSize)), "OK")
	want("larger", set(`/private/a "x"`, value("/private/big", mailstore.MaxAnnotationSize+1)), "NO [METADATA MAXSIZE 65536]")
	want("larger than a command", set(value("/private/big", 300<<10)), "NO [METADATA MAXSIZE 65536]")
	long := "/private/" + strings.Repeat("n", mailstore.MaxAnnotationName-9)
	want("longest name", set(long+` "x"`), "OK")
	want("longer name", set(long+`n "x"`), "BAD [CLIENTBUG] That is no name")
	var many []string
	for i := range syntax.MaxEntries + 1 {
		many = append(many, fmt.Sprintf(`/private/n%d "x"`, i))
	}
	want("entries of a command", set(many...), "NO [LIMIT]")
	want("all that fit", set(many[:mailstore.MaxAnnotations-2]...), "OK")
	want("one more", set(many[0], many[len(many)-1]), "NO [METADATA TOOMANY]")
	want("one in place of another", set("/private/n0 NIL", many[len(many)-1]), "OK")
	var names []string
	for i := range syntax.MaxEntries + 1 {
		names = append(names, fmt.Sprint("/private/n", i))
	}
	want("entries asked for", c.do("GETMETADATA INBOX ("+strings.Join(names, " ")+")"), "NO [LIMIT]")
	want("entries of LIST", c.do(`LIST "" INBOX RETURN (METADATA (`+strings.Join(names, " ")+"))"), "NO [LIMIT]")
	want("all of them", c.do("GETMETADATA (DEPTH infinity MAXSIZE 10) INBOX /private"), "OK [METADATA LONGENTRIES 65536]")
	if line := c.all[0]; strings.Count(line, ` "x"`) != mailstore.MaxAnnotations-1 || strings.Contains(line, "/private/a ") {
		t.Errorf("%d entries: %.200s", strings.Count(line, ` "x"`), line)
	}
}

// TestMetadataManyChanges: who has not looked while much changed is told of all
// that there is.
func TestMetadataManyChanges(t *testing.T) {
	w := newWorld(t, nil)
	c, other := w.client("INBOX"), w.client("INBOX")
	c.ok("ENABLE METADATA")
	per := mailstore.MaxAnnotations
	for i := range mailstore.MaxAnnotationChanges/per + 1 {
		other.ok(fmt.Sprint("CREATE m", i))
		var list []string
		for j := range per {
			list = append(list, fmt.Sprintf(`/private/n%d ""`, j))
		}
		other.ok(fmt.Sprintf("SETMETADATA m%d (%s)", i, strings.Join(list, " ")))
	}
	c.ok("NOOP")
	told := 0
	for _, line := range c.all {
		told += strings.Count(line, "/private/n")
	}
	if all := mailstore.MaxAnnotationChanges + per; told != all {
		t.Errorf("%d entries told, want %d", told, all)
	}
	c.ok("NOOP")
	if len(c.all) != 0 {
		t.Errorf("told again: %q", c.all)
	}
}

// TestMetadataClient: another program's client sets what it reads.
func TestMetadataClient(t *testing.T) {
	c := newWorld(t, nil).login(nil)
	value := []byte("ü\r\n\"\\ {5}")
	if err := c.SetMetadata("Sent", map[string]*[]byte{"/private/comment": &value, "/shared/comment": nil}).Wait(); err != nil {
		t.Fatal(err)
	}
	data, err := c.GetMetadata("Sent", []string{"/private", "/private/none"}, &imapclient.GetMetadataOptions{Depth: imapclient.GetMetadataDepthInfinity}).Wait()
	if err != nil {
		t.Fatal(err)
	}
	if got := data.Entries["/private/comment"]; data.Mailbox != "Sent" || len(data.Entries) != 2 || got == nil || string(*got) != string(value) {
		t.Errorf("%+v", data)
	}
	if got := data.Entries["/private/specialuse"]; got == nil || string(*got) != `\Sent` {
		t.Errorf("special use %v", got)
	}
}

func TestRoot(t *testing.T) {
	for name, want := range map[string]string{
		"/private": "/private", "/Shared": "/shared", "/private/vendor": "/private/vendor", "/shared/vendor/x": "/shared/vendor/x", "/private/a/B": "/private/a/b",
		"": "", "/": "", "/private/": "", "/x": "", "private": "", "/private//": "", "/private/*": "",
	} {
		if got, err := root(name); got != want || (err != nil) != (want == "") {
			t.Errorf("root(%q) = %q, %v", name, got, err)
		}
	}
}
