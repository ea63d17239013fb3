package server

import (
	"encoding/binary"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/zone"
)

// entry is an answer as octets, made once and sent many times: what differs
// from one reply to the next is patched into the copy. It never changes. Most are
// not in the processor's cache when they are asked for: what each reply needs
// stands together.
type entry struct {
	key  []byte // see query.key
	wire []byte // header, question and records; the OPT record is made for each reply

	// Of an authoritative answer: it holds as long as this is what is served.
	from  *served
	zone  *zone.Zone
	setup *setup
	// Of another: when its TTLs were right, and until when it is sent.
	stored, until int64 // Unix time in nanoseconds
	generation    uint64

	kind uint64 // what the rate of answers is counted by; see limiter

	records      int // offset of the first record
	withoutExtra int // the length without the additional section
	counts       [3]uint16
	flags        uint16 // AA, RA, and the lower four bits of the rcode
	rcode        int    // whole
	secure       bool   // validated: AD for those who want to know (RFC 6840 section 5.8)
	origin       origin
	referral     bool   // whose addresses may not be left out silently (RFC 9471 section 3)
	says         string // of an answer by recursion: "secure", "insecure", "bogus" or "indeterminate"
	errors       []extended
	ttls         []uint16
	runs         []run

	fewTTLs [4]uint16        // room for most ttls
	room    [roomOctets]byte // for most keys and answers
}

// origin is where an answer is from that is not of our zones.
type origin uint8

const (
	ownZone origin = iota // or nobody's
	asked
	cached
)

// roomOctets makes an entry as large as the allocator would anyway.
const roomOctets = 144

// run is records of one set of addresses, all of one size, that stand one after
// the other.
type run struct{ off, size, n int }

// extended is an extended error (RFC 8914).
type extended struct {
	code uint16
	text string
}

// maxTTLs bounds the records of an answer that is kept; an answer with more is
// made each time anew.
const maxTTLs = 512

// newEntry packs an answer. The message has its question's name in lower case
// and no OPT record. An answer that exceeds a message is cut short: TC.
func newEntry(m *miekg.Msg) *entry {
	m.Compress = true
	e := &entry{rcode: m.Rcode}
	m.Rcode &= rcodeMask
	wire, err := m.Pack()
	if err != nil || len(wire) > maxMessage {
		m.Answer, m.Ns, m.Extra = nil, nil, nil
		if m.Truncated = true; err != nil {
			m.Truncated, m.Authoritative, m.Rcode, e.rcode = false, false, miekg.RcodeServerFailure, miekg.RcodeServerFailure
		}
		if wire, err = m.Pack(); err != nil { // the question alone: it came over the wire
			return nil
		}
	}
	e.wire = wire
	e.flags = binary.BigEndian.Uint16(wire[2:]) & (flagAA | flagTC | flagRA | rcodeMask)
	for i := range e.counts {
		e.counts[i] = binary.BigEndian.Uint16(wire[6+2*i:])
	}
	e.index()
	return e
}

// index notes where the TTLs are, where the additional section begins, and
// which records take turns.
func (e *entry) index() {
	off := headerSize
	if binary.BigEndian.Uint16(e.wire[4:]) > 0 {
		off = skipName(e.wire, off) + 4
	}
	e.records = off
	n := int(e.counts[0]) + int(e.counts[1]) + int(e.counts[2])
	if e.ttls = e.fewTTLs[:0]; n > len(e.fewTTLs) {
		e.ttls = make([]uint16, 0, min(n, maxTTLs))
	}
	e.withoutExtra = len(e.wire)
	var last run
	var lastType uint16
	for i := range n {
		if i == int(e.counts[0])+int(e.counts[1]) {
			e.withoutExtra = off
		}
		end, fixed := skipRR(e.wire, off)
		if end == 0 {
			return
		}
		if len(e.ttls) < maxTTLs {
			e.ttls = append(e.ttls, uint16(fixed+4))
		}
		typ := binary.BigEndian.Uint16(e.wire[fixed:])
		address := i < int(e.counts[0]) && (typ == miekg.TypeA || typ == miekg.TypeAAAA)
		// One set has one owner, which is a pointer in every record but
		// perhaps the first; that one is as long if it is the question's.
		if address && typ == lastType && end-off == last.size && string(e.wire[off:fixed]) == string(e.wire[last.off:last.off+fixed-off]) {
			last.n++
		} else {
			e.addRun(last)
			last, lastType = run{}, 0
			if address {
				last, lastType = run{off, end - off, 1}, typ
			}
		}
		off = end
	}
	e.addRun(last)
}

func (e *entry) addRun(r run) {
	if r.n > 1 {
		e.runs = append(e.runs, r)
	}
}

// reply is what a reply is made for.
type reply struct {
	q      *query
	limit  int // octets of the whole reply
	now    int64
	turn   int  // which address goes first
	stream bool // TCP or TLS
	// padded is over TLS, where sizes are hidden from who listens.
	padded bool
	cookie [serverCookieSize]byte // of the reply, if q has a cookie
	cut    bool                   // TC without records: who has sent the query shall prove its address
	idle   time.Duration          // of connections, for those who ask
	ednsUs int                    // the size of datagrams that we take
}

// append adds the reply to dst.
func (e *entry) append(dst []byte, r *reply) []byte {
	q := r.q
	opt := e.optSize(r, true)
	text := true
	if opt > 0 && e.records+opt > r.limit {
		opt, text = e.optSize(r, false), false
	}
	size, cut := len(e.wire), r.cut
	counts := e.counts
	if !cut && size+opt > r.limit {
		if counts[2] > 0 && !e.referral && e.withoutExtra+opt <= r.limit {
			size, counts[2] = e.withoutExtra, 0
		} else {
			cut = true
		}
	}
	if cut {
		size, counts = e.records, [3]uint16{}
	}
	start := len(dst)
	dst = append(dst, e.wire[:size]...)
	m := dst[start:]
	binary.BigEndian.PutUint16(m, q.id)
	flags := flagQR | uint16(q.opcode)<<opcodeShift | e.flags | q.flags&(flagRD|flagCD)
	if cut {
		flags |= flagTC
	}
	if e.secure && (q.do || q.flags&flagAD != 0) {
		flags |= flagAD
	}
	binary.BigEndian.PutUint16(m[2:], flags)
	for i, n := range counts {
		binary.BigEndian.PutUint16(m[6+2*i:], n)
	}
	if e.records > headerSize { // the name as the client spelt it, all that points to it included
		copy(m[headerSize:e.records], q.wire[headerSize:q.afterQ])
	}
	if !cut {
		e.age(m, r.now)
		for _, run := range e.runs {
			run.rotate(m, r.turn)
		}
	}
	if q.edns {
		dst = e.appendOPT(dst, start, r, text)
	}
	return dst
}

// age lowers the TTLs by the time that has passed.
func (e *entry) age(m []byte, now int64) {
	passed := uint32(max(now-e.stored, 0) / int64(time.Second))
	if e.stored == 0 || passed == 0 {
		return
	}
	for _, off := range e.ttls {
		if int(off) >= len(m) {
			return
		}
		ttl := binary.BigEndian.Uint32(m[off:])
		binary.BigEndian.PutUint32(m[off:], ttl-min(ttl, passed))
	}
}

// rotate puts another record first: clients take the first address, so that
// each gets its share.
func (r run) rotate(m []byte, turn int) {
	k := turn % r.n
	if k == 0 {
		return
	}
	block := m[r.off : r.off+r.n*r.size]
	reverse := func(i, j int) { // of records
		for j--; i < j; i, j = i+1, j-1 {
			a, b := block[i*r.size:(i+1)*r.size], block[j*r.size:(j+1)*r.size]
			for x := range a {
				a[x], b[x] = b[x], a[x]
			}
		}
	}
	reverse(0, k)
	reverse(k, r.n)
	reverse(0, r.n)
}

const (
	optFixed = 11
	// padBlock is the block to which replies over TLS are padded (RFC 8467
	// section 4.1).
	padBlock = 468
)

// optSize is the length of the OPT record, padding excluded.
func (e *entry) optSize(r *reply, text bool) int {
	if !r.q.edns {
		return 0
	}
	n := optFixed
	if r.q.cookie != nil {
		n += 4 + clientCookieSize + serverCookieSize
	}
	if r.stream && r.q.keepalive {
		n += 6
	}
	for _, x := range e.errors {
		n += 6
		if text {
			n += len(x.text)
		}
	}
	return n
}

// appendOPT adds the OPT record to the message that begins at start.
func (e *entry) appendOPT(dst []byte, start int, r *reply, text bool) []byte {
	var ttl uint32 = uint32(e.rcode>>4&0xff) << 24 // the upper bits of the rcode, version 0
	if r.q.do {
		ttl |= 1 << 15
	}
	dst = append(dst, 0, 0, byte(miekg.TypeOPT))
	dst = binary.BigEndian.AppendUint16(dst, uint16(r.ednsUs))
	dst = binary.BigEndian.AppendUint32(dst, ttl)
	dst = append(dst, 0, 0)
	length := len(dst) - 2
	if r.q.cookie != nil {
		dst = append(dst, 0, optCookie, 0, clientCookieSize+serverCookieSize)
		dst = append(dst, r.q.cookie[:clientCookieSize]...)
		dst = append(dst, r.cookie[:]...)
	}
	if r.stream && r.q.keepalive { // RFC 7828 section 3.1: in units of 100 ms
		dst = append(dst, 0, optKeepalive, 0, 2)
		dst = binary.BigEndian.AppendUint16(dst, uint16(min(r.idle/(100*time.Millisecond), 65535)))
	}
	for _, x := range e.errors {
		n := 0
		if text {
			n = len(x.text)
		}
		dst = append(dst, 0, optEDE)
		dst = binary.BigEndian.AppendUint16(dst, uint16(2+n))
		dst = binary.BigEndian.AppendUint16(dst, x.code)
		dst = append(dst, x.text[:n]...)
	}
	if r.padded && r.q.padding {
		have := len(dst) - start + 4
		n := min((padBlock-have%padBlock)%padBlock, max(r.limit-have, 0))
		dst = append(dst, 0, optPadding)
		dst = binary.BigEndian.AppendUint16(dst, uint16(n))
		dst = append(dst, make([]byte, n)...)
	}
	binary.BigEndian.PutUint16(dst[length:], uint16(len(dst)-length-2))
	extra := dst[start+10 : start+12]
	binary.BigEndian.PutUint16(extra, binary.BigEndian.Uint16(extra)+1)
	return dst
}
