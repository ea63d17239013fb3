package search

import (
	"context"
	"errors"

	"postrider/mailstore"
	"postrider/mailstore/sqlite"
)

// Hits is what the index knows of one key: the messages are numbered as in the
// list that was given. Of a message of which it is neither Found nor Absent the
// index does not know; Match does. The zero value knows nothing.
type Hits struct{ found, absent *bitset }

// Found tells that the key is in the message.
func (h Hits) Found(i int) bool { return h.found != nil && h.found.has(i) }

// Absent tells that it is not.
func (h Hits) Absent(i int) bool { return h.absent != nil && h.absent.has(i) }

// Lookup tells for each key in which messages of a mailbox it is; uids, which
// are in order, are those that the caller wants to know of. It never fails: what
// the index can not say, because it has not come so far or is out of order, it
// does not know.
func (x *Index) Lookup(ctx context.Context, a mailstore.AccountID, m mailstore.MailboxID, uids []mailstore.UID, keys []Key) []Hits {
	hits := make([]Hits, len(keys))
	select {
	case x.slots <- struct{}{}:
		defer func() { <-x.slots }()
	case <-ctx.Done():
		return hits
	}
	x.open.RLock()
	defer x.open.RUnlock()
	if !x.ready || len(uids) == 0 || len(keys) == 0 {
		return hits
	}
	db, err := x.reader()
	if err != nil {
		x.log.Warn("open the search index", "error", err)
		return hits
	}
	l := &lookup{x: x, db: db}
	err = within(db, func() error { return l.all(ctx, a, m, uids, keys, hits) })
	if err == nil || ctx.Err() != nil {
		x.giveBack(db)
		return hits
	}
	err = errors.Join(err, db.Close()) // whatever state it is in
	x.log.Warn("search the index; the messages are read instead", "error", err)
	if useless(err) {
		x.damaged.Store(true)
		x.poke()
	}
	return make([]Hits, len(keys))
}

// lookup is one use of the index.
type lookup struct {
	x        *Index
	db       *sqlite.Derived
	segments []segment
	limit    int      // above the number of every document
	docs     []uint32 // of the messages, plus one; 0 = not known
}

func (l *lookup) all(ctx context.Context, a mailstore.AccountID, m mailstore.MailboxID, uids []mailstore.UID, keys []Key, hits []Hits) error {
	b, err := readBox(l.db, m)
	if err != nil || b == nil || b.account != a {
		return err
	}
	if l.segments, err = segments(l.db, a); err != nil {
		return err
	}
	if n := len(l.segments); n > 0 {
		l.limit = int(l.segments[n-1].hi)
	}
	if err := l.place(m, uids); err != nil {
		return err
	}
	for i, k := range keys[:min(len(keys), maxLooked)] {
		if err := ctx.Err(); err != nil {
			return err
		}
		found, unsure, err := l.key(k)
		if err != nil {
			return err
		}
		h := Hits{newBitset(len(uids)), newBitset(len(uids))}
		for i, d := range l.docs {
			switch {
			case d == 0:
			case found.has(int(d - 1)):
				h.found.add(i)
			case !unsure.has(int(d - 1)):
				h.absent.add(i)
			}
		}
		hits[i] = h
	}
	return nil
}

// place finds the documents of the messages.
func (l *lookup) place(m mailstore.MailboxID, uids []mailstore.UID) error {
	l.docs = make([]uint32, len(uids))
	var ids []int64
	err := l.db.Query("SELECT id FROM place WHERE mailbox = ? ORDER BY first", args(int64(m)), func(r sqlite.Row) bool {
		ids = append(ids, r.Int(0))
		return true
	})
	if err != nil {
		return err
	}
	i := 0
	for _, id := range ids {
		v, err := l.x.cache.get(cacheKey{true, id}, func() (any, int, error) {
			p, err := readPlaces(l.db, id)
			if err != nil {
				return nil, 0, err
			}
			return p, p.size(), nil
		})
		if err != nil {
			return err
		}
		p := v.(*places)
		for j, uid := range p.uids {
			for i < len(uids) && uids[i] < uid {
				i++
			}
			if i == len(uids) {
				return nil
			}
			if uids[i] == uid && int(p.docs[j]) < l.limit {
				l.docs[i] = p.docs[j] + 1
			}
		}
	}
	return nil
}

// answer collects the documents for one key.
type answer struct {
	found, unsure *bitset // of the account
	base          int     // the first document of the segment in hand
	docs          int     // of the segment
}

// key finds the documents that have a key and those that may have it.
func (l *lookup) key(k Key) (found, unsure *bitset, err error) {
	a := &answer{found: newBitset(l.limit), unsure: newBitset(l.limit)}
	for _, s := range l.segments {
		a.base, a.docs = int(s.lo), s.docs()
		if err := l.inSegment(k, s, a); err != nil {
			return nil, nil, err
		}
	}
	return a.found, a.unsure, nil
}

// all makes set hold every document of the segment.
func (a *answer) all(set *bitset) {
	for d := range a.docs {
		set.add(a.base + d)
	}
}

// take makes set hold also those of part, which is of the segment.
func (a *answer) take(set, part *bitset) { set.or(part, a.base) }

// inSegment answers for the documents of one segment.
func (l *lookup) inSegment(k Key, s segment, a *answer) error {
	switch {
	case k.field < Header:
		return l.inValues(k, s, a)
	case k.field == Header:
		// The name is a word, or several, of the field, as its text is.
		name, _ := wordsOf(" " + k.name + ":")
		text, _ := k.words()
		return l.inWords(append(name, text...), s, headWords, a)
	case k.text == "":
		a.all(a.found)
		return nil
	}
	words, alone := k.words()
	columns := []columnKind{bodyWords}
	if k.field == Text {
		columns = append(columns, headWords)
	}
	if alone {
		return l.inWord(words[0], s, columns, a)
	}
	for _, kind := range columns {
		if err := l.inWords(words, s, kind, a); err != nil {
			return err
		}
	}
	return nil
}

// words are the words of the key's text; see wordsOf.
func (k *Key) words() (list []piece, alone bool) {
	list, alone = wordsOf(k.text)
	for i := range list {
		list[i].fuzzy = k.fuzzy
	}
	return list, alone
}

// inWord looks for a key that is all in one word.
func (l *lookup) inWord(word piece, s segment, columns []columnKind, a *answer) error {
	part := newBitset(s.docs())
	for _, kind := range columns {
		c, err := l.column(s, kind)
		if err != nil {
			return err
		}
		if c == nil || part.n == c.docs {
			continue
		}
		if err := c.having(word, part); err != nil {
			return err
		}
		if err := c.unsure(a, word.fuzzy); err != nil {
			return err
		}
	}
	a.take(a.found, part)
	return nil
}

// inValues looks for a text in the values of a header field.
func (l *lookup) inValues(k Key, s segment, a *answer) error {
	c, err := l.column(s, columnKind(k.field))
	if err != nil || c == nil {
		return err
	}
	set, text := a.found, k.text
	if len(text) > maxInside {
		set, text = a.unsure, text[:maxInside]
	}
	part := newBitset(c.docs)
	if err := c.having(piece{text: text, fuzzy: k.fuzzy}, part); err != nil {
		return err
	}
	a.take(set, part)
	return c.unsure(a, k.fuzzy)
}

// inWords looks for documents that have all words of a key, and so may have it.
func (l *lookup) inWords(words []piece, s segment, k columnKind, a *answer) error {
	if len(words) == 0 {
		a.all(a.unsure)
		return nil
	}
	c, err := l.column(s, k)
	if err != nil || c == nil {
		return err
	}
	var all *bitset
	for _, p := range words {
		part := newBitset(c.docs)
		if err := c.having(p, part); err != nil {
			return err
		}
		if all == nil {
			all = part
		} else {
			all.and(part)
		}
		if all.n == 0 {
			break
		}
	}
	a.take(a.unsure, all)
	return c.unsure(a, words[len(words)-1].fuzzy)
}

// openColumn is a column with its lists.
type openColumn struct {
	*column
	lists   *listReader
	docs    int // of the segment
	longest int // octets of a term; a longer one is kept in pieces
}

// column opens a column; nil where the segment has none.
func (l *lookup) column(s segment, k columnKind) (*openColumn, error) {
	id := columnID(s.id, k)
	v, err := l.x.cache.get(cacheKey{false, id}, func() (any, int, error) {
		c, err := readColumn(l.db, id)
		if err != nil || c == nil {
			return (*column)(nil), 64, err
		}
		return c, c.size(), nil
	})
	if err != nil || v.(*column) == nil {
		return nil, err
	}
	longest := maxValue
	if k >= headWords {
		longest = maxWord
	}
	return &openColumn{v.(*column), newListReader(l.db, id), s.docs(), longest}, nil
}

// having adds the documents with a term that p stands for to set. It ends when
// there is none left to add, and so begins with the terms that many have.
func (c *openColumn) having(p piece, set *bitset) error {
	var err error
	var rare []int
	c.terms(p, func(term int) bool {
		if from, to := c.list(term); int(to-from) < c.docs/64 {
			rare = append(rare, term)
			return true
		}
		err = c.read(term, set)
		return err == nil && set.n < c.docs
	})
	for _, term := range rare {
		if err != nil || set.n == c.docs {
			break
		}
		err = c.read(term, set)
	}
	return err
}

func (c *openColumn) read(term int, set *bitset) error {
	list, err := c.lists.read(c.list(term))
	if err != nil {
		return err
	}
	return addList(list, c.docs, set)
}

// unsure notes the documents whose text the column has not in full, or not so
// that a fuzzy key is sure to be found in it.
func (c *openColumn) unsure(a *answer, fuzzy bool) error {
	set := newBitset(c.docs)
	err := c.having(piece{text: partial, left: true, right: true}, set)
	if err == nil && fuzzy {
		err = c.cut(set)
	}
	if err == nil {
		a.take(a.unsure, set)
	}
	return err
}
