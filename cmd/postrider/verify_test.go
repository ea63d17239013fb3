package main

import (
	"bytes"
	"testing"

	"postrider/internal/node"
	"postrider/mailstore"
)

// TestVerifyTells: files that no row names are counted and no damage; a folder of
// bodies that cannot be read is.
func TestVerifyTells(t *testing.T) {
	orphan := mailstore.Finding{Kind: "file", Text: "no row names body file 1"}
	for _, c := range []struct {
		findings []mailstore.Finding
		want     string
		fails    bool
	}{
		{nil, "ok: 3 messages, 2 bodies (5 octets)\n", false},
		{[]mailstore.Finding{orphan, orphan}, "ok: 3 messages, 2 bodies (5 octets)\n2 files in bodies that no row names: the next start removes them\n", false},
		{[]mailstore.Finding{{Kind: "file", Text: "the folder of bodies: I/O error", Lost: true}},
			"damaged: 3 messages, 2 bodies (5 octets); 1 lost, or not to be mended from here\nLOST: file: the folder of bodies: I/O error\n", true},
		{[]mailstore.Finding{{Kind: "usage", Text: "a"}, {Kind: "block", Text: "b", Repaired: true}, orphan},
			"damaged: 3 messages, 2 bodies (5 octets); 1 repaired; 1 can be repaired with --repair\nusage: a\nrepaired: block: b\n1 files in bodies that no row names: the next start removes them\n", true},
	} {
		var out bytes.Buffer
		err := (&verifyCmd{}).tell(&env{stdout: &out}, c.findings, &node.VerifyState{Messages: 3, Bodies: 2, Done: 5})
		if out.String() != c.want || (err != nil) != c.fails {
			t.Errorf("%v\n%s", err, out.String())
		}
	}
}
