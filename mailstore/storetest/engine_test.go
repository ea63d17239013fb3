package storetest

import (
	"testing"

	"postrider/mailstore"
)

func TestModelEngine(t *testing.T) {
	disks := make(map[string]*Disk)
	Run(t, func(_ *testing.T, dir string) mailstore.Engine {
		if disks[dir] == nil {
			disks[dir] = NewDisk()
		}
		return disks[dir].Engine()
	})
}
