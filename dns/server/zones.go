package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"postrider/dns/dnssec"
	"postrider/dns/zone"
)

// ZoneConfig is a zone that is served. Its name is made canonical by Configure.
type ZoneConfig struct {
	Name string
	// File is the master file of a primary zone. A zone with neither File nor
	// Primaries has what Publish gives it.
	File string
	// Primaries, if any, make it a secondary zone: they are asked in this
	// order.
	Primaries []Remote
	// Notify has those who are told of changes.
	Notify []Remote
	// AllowTransfer has those who may have the whole zone, AllowUpdate those
	// whose updates are done, or passed on to the primary by a secondary.
	AllowTransfer, AllowUpdate ACL
	// Sign, if it is not nil, signs a primary zone, with keys that are made and
	// replaced after this policy.
	Sign *dnssec.Policy
}

func (c *ZoneConfig) secondary() bool { return len(c.Primaries) > 0 }

// updated tells that clients may change the zone.
func (c *ZoneConfig) updated() bool {
	return len(c.AllowUpdate.Networks)+len(c.AllowUpdate.Keys) > 0
}

// dynamic tells that the zone's contents change otherwise than by its file, so
// that they have files of their own.
func (c *ZoneConfig) dynamic() bool {
	return c.secondary() || c.File == "" || c.Sign != nil || c.updated()
}

// sameKind tells that a zone can go on under another configuration.
func (c *ZoneConfig) sameKind(o *ZoneConfig) bool {
	return c.dynamic() == o.dynamic() && c.secondary() == o.secondary() && (c.Sign == nil) == (o.Sign == nil) &&
		(c.Sign == nil || *c.Sign == *o.Sign)
}

// served is a zone on its way through its versions.
type served struct {
	s      *Server
	name   string
	config atomic.Pointer[ZoneConfig]
	files  *files
	signer *signer // nil: not signed here
	left   bool    // not signed, but the keys with which it was are here

	current atomic.Pointer[zone.Zone] // nil: not loaded yet
	expired atomic.Bool

	ctx     context.Context // ends with stop
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	poke    chan struct{}
	changed chan struct{}

	changing sync.Mutex // one change at a time, from its decision to its visibility
	frozen   bool       // another takes over the files: no change any more

	mu                    sync.Mutex
	checked               time.Time                     // of a secondary: when a primary last confirmed the version
	last                  error                         // of the last refresh
	forged                bool                          // left unsigned while its parent has DS records
	telling               map[string]context.CancelFunc // notifications under way
	tells, follows, signs bool                          // which goroutines run
}

// open makes a zone of its configuration; old is the one of that name that is
// served now, or nil. One of the same kind goes on: commit gives it the new
// configuration.
func (s *Server) open(c *ZoneConfig, old *served) (*served, error) {
	if old != nil && old.conf().sameKind(c) {
		return old, old.reload(c)
	}
	if old != nil {
		old.freeze(true)
	}
	keys, err := s.openSigner(c)
	if err != nil {
		return nil, err
	}
	z := &served{s: s, name: c.Name, signer: keys, left: s.abandoned(c), poke: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		telling: map[string]context.CancelFunc{}}
	z.config.Store(c)
	files, err := openFiles(s.dir, c)
	if err != nil {
		return nil, err
	}
	z.files = files
	z.ctx, z.cancel = context.WithCancel(s.base)
	version, checked, err := files.load(c.Name)
	if err == nil {
		z.checked = checked
		z.current.Store(version)
		err = z.reload(c)
	}
	if err != nil {
		z.stop()
		return nil, err
	}
	return z, nil
}

// reload reads the master file of a primary zone again. Where updates change the
// zone, too, the file counts only if its serial is newer than theirs.
func (z *served) reload(c *ZoneConfig) error {
	if c.secondary() || c.File == "" {
		return nil
	}
	next, err := zone.Load(c.File, z.name)
	if err != nil {
		return err
	}
	z.changing.Lock()
	defer z.changing.Unlock()
	have := z.current.Load()
	if have != nil && c.updated() && !newer(next.Serial(), have.Serial()) {
		return nil
	}
	if have == nil || have.Serial() != next.Serial() {
		for _, p := range next.Problems(maxProblems) {
			z.s.log.Warn("a zone's file is probably wrong", "zone", shown(z.name), "file", c.File, "problem", p)
		}
	}
	return z.changeLocked(next)
}

// maxProblems is how many doubts about one zone file are logged.
const maxProblems = 20

// changeLocked makes a version from outside the present one, signed if the zone
// is.
func (z *served) changeLocked(next *zone.Zone) error {
	have := z.current.Load()
	if z.signer != nil && have != nil && have.Says(next) {
		return nil
	}
	next, err := z.sign(next, have, false)
	if err != nil {
		return err
	}
	if have == nil {
		return z.replaceLocked(next)
	}
	diff := zone.Between(have, next)
	if diff.Empty() {
		return nil
	}
	if !newer(next.Serial(), have.Serial()) {
		z.s.log.Warn("a zone's file has changed and its serial has not grown: secondaries will not see it", "zone", shown(z.name),
			"serial", next.Serial(), "before", have.Serial())
		return z.replaceLocked(next)
	}
	return z.appendLocked(next, diff)
}

// replaceLocked makes a whole new version the present one.
func (z *served) replaceLocked(next *zone.Zone) error {
	if z.frozen {
		return errFrozen
	}
	if err := z.files.replace(next); err != nil {
		return err
	}
	z.showLocked(next)
	return nil
}

// appendLocked makes a version that differs by diffs the present one.
func (z *served) appendLocked(next *zone.Zone, diffs ...zone.Diff) error {
	if z.frozen {
		return errFrozen
	}
	if err := z.files.append(next, diffs...); err != nil {
		return err
	}
	z.showLocked(next)
	return nil
}

func (z *served) showLocked(next *zone.Zone) {
	before := z.current.Swap(next)
	z.s.log.Info("zone loaded", "zone", shown(z.name), "serial", next.Serial(), "records", next.Len())
	z.recordChange(before, next)
	z.announce()
}

// commit begins to serve the zone under a configuration, which another one may
// have been before.
func (z *served) commit(c *ZoneConfig) {
	z.config.Store(c)
	z.mu.Lock()
	defer z.mu.Unlock()
	if len(c.Notify) > 0 && !z.tells {
		z.tells = true
		z.wg.Go(z.tell)
		if z.current.Load() != nil {
			z.announce() // after a start nobody knows what they have missed: RFC 1996 section 3.12
		}
	}
	switch {
	case c.secondary() && !z.follows:
		z.follows = true
		z.wg.Go(z.follow)
	case z.signer != nil && !z.signs:
		z.signs = true
		z.wg.Go(z.keepSigned)
	case z.left && !z.signs:
		z.signs = true
		z.wg.Go(z.watchParent)
	case c.secondary():
		z.hurry() // its primaries may be others now
	}
}

// stop ends it.
func (z *served) stop() {
	z.cancel()
	z.wg.Wait()
	z.files.close()
}

var errFrozen = errors.New("the zone is being configured anew")

// freeze stops changes, or lets them go on.
func (z *served) freeze(on bool) {
	z.changing.Lock()
	defer z.changing.Unlock()
	z.frozen = on
}

func (z *served) conf() *ZoneConfig { return z.config.Load() }

func (z *served) note(err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.last = err
}

var (
	// ErrNoZone is wrapped where a zone is not served, or not of the kind that
	// is needed.
	ErrNoZone = errors.New("no such zone")
	// ErrOlder is wrapped where a version's serial is not newer than the
	// present one's.
	ErrOlder = errors.New("the serial has to grow")
)

// Publish makes a version of a primary zone without a file durable and visible.
// Its serial must be newer than the present one's; a zone that is signed here
// gets a serial of its own.
func (s *Server) Publish(next *zone.Zone) error {
	z := s.setup.Load().zones[next.Origin()]
	if z == nil || z.conf().secondary() || z.conf().File != "" {
		return fmt.Errorf("publish %s: %w", shown(next.Origin()), ErrNoZone)
	}
	z.changing.Lock()
	defer z.changing.Unlock()
	have := z.current.Load()
	if have != nil && z.signer == nil && !newer(next.Serial(), have.Serial()) && !zone.Between(have, next).Empty() {
		return fmt.Errorf("publish %s: %w", shown(next.Origin()), ErrOlder)
	}
	return z.changeLocked(next)
}

// Zone returns the version of a zone that is served now; an error wraps
// ErrNoZone, also while it is not loaded.
func (s *Server) Zone(name string) (*zone.Zone, error) {
	if z := s.setup.Load().zones[name]; z != nil {
		if version := z.current.Load(); version != nil {
			return version, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", shown(name), ErrNoZone)
}

// ZoneStatus is how a zone is.
type ZoneStatus struct {
	Name      string
	Secondary bool
	Loaded    bool
	Serial    uint32
	Records   int
	Expired   bool
	Checked   time.Time // of a secondary: when a primary last confirmed it
	LastError string    // of the last refresh
}

// Zones returns the state of each zone, by name.
func (s *Server) Zones() []ZoneStatus {
	at := s.setup.Load()
	out := make([]ZoneStatus, 0, len(at.Zones))
	for i := range at.Zones {
		z := at.zones[at.Zones[i].Name]
		st := ZoneStatus{Name: shown(z.name), Secondary: z.conf().secondary(), Expired: z.expired.Load()}
		if version := z.current.Load(); version != nil {
			st.Loaded, st.Serial, st.Records = true, version.Serial(), version.Len()
		}
		z.mu.Lock()
		st.Checked = z.checked
		if z.last != nil {
			st.LastError = z.last.Error()
		}
		z.mu.Unlock()
		out = append(out, st)
	}
	return out
}

// Refresh makes a secondary zone ask its primaries now. An error wraps
// ErrNoZone.
func (s *Server) Refresh(name string) error {
	z := s.setup.Load().zones[name]
	switch {
	case z == nil:
		return fmt.Errorf("refresh %s: %w", shown(name), ErrNoZone)
	case !z.conf().secondary():
		return fmt.Errorf("refresh %s: it is a primary zone, which has nobody to ask", shown(name))
	}
	z.hurry()
	return nil
}
