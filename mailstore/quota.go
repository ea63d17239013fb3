package mailstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
)

// ErrQuota: an account has no room for what was to be added. The error is a
// *QuotaError.
var ErrQuota = errors.New("over quota")

// Usage is what an account holds, in all its mailboxes: a copy counts like the
// message that it was made of.
type Usage struct {
	Storage  int64 // octets: the sum of its messages' sizes
	Messages int64
}

func (u Usage) plus(v Usage) Usage {
	return Usage{u.Storage + v.Storage, u.Messages + v.Messages}
}

// Unlimited, as a limit of a Quota, sets none, whatever the default is.
const Unlimited = -1

// Quota bounds the Usage of an account. A limit is above 0, or Unlimited, or 0
// for that of the next in line: the account's own, its domain's, the store's
// default, none.
type Quota struct {
	Storage  int64 // octets
	Messages int64
}

// or fills in from d what q leaves open.
func (q Quota) or(d Quota) Quota {
	if q.Storage == 0 {
		q.Storage = d.Storage
	}
	if q.Messages == 0 {
		q.Messages = d.Messages
	}
	return q
}

// clean has Unlimited for every limit that is below 0.
func (q Quota) clean() Quota {
	return Quota{max(q.Storage, Unlimited), max(q.Messages, Unlimited)}
}

// allows tells whether more may be added to u.
func (q Quota) allows(u, more Usage) bool {
	return fits(u.Storage, more.Storage, q.Storage) && fits(u.Messages, more.Messages, q.Messages)
}

// fits tells whether used and more are within limit together. What adds nothing
// fits always.
func fits(used, more, limit int64) bool {
	return limit <= 0 || more <= 0 || used <= limit && more <= limit-used
}

// Nearly tells whether u has reached 90 % of a limit.
func (q Quota) Nearly(u Usage) bool {
	high := func(used, limit int64) bool { return limit > 0 && used >= limit-limit/10 }
	return high(u.Storage, q.Storage) || high(u.Messages, q.Messages)
}

// QuotaError tells why something could not be added.
type QuotaError struct {
	Account AccountID
	Usage   Usage // before it
	Quota   Quota // in force
	More    Usage // what was to be added
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("account %d has %d octets in %d messages of %d in %d, no room for %d in %d", e.Account,
		e.Usage.Storage, e.Usage.Messages, e.Quota.Storage, e.Quota.Messages, e.More.Storage, e.More.Messages)
}

func (e *QuotaError) Is(target error) bool { return target == ErrQuota }

// Room is the size of the largest message that would fit; 0 = none does.
func (e *QuotaError) Room() int64 {
	switch {
	case !fits(e.Usage.Messages, 1, e.Quota.Messages):
		return 0
	case e.Quota.Storage <= 0:
		return math.MaxInt64
	}
	return max(0, e.Quota.Storage-e.Usage.Storage)
}

// quotas is what the writer remembers of accounts, as the transaction in hand
// sees it.
type quotas struct {
	used   map[AccountID]Usage
	dirty  map[AccountID]bool // newer in used than in the engine
	limits map[AccountID]bound
}

// bound is the quota of an account, or of its domain; the store's default is
// left out.
type bound struct {
	limit   Quota
	address string
}

func (q *quotas) init() {
	q.used = make(map[AccountID]Usage)
	q.dirty = make(map[AccountID]bool)
	q.limits = make(map[AccountID]bound)
}

func (q *quotas) forget() {
	clear(q.used)
	clear(q.dirty)
	clear(q.limits)
}

// trim keeps its memory bounded.
func (q *quotas) trim() {
	if len(q.used) > maxCached || len(q.limits) > maxCached {
		clear(q.used)
		clear(q.limits)
	}
}

// spent gives what flush wrote, and forgets that it is new.
func (q *quotas) spent() map[AccountID]Usage {
	spent := make(map[AccountID]Usage, len(q.dirty))
	for a := range q.dirty {
		spent[a] = q.used[a]
	}
	clear(q.dirty)
	return spent
}

// flush writes usages at the end of a batch.
func (q *quotas) flush(w Writer) error {
	for a := range q.dirty {
		if err := w.PutUsage(a, q.used[a]); err != nil {
			return err
		}
	}
	return nil
}

// used is the account's usage as the transaction sees it.
func (tx *Tx) used(a AccountID) (Usage, error) {
	if u, ok := tx.usage[a]; ok {
		return u, nil
	}
	if u, ok := tx.b.s.state.quotas.used[a]; ok {
		return u, nil
	}
	u, err := tx.r.Usage(a)
	if err == nil {
		tx.b.s.state.quotas.used[a] = u
	}
	return u, tx.fail(err)
}

// spend adds to the account's usage, or takes from it. It judges nothing.
func (tx *Tx) spend(a AccountID, more Usage) error {
	u, err := tx.used(a)
	if err != nil {
		return err
	}
	if err := tx.begin(); err != nil {
		return err
	}
	if tx.usage == nil {
		tx.usage = make(map[AccountID]Usage)
	}
	tx.usage[a] = u.plus(more)
	return nil
}

// limit is the account's quota in force.
func (tx *Tx) limit(a AccountID) (Quota, error) {
	st := &tx.b.s.state.quotas
	b, ok := st.limits[a]
	if !ok {
		var err error
		if b, err = boundOf(tx.r, a); err != nil {
			return Quota{}, tx.fail(err)
		}
		st.limits[a] = b
	}
	return b.limit.or(tx.b.s.defaultQuota()), nil
}

// boundOf reads the quota of an account, or its domain's.
func boundOf(r Reader, a AccountID) (bound, error) {
	account, err := r.Account(a)
	if err != nil {
		return bound{}, err
	}
	d, err := r.Domain(account.domain())
	if err != nil && !errors.Is(err, ErrNotFound) {
		return bound{}, err
	}
	return bound{account.Quota.or(d.Quota), account.Address}, nil
}

// space is ErrFull while the engine keeps what space is left for deleting.
// Nothing is changed by it, so that others in the batch need not suffer.
func (tx *Tx) space() error {
	if w, ok := tx.b.w.(Spacer); ok {
		return w.Space()
	}
	return nil
}

// admit is a *QuotaError unless the account has room for more, and ErrFull
// where the disk has none.
func (tx *Tx) admit(a AccountID, more Usage) error {
	if err := tx.space(); err != nil {
		return err
	}
	limit, err := tx.limit(a)
	if err != nil {
		return err
	}
	used, err := tx.used(a)
	if err != nil {
		return err
	}
	if limit.allows(used, more) {
		return nil
	}
	if c := tx.b.s.count.Refused; c != nil {
		c.Inc()
	}
	return &QuotaError{Account: a, Usage: used, Quota: limit, More: more}
}

// touchLimits drops what is remembered of limits, when one of them changes.
func (tx *Tx) touchLimits() {
	clear(tx.b.s.state.quotas.limits)
	tx.limits = true
}

// Usage is what the account holds, and its quota in force.
func (v *View) Usage(a AccountID) (Usage, Quota, error) {
	b, err := boundOf(v.r, a)
	if err != nil {
		return Usage{}, Quota{}, err
	}
	limit := b.limit.or(v.defaults)
	if v.tx != nil {
		used, err := v.tx.used(a)
		return used, limit, err
	}
	used, err := v.r.Usage(a)
	return used, limit, err
}

// DomainQuota is the quota in force for accounts of d that set none.
func (v *View) DomainQuota(d Domain) Quota { return d.Quota.or(v.defaults) }

// UpdateDomain replaces the domain of that name, Created excepted.
func (tx *Tx) UpdateDomain(d Domain) error {
	old, err := tx.r.Domain(d.Name)
	if err != nil {
		return err
	}
	d.Created, d.Quota = old.Created, d.Quota.clean()
	tx.touchLimits()
	return tx.do(func(w Writer) error { return w.PutDomain(d) })
}

// room is what Store.Room knows without asking the engine: the accounts that
// changed lately, as they are committed.
type room struct {
	mu       sync.RWMutex
	accounts map[AccountID]standing
	full     map[AccountID]bool // that are nearly full, and were logged
	defaults Quota
}

// standing is an account's usage with its quota, the default left out.
type standing struct {
	used  Usage
	limit Quota
}

// SetQuota replaces the quota of accounts and domains that set none.
func (s *Store) SetQuota(q Quota) {
	s.room.mu.Lock()
	s.room.defaults = q.clean()
	s.room.mu.Unlock()
}

func (s *Store) defaultQuota() Quota {
	s.room.mu.RLock()
	defer s.room.mu.RUnlock()
	return s.room.defaults
}

// Room is a *QuotaError when the account has no room for a message of size
// octets, 0 where that is not known yet. It tells what is so now, and promises
// nothing: Append decides. ErrNotFound: there is no such account.
func (s *Store) Room(ctx context.Context, a AccountID, size int64) error {
	s.room.mu.RLock()
	now, known := s.room.accounts[a]
	limit := now.limit.or(s.room.defaults)
	s.room.mu.RUnlock()
	if !known {
		err := s.View(ctx, func(v *View) (err error) {
			now.used, limit, err = v.Usage(a)
			return err
		})
		if err != nil {
			return err
		}
	}
	more := Usage{Storage: max(size, 1), Messages: 1} // no message is empty
	if limit.allows(now.used, more) {
		return nil
	}
	return &QuotaError{Account: a, Usage: now.used, Quota: limit, More: more}
}

// NearlyFull counts the accounts that a commit since Open has filled to 90 % of
// their quota or beyond, and none has emptied since.
func (s *Store) NearlyFull() int {
	s.room.mu.RLock()
	defer s.room.mu.RUnlock()
	return len(s.room.full)
}

// publish tells Room what a commit changed, and the log who is nearly full.
func (s *Store) publish(spent map[AccountID]Usage, limits bool) {
	r := &s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if limits || len(r.accounts) > maxCached {
		clear(r.accounts)
	}
	if len(r.full) > maxCached {
		clear(r.full)
	}
	for a, used := range spent {
		b, ok := s.state.quotas.limits[a]
		if !ok { // it only lost messages
			delete(r.accounts, a)
			continue
		}
		r.accounts[a] = standing{used, b.limit}
		limit := b.limit.or(r.defaults)
		if !limit.Nearly(used) {
			delete(r.full, a)
		} else if !r.full[a] {
			r.full[a] = true
			s.log.Warn("an account is nearly full", "account", b.address, "octets", used.Storage, "of", limit.Storage,
				"messages", used.Messages, "most", limit.Messages)
		}
	}
}
