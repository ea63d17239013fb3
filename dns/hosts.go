package dns

import (
	"bufio"
	"bytes"
	"net/netip"
	"slices"
	"strings"
)

// hosts is the content of a hosts file: lines with an address and its names,
// the first being the canonical one; # begins a comment.
type hosts struct {
	byName map[string][]netip.Addr // by normalised name
	byAddr map[netip.Addr][]string // without zone; in the order of the file
}

// parseHosts reads a hosts file and leaves out what it can't read, as every
// resolver does.
func parseHosts(b []byte) hosts {
	h := hosts{byName: map[string][]netip.Addr{}, byAddr: map[netip.Addr][]string{}}
	for line := range lines(b) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		addr = addr.Unmap()
		for _, f := range fields[1:] {
			name, err := normalize(f)
			if err != nil {
				continue
			}
			if !slices.Contains(h.byName[name], addr) {
				h.byName[name] = append(h.byName[name], addr)
			}
			bare := addr.WithZone("")
			if !slices.Contains(h.byAddr[bare], plain(name)) {
				h.byAddr[bare] = append(h.byAddr[bare], plain(name))
			}
		}
	}
	return h
}

// lines yields the lines of a text file, without their ends. A line of more
// than 64 KiB ends the file.
func lines(b []byte) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
			if !yield(s.Text()) {
				return
			}
		}
	}
}
