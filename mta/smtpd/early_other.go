//go:build !linux

package smtpd

import (
	"errors"
	"net"
)

// socketHasInput fails: early then waits a moment instead.
func socketHasInput(net.Conn) (waiting bool, err error) {
	return false, errors.ErrUnsupported
}
