package deliver

import (
	"bytes"
	"io"
)

// blockSize is how much content is read, and how much written, at a time.
const blockSize = 32 << 10

// dataWriter writes content as DATA wants it (RFC 5321 section 4.5.2): lines
// end in CRLF, a dot at the start of a line is doubled. A CR or LF alone, which
// the store should not hold, becomes a line end: on the wire neither ever stands
// alone, so that no peer can see the end of the message where we do not.
type dataWriter struct {
	w       io.Writer
	out     []byte // cap blockSize
	midline bool   // the last octet was not a line end
	cr      bool   // a CR that is not written yet was the last octet
}

func (d *dataWriter) emit(p []byte) error {
	for len(p) > cap(d.out)-len(d.out) {
		n := cap(d.out) - len(d.out)
		d.out = append(d.out, p[:n]...)
		p = p[n:]
		if err := d.flush(); err != nil {
			return err
		}
	}
	d.out = append(d.out, p...)
	return nil
}

func (d *dataWriter) flush() error {
	if len(d.out) == 0 {
		return nil
	}
	_, err := d.w.Write(d.out)
	d.out = d.out[:0]
	return err
}

var (
	crlf   = []byte("\r\n")
	dot    = []byte(".")
	theEnd = []byte(".\r\n")
)

// Write takes the next part of the content.
func (d *dataWriter) Write(p []byte) (int, error) {
	total := len(p)
	if d.cr && total > 0 && p[0] != '\n' {
		d.cr = false
		if err := d.endLine(); err != nil {
			return 0, err
		}
	}
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			return total, d.text(p)
		}
		if err := d.text(p[:i]); err != nil {
			return 0, err
		}
		d.cr = false // it belongs to this line end
		if err := d.endLine(); err != nil {
			return 0, err
		}
		p = p[i+1:]
	}
	return total, nil
}

// text writes p, which has no LF; each CR in it ends a line, the last one when
// it is known what follows.
func (d *dataWriter) text(p []byte) error {
	for {
		i := bytes.IndexByte(p, '\r')
		if i < 0 {
			return d.plain(p)
		}
		if err := d.plain(p[:i]); err != nil {
			return err
		}
		p = p[i+1:]
		if len(p) == 0 {
			d.cr = true
			return nil
		}
		if err := d.endLine(); err != nil {
			return err
		}
	}
}

// plain writes a piece of one line.
func (d *dataWriter) plain(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if !d.midline && p[0] == '.' {
		if err := d.emit(dot); err != nil {
			return err
		}
	}
	d.midline = true
	return d.emit(p)
}

func (d *dataWriter) endLine() error {
	d.midline = false
	return d.emit(crlf)
}

// end writes the final line end where it is missing, the dot, and all that is
// buffered.
func (d *dataWriter) end() error {
	if d.cr || d.midline {
		d.cr = false
		if err := d.endLine(); err != nil {
			return err
		}
	}
	if err := d.emit(theEnd); err != nil {
		return err
	}
	return d.flush()
}
