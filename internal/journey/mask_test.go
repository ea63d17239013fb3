package journey

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMask(t *testing.T) {
	for line, want := range map[string]string{
		"AUTH PLAIN AGJvYgBodW5ncnk=":              "AUTH PLAIN ***",
		"auth login":                               "auth login",
		"AUTH hungry":                              "AUTH ***",
		"AUTHENTICATE SCRAM-SHA-256 biwsbj1ib":     "AUTHENTICATE SCRAM-SHA-256 ***",
		"PASS hungry":                              "PASS ***",
		"USER bob":                                 "USER bob",
		"USER bob hungry":                          "USER bob ***",
		"APOP bob 0123":                            "APOP bob ***",
		"LOGIN bob hungry":                         "LOGIN bob ***",
		"LOGIN \"bob\" \"hun gry\"":                "LOGIN \"bob\" ***",
		"LOGIN hungry":                             "LOGIN ***",
		"LOGIN {3} hungry":                         "LOGIN ***",
		"BURL imap://x;URLAUTH=a:internal:91 LAST": "BURL ***",
		"hungry":                                   "***",
		"PASSWORD hungry":                          "***",
		"":                                         "***",
		" PASS hungry":                             "***",
		"MAIL FROM:<bob@crepes.fr>":                "MAIL FROM:<bob@crepes.fr>",
		"quit":                                     "quit",
	} {
		if got := MaskCommand(line); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
	for line, want := range map[string]string{
		"334 cj1meWtv": "334 ***", "+ cj1meWtv": "+ ***", "+ idling": "+ ***", "+ Ready for it": "+ Ready for it", "334 ": "334 ",
		"235 2.7.0 ok": "235 2.7.0 ok", "* GENURLAUTH \"imap://x\"": "* GENURLAUTH ***",
	} {
		if got := MaskReply(line); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// TestMaskHidesSecrets: wherever a client or a person puts a password, alone or
// behind any verb that takes one, it is not in what is recorded.
func TestMaskHidesSecrets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := "s3" + rapid.StringMatching(`[a-zA-Z0-9+/=!§$%& ]{1,20}`).Draw(t, "secret") + "t"
		before := rapid.SampledFrom([]string{"", "PASS ", "pass ", "AUTH PLAIN ", "AUTH ", "LOGIN ", "LOGIN bob ", "login \"bob\" ",
			"AUTHENTICATE PLAIN ", "USER bob ", "APOP bob ", " PASS ", "PASS  ", "XPASS ", "LOGIN {3+}\r\nbob ", "GENURLAUTH ", "URLFETCH ",
			"BURL "}).Draw(t, "before")
		if got := MaskCommand(before + secret); strings.Contains(got, secret) {
			t.Errorf("%q shows %q", before+secret, got)
		}
	})
}

// TestPlain: what would write elsewhere on a terminal does not.
func TestPlain(t *testing.T) {
	for line, want := range map[string]string{
		"250 2.0.0 ok": "250 2.0.0 ok", "crêpes": "crêpes", "a\x1b[2Jb\x7f": "a?[2Jb?", "a\u0085b": "a?b", "a\xffb": "a?b", "é\x00": "é?",
	} {
		if got := Plain(line); got != want {
			t.Errorf("%q is %q, want %q", line, got, want)
		}
	}
}
