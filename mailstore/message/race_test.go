//go:build race

package message

// racing: the race detector takes ten times the time.
const racing = true
