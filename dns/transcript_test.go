package dns

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	miekg "github.com/miekg/dns"

	"postrider/dns/dnstest"
)

var update = flag.Bool("update", false, "write the outputs of the transcripts anew")

// TestTranscripts runs testdata/transcripts: a zone up to a line "---", then
// commands, which begin with "> ", each with what it prints. Time is that of a
// bubble and the server is reached in memory.
//
//	mx | addresses | txt | ptr | query NAME [TYPE]
//	fault KEY=VALUE...   a dnstest.Fault; "heal" removes all
//	wait DURATION
//	asked                the questions that arrived since the last time
//	took                 how long the last lookup took
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runTranscript(t, file) })
		})
	}
}

func runTranscript(t *testing.T, file string) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	zone, script, ok := strings.Cut(string(b), "---\n")
	if !ok {
		t.Fatal("no line ---")
	}
	z, err := dnstest.Parse(zone)
	if err != nil {
		t.Fatal(err)
	}
	server := dnstest.New(z)
	defer server.Close()
	r, err := NewResolver(Options{
		Servers: []string{"192.0.2.53"}, Search: []string{"example.org", "example.net"}, Dial: server.Dial,
		Rand: zeros{}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &player{server: server, resolver: r}
	var got strings.Builder
	got.WriteString(zone + "---\n")
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "#") || line == "\n" {
			got.WriteString(line)
		}
		if cmd, ok := strings.CutPrefix(line, "> "); ok {
			got.WriteString(line + p.run(t, strings.Fields(cmd)))
		}
	}
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(strings.Split(string(b), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// zeros makes every identifier 0.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

var _ io.Reader = zeros{}

type player struct {
	server   *dnstest.Server
	resolver *Resolver
	seen     int
	took     time.Duration
}

func (p *player) run(t *testing.T, f []string) string {
	ctx := context.Background()
	defer func(began time.Time) {
		if f[0] != "took" {
			p.took = time.Since(began)
		}
	}(time.Now())
	switch f[0] {
	case "mx":
		return show(p.resolver.MX(ctx, f[1]))
	case "addresses":
		return show(p.resolver.Addresses(ctx, f[1]))
	case "txt":
		list, err := p.resolver.TXT(ctx, f[1])
		for i := range list {
			list[i] = strconv.Quote(list[i])
		}
		return show(list, err)
	case "ptr":
		return show(p.resolver.PTR(ctx, netip.MustParseAddr(f[1])))
	case "query":
		return p.query(t, f[1:])
	case "fault":
		p.server.Break(fault(t, f[1:]))
	case "heal":
		p.server.Heal()
	case "wait":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(d) // the bubble's time
	case "took":
		return fmt.Sprintln(p.took)
	case "asked":
		var b strings.Builder
		queries := p.server.Queries()
		fresh := slices.Clone(queries[p.seen:])
		// A and AAAA go out at the same time.
		slices.SortStableFunc(fresh, func(a, b dnstest.Query) int { return strings.Compare(a.Type, b.Type) })
		for _, q := range fresh {
			fmt.Fprintf(&b, "%s %s %s", q.Network, q.Type, q.Name)
			if !q.EDNS {
				b.WriteString(" without EDNS")
			}
			b.WriteByte('\n')
		}
		p.seen = len(queries)
		return b.String()
	default:
		t.Fatalf("unknown command %q", f[0])
	}
	return ""
}

func (p *player) query(t *testing.T, f []string) string {
	var typ Type
	if len(f) > 1 {
		var err error
		if typ, err = ParseType(f[1]); err != nil {
			t.Fatal(err)
		}
	}
	a, err := p.resolver.Query(context.Background(), f[0], typ)
	if err != nil {
		return show[string](nil, err)
	}
	var b strings.Builder
	if err := Format(&b, a); err != nil {
		t.Fatal(err)
	}
	if a.Err() != nil {
		b.WriteString(show[string](nil, a.Err()))
	}
	return b.String()
}

// show prints results, or which of the three errors it is, and its text.
func show[T any](list []T, err error) string {
	if err == nil {
		var b strings.Builder
		for _, v := range list {
			fmt.Fprintln(&b, v)
		}
		return b.String()
	}
	kind := "?"
	for _, k := range []struct {
		name string
		err  error
	}{{"not exist", ErrNotExist}, {"no data", ErrNoData}, {"temporary", ErrTemporary}} {
		if errors.Is(err, k.err) {
			kind = k.name
		}
	}
	return fmt.Sprintf("error, %s: %v\n", kind, err)
}

func fault(t *testing.T, args []string) dnstest.Fault {
	var f dnstest.Fault
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		n, _ := strconv.Atoi(value)
		switch key {
		case "name":
			f.Name = value
		case "type":
			f.Type = value
		case "network":
			f.Network = value
		case "edns":
			f.EDNS = true
		case "times":
			f.Times = n
		case "delay":
			f.Delay, _ = time.ParseDuration(value)
		case "wrong-id":
			f.WrongID = n
		case "wrong-question":
			f.WrongQuestion = n
		case "not-answer":
			f.NotAnswer = true
		case "drop":
			f.Drop = true
		case "rcode":
			f.Rcode = miekg.StringToRcode[value]
		case "no-question":
			f.NoQuestion = true
		case "truncate":
			f.Truncate = true
		case "cut-short":
			f.CutShort = n
		case "no-soa":
			f.Edit = func(m *miekg.Msg) { m.Ns = nil }
		default:
			t.Fatalf("unknown fault %q", arg)
		}
	}
	return f
}
