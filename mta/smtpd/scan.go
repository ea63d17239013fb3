package smtpd

import "bytes"

// scanner takes content out of its framing (RFC 5321 sections 4.1.1.4 and
// 4.5.2): it finds the end of DATA, removes the stuffed dots, and watches over
// line ends and NUL. What it passes on has CRLF line ends only and no NUL, or
// else fault is set.
type scanner struct {
	out       sink
	dots      bool // DATA: CRLF "." CRLF is the end; else BDAT
	normalise bool // mend the faults instead of noting them

	state scanState
	fault scanFault // the first one
}

// sink takes the content piece by piece; a piece is valid during the call.
type sink interface{ take(p []byte) }

type scanState uint8

const (
	lineStart  scanState = iota // after a CRLF, or at the very beginning
	inLine                      // within a line
	afterCR                     // a CR was read; it was not passed on
	afterDot                    // a dot at the start of a line; it was not passed on
	afterDotCR                  // that and a CR
)

type scanFault uint8

const (
	noFault scanFault = iota
	bareNewline
	nulOctet
)

var crlf = []byte("\r\n")

// scan takes the octets of p that belong to the content and returns how many
// these are; done tells that the end of DATA was among them.
func (sc *scanner) scan(p []byte) (n int, done bool) {
	i := sc.resume(p)
	start := i // of what is not passed on yet; in state afterCR the CR is p[i-1]
	for i < len(p) {
		switch sc.state {
		case lineStart:
			sc.state = inLine
			if sc.dots && p[i] == '.' {
				sc.pass(p[start:i])
				i++
				start = i
				sc.state = afterDot
			}
		case inLine:
			line := p[i:]
			if k := bytes.IndexByte(line, '\r'); k >= 0 {
				line = line[:k]
				sc.state = afterCR
			}
			if k := bytes.IndexByte(line, '\n'); k >= 0 {
				sc.state = inLine
				sc.pass(p[start : i+k])
				sc.bare()
				i += k + 1
				start = i
				continue
			}
			i += len(line)
			if sc.state == afterCR {
				i++
			}
		case afterCR:
			if p[i] == '\n' {
				sc.state = lineStart
				i++
				continue
			}
			sc.state = inLine
			sc.pass(p[start : i-1])
			sc.bare()
			start = i
		case afterDot:
			sc.state = inLine // the dot was stuffed
			if p[i] == '\r' {
				sc.state = afterDotCR
				i++
			}
			start = i
		case afterDotCR:
			if p[i] == '\n' {
				return i + 1, true
			}
			sc.state = inLine
			sc.bare()
			start = i
		}
	}
	sc.suspend(p[start:])
	return len(p), false
}

// suspend passes on the end of a piece but for what the next one must decide.
func (sc *scanner) suspend(rest []byte) {
	switch sc.state {
	case afterCR:
		sc.pass(rest[:len(rest)-1])
	case afterDotCR:
	default:
		sc.pass(rest)
	}
}

// resume settles a CR at the end of the piece before p, and returns where in p
// the scan goes on.
func (sc *scanner) resume(p []byte) int {
	if sc.state != afterCR || len(p) == 0 {
		return 0
	}
	if p[0] == '\n' {
		sc.pass(crlf)
		sc.state = lineStart
		return 1
	}
	sc.bare()
	sc.state = inLine
	return 0
}

// finish ends content that has no end mark: that of BDAT.
func (sc *scanner) finish() {
	if sc.state == afterCR {
		sc.bare()
		sc.state = inLine
	}
}

// bare is called in the place of a CR or LF that is not in a CRLF.
func (sc *scanner) bare() {
	if sc.normalise {
		sc.out.take(crlf)
	} else if sc.fault == noFault {
		sc.fault = bareNewline
	}
}

// pass gives p, in which all line ends are CRLF, to the sink.
func (sc *scanner) pass(p []byte) {
	if len(p) == 0 {
		return
	}
	if bytes.IndexByte(p, 0) >= 0 {
		sc.passWithout0(p)
		return
	}
	sc.out.take(p)
}

func (sc *scanner) passWithout0(p []byte) {
	if !sc.normalise {
		if sc.fault == noFault {
			sc.fault = nulOctet
		}
		return
	}
	for part := range bytes.SplitSeq(p, []byte{0}) {
		if len(part) > 0 {
			sc.out.take(part)
		}
	}
}
