package integration

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestImapFlow: a client with IMAP4rev2, QRESYNC and COMPRESS on, and another
// with none of them, in one account. What they do is in day.mjs.
func TestImapFlow(t *testing.T) {
	s := newServer(t, options{})
	s.must("quota", "set", "bob@"+hostname, "--storage", "10240000")
	modules, err := filepath.Abs("../bin/imapflow")
	if err != nil {
		t.Fatal(err)
	}
	out := succeed(t, nil, "", "node", "testdata/imapflow/day.mjs", modules, s.port("imaps"), s.port("imap"), s.caFile(), "bob@"+hostname, password)
	if !strings.HasSuffix(out, "done\n") {
		t.Error(out)
	}
	c, err := imap(s.addr["imap"], "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for mailbox, want := range map[string]string{"INBOX": "MESSAGES 2 UIDNEXT 7", "Work": "MESSAGES 2 UIDNEXT 3", "Archive": "MESSAGES 1 UIDNEXT 2"} {
		if all, err := c.imapAsk("STATUS " + mailbox + " (MESSAGES UIDNEXT)"); err != nil || !strings.Contains(all[0], want) {
			t.Errorf("%s: %q, %v", mailbox, all, err)
		}
	}
}
