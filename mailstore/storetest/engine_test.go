package storetest

import (
	"testing"

	"postrider/mailstore"
)

func TestModelEngine(t *testing.T) {
	Run(t, func(t *testing.T) Disklike { return modelDisk{NewDisk()} })
}

type modelDisk struct{ *Disk }

func (d modelDisk) Open(t *testing.T) mailstore.Engine { return d.Engine() }
