package search

import (
	"bytes"
	"slices"

	"postrider/mailstore/sqlite"
)

// segment is the index of the documents lo to hi-1 of an account.
type segment struct {
	id     int64
	lo, hi int64
	size   int64 // octets
}

func (s segment) docs() int { return int(s.hi - s.lo) }

const (
	listChunk   = 64 << 10 // octets of lists in one row
	chunkBits   = 20       // of the number of a chunk in its row's id
	columnsBits = 3        // of the kind of a column in its row's id
)

func columnID(segment int64, k columnKind) int64 { return segment<<columnsBits | int64(k) }

// segmentWriter writes a new segment of size documents, column by column.
type segmentWriter struct {
	db    *sqlite.Derived
	id    int64
	docs  int
	kind  columnKind
	terms columnWriter
	first []byte // the chunk that stands beside the terms
	chunk []byte // the chunk in hand
	no    int    // of it
	list  []byte
	size  int64 // octets written
}

func (w *segmentWriter) begin(k columnKind) {
	w.kind, w.no = k, 0
	w.first, w.chunk = nil, w.chunk[:0]
	w.terms = columnWriter{}
}

// put adds the next term with its documents, both in order.
func (w *segmentWriter) put(term []byte, docs []uint32) error {
	w.list = appendList(w.list[:0], docs, w.docs)
	return w.putList(term)
}

// putList adds the next term with w.list, the list of its documents.
func (w *segmentWriter) putList(term []byte) error {
	w.terms.put(term, len(w.list))
	for b := w.list; len(b) > 0; {
		n := min(len(b), listChunk-len(w.chunk))
		w.chunk = append(w.chunk, b[:n]...)
		b = b[n:]
		if len(w.chunk) == listChunk {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *segmentWriter) flush() error {
	data := seal(slices.Clone(w.chunk))
	w.chunk = w.chunk[:0]
	w.no++
	w.size += int64(len(data))
	if w.no == 1 {
		w.first = data
		return nil
	}
	_, err := w.db.Exec("INSERT INTO chunk(id, data) VALUES(?, ?)", columnID(w.id, w.kind)<<chunkBits|int64(w.no-1), data)
	return err
}

// end writes the column, unless there is nothing in it.
func (w *segmentWriter) end() error {
	if w.terms.count == 0 {
		return nil
	}
	if len(w.chunk) > 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	terms := w.terms.finish()
	w.size += int64(len(terms))
	_, err := w.db.Exec("INSERT INTO part(id, lists, terms) VALUES(?, ?, ?)", columnID(w.id, w.kind), w.first, terms)
	return err
}

// readColumn reads the terms of a column; nil where the segment has none.
func readColumn(db *sqlite.Derived, id int64) (*column, error) {
	var c *column
	var bad error
	err := db.Query("SELECT terms FROM part WHERE id = ?", args(id), func(r sqlite.Row) bool {
		c, bad = decodeColumn(r.Blob(0))
		return false
	})
	if err == nil {
		err = bad
	}
	return c, err
}

// listReader reads the lists of one column.
type listReader struct {
	db    *sqlite.Derived
	id    int64 // of the column
	no    int64 // of the chunk in hand
	chunk []byte
	buf   []byte
}

func newListReader(db *sqlite.Derived, id int64) *listReader {
	return &listReader{db: db, id: id, no: -1}
}

// read returns the octets from..to of the stream, good until the next call.
func (l *listReader) read(from, to uint32) ([]byte, error) {
	l.buf = l.buf[:0]
	for {
		if err := l.load(int64(from) / listChunk); err != nil {
			return nil, err
		}
		at := int(from % listChunk)
		n := min(int(to-from), listChunk-at)
		if at+n > len(l.chunk) {
			return nil, errDamaged
		}
		if len(l.buf) == 0 && n == int(to-from) {
			return l.chunk[at : at+n], nil
		}
		l.buf = append(l.buf, l.chunk[at:at+n]...)
		if from += uint32(n); from == to {
			return l.buf, nil
		}
	}
}

func (l *listReader) load(no int64) error {
	if l.no == no {
		return nil
	}
	query, id := "SELECT lists FROM part WHERE id = ?", l.id
	if no > 0 {
		query, id = "SELECT data FROM chunk WHERE id = ?", l.id<<chunkBits|no
	}
	bad := errDamaged // where there is no such row
	err := l.db.Query(query, args(id), func(r sqlite.Row) bool {
		l.chunk, bad = unseal(r.Blob(0))
		return false
	})
	if err == nil {
		err = bad
	}
	l.no = no
	if err != nil {
		l.no = -1
	}
	return err
}

// source is a column that is merged.
type source struct {
	*column
	lists *listReader
	docs  int // of its segment
	base  int // its first document in the merged segment
	at    int // the term in hand
}

// merge writes one segment with the documents of several, which are neighbours
// and in order; of documents that are not in live, unless that is nil, nothing
// is left. Numbers in live are those of the merged segment.
func merge(w *segmentWriter, from []segment, live *bitset) error {
	for k := range columnKinds {
		var sources []*source
		for _, s := range from {
			id := columnID(s.id, k)
			c, err := readColumn(w.db, id)
			if err != nil {
				return err
			}
			if c != nil && c.len() > 0 {
				sources = append(sources, &source{column: c, lists: newListReader(w.db, id), docs: s.docs(), base: int(s.lo - from[0].lo)})
			}
		}
		w.begin(k)
		if err := mergeColumns(w, sources, live); err != nil {
			return err
		}
		if err := w.end(); err != nil {
			return err
		}
	}
	return nil
}

func mergeColumns(w *segmentWriter, sources []*source, live *bitset) error {
	join := newJoined(w.docs, live)
	for len(sources) > 0 {
		least := sources[0].term(sources[0].at)
		for _, s := range sources[1:] {
			if t := s.term(s.at); bytes.Compare(t, least) < 0 {
				least = t
			}
		}
		left := sources[:0]
		for _, s := range sources {
			if bytes.Equal(s.term(s.at), least) {
				list, err := s.lists.read(s.list(s.at))
				if err == nil {
					err = join.add(list, s.docs, s.base)
				}
				if err != nil {
					return err
				}
				s.at++
			}
			if s.at < s.len() {
				left = append(left, s)
			}
		}
		list, empty, err := join.append(w.list[:0])
		w.list = list
		if err == nil && !empty {
			err = w.putList(least)
		}
		if err != nil {
			return err
		}
		sources = left
	}
	return nil
}

// dropSegment removes a segment's rows.
func dropSegment(db *sqlite.Derived, id int64) error {
	lo, hi := columnID(id, 0), columnID(id, columnKinds-1)
	if _, err := db.Exec("DELETE FROM chunk WHERE id BETWEEN ? AND ?", lo<<chunkBits, (hi+1)<<chunkBits-1); err != nil {
		return err
	}
	if _, err := db.Exec("DELETE FROM part WHERE id BETWEEN ? AND ?", lo, hi); err != nil {
		return err
	}
	_, err := db.Exec("DELETE FROM segment WHERE id = ?", id)
	return err
}
