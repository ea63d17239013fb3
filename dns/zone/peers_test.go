package zone

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnstest"
)

// peer is a name server from Debian, which serves zones from files on a loopback
// port.
type peer struct {
	name string
	conn *miekg.Conn
	addr string
}

// nameServer says how to run one.
type nameServer struct {
	name    string
	path    string
	args    []string // the configuration file follows
	config  func(dir string, port int, zones []string) string
	ready   string // a line of its log has this
	perZone string // so has one for each zone that it has loaded, or failed to
}

var nameServers = []nameServer{
	{"named", "/usr/sbin/named", []string{"-g", "-c"}, namedConfig, " running\n", ""},
	{"nsd", "/usr/sbin/nsd", []string{"-d", "-c"}, nsdConfig, "nsd started", ""},
	{"knot", "/usr/sbin/knotd", []string{"-c"}, knotConfig, "", "zone event 'load' failed|zone file parsed|loaded, serial"},
}

func namedConfig(dir string, port int, zones []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `options { directory "%s"; listen-on port %d { 127.0.0.1; }; listen-on-v6 { none; };
	recursion no; minimal-responses no; minimal-any no; dnssec-validation no; notify no;
	pid-file "%[1]s/named.pid"; session-keyfile none; check-integrity no; zero-no-soa-ttl no; tcp-idle-timeout 1200; };
	controls { };
	`, dir, port)
	for _, z := range zones {
		fmt.Fprintf(&b, `zone "%s" { type primary; file "%[1]szone"; check-names ignore; check-mx ignore; check-mx-cname ignore; check-srv-cname ignore; };`+"\n", z)
	}
	return b.String()
}

func nsdConfig(dir string, port int, zones []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `server:
  ip-address: 127.0.0.1@%d
  username: ""
  chroot: ""
  database: ""
  zonesdir: %s
  xfrdfile: %[2]s/xfrd
  xfrdir: %[2]s
  pidfile: %[2]s/nsd.pid
  zonelistfile: %[2]s/nsd.list
  minimal-responses: no
  refuse-any: no
  server-count: 1
  rrl-ratelimit: 0
  tcp-timeout: 600
  tcp-query-count: 0
  verbosity: 2
remote-control:
  control-enable: no
`, port, dir)
	for _, z := range zones {
		fmt.Fprintf(&b, "zone:\n  name: %s\n  zonefile: %[1]szone\n", z)
	}
	return b.String()
}

func knotConfig(dir string, port int, zones []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `server:
    rundir: %s
    listen: 127.0.0.1@%d
    tcp-idle-timeout: 600
log:
  - target: stderr
    any: info
database:
    storage: %[1]s/knotdb
template:
  - id: default
    storage: %[1]s
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: none
zone:
`, dir, port)
	for _, z := range zones {
		fmt.Fprintf(&b, "  - domain: %s\n    file: %[1]szone\n", z)
	}
	return b.String()
}

// startPeers runs every program for the zones, whose files are in dir as
// "ORIGINzone", and returns when all of them answer. The test ends them.
func startPeers(t *testing.T, dir string, zones []string) []*peer {
	t.Helper()
	var wg sync.WaitGroup
	peers := make([]*peer, len(nameServers))
	for i, p := range nameServers {
		wg.Go(func() { peers[i] = p.start(t, dir, zones) })
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return peers
}

func (p nameServer) start(t *testing.T, dir string, zones []string) *peer {
	port, err := dnstest.Port()
	if err != nil {
		t.Error(err)
		return nil
	}
	home := filepath.Join(dir, p.name)
	if err := os.MkdirAll(filepath.Join(home, "knotdb"), 0o777); err != nil {
		t.Error(err)
		return nil
	}
	for _, z := range zones {
		if err := os.Symlink(filepath.Join(dir, z+"zone"), filepath.Join(home, z+"zone")); err != nil {
			t.Error(err)
			return nil
		}
	}
	config := filepath.Join(home, "conf")
	if err := os.WriteFile(config, []byte(p.config(home, port, zones)), 0o666); err != nil {
		t.Error(err)
		return nil
	}
	cmd := exec.Command(p.path, append(p.args, config)...)
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Errorf("%s (integration/setup.sh installs it): %v", p.name, err)
		return nil
	}
	done := make(chan struct{})
	ready := make(chan error, 1)
	go p.follow(bufio.NewScanner(stderr), len(zones), ready, done)
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-done
		cmd.Wait()
	})
	select {
	case err := <-ready:
		if err != nil {
			t.Errorf("%s: %v", p.name, err)
			return nil
		}
	case <-time.After(60 * time.Second):
		t.Errorf("%s does not start", p.name)
		return nil
	}
	return &peer{name: p.name, addr: fmt.Sprintf("127.0.0.1:%d", port)}
}

// follow reads the log until the program ends, and tells when it is ready.
func (p nameServer) follow(log *bufio.Scanner, zones int, ready chan<- error, done chan<- struct{}) {
	defer close(done)
	var lines []string
	told := false
	for log.Scan() {
		if told {
			continue
		}
		lines = append(lines, log.Text())
		if p.perZone != "" {
			for _, s := range strings.Split(p.perZone, "|") {
				if strings.Contains(log.Text(), s) {
					zones--
					break
				}
			}
		}
		if p.ready != "" && strings.Contains(log.Text()+"\n", p.ready) || p.perZone != "" && zones == 0 {
			told = true
			ready <- nil
		}
	}
	if !told {
		ready <- fmt.Errorf("it ended:\n%s", strings.Join(lines, "\n"))
	}
}

// ask asks over TCP, so that nothing is cut short.
func (p *peer) ask(t *testing.T, q miekg.Question, do bool) *miekg.Msg {
	t.Helper()
	m := new(miekg.Msg)
	m.Id = miekg.Id()
	m.Question = []miekg.Question{q}
	if do {
		m.SetEdns0(4096, true)
	}
	for try := 0; ; try++ {
		r, err := p.exchange(m)
		if err == nil && r.Id == m.Id {
			return r
		}
		p.conn = nil
		if try == 3 {
			t.Fatalf("%s: %s %s: %v", p.name, q.Name, miekg.Type(q.Qtype), err)
		}
	}
}

func (p *peer) exchange(m *miekg.Msg) (*miekg.Msg, error) {
	if p.conn == nil {
		c, err := miekg.DialTimeout("tcp", p.addr, 10*time.Second)
		if err != nil {
			return nil, err
		}
		p.conn = c
	}
	p.conn.SetDeadline(time.Now().Add(20 * time.Second))
	if err := p.conn.WriteMsg(m); err != nil {
		return nil, err
	}
	return p.conn.ReadMsg()
}
