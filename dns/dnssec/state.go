package dnssec

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/miekg/dns"

	"postrider/dns/durable"
)

// stateVersion is that of the state file: JSON, one object per key.
const stateVersion = 1

// maxState bounds the state file in bytes.
const maxState = 1 << 20

type stateFile struct {
	Version int
	Keys    []stateKey
}

type stateKey struct {
	Key   string // the DNSKEY record as in a zone file
	State keyState
	Since time.Time
}

// load reads the state file; one that is not there is empty. Points that are no
// longer configured are left out.
func (a *anchors) load() error {
	f, err := os.Open(a.state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err != nil {
		return fmt.Errorf("%s: %w", a.state, err)
	}
	if len(text) > maxState {
		return fmt.Errorf("%s: larger than %d bytes", a.state, maxState)
	}
	if err := a.parse(text); err != nil {
		return fmt.Errorf("%s: %w; move it away to begin again with the configured anchors", a.state, err)
	}
	return nil
}

func (a *anchors) parse(text []byte) error {
	var s stateFile
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	if s.Version != stateVersion {
		return fmt.Errorf("version %d is not known here", s.Version)
	}
	for _, k := range s.Keys {
		rr, err := dns.NewRR(k.Key)
		if err != nil {
			return err
		}
		if rr == nil {
			return errors.New("a key is empty")
		}
		if rr, err = checkAnchor(rr); err != nil {
			return err
		}
		d, ok := rr.(*dns.DNSKEY)
		if !ok {
			return fmt.Errorf("%.60q is not a DNSKEY record", k.Key)
		}
		switch k.State {
		case statePending, stateValid, stateMissing, stateRevoked, stateRemoved:
		default:
			return fmt.Errorf("state %q is not known here", k.State)
		}
		if p := a.points[d.Hdr.Name]; p != nil && p.known(d) == nil && len(p.keys) < maxAnchors {
			p.keys = append(p.keys, &anchorKey{d, k.State, k.Since})
		}
	}
	return nil
}

// save writes the state file.
func (a *anchors) save() error {
	s := stateFile{Version: stateVersion}
	for _, name := range slices.Sorted(maps.Keys(a.points)) {
		for _, k := range a.points[name].keys {
			s.Keys = append(s.Keys, stateKey{k.key.String(), k.state, k.since.UTC()})
		}
	}
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	return durable.Write(a.state, 0o600, append(text, '\n'))
}
