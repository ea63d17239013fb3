package mailstore

import (
	"cmp"
	"context"
	"slices"
)

// Opened is a message open for reading, or the reason why it is not: an error of
// OpenMessage.
type Opened struct {
	Content
	Err error
}

// OpenMessages opens messages from the beginning of a list, read in one snapshot:
// as many as take about that many octets of memory, at least one. The caller closes
// those that have no error. Where OpenMessages itself has one, there are none.
func (s *Store) OpenMessages(ctx context.Context, list []Message, octets int64) ([]Opened, error) {
	n := 0
	for held := int64(0); n < len(list); n++ {
		if held += inMemory(&list[n]); n > 0 && held > octets {
			break
		}
	}
	list = list[:n]
	snap, err := s.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	rows := make([]textRow, len(list))
	readTexts(snap, list, rows)
	snap.Close()
	opened := make([]Opened, len(list))
	for i := range list {
		if err := rows[i].err; err != nil {
			opened[i].Err = err
		} else {
			opened[i].Content, opened[i].Err = s.content(ctx, rows[i].BodyRow, list[i].Prefix)
		}
	}
	return opened, nil
}

// inMemory is what an open message takes: of one in a file a chunk.
func inMemory(m *Message) int64 { return min(m.Size, ChunkSize+MaxPrefix) }

// textRow is a body's row, or why it could not be read.
type textRow struct {
	BodyRow
	err error
}

// readTexts reads the rows of messages' bodies. Those that stand side by side are
// read in one go, and what that did not find by itself: what is damaged among them
// may hide the others.
func readTexts(r Reader, list []Message, rows []textRow) {
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
		rows[i].err = ErrNotFound
	}
	byBody := func(a, b int) int { return cmp.Compare(list[a].Body, list[b].Body) }
	if !slices.IsSortedFunc(order, byBody) {
		slices.SortFunc(order, byBody)
	}
	for len(order) > 0 {
		n := 1
		for n < len(order) && list[order[n]].Body-list[order[n-1]].Body <= 1 {
			n++
		}
		if err := readRun(r, list, rows, order[:n]); err != nil && n == 1 {
			rows[order[0]].err = err
		}
		for i := 0; n > 1 && i < n; i++ {
			row := &rows[order[i]]
			if row.err != nil {
				row.BodyRow, row.err = bodyText(r, list[order[i]].Body)
			}
		}
		order = order[n:]
	}
}

// readRun reads the rows of the messages in run, whose bodies are neighbours.
func readRun(r Reader, list []Message, rows []textRow, run []int) error {
	return r.BodyTexts(list[run[0]].Body, list[run[len(run)-1]].Body, func(b BodyRow) bool {
		for len(run) > 0 && list[run[0]].Body < b.ID {
			run = run[1:]
		}
		for len(run) > 0 && list[run[0]].Body == b.ID {
			rows[run[0]] = textRow{BodyRow: b}
			run = run[1:]
		}
		return true
	})
}

// bodyText reads the row of one body.
func bodyText(r Reader, id BodyID) (BodyRow, error) {
	var row BodyRow
	found := false
	err := r.BodyTexts(id, id, func(b BodyRow) bool {
		row, found = b, true
		return false
	})
	if err == nil && !found {
		err = ErrNotFound
	}
	return row, err
}
