package syntax

import (
	"reflect"
	"strings"
	"testing"
	"time"

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
		"IMAP://h.example:143/INBOX/;UID=1":                    {Host: "h.example", Mailbox: "INBOX", UID: 1},
		"imap://bob%40a.b;AUTH=*@[::1]/INBOX/;UID=1/;section=1.2;urlauth=submit+bob%40a.b": {User: "bob@a.b", Host: "[::1]", Mailbox: "INBOX", UID: 1,
			Section: imap.FetchItemBodySection{Part: []int{1, 2}}, Access: Submit, AccessUser: "bob@a.b",
			Rump: "imap://bob%40a.b;AUTH=*@[::1]/INBOX/;UID=1/;section=1.2;urlauth=submit+bob%40a.b"},
		"imap://joe@H/x;UIDVALIDITY=3/;UID=1;Expire=2030-02-03t04:05:06+01:00;URLAUTH=user+Fred:internal:91354a473744909de610943775f92038": {User: "joe", Host: "h", Mailbox: "x", Validity: 3, UID: 1,
			Expire: time.Date(2030, 2, 3, 3, 5, 6, 0, time.UTC), Access: User, AccessUser: "Fred", Mechanism: "INTERNAL", Token: "91354a473744909de610943775f92038",
			Rump: "imap://joe@H/x;UIDVALIDITY=3/;UID=1;Expire=2030-02-03t04:05:06+01:00;URLAUTH=user+Fred"},
		"imap://joe@h/x/;UID=1;URLAUTH=AuthUser":  {User: "joe", Host: "h", Mailbox: "x", UID: 1, Access: AuthUser, Rump: "imap://joe@h/x/;UID=1;URLAUTH=AuthUser"},
		"imap://joe@h/x/;UID=1;URLAUTH=anonymous": {User: "joe", Host: "h", Mailbox: "x", UID: 1, Access: Anonymous, Rump: "imap://joe@h/x/;UID=1;URLAUTH=anonymous"},
	} {
		got, err := ParseURL(in)
		got.Expire = got.Expire.UTC()
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", in, err, diff)
		}
	}
	for _, in := range []string{"", "/INBOX", "//host/INBOX/;UID=1", "/;UID=0", "/x/;UID=1/;SECTION=NOPE", "/x/;UID=1/;PARTIAL=1.0",
		"/x/;UID=1;URLAUTH=anonymous", "/x;UIDVALIDITY=0/;UID=1", "imap:///x/;UID=1", "imap://a@/x/;UID=1", "imap://h", "imap://h/", "imap://h/x", "imap://h/;UID=1", "imap://h//x/;UID=1", "imap://h:x/x/;UID=1", "imap://a;b@h/x/;UID=1", "imap://h/ü/;UID=1", "imap://h/x y/;UID=1", strings.Repeat("a", MaxURL+1), "imap://h/x/;UID=1;URLAUTH=", "imap://h/x/;UID=1;URLAUTH=submit+", "imap://h/x/;UID=1;URLAUTH=nobody", "imap://h/x;URLAUTH=anonymous", "imap://h/x/;UID=1;URLAUTH=anonymous:internal", "imap://h/x/;UID=1;URLAUTH=anonymous:internal:0123456789", "imap://h/x/;UID=1;URLAUTH=anonymous:in_ternal:0123456789abcdef0123456789abcdef", "imap://h/x/;UID=1;EXPIRE=2030-01-01T00:00:00Z", "imap://h/x/;UID=1;EXPIRE=tomorrow;URLAUTH=anonymous", "imap://h/x/;UID=1;URLAUTH=user+a;b", "imap://h/x/;UID=1;URLAUTH=anonymous:internal:0123456789abcdef0123456789abcdeg", "/x%zz/;UID=1", "/x/;UID=1/;PARTIAL=1/;SECTION=TEXT", "x/;UID=1", "/;UID=1", "/x/;UID=99999999999"} {
		if got, err := ParseURL(in); err == nil {
			t.Errorf("%s is %+v", in, got)
		}
	}
}

// FuzzURL: no URL makes a mailbox without a name of one that is named, and none
// panics. A token at the end of one without says nothing else, and can be taken off to
// the octet.
func FuzzURL(f *testing.F) {
	f.Add("/INBOX;UIDVALIDITY=12/;UID=3/;SECTION=1.MIME/;PARTIAL=1.2")
	f.Add("imap://bob%40a.b@h:143/INBOX/;UID=3/;SECTION=1;EXPIRE=2030-01-02T03:04:05Z;URLAUTH=submit+bob")
	f.Add("imap://joe@h/x/;UID=1;URLAUTH=anonymous:INTERNAL:0123456789abcdef0123456789abcdef")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURL(s)
		if err != nil {
			return
		}
		if u.UID == 0 || u.Mailbox == "" && s[0] != ';' || (u.Access == NoAccess) != (u.Rump == "") || u.Access != NoAccess && u.Host == "" {
			t.Errorf("%q is %+v", s, u)
		}
		const token = "0123456789abcdef0123456789abcdef"
		signed := s + ":internal:" + token
		switch v, err := ParseURL(signed); {
		case u.Access == NoAccess || u.Mechanism != "":
			if err == nil && v.Token == token {
				t.Errorf("%q takes a token", s)
			}
		case len(signed) > MaxURL:
		case err != nil || v.Rump != s || v.Token != token:
			t.Errorf("%q with a token is %+v, %v", s, v, err)
		default:
			if v.Mechanism, v.Token = "", ""; !reflect.DeepEqual(u, v) {
				t.Errorf("%q is %+v, with a token %+v", s, u, v)
			}
		}
	})
}
