//go:build !linux

package smtpd

import (
	"errors"
	"net"
)

// socketHasInput fails: its callers then look at what they have read.
func socketHasInput(net.Conn) (waiting bool, err error) {
	return false, errors.ErrUnsupported
}
