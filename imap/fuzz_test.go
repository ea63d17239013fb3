package imap

import (
	"strings"
	"testing"
	"testing/synctest"

	"postrider/mailstore"
)

// FuzzSession: whatever a user sends and whatever is stored, nothing panics,
// the session ends with its connection, and what the server says is lines.
func FuzzSession(f *testing.F) {
	begin := "a LOGIN bob hungry\r\nb SELECT INBOX\r\n"
	for _, script := range []string{
		"c FETCH 1:* (UID FLAGS ENVELOPE BODYSTRUCTURE BODY[1.MIME] BODY[2.TEXT]<1.2> BINARY.SIZE[1] BINARY[1]<0.9>)\r\n",
		"c STORE 1 +FLAGS (\\Deleted x)\r\nd UID EXPUNGE 1:*\r\ne CLOSE\r\nf EXAMINE INBOX\r\ng EXPUNGE\r\n",
		"c SEARCH RETURN (SAVE MIN) OR NOT TEXT \"a\" (SINCE 1-Jan-2000 BODY x)\r\nd FETCH $ UID\r\ne SEARCH $ UID *:4\r\n",
		"c LIST (SUBSCRIBED RECURSIVEMATCH) \"\" (% \"*\") RETURN (STATUS (DELETED SIZE RECENT DELETED-STORAGE))\r\nd LSUB \"\" *\r\n",
		"c CREATE a/b (USE (\\Sent))\r\nd RENAME a INBOX/c\r\ne DELETE a\r\nf RENAME INBOX x\r\ng SUBSCRIBE \"&-\"\r\n",
		"c SETMETADATA INBOX (/private/a ~{3+}\r\na\x00b /shared/comment \"x\")\r\nd GETMETADATA INBOX (DEPTH infinity MAXSIZE 2) (/private /shared)\r\ne ENABLE METADATA\r\nf LIST \"\" * RETURN (METADATA /private/a)\r\n",
		"c COPY 1:* Sent\r\nd MOVE 1 Trash\r\ne APPEND INBOX (\\Seen) {3+}\r\nabc\r\nf IDLE\r\nDONE\r\ng UNAUTHENTICATE\r\n",
		"c ENABLE QRESYNC UIDONLY\r\nd UID FETCH 1:* (FLAGS MODSEQ) (CHANGEDSINCE 1 VANISHED)\r\ne SELECT INBOX (QRESYNC (946684806 1 1:9 (1:2 1:2)))\r\nf UID STORE 1 (UNCHANGEDSINCE 1) FLAGS (x)\r\n",
		"c SORT RETURN (PARTIAL -1:-2 SAVE) (REVERSE SUBJECT DISPLAYFROM) UTF-8 $\r\nd UID THREAD REFERENCES UTF-8 ALL\r\ne THREAD ORDEREDSUBJECT UTF-8 1:*\r\nf FETCH 1:* (PREVIEW EMAILID THREADID SAVEDATE)\r\n",
		"c NOTIFY SET STATUS (selected (MessageNew (UID PREVIEW) MessageExpunge FlagChange)) (subtree a (MailboxName MessageNew MessageExpunge))\r\nd CREATE a/b\r\ne APPEND a {1+}\r\nx {1+}\r\ny\r\nf IDLE\r\nDONE\r\n",
		"c ESEARCH IN (personal selected) RETURN (MIN COUNT) OR OLDER 1 MODSEQ 2\r\nd REPLACE 1 Drafts (\\Draft) {3+}\r\nabc\r\ne UID REPLACE 2 INBOX UTF8 (~{1+}\r\nx)\r\nf COMPRESS DEFLATE\r\n\x02\x08",
		"c GENURLAUTH imap://bob@localhost/INBOX/;uid=1;expire=2030-01-01T00:00:00Z;urlauth=user+bob INTERNAL\r\nd URLFETCH /INBOX/;uid=1 {3+}\r\na\"b\r\ne RESETKEY INBOX\r\nf APPEND INBOX CATENATE (URL imap://localhost/INBOX/;uid=2/;section=1/;partial=1.2 TEXT {1+}\r\nx)\r\n",
		"c SETQUOTA \"\" (STORAGE 1 MESSAGE 3)\r\nd GETQUOTA \"Other Users/alice@hamburger.edu\"\r\ne APPEND INBOX {3+}\r\nabc\r\nf SEARCH UIDBEFORE 3 UIDAFTER 1\r\ng FETCH 1:* BODY[]\r\n",
	} {
		f.Add(script, "From: a@b\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\none\r\n--x--\r\n")
	}
	f.Fuzz(func(t *testing.T, script, text string) {
		if len(script) > 1<<12 || len(text) > 1<<14 || text == "" {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, func(o *Options) {
				o.Administrators = []string{"bob@hamburger.edu"}
				o.MessageLimit = 4 * (len(script) % 2) // more than there are but for what a script adds
			})
			w.deliver("bob", "INBOX", []byte(text), mailstore.Flags{Keywords: []string{"Key"}}, 3)
			said := w.raw(begin + script)
			if !strings.HasPrefix(said, "* OK ") {
				t.Errorf("greeting %.100q", said)
			}
			checkExact(t, w, text)
		})
	})
}

// checkExact: messages that are still there are what was stored.
func checkExact(t *testing.T, w *world, text string) {
	said := w.raw("a LOGIN bob hungry\r\nb EXAMINE INBOX\r\nc UID FETCH 1:3 BODY.PEEK[]\r\nd LOGOUT\r\n")
	if n := strings.Count(said, " FETCH ("); strings.Count(said, "}\r\n"+text+")\r\n") < n && !strings.Contains(text, " FETCH (") {
		t.Errorf("%d messages of %q: %q", n, text, said)
	}
}
