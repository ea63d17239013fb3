package journey

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// TestOfSession: the first letter tells which kinds are of sessions, of all that
// there are.
func TestOfSession(t *testing.T) {
	source, err := os.ReadFile("kind.go")
	if err != nil {
		t.Fatal(err)
	}
	kinds := regexp.MustCompile(`Kind = "(([a-z0-9]+)\.[a-z]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(kinds) < 30 {
		t.Fatalf("%d kinds", len(kinds))
	}
	for _, k := range kinds {
		want := slices.Contains([]string{"session", "smtp", "pop3", "imap", "nameserver", "zone"}, k[2])
		if got := Kind(k[1]).OfSession(); got != want {
			t.Errorf("%s: %v", k[1], got)
		}
	}
	if Kind("").OfSession() {
		t.Error("a kind without a name")
	}
}
