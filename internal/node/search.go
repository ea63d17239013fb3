package node

import (
	"context"
	"errors"
	"path/filepath"
	"sync"

	"postrider/imap"
	"postrider/mailstore"
	"postrider/mailstore/search"
)

// searching is the search index of a node. A server has one from the start; a
// node that only carries out a command opens one when it is asked for.
type searching struct {
	mu     sync.Mutex
	index  *search.Index // nil without one
	closed bool
}

// open opens the index, where it is not open, and gives it.
func (s *searching) open(n *Node) (*search.Index, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, errClosed
	case s.index != nil:
		return s.index, nil
	}
	s.index = search.Open(n.Store, search.Options{
		Path:    s.path(n),
		Low:     n.low,
		Clock:   n.options.Clock,
		Log:     n.log,
		Metrics: n.metrics.search(),
	})
	x := s.index
	n.metrics.gauge("search_documents", "Messages in the search index, each body once for an account.",
		func() float64 { return float64(x.Status().Documents) })
	n.metrics.gauge("search_waiting", "Messages that are not indexed yet; searches read them.",
		func() float64 { return float64(x.Status().Waiting) })
	return x, nil
}

// path is where the index is.
func (*searching) path(n *Node) string { return filepath.Join(n.options.DataDir, "search.db") }

// verify checks the index, without opening one for that.
func (s *searching) verify(ctx context.Context, n *Node, found func(search.Damage)) error {
	s.mu.Lock()
	x := s.index
	s.mu.Unlock()
	if x != nil {
		return x.Verify(ctx, found)
	}
	return search.Verify(ctx, n.Store, s.path(n), found)
}

// searcher is what the IMAP server asks; nil without an index.
func (s *searching) searcher() imap.Searcher {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.index == nil {
		return nil
	}
	return s.index
}

// close ends the index; it must come before the end of the store.
func (s *searching) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.index != nil {
		s.index.Close()
	}
}

// SearchStatus is the state of the search index.
type SearchStatus struct {
	Documents int64  `json:"documents"` // messages in it, each body once for an account
	Waiting   int64  `json:"waiting"`   // messages that are to be indexed
	Done      int64  `json:"done"`      // messages that were passed since the start
	Trouble   string `json:"trouble"`   // why nothing is indexed now; "" = nothing is wrong
}

func statusOf(s search.Status) SearchStatus {
	return SearchStatus{Documents: s.Documents, Waiting: s.Waiting, Done: s.Done, Trouble: s.Trouble}
}

// Reindex makes the index of an account, or with "" the whole, anew. It returns
// when that has begun, with the state at that moment.
func (a *Admin) Reindex(address string, reply *SearchStatus) (err error) {
	ctx, end := a.command(&err)
	defer end()
	if !a.n.options.SearchIndex {
		return errors.New("there is no search index: [search] index is false in the configuration")
	}
	var account mailstore.AccountID
	if address != "" {
		acct, err := a.n.Directory.Account(ctx, address)
		if err != nil {
			return err
		}
		account = acct.ID
	}
	x, err := a.n.searching.open(a.n)
	if err != nil {
		return err
	}
	s, err := x.Reindex(ctx, account)
	if err != nil {
		if s.Trouble != "" {
			return errors.New("the search index cannot be made: " + s.Trouble)
		}
		return err
	}
	*reply = statusOf(s)
	return nil
}

// SearchStatus tells how far the index is.
func (a *Admin) SearchStatus(_ None, reply *SearchStatus) (err error) {
	_, end := a.command(&err)
	defer end()
	x, err := a.n.searching.open(a.n)
	if err != nil {
		return err
	}
	*reply = statusOf(x.Status())
	return nil
}
