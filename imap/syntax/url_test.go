package syntax

import (
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"
)

func TestURL(t *testing.T) {
	for in, want := range map[string]URL{
		"/INBOX;UIDVALIDITY=12/;UID=3":                         {Mailbox: "INBOX", Validity: 12, UID: 3},
		"/a/%C3%BC%20b/;uid=3/;section=HEADER":                 {Mailbox: "a/ü b", UID: 3, Section: imap.FetchItemBodySection{Specifier: imap.PartSpecifierHeader}},
		";UID=7/;SECTION=1.2.MIME":                             {UID: 7, Section: imap.FetchItemBodySection{Part: []int{1, 2}, Specifier: imap.PartSpecifierMIME}},
		"/x/;UID=7/;PARTIAL=5":                                 {Mailbox: "x", UID: 7, Section: imap.FetchItemBodySection{Partial: &imap.SectionPartial{Offset: 5, Size: 1<<63 - 1}}},
		"/x/;UID=7/;SECTION=TEXT/;PARTIAL=5.10":                {Mailbox: "x", UID: 7, Section: imap.FetchItemBodySection{Specifier: imap.PartSpecifierText, Partial: &imap.SectionPartial{Offset: 5, Size: 10}}},
		"/x/;UID=7/;SECTION=HEADER.FIELDS%20(a%20%22b%20c%22)": {Mailbox: "x", UID: 7, Section: imap.FetchItemBodySection{Specifier: imap.PartSpecifierHeader, HeaderFields: []string{"a", "b c"}}},
	} {
		got, err := ParseURL(in)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", in, err, diff)
		}
	}
	for _, in := range []string{"", "/INBOX", "imap://host/INBOX/;UID=1", "//host/INBOX/;UID=1", "/;UID=0", "/x/;UID=1/;SECTION=NOPE", "/x/;UID=1/;PARTIAL=1.0",
		"/x/;UID=1;URLAUTH=anonymous", "/x;UIDVALIDITY=0/;UID=1", "/x%zz/;UID=1", "/x/;UID=1/;PARTIAL=1/;SECTION=TEXT", "x/;UID=1", "/;UID=1", "/x/;UID=99999999999"} {
		if got, err := ParseURL(in); err == nil {
			t.Errorf("%s is %+v", in, got)
		}
	}
}

// FuzzURL: no URL makes a mailbox without a name of one that is named, and none
// panics.
func FuzzURL(f *testing.F) {
	f.Add("/INBOX;UIDVALIDITY=12/;UID=3/;SECTION=1.MIME/;PARTIAL=1.2")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURL(s)
		if err == nil && (u.UID == 0 || u.Mailbox == "" && s[0] != ';') {
			t.Errorf("%q is %+v", s, u)
		}
	})
}
