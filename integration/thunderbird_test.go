package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// userPrefs is what Thunderbird's account assistant leaves behind for an
// account at this server, and what keeps it from speaking to others.
func userPrefs(s *server, marionettePort int) string {
	user := "bob@" + hostname
	prefs := map[string]any{
		"mail.accountmanager.accounts":         "account1,account2",
		"mail.accountmanager.defaultaccount":   "account1",
		"mail.account.account1.identities":     "id1",
		"mail.account.account1.server":         "server1",
		"mail.account.account2.server":         "server2",
		"mail.server.server1.type":             "imap",
		"mail.server.server1.hostname":         "localhost",
		"mail.server.server1.port":             json.Number(s.port("imaps")),
		"mail.server.server1.socketType":       3, // SSL/TLS
		"mail.server.server1.authMethod":       3, // normal password
		"mail.server.server1.userName":         user,
		"mail.server.server1.name":             user,
		"mail.server.server1.login_at_startup": false, // the password is set later
		"mail.server.server1.check_new_mail":   false, // no polling: IDLE has to tell
		"mail.server.server1.use_idle":         true,
		"mailnews.mark_message_read.auto":      false,
		// What is marked as junk goes to Junk; Thunderbird itself marks nothing.
		"mail.server.server1.spamLevel":                               0,
		"mail.spam.manualMark":                                        true,
		"mail.spam.manualMarkMode":                                    0,
		"mail.server.server1.moveTargetMode":                          0,
		"mail.server.server1.spamActionTargetAccount":                 "imap://bob%40" + hostname + "@localhost",
		"mail.server.server2.type":                                    "none",
		"mail.server.server2.hostname":                                "Local Folders",
		"mail.server.server2.userName":                                "nobody",
		"mail.server.server2.name":                                    "Local Folders",
		"mail.identity.id1.fullName":                                  "Bob",
		"mail.identity.id1.useremail":                                 user,
		"mail.identity.id1.smtpServer":                                "smtp1",
		"mail.identity.id1.valid":                                     true,
		"mail.identity.id1.compose_html":                              false,
		"mail.smtpservers":                                            "smtp1",
		"mail.smtp.defaultserver":                                     "smtp1",
		"mail.smtpserver.smtp1.hostname":                              "localhost",
		"mail.smtpserver.smtp1.port":                                  json.Number(s.port("submission")),
		"mail.smtpserver.smtp1.try_ssl":                               2, // STARTTLS
		"mail.smtpserver.smtp1.authMethod":                            3,
		"mail.smtpserver.smtp1.username":                              user,
		"marionette.port":                                             marionettePort,
		"mailnews.start_page.enabled":                                 false,
		"mail.rights.version":                                         1,
		"mail.shell.checkDefaultClient":                               false,
		"mail.spotlight.firstRunDone":                                 true,
		"mail.winsearch.firstRunDone":                                 true,
		"mail.provider.suppress_dialog_on_startup":                    true,
		"mailnews.migrations.disabled":                                true,
		"app.donation.eoy.version.viewed":                             999,
		"app.update.enabled":                                          false,
		"browser.dom.window.dump.enabled":                             false,
		"datareporting.policy.dataSubmissionPolicyBypassNotification": true,
		"datareporting.healthreport.uploadEnabled":                    false,
		"toolkit.telemetry.enabled":                                   false,
		"extensions.update.enabled":                                   false,
		"browser.safebrowsing.update.enabled":                         false,
		"network.captive-portal-service.enabled":                      false,
		"network.connectivity-service.enabled":                        false,
		"services.settings.server":                                    "http://127.0.0.1:9/",
		"security.OCSP.enabled":                                       0,
		// Whatever else it wants from the world goes to a proxy that is not there;
		// localhost is never sent to a proxy.
		"network.proxy.type":          1,
		"network.proxy.http":          "127.0.0.1",
		"network.proxy.http_port":     9,
		"network.proxy.ssl":           "127.0.0.1",
		"network.proxy.ssl_port":      9,
		"network.proxy.socks":         "",
		"network.dns.disabled":        false,
		"mail.biff.show_alert":        false,
		"mail.biff.play_sound":        false,
		"mail.chat.enabled":           false,
		"mail.warn_on_send_accel_key": false,
	}
	var b strings.Builder
	for name, value := range prefs {
		text, err := json.Marshal(value)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(&b, "user_pref(%q, %s);\n", name, text)
	}
	return b.String()
}

// thunderbird starts Thunderbird with an account at s.
func thunderbird(t *testing.T, s *server) *marionette {
	t.Helper()
	policies, err := json.Marshal(map[string]any{"policies": map[string]any{
		"Certificates":     map[string]any{"Install": []string{s.caFile()}},
		"DisableAppUpdate": true,
		"DisableTelemetry": true,
	}})
	if err != nil {
		t.Fatal(err)
	}
	binary := installation(t, string(policies))
	home := t.TempDir()
	port := freePort(t)
	writeFile(t, filepath.Join(home, "profile", "user.js"), userPrefs(s, port))
	cmd := exec.Command(binary, "--marionette", "--remote-allow-system-access", "--no-remote", "--profile", filepath.Join(home, "profile"))
	cmd.Env = append(os.Environ(), "HOME="+home, "DISPLAY="+display(t), "MOZ_CRASHREPORTER_DISABLE=1", "MOZ_LOG=IMAP:4,timestamp", "MOZ_LOG_FILE="+filepath.Join(home, "imap"),
		"XDG_RUNTIME_DIR="+home, "LIBGL_ALWAYS_SOFTWARE=1", "GDK_BACKEND=x11", "NO_AT_BRIDGE=1", "GTK_THEME=Adwaita")
	out := background(t, cmd)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Thunderbird said:\n%s", out)
			text, err := os.ReadFile(filepath.Join(home, "imap.moz_log"))
			t.Logf("to the server (%v):\n%s", err, text[max(0, len(text)-20_000):])
		}
	})
	return dialMarionette(t, fmt.Sprintf("127.0.0.1:%d", port))
}

// logIn gives Thunderbird the password and opens the INBOX of the first
// account, as a click on it does.
const logIn = `
const win = Services.wm.getMostRecentWindow("mail:3pane");
const about = win?.document.getElementById("tabmail")?.currentAbout3Pane;
if (!about?.displayFolder) throw new Error("no window yet");
const server = MailServices.accounts.getAccount("account1").incomingServer;
server.password = args[0];
MailServices.outgoingServer.defaultServer.password = args[0];
server.performExpand(win.msgWindow);
const inbox = server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
if (!inbox) throw new Error("no INBOX yet");
about.displayFolder(inbox);
`

// listed gives the rows of the list of messages, as they are on the screen.
const listed = `
const about = Services.wm.getMostRecentWindow("mail:3pane").document.getElementById("tabmail").currentAbout3Pane;
return [...about.document.querySelectorAll("#threadTree [id^=threadTree-row]")].map(row => row.textContent.replace(/\s+/g, " "));
`

// shown selects a message by its subject and gives the text that the message
// pane shows.
const shown = `
const about = Services.wm.getMostRecentWindow("mail:3pane").document.getElementById("tabmail").currentAbout3Pane;
const view = about.gDBView;
for (let i = 0; i < view.rowCount; i++) {
  if (view.getMsgHdrAt(i).mime2DecodedSubject == args[0]) about.threadTree.selectedIndex = i;
}
const message = about.document.getElementById("messageBrowser").contentWindow;
const subject = message?.document.getElementById("expandedsubjectBox")?.textContent ?? "";
if (!subject.includes(args[0])) throw new Error("the message pane shows " + subject);
const body = message.getMessagePaneBrowser().contentDocument.body.innerText;
if (!body.trim()) throw new Error("no text yet");
return body;
`

// still waits for the end of what the status bar tells of.
const still = `
const status = Services.wm.getMostRecentWindow("mail:3pane").document.getElementById("statusText");
if (status.value || status.textContent) throw new Error("it says " + (status.value || status.textContent));
`

// compose opens a window for a new message, fills it in and sends it.
const compose = `
const params = Cc["@mozilla.org/messengercompose/composeparams;1"].createInstance(Ci.nsIMsgComposeParams);
params.type = Ci.nsIMsgCompType.New;
params.format = Ci.nsIMsgCompFormat.PlainText;
params.identity = MailServices.accounts.defaultAccount.defaultIdentity;
params.composeFields = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
params.composeFields.to = args[0];
params.composeFields.subject = args[1];
params.composeFields.body = args[2];
const opened = new Promise(resolve => {
  const observer = { observe(win, topic) {
    if (topic != "domwindowopened") return;
    win.addEventListener("compose-editor-ready", () => { Services.ww.unregisterNotification(observer); resolve(win); }, { once: true });
  } };
  Services.ww.registerNotification(observer);
});
MailServices.compose.OpenComposeWindowWithParams(null, params);
const win = await opened;
win.goDoCommand("cmd_sendNow");
`

// untilIdle: Thunderbird sends IDLE two seconds after its last command.
const untilIdle = 3 * time.Second

func TestThunderbird(t *testing.T) {
	s := newServer(t, options{})
	s.put(letter("Alice <alice@crepes.fr>", "bob@"+hostname, "Dinner", "Do you like ketchup?\r\nHow about pickles?"))
	m := thunderbird(t, s)
	screenshot := os.Getenv("POSTRIDER_SCREENSHOT") // a file to write
	defer func() {
		if screenshot != "" && t.Failed() {
			os.WriteFile(screenshot, m.screenshot(), 0o644)
		}
	}()
	eventually(t, func() error { return m.evaluate(logIn, nil, password) })

	has := func(subject string) func() error {
		return func() error {
			var rows []string
			if err := m.evaluate(listed, &rows); err != nil {
				return err
			}
			if !slices.ContainsFunc(rows, func(row string) bool { return strings.Contains(row, subject) }) {
				return fmt.Errorf("the list shows %q", rows)
			}
			return nil
		}
	}
	eventually(t, has("Dinner"))
	var text string
	eventually(t, func() error { return m.evaluate(shown, &text, "Dinner") })
	if !strings.Contains(text, "Do you like ketchup?") || !strings.Contains(text, "How about pickles?") {
		t.Errorf("the message pane shows %q", text)
	}

	// Once Thunderbird waits, another letter shows up by itself, within a second
	// of its 250.
	<-time.After(untilIdle)
	s.put(letter("Alice <alice@crepes.fr>", "bob@"+hostname, "Dessert", "Crepes."))
	begin := time.Now()
	eventually(t, has("Dessert"))
	if took := time.Since(begin); took > time.Second {
		t.Errorf("a new letter was on the screen after %v", took)
	}

	if err := m.evaluate(compose, nil, "alice@"+hostname, "Re: Dinner", "Yes, I do."); err != nil {
		t.Fatal(err)
	}
	var sent string
	eventually(t, func() error {
		for _, m := range s.inbox("alice") {
			if strings.Contains(m, "\r\nSubject: Re: Dinner\r\n") {
				sent = m
				return nil
			}
		}
		return errors.New("alice has no letter from Thunderbird")
	})
	if !strings.Contains(sent, "\r\nFrom: Bob <bob@hamburger.edu>\r\n") || !strings.Contains(sent, "\r\n\r\nYes, I do.\r\n") {
		t.Errorf("Thunderbird sent %q", sent)
	}
	c, err := imap(s.addr["imap"], "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, func() error {
		if _, err := c.imapAsk("SELECT Sent"); err != nil {
			t.Fatal(err)
		}
		all, err := c.imapAsk("FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
		if err == nil && len(all) == 2 && strings.Contains(all[0], "Subject: Re: Dinner") && strings.Contains(all[0], `\Seen`) {
			return nil
		}
		return fmt.Errorf("Sent has %q, %v", all, err)
	})

	if screenshot != "" {
		var text string
		eventually(t, func() error { return m.evaluate(shown, &text, "Dinner") })
		eventually(t, func() error { return m.evaluate(still, nil) })
		if err := os.WriteFile(screenshot, m.screenshot(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
