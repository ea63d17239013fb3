package smtpd

import (
	"strings"
	"testing"
	"time"

	"postrider/internal/clock"
)

// TestHostileAuthors: the largest header that is taken, made to be hard to
// read, is judged in little time.
func TestHostileAuthors(t *testing.T) {
	const bound = time.Second
	for name, piece := range map[string]string{
		"comments":        "(",
		"closed":          "()",
		"quotes":          `"`,
		"escapes":         `"\"`,
		"angles":          "<",
		"lists":           "a@b.org,",
		"commas":          ",",
		"groups":          "a:",
		"empty groups":    "a:;,",
		"words":           "a ",
		"dots":            "a.",
		"ats":             "a@",
		"encoded words":   "=?utf-8?q?a?= ",
		"one word":        "=?utf-8?q?" + strings.Repeat("=41", 1000) + "?= ",
		"literals":        "a@[1.2.3.4],",
		"open literals":   "a@[",
		"folds":           "\r\n ",
		"wide":            "é",
		"encoded charset": "=?x?b?" + strings.Repeat("AAAA", 100) + "?= ",
	} {
		header := "From: " + strings.Repeat(piece, (maxHeader-100)/len(piece)) + "\r\n\r\n"
		begin := clock.Processor()
		_, authors, r := (&submission{}).apply([]byte(header))
		if took := clock.Processor() - begin; took > bound {
			t.Errorf("%s: %v", name, took)
		}
		if r == nil && len(authors) > maxAuthors {
			t.Errorf("%s: %d authors", name, len(authors))
		}
	}
}

func TestAuthorLimit(t *testing.T) {
	fields := func(n int) []byte {
		return []byte("From: " + strings.Repeat("a@b.org, ", n-2) + "a@b.org\r\nSender: a@b.org\r\n\r\n")
	}
	if _, authors, r := (&submission{}).apply(fields(maxAuthors)); r != nil || len(authors) != maxAuthors {
		t.Errorf("%d authors, %v", len(authors), r)
	}
	if _, _, r := (&submission{}).apply(fields(maxAuthors + 1)); r == nil || r.Code != 550 {
		t.Errorf("one more: %v", r)
	}
}
