package sqlite

import (
	"context"
	"testing"

	"postrider/mailstore"
	"postrider/mailstore/storetest"
)

func TestEngine(t *testing.T) {
	storetest.Run(t, func(t *testing.T, dir string) mailstore.Engine {
		e, err := Open(context.Background(), dir+"/data", Options{})
		if err != nil {
			t.Fatal(err)
		}
		return e
	})
}
