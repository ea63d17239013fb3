package storetest

import (
	"context"
	"errors"

	"postrider/mailstore"
)

// Verify checks what must hold between an engine's rows at any time, and the
// bytes of its bodies, as mailstore.VerifyEngine does, but for files without a
// row, which a crash may leave. It needs an engine that no store uses.
func Verify(e mailstore.Engine, r mailstore.Reader) error {
	var errs []error
	err := mailstore.VerifyEngine(context.Background(), e, r, nil, func(f mailstore.Finding) {
		if f.Kind != "file" {
			errs = append(errs, errors.New(f.String()))
		}
	})
	return errors.Join(append(errs, err)...)
}
