package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"postrider/mailstore"
)

// marksPerRow is how many marks one setting of the store holds. A commit writes
// the last row, and the next ones where it is full.
const marksPerRow = 512

// markRows is where the marks of one folder are kept: settings of the store
// whose keys count up.
type markRows struct {
	prefix string
	next   int    // the number of the last row
	last   []byte // its marks
}

// marksIndex is the key of the list of an account's folders: what stands between
// ACCOUNT and NUMBER in the keys of their rows, a line each.
func marksIndex(a mailstore.AccountID) string { return fmt.Sprintf("import/%d", a) }

// marksPrefix is the key of a folder's marks without the number.
func marksPrefix(a mailstore.AccountID, r importRequest, f folderRequest) string {
	h := sha256.New()
	for _, s := range []string{r.Source, r.Mailbox, f.Folder, f.Validity} {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return fmt.Sprintf("import/%d/%s/", a, hex.EncodeToString(h.Sum(nil)[:16]))
}

func (m *markRows) key(n int) string { return fmt.Sprintf("%s%06d", m.prefix, n) }

// load reads all rows and gives their marks to fn.
func (m *markRows) load(ctx context.Context, s *mailstore.Store, fn func([]byte) error) error {
	m.next, m.last = 0, nil
	for n := 0; ; n++ {
		var row []byte
		err := s.View(ctx, func(v *mailstore.View) (err error) {
			row, err = v.Setting(m.key(n))
			return err
		})
		if errors.Is(err, mailstore.ErrNotFound) || err == nil && len(row) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if len(row)%len(Mark{}) != 0 {
			return fmt.Errorf("the store's record of the import is damaged (%s)", m.key(n))
		}
		m.next, m.last = n, append([]byte(nil), row...)
		if err := fn(row); err != nil {
			return err
		}
	}
}

// add puts marks behind the others, and returns the rows as they are then.
func (m *markRows) add(tx *mailstore.Tx, marks []Mark) (*markRows, error) {
	now := &markRows{prefix: m.prefix, next: m.next, last: append([]byte(nil), m.last...)}
	if len(m.last) == 0 && len(marks) > 0 {
		if err := m.list(tx); err != nil {
			return nil, err
		}
	}
	for len(marks) > 0 {
		if len(now.last) >= marksPerRow*len(Mark{}) {
			now.next++
			now.last = nil
		}
		n := min(len(marks), marksPerRow-len(now.last)/len(Mark{}))
		for _, mark := range marks[:n] {
			now.last = append(now.last, mark[:]...)
		}
		marks = marks[n:]
		if err := tx.PutSetting(now.key(now.next), now.last); err != nil {
			return nil, err
		}
	}
	return now, nil
}

// list adds the folder to the account's list.
func (m *markRows) list(tx *mailstore.Tx) error {
	account, folder, _ := strings.Cut(strings.TrimPrefix(m.prefix, "import/"), "/")
	key := "import/" + account
	all, err := tx.Setting(key)
	if err != nil && !errors.Is(err, mailstore.ErrNotFound) {
		return err
	}
	if strings.Contains(string(all), folder) {
		return nil
	}
	return tx.PutSetting(key, append(bytes.Clone(all), folder+"\n"...))
}

// ForgetAccount removes what the store keeps of the imports of an account that
// is gone.
func ForgetAccount(ctx context.Context, s *mailstore.Store, a mailstore.AccountID) error {
	var all []byte
	err := s.View(ctx, func(v *mailstore.View) (err error) {
		all, err = v.Setting(marksIndex(a))
		return err
	})
	if errors.Is(err, mailstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for folder := range strings.Lines(string(all)) {
		rows := &markRows{prefix: marksIndex(a) + "/" + strings.TrimSuffix(folder, "\n")}
		if err := rows.load(ctx, s, func([]byte) error { return nil }); err != nil {
			return err
		}
		if err := rows.forget(ctx, s); err != nil {
			return err
		}
	}
	return s.Update(ctx, func(tx *mailstore.Tx) error { return tx.PutSetting(marksIndex(a), nil) })
}

// forget removes all rows.
func (m *markRows) forget(ctx context.Context, s *mailstore.Store) error {
	err := s.Update(ctx, func(tx *mailstore.Tx) error {
		for n := m.next; n >= 0; n-- {
			if err := tx.PutSetting(m.key(n), nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		m.next, m.last = 0, nil
	}
	return err
}
