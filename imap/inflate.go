package imap

import (
	"errors"
	"io"
)

// errDeflate is a stream that is not RFC 1951.
var errDeflate = errors.New("the compressed stream is damaged")

// octets is what an inflater reads. Buffered tells whether ReadByte returns at
// once.
type octets interface {
	io.ByteReader
	Buffered() int
}

// inflater decompresses RFC 1951 and gives out what it has before it waits for
// more. Those of the standard library and of others wait for a stored block or the
// end: a client that ends its commands with a partial flush, which RFC 4978 section
// 4 allows, would wait for us for ever.
type inflater struct {
	src  octets
	bits uint64 // not yet used, the first lowest
	n    uint   // how many

	window  [windowSize]byte
	at      int // where the next octet goes
	known   int // octets of the window that hold something
	pending int // octets before at that were not given out

	block  func(*inflater) error // goes on with the present block; nil between two
	stored int                   // octets left of a stored block
	inside bool                  // a block has begun and not ended
	last   bool                  // the present block is the last
	lit    codes
	dist   codes
	err    error
}

const (
	windowSize  = 32 << 10
	maxCodeBits = 15
	maxMatch    = 258
)

func newInflater(src octets) *inflater { return &inflater{src: src} }

// errLater: what is needed has not come, and there is something to give out.
var errLater = errors.New("more input is needed")

func (z *inflater) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for z.pending == 0 && z.err == nil {
		err := z.decode()
		if err != nil && !errors.Is(err, errLater) {
			if errors.Is(err, io.EOF) && (z.inside || z.n > 0) {
				err = io.ErrUnexpectedEOF
			}
			z.err = err
		}
	}
	if z.pending == 0 {
		return 0, z.err
	}
	from := (z.at - z.pending) & (windowSize - 1)
	n := copy(p, z.window[from:min(windowSize, from+z.pending)])
	z.pending -= n
	return n, nil
}

// decode goes on until there is something to give out and either much of it or
// nothing more that could be read at once.
func (z *inflater) decode() error {
	for {
		if z.block == nil {
			if z.pending > 0 {
				return nil // a header may have to be waited for
			}
			if z.last {
				z.n = 0 // padding
				return io.EOF
			}
			if err := z.header(); err != nil {
				return err
			}
		}
		if err := z.block(z); err != nil {
			return err
		}
		if z.pending >= windowSize/2 {
			return nil
		}
	}
}

// put appends an octet to the output.
func (z *inflater) put(c byte) {
	z.window[z.at] = c
	z.at = (z.at + 1) & (windowSize - 1)
	z.known = min(z.known+1, windowSize)
	z.pending++
}

// need makes sure of n bits, at most 57.
func (z *inflater) need(n uint) error {
	for z.n < n {
		if z.pending > 0 && z.src.Buffered() == 0 {
			return errLater
		}
		c, err := z.src.ReadByte()
		if err != nil {
			return err
		}
		z.bits |= uint64(c) << z.n
		z.n += 8
	}
	return nil
}

// take uses n bits that are there.
func (z *inflater) take(n uint) int {
	v := int(z.bits & (1<<n - 1))
	z.bits >>= n
	z.n -= n
	return v
}

// header begins a block (RFC 1951 section 3.2.3).
func (z *inflater) header() error {
	if err := z.need(3); err != nil {
		return err
	}
	z.inside, z.last = true, z.take(1) == 1
	switch z.take(2) {
	case 0:
		z.take(z.n & 7)
		if err := z.need(32); err != nil {
			return err
		}
		size, check := z.take(16), z.take(16)
		if size != check^0xffff {
			return errDeflate
		}
		z.stored, z.block = size, (*inflater).copyStored
	case 1:
		z.fixed()
		z.block = (*inflater).symbols
	case 2:
		if err := z.dynamic(); err != nil {
			return err
		}
		z.block = (*inflater).symbols
	default:
		return errDeflate
	}
	return nil
}

// copyStored goes on with a stored block. Whole octets may be in bits.
func (z *inflater) copyStored() error {
	for z.stored > 0 && z.pending < windowSize/2 {
		if err := z.need(8); err != nil {
			return err
		}
		z.put(byte(z.take(8)))
		z.stored--
	}
	if z.stored == 0 {
		z.block, z.inside = nil, false
	}
	return nil
}

// Lengths and distances (RFC 1951 section 3.2.5).
var (
	lengthBase  = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase    = [30]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distExtra   = [30]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// symbols goes on with a compressed block. Nothing of a symbol is used before all
// of it is there.
func (z *inflater) symbols() error {
	for z.pending < windowSize/2 {
		symbol, used, err := z.peek(&z.lit, 0)
		if err != nil {
			return err
		}
		switch {
		case symbol < 256:
			z.take(used)
			z.put(byte(symbol))
			continue
		case symbol == 256:
			z.take(used)
			z.block, z.inside = nil, false
			return nil
		case symbol > 285:
			return errDeflate
		}
		symbol -= 257
		extra := uint(lengthExtra[symbol])
		if err := z.need(used + extra); err != nil {
			return err
		}
		length := int(lengthBase[symbol]) + int(z.bits>>used&(1<<extra-1))
		used += extra
		where, n, err := z.peek(&z.dist, used)
		if err != nil {
			return err
		}
		if where >= len(distBase) {
			return errDeflate
		}
		used += n
		extra = uint(distExtra[where])
		if err := z.need(used + extra); err != nil {
			return err
		}
		distance := int(distBase[where]) + int(z.bits>>used&(1<<extra-1))
		if distance > z.known {
			return errDeflate
		}
		z.take(used + extra)
		for range length {
			z.put(z.window[(z.at-distance)&(windowSize-1)])
		}
	}
	return nil
}

// codes is a canonical Huffman code: how many codes there are of each length, and
// the symbols in their order.
type codes struct {
	count   [maxCodeBits + 1]uint16
	symbols [288]uint16
}

// peek decodes a symbol behind skip bits. It tells how many bits the symbol has
// and uses none.
func (z *inflater) peek(c *codes, skip uint) (symbol int, used uint, err error) {
	code, first, index := 0, 0, 0
	for length := uint(1); length <= maxCodeBits; length++ {
		if err := z.need(skip + length); err != nil {
			return 0, 0, err
		}
		code |= int(z.bits >> (skip + length - 1) & 1)
		n := int(c.count[length])
		if code-n < first {
			return int(c.symbols[index+code-first]), length, nil
		}
		index += n
		first = (first + n) << 1
		code <<= 1
	}
	return 0, 0, errDeflate
}

// set makes a code of the lengths of its symbols. A code that is not complete is
// allowed; what it leaves out is an error when it comes.
func (c *codes) set(lengths []uint8) error {
	*c = codes{}
	for _, n := range lengths {
		c.count[n]++
	}
	c.count[0] = 0
	left := 1
	for n := 1; n <= maxCodeBits; n++ {
		if left = left<<1 - int(c.count[n]); left < 0 {
			return errDeflate
		}
	}
	var at [maxCodeBits + 2]uint16
	for n := 1; n <= maxCodeBits; n++ {
		at[n+1] = at[n] + c.count[n]
	}
	for symbol, n := range lengths {
		if n > 0 {
			c.symbols[at[n]] = uint16(symbol)
			at[n]++
		}
	}
	return nil
}

// fixed sets the codes of RFC 1951 section 3.2.6.
func (z *inflater) fixed() {
	var lengths [288]uint8
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	_ = z.lit.set(lengths[:]) // it is complete
	for i := range 30 {
		lengths[i] = 5
	}
	_ = z.dist.set(lengths[:30])
}

// lengthOrder is the order of the lengths of the code for lengths.
var lengthOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamic reads the codes of a block (RFC 1951 section 3.2.7).
func (z *inflater) dynamic() error {
	if err := z.need(14); err != nil {
		return err
	}
	literals, distances, n := z.take(5)+257, z.take(5)+1, z.take(4)+4
	var lengths [320]uint8
	for _, i := range lengthOrder[:n] {
		if err := z.need(3); err != nil {
			return err
		}
		lengths[i] = uint8(z.take(3))
	}
	var order codes
	if err := order.set(lengths[:19]); err != nil {
		return err
	}
	lengths = [320]uint8{}
	for i := 0; i < literals+distances; {
		symbol, used, err := z.peek(&order, 0)
		if err != nil {
			return err
		}
		z.take(used)
		if symbol < 16 {
			lengths[i] = uint8(symbol)
			i++
			continue
		}
		previous, repeat, err := z.repeat(symbol, i, lengths[:])
		if err != nil {
			return err
		}
		if i+repeat > literals+distances {
			return errDeflate
		}
		for range repeat {
			lengths[i] = previous
			i++
		}
	}
	if literals > 286 || lengths[256] == 0 {
		return errDeflate
	}
	if err := z.lit.set(lengths[:literals]); err != nil {
		return err
	}
	return z.dist.set(lengths[literals : literals+distances])
}

// repeat reads how often a length comes again.
func (z *inflater) repeat(symbol, i int, lengths []uint8) (length uint8, times int, err error) {
	bits, base := uint(2), 3
	switch {
	case symbol == 17:
		bits = 3
	case symbol == 18:
		bits, base = 7, 11
	case i == 0:
		return 0, 0, errDeflate
	default:
		length = lengths[i-1]
	}
	if err := z.need(bits); err != nil {
		return 0, 0, err
	}
	return length, base + z.take(bits), nil
}
