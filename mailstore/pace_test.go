package mailstore_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postrider/mailstore"
	"postrider/mailstore/storetest"
)

// Clients that need a while for their next change still share one commit of a
// slow disk, rather than fall into two groups that wait for each other. A client
// alone waits for nothing but the disk.
func TestSlowDiskIsShared(t *testing.T) {
	const each, disk, turn = 50, 10 * time.Millisecond, time.Millisecond
	for _, clients := range []int{1, 2, 8} {
		synctest.Test(t, func(t *testing.T) {
			f := setUp(t)
			commits := 0
			f.engine.SetFault(func(op string) error {
				if op == storetest.OpCommit {
					commits++ // by the writer alone
					<-time.After(disk)
				}
				return nil
			})
			begun := time.Now()
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for range each {
						if err := f.update(func(tx *mailstore.Tx) error { return tx.PutSetting("x", []byte("y")) }); err != nil {
							t.Error(err)
						}
						<-time.After(turn)
					}
				})
			}
			wg.Wait()
			took := time.Since(begun)
			if most := each + each/10; commits > most {
				t.Errorf("%d clients: %d commits of %d changes, want at most %d", clients, commits, clients*each, most)
			}
			if clients == 1 && took != each*(disk+turn) {
				t.Errorf("one client took %v for %d changes, want %v", took, each, each*(disk+turn))
			}
			f.must(f.store.Close())
		})
	}
}
