package zone

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	miekg "github.com/miekg/dns"

	"postrider/dns/durable"
	"postrider/dns/names"
)

// WriteTo writes the zone as a master file for people, in the order of All: the
// names relative to $ORIGIN, each once, the SOA record with a line for each
// field. What Read makes of it is the same zone, and is written in the same octets.
func (z *Zone) WriteTo(w io.Writer) (int64, error) {
	count := &counter{w: w}
	b := bufio.NewWriterSize(count, 64<<10)
	mw := masterWriter{w: b, origin: z.origin, ttl: z.soa.Hdr.Ttl}
	fmt.Fprintf(b, "$ORIGIN %s\n$TTL %d\n", z.origin, mw.ttl)
	for rr := range z.All() {
		mw.record(rr)
	}
	err := b.Flush() // and tells of any error before
	return count.n, err
}

// WriteFile writes the zone to a file in the place of what is there. When it
// returns nil the new file survives loss of power; before, the old is whole.
func (z *Zone) WriteFile(path string) error {
	mode := os.FileMode(0o644)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	return durable.Replace(path, mode, func(w io.Writer) error {
		_, err := z.WriteTo(w)
		return err
	})
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// masterWriter writes records. Errors stay in the buffered writer.
type masterWriter struct {
	w      *bufio.Writer
	origin string
	ttl    uint32
	last   string // owner of the line before
}

// The columns of a line: owner, TTL, type.
const (
	ownerColumn = 24
	ttlColumn   = 8
	typeColumn  = 8
)

func (m *masterWriter) record(rr miekg.RR) {
	h := rr.Header()
	owner := ""
	if h.Name != m.last {
		owner = relative(h.Name, m.origin)
		m.last = h.Name
	}
	ttl := ""
	if h.Ttl != m.ttl {
		ttl = fmt.Sprint(h.Ttl)
	}
	m.pad(owner, ownerColumn)
	m.pad(ttl, ttlColumn)
	m.pad(miekg.Type(h.Rrtype).String(), typeColumn)
	if soa, ok := rr.(*miekg.SOA); ok {
		m.soa(soa)
		return
	}
	m.w.WriteString(rdata(rr))
	m.w.WriteByte('\n')
}

// pad writes a field and at least one space.
func (m *masterWriter) pad(s string, width int) {
	m.w.WriteString(s)
	m.w.WriteByte(' ')
	for n := len(s) + 1; n < width; n++ {
		m.w.WriteByte(' ')
	}
}

func (m *masterWriter) soa(s *miekg.SOA) {
	fmt.Fprintf(m.w, "%s %s (\n", s.Ns, s.Mbox)
	indent := strings.Repeat(" ", ownerColumn+ttlColumn+typeColumn)
	for _, f := range []struct {
		value uint32
		name  string
	}{{s.Serial, "serial"}, {s.Refresh, "refresh"}, {s.Retry, "retry"}, {s.Expire, "expire"}, {s.Minttl, "minimum"}} {
		fmt.Fprintf(m.w, "%s%-10d ; %s\n", indent, f.value, f.name)
	}
	fmt.Fprintf(m.w, "%s)\n", indent)
}

// relative is a name as it stands in a file with that $ORIGIN.
func relative(name, origin string) string {
	if name == origin {
		return "@"
	}
	at := len(name) - len(origin) - 1
	if origin == "." || at <= 0 || name[at] != '.' || name[at+1:] != origin {
		return name
	}
	// The dot must not be an escaped one.
	slashes := 0
	for i := at - 1; i >= 0 && name[i] == '\\'; i-- {
		slashes++
	}
	if slashes%2 == 1 {
		return name
	}
	// A word that the parser takes for a directive is written whole, as is "@".
	if short := name[:at]; short[0] != '$' && short != "@" {
		return short
	}
	return name
}

// rdata is the data of a record in a form that reads back as the same record:
// that of its type, or, where the library cannot read what it writes, the generic
// form of RFC 3597 section 5.
func rdata(rr miekg.RR) string {
	text := strings.TrimPrefix(rr.String(), rr.Header().String())
	if plainType(rr.Header().Rrtype) || reads(rr, text) {
		return text
	}
	return generic(rr)
}

// plainType tells types whose text is known to read back.
func plainType(typ uint16) bool {
	switch typ {
	case miekg.TypeA, miekg.TypeNS, miekg.TypeCNAME, miekg.TypeDNAME, miekg.TypePTR, miekg.TypeMX,
		miekg.TypeDS, miekg.TypeDNSKEY, miekg.TypeRRSIG, miekg.TypeNSEC3PARAM:
		return true
	}
	return false
}

// reads tells that text, as the data of a record, is that record.
func reads(rr miekg.RR, text string) bool {
	if strings.ContainsAny(text, "\n") {
		return false
	}
	h := rr.Header()
	back, err := miekg.NewRR(fmt.Sprintf(". %d IN %s %s\n", h.Ttl, miekg.Type(h.Rrtype), text))
	if err != nil || back == nil {
		return false
	}
	back.Header().Name = h.Name
	return wire(back) == wire(rr)
}

// wire is the data of a record in wire format.
func wire(rr miekg.RR) string {
	buf := make([]byte, miekg.Len(rr)+names.MaxWire)
	n, err := miekg.PackRR(miekg.Copy(rr), buf, 0, nil, false)
	if err != nil {
		buf = make([]byte, miekg.MaxMsgSize+names.MaxWire)
		if n, err = miekg.PackRR(miekg.Copy(rr), buf, 0, nil, false); err != nil {
			return ""
		}
	}
	_, begin, err := miekg.UnpackDomainName(buf, 0)
	if err != nil {
		return ""
	}
	return string(buf[begin+10 : n])
}

func generic(rr miekg.RR) string {
	data := wire(rr)
	return fmt.Sprintf("\\# %d %s", len(data), hex.EncodeToString([]byte(data)))
}
