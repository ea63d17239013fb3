package lab

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime/metrics"
	"slices"
	"sync"
	"time"

	"postrider/internal/clock"
	"postrider/internal/journey"
	"postrider/internal/wire"
	"postrider/mailstore/sqlite"
)

// Options says how to run a lab; zero values work.
type Options struct {
	World *World // nil: the built-in one
	// Out gets the table of what listens where, what to type, and one line for
	// each step of a letter; nil = discard.
	Out io.Writer
	// Keep is the folder for the servers' data; "" = a temporary one.
	Keep string
	// Listen is an address of this machine on a local network, for a class:
	// every service gets a port of its own there. "" = loopback alone.
	Listen string
	// Students is how many disposable accounts there are for a class, shared out
	// between the first two mail domains.
	Students int
	// Control opens the control socket, for the commands that speak to a running
	// lab.
	Control bool
	// FreePorts takes any free ports rather than the usual ones.
	FreePorts bool
	// Instant makes latency cost no time: the lab's clock is set ahead instead.
	Instant bool
	// Telnet is what to type before an address and a port; "" = telnet.
	Telnet string
	// Program is what to type for postrider in a command; "" = postrider.
	Program string
	Clock   clock.Clock
	Seed    uint64 // of what is random in the network; 0 = a random one
}

// Lab is a world that runs. Its methods may be called concurrently.
type Lab struct {
	o         Options
	clock     *Clock
	network   *network
	journey   *journey.Recorder
	authority *wire.Authority
	dir       string
	temporary bool
	free      func() error    // of dir
	reach     string          // what a command for this lab needs behind it
	shared    netip.Addr      // all sockets are on it; the zero Addr: each host has its own
	class     netip.Prefix    // of Options.Listen: the local network
	offset    int             // of ports on the hosts' own addresses
	lastPort  int             // on shared
	ctx       context.Context // of the servers
	cancel    context.CancelFunc
	running   sync.WaitGroup
	jumping   sync.Mutex // one jump at a time

	registering sync.Mutex // one domain at a time

	mu       sync.Mutex
	world    World // its slices are replaced, never changed
	machines []*machine
	byName   map[string]*machine
	err      error
	closed   bool
}

// maxEvents is how many events a lab remembers.
const maxEvents = 20000

// Run starts the lab, says on o.Out what to do with it, and returns when ctx has
// ended and the servers have stopped.
func Run(ctx context.Context, o Options) error {
	l, err := Start(ctx, o)
	if err != nil {
		return err
	}
	l.Introduce(l.o.Out)
	fmt.Fprintln(l.o.Out, "ready")
	return l.Wait()
}

// Start starts a lab and returns when all its sockets are open. A mail server
// starts when somebody connects to it or it has mail to send. The lab ends with
// ctx or Close.
func Start(ctx context.Context, o Options) (*Lab, error) {
	if o.World == nil {
		w, err := LoadWorld("")
		if err != nil {
			return nil, err
		}
		o.World = w
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	o.Out = &lines{w: o.Out}
	if o.Seed == 0 {
		var b [8]byte
		rand.Read(b[:])
		o.Seed = binary.LittleEndian.Uint64(b[:])
	}
	if o.Students != 0 {
		w, err := o.World.withStudents(o.Students)
		if err != nil {
			return nil, err
		}
		o.World = w
	}
	c := NewClock(o.Clock)
	l := &Lab{o: o, clock: c, network: newNetwork(o.World, c, o.Seed), world: *o.World, byName: map[string]*machine{}, dir: o.Keep}
	l.network.instant = o.Instant
	l.journey = journey.New(journey.Options{Clock: c, Memory: maxEvents})
	l.ctx, l.cancel = context.WithCancel(ctx)
	if err := l.start(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	context.AfterFunc(l.ctx, l.network.close)
	l.show()
	return l, nil
}

func (l *Lab) start() (err error) {
	if l.dir == "" {
		if l.dir, err = os.MkdirTemp("", "postrider-lab-"); err != nil {
			return err
		}
		l.temporary = true
	} else if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	if l.free, err = sqlite.Lock(l.dir); err != nil {
		return err
	}
	if l.authority, err = wire.OpenAuthority(l.dir, authorityName, l.clock.Now()); err != nil {
		return err
	}
	for i := range l.world.Hosts {
		h := &l.world.Hosts[i]
		m := &machine{lab: l, host: h, mail: h.Mail}
		l.machines = append(l.machines, m)
		l.byName[h.Name] = m
		if h.Offline {
			if _, err := l.SetFault(l.ctx, Fault{Kind: FaultDown, Host: h.Name}); err != nil {
				return err
			}
		}
	}
	if err := l.bind(); err != nil {
		return err
	}
	if l.temporary { // no mail waits that would ask for names
		l.startMail()
	}
	if err := l.startNames(); err != nil {
		return err
	}
	if err := l.writeRoot(); err != nil {
		return err
	}
	if err := l.bringBack(); err != nil {
		return err
	}
	if !l.temporary {
		l.startMail()
	}
	if l.o.Control {
		if err := l.control(); err != nil {
			fmt.Fprintf(l.o.Out, "postrider lab register, fault, clear and jump do not reach this lab: %v\n", err)
		}
	}
	return nil
}

// startMail starts, in the background, the servers that have something to do
// before anybody connects: those with data of an earlier run, which may have
// mail to send, and those of the first two accounts, for the first letter to
// be there sooner.
func (l *Lab) startMail() {
	first := map[string]bool{}
	for i, a := range l.world.Accounts {
		first[a.Host] = first[a.Host] || i < 2
	}
	for _, m := range l.machines {
		if m.host.Kind != KindMail {
			continue
		}
		_, err := os.Stat(m.dir())
		if err != nil && !first[m.host.Name] {
			continue
		}
		l.running.Go(func() {
			if err := m.ensure(); err != nil {
				l.fail(err)
			}
		})
	}
}

// fail ends the lab for want of a server.
func (l *Lab) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() == nil {
		l.err = errors.Join(l.err, err)
	}
	l.cancel()
}

// Close stops the lab and returns the error that Wait gives.
func (l *Lab) Close() error {
	l.cancel()
	return l.Wait()
}

// Wait returns when the lab has stopped: because the context of Start ended, or
// because a server could not go on, which is the error.
func (l *Lab) Wait() error {
	<-l.ctx.Done()
	l.network.close()
	var stopping sync.WaitGroup
	l.mu.Lock()
	machines := l.machines
	l.mu.Unlock()
	for _, m := range machines {
		stopping.Go(m.close)
	}
	stopping.Wait()
	l.running.Wait()
	l.clock.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free != nil {
		l.err = errors.Join(l.err, l.free())
		l.free = nil
	}
	if l.temporary && !l.closed {
		l.err = errors.Join(l.err, os.RemoveAll(l.dir))
	}
	l.closed = true
	return l.err
}

// Dir is the folder of the servers' data.
func (l *Lab) Dir() string { return l.dir }

// World is who lives in the lab now, with what was registered since its start.
// It must not be changed.
func (l *Lab) World() *World {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.world
	return &w
}

// Journey records what happens on all hosts; its events have the host's name as
// Node.
func (l *Lab) Journey() *journey.Recorder { return l.journey }

// Clock is the lab's time.
func (l *Lab) Clock() *Clock { return l.clock }

// machine finds the machine of a host.
func (l *Lab) machine(name string) (*machine, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m, ok := l.byName[name]; ok {
		return m, nil
	}
	return nil, fmt.Errorf("there is no host %q", name)
}

// Endpoint is a service of a host and where it is reached.
type Endpoint struct {
	Service string `json:"service"`
	Lab     string `json:"lab"`  // address and port as the hosts of the lab see it
	Real    string `json:"real"` // address and port of this machine, for you
}

// HostState is a host as it is now.
type HostState struct {
	Host
	Endpoints []Endpoint `json:"endpoints"`
	Up        bool       `json:"up"`      // no fault of kind down is on it
	Started   bool       `json:"started"` // of a mail server: it has been needed
	Zones     []string   `json:"zones,omitempty"`
}

// Hosts lists the hosts in the order of the world.
func (l *Lab) Hosts() []HostState {
	l.mu.Lock()
	machines, zones := l.machines, l.world.Zones
	l.mu.Unlock()
	faults := l.Faults()
	var out []HostState
	for _, m := range machines {
		s := HostState{Host: *m.host, Endpoints: m.endpoints(), Started: m.started(), Up: true}
		for _, f := range faults {
			if f.Kind == FaultDown && f.Host == m.host.Name && f.Peer == "" {
				s.Up = false
			}
		}
		for _, z := range zones {
			if z.Primary == s.Name || slices.Contains(z.Secondary, s.Name) || s.ReplicaOf != "" && (z.Primary == s.ReplicaOf || slices.Contains(z.Secondary, s.ReplicaOf)) {
				s.Zones = append(s.Zones, z.Name)
			}
		}
		out = append(out, s)
	}
	return out
}

// Endpoint is where a service of a host is reached.
func (l *Lab) Endpoint(host, service string) (Endpoint, error) {
	m, err := l.machine(host)
	if err != nil {
		return Endpoint{}, err
	}
	for _, e := range m.endpoints() {
		if e.Service == service {
			return e, nil
		}
	}
	return Endpoint{}, fmt.Errorf("%s serves no %s", host, service)
}

// Traffic lists how much went between hosts since the start or ResetTraffic; From
// is "" for what came from outside.
func (l *Lab) Traffic() []HostTraffic {
	n := l.network
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []HostTraffic
	for k, t := range n.trips {
		out = append(out, HostTraffic{k[0], k[1], t})
	}
	slices.SortFunc(out, func(a, b HostTraffic) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	return out
}

// ResetTraffic begins the counts anew.
func (l *Lab) ResetTraffic() {
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	clear(l.network.trips)
}

// HostTraffic is the traffic from one host to another.
type HostTraffic struct {
	From string `json:"from"`
	To   string `json:"to"`
	Traffic
}

// Faults lists the faults in force, in the order in which they were set.
func (l *Lab) Faults() []Fault {
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	return slices.Clone(l.network.faults)
}

// SetFault puts a fault in force and returns it with its ID.
func (l *Lab) SetFault(ctx context.Context, f Fault) (Fault, error) {
	if err := ctx.Err(); err != nil {
		return f, err
	}
	if err := f.check(l.World()); err != nil {
		return f, err
	}
	n := l.network
	n.mu.Lock()
	if len(n.faults) >= maxFaults {
		n.mu.Unlock()
		return f, fmt.Errorf("there are %d faults, and no room for more", maxFaults)
	}
	n.lastID++
	f.ID = fmt.Sprintf("f%d", n.lastID)
	n.faults = append(slices.Clone(n.faults), f)
	n.mu.Unlock()
	switch f.Kind {
	case FaultDown:
		n.cut(f.covers)
	case FaultExpired:
		if err := l.certificates(f.Host); err != nil {
			return f, err
		}
	}
	l.say(f.Host, KindFault, "fault: "+f.String(), journey.Attr{Key: "fault", Value: f.ID}, journey.Attr{Key: "kind", Value: string(f.Kind)})
	return f, nil
}

// ClearFault ends a fault; one that is over already is no error.
func (l *Lab) ClearFault(ctx context.Context, id string) error {
	return l.clear(ctx, func(f Fault) bool { return f.ID == id })
}

// ClearFaults ends the faults of a host or site, of a kind; "" = all.
func (l *Lab) ClearFaults(ctx context.Context, host string, kind FaultKind) error {
	return l.clear(ctx, func(f Fault) bool { return (host == "" || f.Host == host) && (kind == "" || f.Kind == kind) })
}

func (l *Lab) clear(ctx context.Context, match func(Fault) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n := l.network
	var gone []Fault
	n.mu.Lock()
	n.faults = slices.DeleteFunc(slices.Clone(n.faults), func(f Fault) bool {
		if match(f) {
			gone = append(gone, f)
			return true
		}
		return false
	})
	n.mu.Unlock()
	var errs []error
	for _, f := range gone {
		if f.Kind == FaultExpired {
			errs = append(errs, l.certificates(f.Host))
		}
		l.say(f.Host, KindFault, "over: "+f.String(), journey.Attr{Key: "cleared", Value: f.ID}, journey.Attr{Key: "kind", Value: string(f.Kind)})
	}
	return errors.Join(errs...)
}

// Kinds of events that only a lab has.
const (
	KindFault    journey.Kind = "lab.fault"    // a fault begins or ends: fault or cleared (its ID), kind
	KindJump     journey.Kind = "lab.jump"     // the clock was set ahead: by
	KindRegister journey.Kind = "lab.register" // a domain was registered: domain, step
)

func (l *Lab) say(node string, kind journey.Kind, text string, attrs ...journey.Attr) {
	l.journey.Record(journey.Event{Node: node, Kind: kind, Text: text, Attrs: attrs})
}

// Jump sets the lab's clock ahead. It stops wherever something is due on the way,
// so that five days of a queue take a few seconds.
func (l *Lab) Jump(ctx context.Context, d time.Duration) error {
	if d <= 0 || d > maxJump {
		return fmt.Errorf("a jump is ahead, by %v at most", maxJump)
	}
	l.jumping.Lock()
	defer l.jumping.Unlock()
	l.say("", KindJump, "the clock is set ahead by "+d.String(), journey.Attr{Key: "by", Value: d.String()})
	return l.clock.jump(ctx, d, l.settle)
}

// Await runs something that waits for an answer. In an instant lab, silence costs
// no time: while somebody waits for an answer that is lost and nothing else moves,
// the clock is set ahead to what is due next.
func (l *Lab) Await(ctx context.Context, do func()) error {
	if !l.o.Instant {
		do()
		return ctx.Err()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	for {
		if err := l.settle(ctx); err != nil {
			<-done
			return err
		}
		select {
		case <-done:
			return ctx.Err()
		default:
		}
		if next, ok := l.clock.next(); ok && l.network.silent() {
			l.clock.advance(next)
		}
	}
}

// maxJump bounds one jump.
const maxJump = 400 * 24 * time.Hour

const (
	settleFirst = 300 * time.Microsecond // for what a timer woke to begin
	settleQuiet = time.Millisecond       // without traffic: it is done
	settleMost  = 3 * time.Second        // at one stop of a jump
	settleTurns = 200                    // looks for a moment in which no goroutine waits for its turn
)

// settle waits until no queue has something to do now, nobody waits for an answer,
// nothing went through the network for a moment and no goroutine waits for its turn,
// as on a busy machine. This is waiting for work that has no end to wait for: servers
// that a timer woke do what they do.
func (l *Lab) settle(ctx context.Context) error {
	base := cmp.Or[clock.Clock](l.o.Clock, clock.System())
	t := base.NewTimer(settleFirst)
	defer t.Stop()
	seen := l.network.busy.Load()
	turns := 0
	for waited := time.Duration(0); waited < settleMost; waited += settleQuiet {
		select {
		case <-t.Chan():
		case <-ctx.Done():
			return ctx.Err()
		case <-l.ctx.Done():
			return l.ctx.Err()
		}
		now := l.network.busy.Load()
		if now == seen && !l.network.due() && !l.queuesBusy() {
			if turns++; !crowded() || turns > settleTurns {
				return nil
			}
		}
		seen = now
		t.Reset(settleQuiet)
	}
	return nil
}

// crowded tells whether goroutines beside the caller's run, or wait for their turn.
func crowded() bool {
	s := []metrics.Sample{{Name: "/sched/goroutines/runnable:goroutines"}, {Name: "/sched/goroutines/running:goroutines"}}
	metrics.Read(s)
	return s[0].Value.Uint64()+s[1].Value.Uint64() > 1
}

// queuesBusy tells whether a mail server has mail to look at or to try now. An
// attempt may itself wait for time to pass: where an answer is lost or the way is
// slow, attempts do not count.
func (l *Lab) queuesBusy() bool {
	stuck := l.network.waits.Load() > 0 || l.network.silent()
	l.mu.Lock()
	machines := l.machines
	l.mu.Unlock()
	for _, m := range machines {
		m.mu.Lock()
		n := m.node
		m.mu.Unlock()
		if n == nil {
			continue
		}
		if due, trying := n.Busy(); due || trying && !stuck {
			return true
		}
	}
	return false
}
