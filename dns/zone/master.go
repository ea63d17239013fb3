package zone

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	miekg "github.com/miekg/dns"

	"postrider/dns/names"
)

// Limits on master files. They guard against mistakes and hostile input; all
// but those of Options are fixed.
const (
	maxLine     = 256 << 10 // octets of a line
	maxIncludes = 1000      // files opened by $INCLUDE in all; their depth is 7
	maxGenerate = 1 << 16   // records made by one $GENERATE
	// The defaults of Options.
	maxBytes   = 1 << 30
	maxRecords = 5_000_000
)

// Options says how to read a master file.
type Options struct {
	// Origin is the zone's name. It is needed unless the file begins with an
	// absolute $ORIGIN, or an SOA record with an absolute name.
	Origin string
	// File is the name that errors mention, and to which the names of $INCLUDE
	// are relative.
	File string
	// Open opens a file that is included. Without it $INCLUDE is an error.
	Open func(name string) (io.ReadCloser, error)
	// MaxBytes and MaxRecords bound all files together and what $GENERATE makes.
	// 0 is 1 GiB and 5,000,000.
	MaxBytes   int64
	MaxRecords int
}

// Error is what is wrong with a master file, and where.
type Error struct {
	File string // "" if it has no name
	Line int    // of the file; 0 for what is wrong with the zone as a whole
	Err  error
}

func (e *Error) Error() string {
	where := e.File
	if where == "" {
		where = "zone"
	}
	if e.Line > 0 {
		where = fmt.Sprintf("%s:%d", where, e.Line)
	}
	return where + ": " + e.Err.Error()
}

// Unwrap gives the cause, which wraps ErrInvalid, ErrTooLarge or an error of
// reading.
func (e *Error) Unwrap() error { return e.Err }

// Load reads the master file at path, and those that it includes. An empty
// origin is taken from the file, as in Options.
func Load(path, origin string) (*Zone, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Read(f, Options{Origin: origin, File: path, Open: func(name string) (io.ReadCloser, error) { return os.Open(name) }})
}

// Read reads a master file (RFC 1035 section 5.1) with $ORIGIN, $INCLUDE, $TTL
// (RFC 2308 section 4) and $GENERATE. A TTL that is not given is that of $TTL, of
// the record before, or the minimum of the SOA record. Errors are *Error; no zone
// comes with one.
func Read(r io.Reader, o Options) (*Zone, error) {
	p := &reading{o: o, bytes: o.MaxBytes, records: o.MaxRecords}
	if p.bytes <= 0 {
		p.bytes = maxBytes
	}
	if p.records <= 0 {
		p.records = maxRecords
	}
	top := newSource(p, o.File, r)
	p.open = []*source{top}
	defer func() {
		for _, s := range p.open {
			s.Close() // those that an error has left open; they were only read
		}
	}()
	origin := names.Canonical(o.Origin)
	if o.Origin == "" {
		var err error
		if origin, err = p.guess(top); err != nil {
			return nil, p.fail(err)
		}
	}
	e, err := newEdit(origin)
	if err != nil {
		return nil, p.fail(err)
	}
	if err := p.parse(e, top); err != nil {
		return nil, err
	}
	z, err := e.load()
	if err != nil {
		return nil, &Error{o.File, 0, err}
	}
	return z, nil
}

// noTTL stands for a TTL that no line has given, until the SOA record is known.
const noTTL = 1<<32 - 1

// parse puts the records of the file into the edit.
func (p *reading) parse(e *edit, top *source) error {
	zp := miekg.NewZoneParser(top, e.origin, p.o.File)
	zp.SetDefaultTTL(noTTL)
	zp.SetIncludeAllowed(p.o.Open != nil)
	zp.SetIncludeFS(p)
	var c copier
	var unset []miekg.RR // whose TTL is the SOA's to give
	for {
		rr, ok := zp.Next()
		if !ok {
			break
		}
		if blank(rr) {
			return p.fail(fmt.Errorf("%w: %s %s: it has no data", ErrInvalid, rr.Header().Name, miekg.Type(rr.Header().Rrtype)))
		}
		own, err := c.copy(rr)
		if err != nil {
			return p.fail(err)
		}
		if rr.Header().Ttl == noTTL {
			unset = append(unset, own)
		}
		if err := e.add(own); err != nil {
			return p.fail(fmt.Errorf("%w: %w", ErrInvalid, err))
		}
		if e.count > p.records {
			return p.fail(fmt.Errorf("%w: more than %d records", ErrTooLarge, p.records))
		}
		p.current().settle()
	}
	if p.err != nil {
		return p.fail(p.err)
	}
	if err := zp.Err(); err != nil {
		return p.fail(p.explain(err))
	}
	if soa := e.apex.data(miekg.TypeSOA); soa != nil {
		for _, rr := range unset {
			rr.Header().Ttl = soa.all[0].(*miekg.SOA).Minttl
		}
	} else if len(unset) > 0 {
		return &Error{p.o.File, 0, fmt.Errorf("%w: neither a TTL nor an SOA record is given", ErrInvalid)}
	}
	return nil
}

// explain leaves out of the parser's error the place, which we know better.
func (p *reading) explain(err error) error {
	var pe *miekg.ParseError
	if !errors.As(err, &pe) {
		return err
	}
	if cause := pe.Unwrap(); cause != nil { // of Open, with a name that is not the file's
		return fmt.Errorf("$INCLUDE: %w", errors.Unwrap(cause))
	}
	text := strings.TrimPrefix(pe.Error(), p.current().name+": ")
	text = strings.TrimPrefix(text, "dns: ")
	if i := strings.LastIndex(text, " at line: "); i >= 0 {
		text = text[:i]
	}
	return fmt.Errorf("%w: %s", ErrInvalid, text)
}

// reading is a master file being read, with those that it includes.
type reading struct {
	o       Options
	bytes   int64 // that may still be read
	records int
	opened  int       // by $INCLUDE
	open    []*source // the last is the one being read
	err     error     // what stopped the reading
}

func (p *reading) current() *source { return p.open[len(p.open)-1] }

func (p *reading) fail(err error) error {
	s := p.current()
	return &Error{s.name, s.at, err}
}

// Open implements fs.FS for $INCLUDE. The parser cuts the slash off absolute
// names, so that the name is taken from the line instead.
func (p *reading) Open(string) (fs.File, error) {
	name := p.current().included
	switch {
	case p.o.Open == nil:
		return nil, errors.New("$INCLUDE is not allowed here")
	case p.opened == maxIncludes:
		return nil, fmt.Errorf("%w: more than %d files are included", ErrTooLarge, maxIncludes)
	case name == "":
		return nil, errors.New("the line names no file")
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(p.current().name), name)
	}
	p.opened++
	f, err := p.o.Open(name)
	if err != nil {
		return nil, err
	}
	s := newSource(p, name, f)
	p.open = append(p.open, s)
	return s, nil
}

// guess finds the origin of a file that is not told one, from its first lines.
func (p *reading) guess(top *source) (string, error) {
	head, err := top.r.Peek(maxLine / 4)
	if err != nil && err != io.EOF {
		return "", err
	}
	for line := range bytes.Lines(head) {
		text, _, _ := strings.Cut(string(line), ";")
		f := strings.Fields(text)
		if len(f) < 2 || !strings.HasSuffix(f[0], ".") && !strings.EqualFold(f[0], "$ORIGIN") {
			continue
		}
		name := f[0]
		if strings.EqualFold(name, "$ORIGIN") {
			name = f[1]
		}
		if strings.HasSuffix(name, ".") && names.Canonical(name) != "" {
			return names.Canonical(name), nil
		}
	}
	return "", fmt.Errorf("%w: it does not say its origin; begin it with $ORIGIN", ErrInvalid)
}
