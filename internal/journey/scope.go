package journey

import "context"

// Scope says on whose behalf something is done: a message, a session, or both.
type Scope struct{ Message, Session string }

type scopeKey struct{}

// With returns a context for work on behalf of s. It is how package dns, which
// knows no messages, records for which one it asked.
func With(ctx context.Context, s Scope) context.Context {
	return context.WithValue(ctx, scopeKey{}, s)
}

// ScopeOf returns the scope of a context; zero without one.
func ScopeOf(ctx context.Context) Scope {
	s, _ := ctx.Value(scopeKey{}).(Scope)
	return s
}
