package page

import (
	"context"
	"iter"
	"net"
	"time"

	"postrider/internal/journey"
)

// Lab is what the page shows and does things to. Its methods may be called
// concurrently; an error's text is shown to the person at the page.
type Lab interface {
	// Scene is the world as it stands: who there is and what is switched on.
	Scene() Scene
	// Follow yields the events from now on, until ctx ends.
	Follow(ctx context.Context) iter.Seq[journey.Event]
	// HostOf is the id of the host behind an address, or a name, that an event
	// carries; "" for none of the lab's.
	HostOf(peer string) string
	// Records tells whether a host records what it says as a client of another:
	// then the other's record of the same line shows nothing new.
	Records(host string) bool
	// Tables are the caches, queues and mailboxes.
	Tables(ctx context.Context) ([]Table, error)
	// Dial opens a connection to a port of one of the lab's hosts, and to
	// nothing else.
	Dial(ctx context.Context, host string, port int) (net.Conn, error)
	// Send hands a letter to its sender's mail server, as a mail program would,
	// and returns what the server said.
	Send(ctx context.Context, l Letter) (string, error)
	// Collect lets an account's mail program fetch its new mail, by "pop3" or
	// "imap".
	Collect(ctx context.Context, account, protocol string) error
	// Set turns a fault on or off.
	Set(ctx context.Context, fault string, on bool) error
	// Break puts a fault in force that has no switch.
	Break(ctx context.Context, b Break) error
	// Jump moves the lab's clock forward.
	Jump(ctx context.Context, d time.Duration) error
	// Register registers a new domain, and returns the steps it took.
	Register(ctx context.Context, domain string) ([]string, error)
	// Ask asks a site's resolver, and returns its answer in a line.
	Ask(ctx context.Context, resolver, name, typ string) (string, error)
}

// Scene is what does not change with every step.
type Scene struct {
	Title    string    `json:"title"`
	Now      time.Time `json:"now"` // of the lab's clock
	Hosts    []Host    `json:"hosts"`
	Accounts []Account `json:"accounts"`
	Faults   []Fault   `json:"faults"`
	Types    []Hint    `json:"types"`  // of text to type into the console
	Places   []string  `json:"places"` // that faults may be at, beside hosts
	Kinds    []Kind    `json:"kinds"`  // of faults
}

// Host is a place of the map.
type Host struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Short string `json:"short"` // for the map
	Site  string `json:"site"`  // the organisation: hosts of one stand together
	Role  string `json:"role"`  // root, tld, names, resolver, mail, person, other
	Addr  string `json:"addr"`
	About string `json:"about"`
	Ports []Port `json:"ports"`
}

// Port is a service that a host offers.
type Port struct {
	Number  int    `json:"number"`
	Service string `json:"service"` // smtp, submission, pop3, imap, dns
}

// Account is somebody with a mailbox.
type Account struct {
	Address  string `json:"address"`
	Password string `json:"password"` // a lab has no secrets
	Host     string `json:"host"`     // id of the server
}

// Fault is a switch.
type Fault struct {
	ID    string `json:"id"`
	Host  string `json:"host"`
	Label string `json:"label"`
	About string `json:"about"` // what it does, and how it shows
	On    bool   `json:"on"`
}

// Kind is a sort of fault.
type Kind struct {
	Kind  string `json:"kind"`
	About string `json:"about"`
	Value string `json:"value"` // what its value is; "" = it takes none
}

// Break is a fault as the form describes it: at a host or place, or between it
// and Peer. A Value of "" is the usual one.
type Break struct {
	Kind  string `json:"kind"`
	Host  string `json:"host"`
	Peer  string `json:"peer"`
	Value string `json:"value"`
}

// Hint is a dialogue to type.
type Hint struct {
	Title string   `json:"title"`
	Host  string   `json:"host"`
	Port  int      `json:"port"`
	Lines []string `json:"lines"`
}

// Table is a cache, a queue or a mailbox.
type Table struct {
	Kind    string     `json:"kind"` // cache, queue, mailbox
	Host    string     `json:"host"`
	Title   string     `json:"title"`
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
}

// Letter is what the form sends.
type Letter struct {
	From    string   `json:"from"`
	To      []string `json:"to"`
	Cc      []string `json:"cc"`
	Bcc     []string `json:"bcc"`
	Subject string   `json:"subject"`
	Body    string   `json:"body"`
}
