package dns

import (
	"context"
	"errors"
	"fmt"
)

var (
	// ErrNotExist means that the name does not exist (NXDOMAIN), or can't.
	ErrNotExist = errors.New("does not exist")
	// ErrNoData means that the name exists and has no record of this type.
	ErrNoData = errors.New("has no such record")
	// ErrTemporary means that nobody could tell: the same question may be
	// answered later.
	ErrTemporary = errors.New("no answer for now")
)

// Error is a lookup that failed.
type Error struct {
	Name   string // as it was asked, without the final dot
	Type   Type
	Server string // who said so; "" when nobody did
	Err    error  // wraps ErrNotExist, ErrNoData or ErrTemporary
}

func (e *Error) Error() string {
	if e.Server == "" {
		return fmt.Sprintf("dns: %s of %s: %v", e.Type, e.Name, e.Err)
	}
	return fmt.Sprintf("dns: %s of %s: %v (says %s)", e.Type, e.Name, e.Err, e.Server)
}

func (e *Error) Unwrap() error { return e.Err }

// Temporary tells whether the same lookup may succeed later.
func (e *Error) Temporary() bool { return errors.Is(e.Err, ErrTemporary) }

// temporary is an error that wraps ErrTemporary with a reason.
func temporary(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrTemporary, fmt.Errorf(format, args...))
}

// ended is what a caller whose context is over gets.
func ended(ctx context.Context) error {
	return fmt.Errorf("%w: %w", ErrTemporary, ctx.Err())
}
