package integration

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// tools is what the scripts below have in common: the account's folders and
// messages, the window, and listeners as promises.
const tools = `
const win = Services.wm.getMostRecentWindow("mail:3pane");
const about = win.document.getElementById("tabmail").currentAbout3Pane;
const server = MailServices.accounts.getAccount("account1").incomingServer;
const found = path => path.split("/").reduce((f, name) => f?.getChildNamed(name), server.rootFolder);
const folder = path => {
  const f = found(path);
  if (!f) throw new Error("no folder " + path);
  return f;
};
const header = (path, subject) => {
  const all = [...folder(path).messages].filter(h => h.mime2DecodedSubject == subject && !(h.flags & Ci.nsMsgMessageFlags.IMAPDeleted));
  if (all.length != 1) throw new Error(all.length + " messages " + subject + " in " + path);
  return all[0];
};
const failed = status => new Error("0x" + (status >>> 0).toString(16));
const ran = start => new Promise((resolve, reject) => start({
  QueryInterface: ChromeUtils.generateQI(["nsIUrlListener"]),
  OnStartRunningUrl() {},
  OnStopRunningUrl(url, status) { status ? reject(failed(status)) : resolve(); },
}));
`

// The scripts of a day. Each does what the command of the menu does, by the
// program's own services, and some wait for the end of it.
const (
	// opened is the folder args[0] in the window, with its list.
	opened = `about.displayFolder(folder(args[0]));`

	// counts wants the folder args[0] to have args[1] messages.
	counts = `
if (about.gFolder != folder(args[0])) throw new Error("another folder is on the screen");
const n = [...folder(args[0]).messages].filter(h => !(h.flags & Ci.nsMsgMessageFlags.IMAPDeleted)).length;
if (n != args[1]) throw new Error(args[0] + " has " + n + " messages");
if (about.gDBView?.rowCount != n) throw new Error("the list has " + about.gDBView?.rowCount + " rows");
`

	// pressed selects the message args[0] in the list and gives the command
	// args[1], as a key or an item of the menu does.
	pressed = `
const view = about.gDBView;
let row = -1;
for (let i = 0; i < view.rowCount; i++) {
  if (view.getMsgHdrAt(i).mime2DecodedSubject == args[0]) row = i;
}
if (row < 0) throw new Error("no row " + args[0]);
about.threadTree.selectedIndex = row;
if (!about.commandController.isCommandEnabled(args[1])) throw new Error(args[1] + " is disabled");
about.commandController.doCommand(args[1]);
`

	// copied copies or (args[3]) moves the message args[1] of args[0] to args[2].
	copied = `
await new Promise((resolve, reject) => MailServices.copy.copyMessages(folder(args[0]), [header(args[0], args[1])], folder(args[2]), args[3], {
  QueryInterface: ChromeUtils.generateQI(["nsIMsgCopyServiceListener"]),
  onStartCopy() {}, onProgress() {}, setMessageKey() {}, getMessageId() { return null; },
  onStopCopy(status) { status ? reject(failed(status)) : resolve(); },
}, about.msgWindow, true));
`

	// made creates the folder args[1] in args[0], "" for the top.
	made = `(args[0] ? folder(args[0]) : server.rootFolder).createSubfolder(args[1], about.msgWindow);`

	renamed = `folder(args[0]).rename(args[1], about.msgWindow);`

	// removed drags the folder args[0] to Trash.
	removed = `MailServices.copy.copyFolder(folder(args[0]), folder("Trash"), true, null, about.msgWindow);`

	emptied = `await ran(listener => folder("INBOX").emptyTrash(listener));`

	// known wants a folder args[0] in the tree of folders, or none.
	known = `if (!!found(args[0]) != args[1]) throw new Error(args[0] + ": " + !args[1]);`

	// rows wants the message args[0] to be in the list on the screen, or not.
	rows = `
let there = false;
for (let i = 0; i < (about.gDBView?.rowCount ?? 0); i++) {
  const h = about.gDBView.getMsgHdrAt(i);
  if (h.mime2DecodedSubject == args[0] && !(h.flags & Ci.nsMsgMessageFlags.IMAPDeleted)) there = true;
}
if (there != args[1]) throw new Error("a row " + args[0] + ": " + there);
`

	expanded = `server.performExpand(about.msgWindow);`

	// flagged wants the message args[1] of args[0] read, starred and tagged as args say.
	flagged = `
const h = header(args[0], args[1]);
const got = [h.isRead, h.isFlagged, h.getStringProperty("keywords")].join();
if (got != args[2]) throw new Error(args[1] + ": " + got);
`

	// downloaded brings all of a folder to this disk.
	downloaded = `await ran(listener => folder(args[0]).downloadAllForOffline(listener, about.msgWindow));`

	offline = `
const manager = Cc["@mozilla.org/messenger/offline-manager;1"].getService(Ci.nsIMsgOfflineManager);
if (args[0]) manager.goOnline(false, true, about.msgWindow);
else manager.synchronizeForOffline(false, false, false, true, about.msgWindow);
`

	isOffline = `if (Services.io.offline != args[0]) throw new Error("offline: " + Services.io.offline);`

	// stored gives the text of a message on this disk.
	stored = `
const h = header(args[0], args[1]);
if (!(h.flags & Ci.nsMsgMessageFlags.Offline)) throw new Error(args[1] + " is not on this disk");
const { NetUtil } = ChromeUtils.importESModule("resource://gre/modules/NetUtil.sys.mjs");
const uri = folder(args[0]).getUriForMsg(h);
let text = "";
await new Promise((resolve, reject) => MailServices.messageServiceFromURI(uri).streamMessage(uri, {
  QueryInterface: ChromeUtils.generateQI(["nsIStreamListener"]),
  onStartRequest() {},
  onDataAvailable(request, stream, offset, count) { text += NetUtil.readInputStreamToString(stream, count); },
  onStopRequest(request, status) { status ? reject(failed(status)) : resolve(); },
}, null, null, false, "", true));
return text;
`

	// searched has the server look in args[0] for messages with args[2] in the
	// attribute args[1], and gives their subjects.
	searched = `
const session = Cc["@mozilla.org/messenger/searchSession;1"].createInstance(Ci.nsIMsgSearchSession);
session.addScopeTerm(Ci.nsMsgSearchScope.onlineMail, folder(args[0]));
const term = session.createTerm();
term.attrib = Ci.nsMsgSearchAttrib[args[1]];
term.op = Ci.nsMsgSearchOp.Contains;
const value = term.value;
value.attrib = term.attrib;
value.str = args[2];
term.value = value;
term.booleanAnd = true;
session.appendTerm(term);
const hits = [];
await new Promise((resolve, reject) => {
  session.registerListener({
    QueryInterface: ChromeUtils.generateQI(["nsIMsgSearchNotify"]),
    onNewSearch() {},
    onSearchHit(hdr) { hits.push(hdr.mime2DecodedSubject); },
    onSearchDone(status) { status ? reject(failed(status)) : resolve(); },
  });
  session.search(about.msgWindow);
});
return hits.sort();
`

	quota = `
const got = folder("INBOX").QueryInterface(Ci.nsIMsgImapMailFolder).getQuota().map(q => [q.name, q.usage, q.limit].join(" "));
if (!got.length) throw new Error("no quota yet");
return got.sort();
`
)

// day is a Thunderbird at work, with another client that looks at its account.
type day struct {
	t     *testing.T
	s     *server
	m     *marionette
	other *talk
}

// does runs a script, which must succeed.
func (d *day) does(script string, args ...any) {
	d.t.Helper()
	if err := d.m.evaluate(tools+script, nil, args...); err != nil {
		d.t.Fatal(err)
	}
}

// shows waits until a script succeeds. What changes something does so last.
func (d *day) shows(script string, args ...any) {
	d.t.Helper()
	eventually(d.t, func() error { return d.m.evaluate(tools+script, nil, args...) })
}

// at has the other client do something in a mailbox and gives the answer.
func (d *day) at(mailbox, command string) string {
	d.t.Helper()
	if _, err := d.other.imapAsk("SELECT " + mailbox); err != nil {
		d.t.Fatal(err)
	}
	all, err := d.other.imapAsk(command)
	if err != nil {
		d.t.Fatalf("%s: %v", command, err)
	}
	return strings.Join(all, "\n")
}

// has waits until the other client sees one message with a subject in a mailbox,
// with these flags and no others.
func (d *day) has(mailbox, subject string, flags ...string) {
	d.t.Helper()
	eventually(d.t, func() error {
		_, hit, _ := strings.Cut(d.at(mailbox, `SEARCH HEADER SUBJECT "`+subject+`"`), "* SEARCH ")
		hit, _, _ = strings.Cut(hit, "\n")
		if !regexp.MustCompile(`^\d+$`).MatchString(hit) {
			return fmt.Errorf("%s in %s: messages %q", subject, mailbox, hit)
		}
		_, got, _ := strings.Cut(d.at(mailbox, "FETCH "+hit+" FLAGS"), "(FLAGS (")
		got, _, _ = strings.Cut(got, ")")
		set := strings.Fields(strings.ReplaceAll(got, "$MDNSent", "")) // which any that it shows gets
		slices.Sort(set)
		slices.Sort(flags)
		if !slices.Equal(set, flags) {
			return fmt.Errorf("%s in %s: %s", subject, mailbox, got)
		}
		return nil
	})
}

// lacks waits until a mailbox has no message with a subject.
func (d *day) lacks(mailbox, subject string) {
	d.t.Helper()
	eventually(d.t, func() error {
		if got := d.at(mailbox, `SEARCH HEADER SUBJECT "`+subject+`"`); !strings.HasPrefix(got, "* SEARCH\n") {
			return fmt.Errorf("%s in %s: %s", subject, mailbox, got)
		}
		return nil
	})
}

// lists waits until a pattern matches exactly these mailboxes.
func (d *day) lists(pattern string, names ...string) {
	d.t.Helper()
	eventually(d.t, func() error {
		all, err := d.other.imapAsk(`LIST "" "` + pattern + `"`)
		if err != nil {
			d.t.Fatal(err)
		}
		var got []string
		for _, line := range all[:len(all)-1] {
			_, name, _ := strings.Cut(line, `) "/" `)
			got = append(got, strings.Trim(name, `"`))
		}
		if !slices.Equal(got, names) {
			return fmt.Errorf("LIST %s: %q", pattern, got)
		}
		return nil
	})
}

// TestThunderbirdDay: what a user does in Thunderbird is on the server, as
// another client sees it, and what another client does shows in Thunderbird.
func TestThunderbirdDay(t *testing.T) {
	s := newServer(t, options{})
	s.must("quota", "set", "bob@"+hostname, "--storage", "10000000")
	for _, subject := range []string{"read me", "star me", "tag me", "move me", "copy me", "delete me", "buy pills", "keep me"} {
		s.put(letter("Alice <alice@crepes.fr>", "bob@"+hostname, subject, "All about "+subject+"."))
	}
	other, err := imap(s.addr["imap"], "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	d := &day{t, s, thunderbird(t, s), other}
	eventually(t, func() error { return d.m.evaluate(logIn, nil, password) })
	d.shows(counts, "INBOX", 8)

	d.flags()
	d.folders()
	d.messages()
	d.search()
	d.offline()
	d.others()
	d.tidying()
}

func (d *day) flags() {
	d.shows(pressed, "read me", "cmd_markAsRead")
	d.has("INBOX", "read me", `\Seen`)
	d.shows(pressed, "read me", "cmd_markAsUnread")
	d.has("INBOX", "read me")
	d.shows(pressed, "star me", "cmd_markAsFlagged")
	d.has("INBOX", "star me", `\Flagged`)
	d.shows(pressed, "tag me", "cmd_tag1")
	d.has("INBOX", "tag me", "$label1")
	d.shows(pressed, "tag me", "cmd_tag3")
	d.has("INBOX", "tag me", "$label1", "$label3")
	d.shows(pressed, "tag me", "cmd_removeTags")
	d.has("INBOX", "tag me")
}

func (d *day) folders() {
	d.does(made, "", "Projects")
	d.lists("Proj*", "Projects")
	d.shows(known, "Projects", true)
	d.does(made, "Projects", "Ärger & Co")
	d.lists("Proj*", "Projects", "Projects/&AMQ-rger &- Co")
	d.shows(known, "Projects/Ärger & Co", true)
	d.does(renamed, "Projects/Ärger & Co", "Spaß")
	d.lists("Proj*", "Projects", "Projects/Spa&AN8-")
	d.shows(known, "Projects/Spaß", true)
	d.does(renamed, "Projects", "Plans")
	d.lists("P*", "Plans", "Plans/Spa&AN8-")
	d.shows(known, "Plans/Spaß", true)
}

func (d *day) messages() {
	d.does(copied, "INBOX", "move me", "Plans", true)
	d.has("Plans", "move me")
	d.lacks("INBOX", "move me")
	d.does(copied, "INBOX", "copy me", "Plans/Spaß", false)
	d.has("Plans/Spa&AN8-", "copy me")
	d.has("INBOX", "copy me")

	d.shows(pressed, "delete me", "cmd_delete")
	d.has("Trash", "delete me", `\Seen`) // which deleting does
	d.lacks("INBOX", "delete me")
	d.shows(pressed, "buy pills", "cmd_markAsJunk")
	d.has("Junk", "buy pills", `\Seen`, "Junk")
	d.lacks("INBOX", "buy pills")
}

func (d *day) search() {
	for _, c := range []struct {
		attribute, text string
		want            []string
	}{
		{"Body", "about copy", []string{"copy me"}},
		{"Subject", "ME", []string{"copy me", "keep me", "read me", "star me", "tag me"}},
		{"Sender", "alice@", []string{"copy me", "keep me", "read me", "star me", "tag me"}},
		{"Body", "nowhere", []string{}},
	} {
		var got []string
		if err := d.m.evaluate(tools+searched, &got, "INBOX", c.attribute, c.text); err != nil {
			d.t.Fatal(err)
		}
		if !slices.Equal(got, c.want) {
			d.t.Errorf("%s %q: %q", c.attribute, c.text, got)
		}
	}
}

func (d *day) offline() {
	d.does(downloaded, "INBOX")
	d.does(offline, false)
	d.shows(isOffline, true)
	var text string
	if err := d.m.evaluate(tools+stored, &text, "INBOX", "keep me"); err != nil {
		d.t.Fatal(err)
	}
	if !strings.Contains(text, "Subject: keep me\r\n") || !strings.HasSuffix(text, "\r\n\r\nAll about keep me.\r\n") {
		d.t.Errorf("on this disk: %q", text)
	}
	d.shows(pressed, "keep me", "cmd_markAsFlagged")
	d.has("INBOX", "keep me")
	d.does(offline, true)
	d.shows(isOffline, false)
	d.has("INBOX", "keep me", `\Flagged`)
}

func (d *day) others() {
	d.does(opened, "Sent")
	d.does(opened, "INBOX")
	d.shows(counts, "INBOX", 5)
	// Thunderbird waits in IDLE again two seconds after what it was told, so each
	// wait is for more than one change. New messages, by delivery and by another
	// client:
	d.s.put(letter("Alice <alice@crepes.fr>", "bob@"+hostname, "just in", "News."))
	if _, err := d.other.imapAppend("INBOX", `\Flagged`, letter("bob@"+hostname, "bob@"+hostname, "a note", "Milk.")); err != nil {
		d.t.Fatal(err)
	}
	d.shows(rows, "just in", true)
	d.shows(rows, "a note", true)
	d.shows(flagged, "INBOX", "a note", "false,true,")

	// Flags and keywords, given and taken.
	number := func(subject string) string {
		_, hit, _ := strings.Cut(d.at("INBOX", `SEARCH HEADER SUBJECT "`+subject+`"`), "* SEARCH ")
		hit, _, _ = strings.Cut(hit, "\n")
		return hit
	}
	d.at("INBOX", "STORE "+number("just in")+` +FLAGS (\Seen \Flagged $label1)`)
	d.at("INBOX", "STORE "+number("a note")+` -FLAGS (\Flagged)`)
	d.shows(flagged, "INBOX", "just in", "true,true,$label1")
	d.shows(flagged, "INBOX", "a note", "false,false,")

	// Messages that go.
	d.at("INBOX", "STORE "+number("just in")+` -FLAGS (\Seen \Flagged $label1)`)
	d.at("INBOX", "MOVE "+number("just in")+" Plans")
	d.at("INBOX", "STORE "+number("a note")+` +FLAGS (\Deleted)`)
	d.at("INBOX", "EXPUNGE")
	d.shows(rows, "a note", false)
	d.shows(rows, "just in", false)

	// Folders that came or went show when the account is opened anew, by what is
	// subscribed; what changed in a folder that is closed, when it is opened.
	for _, command := range []string{"CREATE Bills/2026", "SUBSCRIBE Bills/2026", "DELETE Plans/Spa&AN8-", "UNSUBSCRIBE Plans/Spa&AN8-"} {
		if _, err := d.other.imapAsk(command); err != nil {
			d.t.Fatal(err)
		}
	}
	d.does(expanded)
	d.shows(known, "Bills/2026", true)
	d.shows(known, "Plans/Spaß", false)
	d.does(opened, "Plans")
	d.shows(counts, "Plans", 2)
	d.shows(rows, "just in", true)

	// The folder's properties tell how full the account is.
	var got []string
	eventually(d.t, func() error { return d.m.evaluate(tools+quota, &got) })
	if len(got) != 2 || !strings.HasSuffix(got[0], " 10000") || !strings.HasSuffix(got[1], " 9765") {
		d.t.Errorf("quota %q", got)
	}
}

// tidying: a folder that is deleted goes to Trash, and Trash is emptied with all
// that is in it.
func (d *day) tidying() {
	d.does(removed, "Plans")
	d.lists("P*")
	d.lists("Trash*", "Trash", "Trash/Plans")
	d.shows(known, "Trash/Plans", true)
	d.does(opened, "INBOX")
	d.does(emptied)
	d.lists("Trash*", "Trash")
	d.shows(known, "Trash/Plans", false)
	d.lacks("Trash", "delete me")
}
