package mailstore_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"postrider/mailstore"
)

// TestKeywordsChange: however often the keywords of a message change, the block
// that it is in stays readable, and a mailbox tells only keywords that are there.
func TestKeywordsChange(t *testing.T) {
	f := setUp(t)
	last := ""
	for i := range mailstore.MaxBlock + 10 {
		last = fmt.Sprintf("k%d", i)
		f.must(f.update(func(tx *mailstore.Tx) error {
			_, _, err := tx.SetFlags(f.inbox, []mailstore.UID{1}, mailstore.ReplaceFlags, mailstore.Flags{Keywords: []string{last}}, 0)
			return err
		}))
	}
	f.must(f.store.View(context.Background(), func(v *mailstore.View) error {
		m, err := v.Message(f.inbox, 1)
		if err != nil {
			return err
		}
		s, err := v.Select(f.inbox)
		if err == nil && (!slices.Equal(m.Flags.Keywords, []string{last}) || !slices.Equal(s.Keywords, m.Flags.Keywords)) {
			t.Errorf("the message has %q, the mailbox %q", m.Flags.Keywords, s.Keywords)
		}
		return err
	}))
}
