package lab

import (
	"crypto/rand"
	_ "embed"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

// World is what a world file says: who lives in the lab, where, and under which
// names. It is not changed once it is read; a running lab adds to it what was
// registered meanwhile, and Lab.World gives both.
type World struct {
	Title    string    `toml:"title" json:"title"`
	Sites    []Site    `toml:"site" json:"sites"`
	Hosts    []Host    `toml:"host" json:"hosts"`
	Zones    []Zone    `toml:"zone" json:"zones"`
	Links    []Link    `toml:"link" json:"links"`
	Accounts []Account `toml:"account" json:"accounts"`
	// Registrar has where new domains go; its Network is empty where there is none.
	Registrar Registrar `toml:"registrar" json:"registrar"`
}

// Site is a place with a network and a resolver of its own.
type Site struct {
	Name    string       `toml:"name" json:"name"`
	About   string       `toml:"about" json:"about,omitempty"`
	Network netip.Prefix `toml:"network" json:"network"`
	// Resolver is the host that answers the questions of the others here.
	Resolver string `toml:"resolver" json:"resolver"`
	// Search has the suffixes that are tried with names without a dot.
	Search []string `toml:"search" json:"search,omitempty"`
}

// Kind is what a host is for.
type Kind string

// The kinds of hosts.
const (
	KindRoot     Kind = "root"     // name server of the root zone
	KindTLD      Kind = "tld"      // name server of top-level domains
	KindName     Kind = "name"     // authoritative name server
	KindResolver Kind = "resolver" // recursive name server of a site
	KindMail     Kind = "mail"     // a full postrider
	KindOld      Kind = "old"      // a mail server that knows HELO alone
	KindHostile  Kind = "hostile"  // a mail server that breaks the rules
	KindWeb      Kind = "web"      // serves one page
	KindClient   Kind = "client"   // somebody's computer: serves nothing
)

// services has what a host of each kind serves, by name and port.
var services = map[Kind][]Port{
	KindRoot:     {{"dns", 53}},
	KindTLD:      {{"dns", 53}},
	KindName:     {{"dns", 53}},
	KindResolver: {{"dns", 53}},
	KindMail:     {{"smtp", 25}, {"submission", 587}, {"pop3", 110}, {"imap", 143}},
	KindOld:      {{"smtp", 25}},
	KindHostile:  {{"smtp", 25}},
	KindWeb:      {{"http", 80}},
	KindClient:   nil,
}

// Port is a service and the port that it has in the lab's network.
type Port struct {
	Service string `json:"service"` // dns, smtp, submission, pop3, imap, http
	Port    uint16 `json:"port"`
}

// Host is a computer of the lab.
type Host struct {
	Name    string     `toml:"name" json:"name"` // without the final dot
	Kind    Kind       `toml:"kind" json:"kind"`
	About   string     `toml:"about" json:"about,omitempty"`
	Site    string     `toml:"site" json:"site"` // "": of no site, such as a root server
	Address netip.Addr `toml:"address" json:"address"`
	// Services has what it serves; none given: all of its kind.
	Services []string `toml:"services" json:"services"`

	// ReplicaOf names a host whose address this one shares: what the hosts of
	// the Serves sites send there comes here.
	ReplicaOf string   `toml:"replica_of" json:"replica_of,omitempty"`
	Serves    []string `toml:"serves" json:"serves,omitempty"`

	// Offline tells that a host is not connected when the lab starts.
	Offline bool `toml:"offline" json:"offline,omitempty"`
	// Chained makes a resolver ask the name servers to go on asking for it,
	// instead of asking one after the other itself.
	Chained bool `toml:"chained" json:"chained,omitempty"`

	// Trusting makes a resolver believe what it hears, without validation.
	Trusting bool `toml:"trusting" json:"trusting,omitempty"`
	// RateLimit bounds the answers of one kind that a name server gives to one
	// network in a second (RRL); 0 = no bound.
	RateLimit int `toml:"rate_limit" json:"rate_limit,omitempty"`

	Mail Mail `toml:"mail" json:"mail"`
}

// Mail is how a mail host differs from a postrider without a configuration.
type Mail struct {
	Domains       []string       `toml:"domains" json:"domains,omitempty"` // whose mail it keeps
	RelayDomains  []string       `toml:"relay_domains" json:"relay_domains,omitempty"`
	RelayNetworks []netip.Prefix `toml:"relay_networks" json:"relay_networks,omitempty"`
	RequireAuth   bool           `toml:"require_auth" json:"require_auth,omitempty"`
	BareHelo      bool           `toml:"bare_helo" json:"bare_helo,omitempty"`
	Smarthost     string         `toml:"smarthost" json:"smarthost,omitempty"` // a host's name
	// SmarthostUser is the address of an account at the smarthost.
	SmarthostUser string `toml:"smarthost_user" json:"smarthost_user,omitempty"`
	// Catch is the address of an account that gets all mail, whoever it is for.
	Catch string `toml:"catch" json:"catch,omitempty"`
	// Resolver is the host that it asks; "" = that of its site.
	Resolver string     `toml:"resolver" json:"resolver,omitempty"`
	Retry    []Duration `toml:"retry" json:"retry,omitempty"`
	Expire   Duration   `toml:"expire" json:"expire,omitempty"`
	// Forwards sends the mail of an address on to another.
	Forwards map[string]string `toml:"forwards" json:"forwards,omitempty"`
	// MaxSize bounds a message, in octets; 0 = as without a configuration.
	MaxSize int64 `toml:"max_size" json:"max_size,omitempty"`
}

// Zone is a zone and who serves it. Its SOA and NS records, and in the zone
// above it the delegation with glue and DS records, are made from that.
type Zone struct {
	Name      string   `toml:"name" json:"name"` // without the final dot; "." = root
	Primary   string   `toml:"primary" json:"primary"`
	Secondary []string `toml:"secondary" json:"secondary,omitempty"`
	Signed    bool     `toml:"signed" json:"signed,omitempty"`
	NSEC3     bool     `toml:"nsec3" json:"nsec3,omitempty"` // rather than NSEC
	TTL       Duration `toml:"ttl" json:"ttl,omitempty"`     // of records that say none; 0 = 5m
	// Dynamic lets anybody with the lab's key update the zone.
	Dynamic bool `toml:"dynamic" json:"dynamic,omitempty"`
	// Undelegated tells that the zone above does not know of this one yet.
	Undelegated bool `toml:"undelegated" json:"undelegated,omitempty"`
	// Records are lines of a master file (RFC 1035 section 5).
	Records string `toml:"records" json:"records,omitempty"`
}

// Link is the way between two hosts or sites.
type Link struct {
	From    string   `toml:"from" json:"from"`
	To      string   `toml:"to" json:"to"`
	Latency Duration `toml:"latency" json:"latency"` // one way
}

// Account is a person with a mailbox.
type Account struct {
	Address  string `toml:"address" json:"address"`
	Password string `toml:"password" json:"password"`
	Name     string `toml:"name" json:"name,omitempty"` // for From
	// Quota bounds the mailbox, in octets and messages; 0 = not.
	Quota         int64 `toml:"quota" json:"quota,omitempty"`
	QuotaMessages int   `toml:"quota_messages" json:"quota_messages,omitempty"`
	// Host is where the account lives; it follows from the domain.
	Host string `toml:"-" json:"host"`
}

// Registrar says what a newly registered domain gets.
type Registrar struct {
	// Network has free addresses for the hosts of new domains.
	Network netip.Prefix `toml:"network" json:"network"`
	// TLDs are the top-level domains in which it registers.
	TLDs []string `toml:"tlds" json:"tlds"`
}

// Duration is a time.Duration as text: "200ms", "1h30m", "5d".
type Duration time.Duration

// UnmarshalText reads a duration; besides the units of package time, d is a day.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// MarshalText prints it as package time does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

//go:embed world.toml
var defaultWorld []byte

// DefaultWorld is the text of the built-in world.
func DefaultWorld() []byte { return append([]byte(nil), defaultWorld...) }

// LoadWorld reads a world file; "" is the built-in world.
func LoadWorld(path string) (*World, error) {
	if path == "" {
		return ParseWorld("world.toml", defaultWorld)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return ParseWorld(path, text)
}

// withStudents is the world with disposable accounts, student1 to studentN, whose
// passwords nobody has used before.
func (w *World) withStudents(n int) (*World, error) {
	var domains []string
	for _, a := range w.Accounts {
		if h, ok := w.Host(a.Host); ok && h.Kind == KindMail && len(domains) < 2 {
			domains = append(domains, h.Mail.Domains[0])
		}
	}
	if len(domains) == 0 || n < 0 || n > maxAccounts-len(w.Accounts) {
		return nil, fmt.Errorf("there is no room for %d students in this world", n)
	}
	more := *w
	more.Accounts = slices.Clone(w.Accounts)
	for i := range n {
		d := domains[i%len(domains)]
		a := Account{Address: fmt.Sprintf("student%d@%s", i+1, d), Password: strings.ToLower(rand.Text()[:10]), Name: fmt.Sprintf("Student %d", i+1)}
		for _, h := range w.Hosts {
			if slices.Contains(h.Mail.Domains, d) {
				a.Host = h.Name
			}
		}
		more.Accounts = append(more.Accounts, a)
	}
	return &more, nil
}

// Host finds a host by its name.
func (w *World) Host(name string) (*Host, bool) {
	for i := range w.Hosts {
		if w.Hosts[i].Name == name {
			return &w.Hosts[i], true
		}
	}
	return nil, false
}

// Site finds a site by its name.
func (w *World) Site(name string) (*Site, bool) {
	for i := range w.Sites {
		if w.Sites[i].Name == name {
			return &w.Sites[i], true
		}
	}
	return nil, false
}

// Account finds an account by its address.
func (w *World) Account(address string) (*Account, bool) {
	for i := range w.Accounts {
		if w.Accounts[i].Address == address {
			return &w.Accounts[i], true
		}
	}
	return nil, false
}

// Ports are the services of the host with their ports in the lab's network.
func (h *Host) Ports() []Port {
	var out []Port
	for _, p := range services[h.Kind] {
		if len(h.Services) == 0 {
			out = append(out, p)
			continue
		}
		for _, s := range h.Services {
			if s == p.Service {
				out = append(out, p)
			}
		}
	}
	return out
}
