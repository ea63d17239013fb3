package integration

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// startCatch starts a server that catches mail and returns how much is added to
// its ports.
func startCatch(t *testing.T) (offset int) {
	t.Helper()
	for range 10 { // a port may be taken between the look and the start
		offset = freePort(t) - 1025
		out := &log{}
		cmd := exec.Command(built(t).race, "lab", "--catch", "--port-offset", fmt.Sprint(offset))
		cmd.Stdout, cmd.Stderr = out, out
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		var failed error
		eventually(t, func() error {
			select {
			case failed = <-ended:
				return nil
			default:
			}
			if !strings.HasSuffix(out.String(), "\nready\n") {
				return fmt.Errorf("not ready: %s", out)
			}
			return nil
		})
		if strings.Contains(out.String(), "address already in use") {
			continue
		}
		if failed != nil {
			t.Fatal(failed, out)
		}
		t.Cleanup(func() {
			cmd.Process.Signal(syscall.SIGTERM)
			if err := <-ended; err != nil {
				t.Error(err, out)
			}
		})
		return offset
	}
	t.Fatal("no ports are free")
	return 0
}

// TestCatchManual: each command in docs/catch.md works as it stands there, in
// its order, but for the ports.
func TestCatchManual(t *testing.T) {
	text, err := os.ReadFile("../docs/catch.md")
	if err != nil {
		t.Fatal(err)
	}
	offset := startCatch(t)
	var commands []string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		commands = append(commands, strings.Split(strings.TrimSpace(block[1]), "\n")...)
	}
	wants := []string{
		"",
		`"subject": "Your order"`,
		`"sender": "shop@example.org"`,
		`"text": "Thank you.`,
		"X-Envelope-To: you@example.org\r\n",
		"Thank you.",
		`"deleted": 1`,
		`"deleted": 0`,
		`"deleted": 0`,
	}
	if len(commands) != len(wants) {
		t.Fatalf("%d commands: %q", len(commands), commands)
	}
	for i, c := range commands {
		c = regexp.MustCompile(`127\.0\.0\.1:(\d+)`).ReplaceAllStringFunc(c, func(at string) string {
			var port int
			fmt.Sscanf(at, "127.0.0.1:%d", &port)
			return fmt.Sprintf("127.0.0.1:%d", port+offset)
		})
		if out := succeed(t, nil, "", "sh", "-c", c); !strings.Contains(out, wants[i]) {
			t.Errorf("%s\nsays %q, want %q", c, out, wants[i])
		}
	}
	// What is not in the blocks: the other ways to the mail, and refusals.
	succeed(t, nil, "Subject: once more\n\nx\n", "curl", "-sS", fmt.Sprintf("smtp://127.0.0.1:%d", 1587+offset), "--user", "catch@catch.test:catch",
		"--mail-from", "boss@example.org", "--mail-rcpt", "anybody@example.net", "--crlf", "-T", "-")
	for scheme, port := range map[string]int{"pop3": 1110, "imap": 1143} {
		path := map[string]string{"pop3": "/1", "imap": "/INBOX;MAILINDEX=1"}[scheme]
		out := succeed(t, nil, "", "curl", "-sS", "--user", "catch@catch.test:catch", fmt.Sprintf("%s://127.0.0.1:%d%s", scheme, port+offset, path))
		if !strings.Contains(out, "Subject: once more") {
			t.Errorf("%s shows %q", scheme, out)
		}
	}
	for to, code := range map[string]string{"temperror": "451", "permerror": "550", "421": "421", "552": "552"} {
		out, exit := execute(t, nil, "Subject: x\n\n", "curl", "-v", "-sS", fmt.Sprintf("smtp://127.0.0.1:%d", 1025+offset), "--mail-from", "a@example.org", "--mail-rcpt", to+"@example.org", "--crlf", "-T", "-")
		if exit == 0 || !strings.Contains(out, "< "+code+" ") {
			t.Errorf("%s: exit %d, %s", to, exit, out)
		}
	}
}
