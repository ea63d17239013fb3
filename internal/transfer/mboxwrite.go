package transfer

import (
	"fmt"
	"io"
	"strings"
	"time"

	"postrider/mailstore"
)

// content is a message as the store has it.
type content interface {
	io.ReaderAt
	Size() int64
}

// writeMbox writes one message. errDialect says that the dialect can not
// express it; nothing was written then.
func writeMbox(w io.Writer, d Dialect, c content, f mailstore.Flags, internal time.Time) error {
	x, err := examine(c)
	if err != nil {
		return err
	}
	if x.quoted && d.quote() == quoteFrom {
		return fmt.Errorf("a line begins with %q: %w; --dialect mboxrd can", quotedPrefix, errDialect)
	}
	internal = internal.UTC()
	if y := internal.Year(); y < 1 || y > 9999 {
		return fmt.Errorf("a date in year %d %w", y, errDialect)
	}
	ends := toLF
	if !x.clean {
		ends = keepEnds
	}
	part := func(from, to int64) io.Reader {
		return newConverter(io.NewSectionReader(c, from, to-from), to-from, ends, d.quote())
	}
	length := int64(-1)
	if d.sized() && x.headEnd < x.size {
		if length, err = io.Copy(io.Discard, part(x.headEnd, x.size)); err != nil {
			return err
		}
		length-- // the empty line is not counted
		if !x.clean && startsCRLF(c, x.headEnd) {
			length--
		}
		if x.unended {
			length++
		}
	}
	headless := x.headEnd == x.size
	if _, err := fmt.Fprintf(w, "From %s %s\n", sender(c), internal.Format("Mon Jan _2 15:04:05 2006")); err != nil {
		return err
	}
	if _, err := io.Copy(w, part(0, x.headEnd)); err != nil {
		return err
	}
	if headless && x.unended {
		if _, err := io.WriteString(w, "\n"); err != nil {
			return err
		}
	}
	if _, err := w.Write(writeFields(f, d, x, length)); err != nil {
		return err
	}
	if _, err := io.Copy(w, part(x.headEnd, x.size)); err != nil {
		return err
	}
	end := "\n"
	if !headless && x.unended {
		end = "\n\n"
	}
	_, err = io.WriteString(w, end)
	return err
}

func startsCRLF(c content, at int64) bool {
	var b [1]byte
	n, _ := c.ReadAt(b[:], at)
	return n == 1 && b[0] == '\r'
}

// sender is the address of a Return-Path in front of the message, or the name
// that stands for none.
func sender(c content) string {
	const nobody = "MAILER-DAEMON"
	b := make([]byte, 512)
	n, _ := c.ReadAt(b, 0)
	line, _, _ := strings.Cut(string(b[:n]), "\n")
	path, ok := strings.CutPrefix(line, "Return-Path: <")
	path, closed := strings.CutSuffix(strings.TrimRight(path, "\r"), ">")
	if !ok || !closed || path == "" || strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nobody
	}
	return path
}
