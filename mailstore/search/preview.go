package search

import (
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"postrider/mailstore/message"
)

// Limits of what is read for a preview.
const (
	maxPreviewText  = 64 << 10 // octets of text before markup is taken out
	maxPreviewParts = 50       // that are looked at for a text
	previewChunk    = 4 << 10
)

// Preview is the beginning of what a message says, on one line: at most limit
// characters (RFC 8970). It is of the first text/plain part, or else of the first
// text/html part without its markup; quoted lines are left out where there are
// others. It is empty where there is no text.
func Preview(x *message.Index, limit int) (string, error) {
	if err := x.Err(); err != nil {
		return "", err
	}
	left := maxPreviewParts
	p := firstText(x.Root, "plain", &left)
	if p == nil {
		left = maxPreviewParts
		if p = firstText(x.Root, "html", &left); p == nil {
			return "", nil
		}
	}
	text, err := beginning(x, p)
	if err != nil {
		return "", err
	}
	if p.Subtype == "plain" {
		text = unquoted(text)
	}
	return oneLine(text, limit), nil
}

// firstText finds a text part that is not empty, outside of embedded messages.
func firstText(p *message.Part, subtype string, left *int) *message.Part {
	if *left--; *left < 0 {
		return nil
	}
	if p.Type == "text" && p.Subtype == subtype && p.Body.Len() > 2 {
		return p
	}
	for _, c := range p.Children {
		if found := firstText(c, subtype, left); found != nil {
			return found
		}
	}
	return nil
}

// beginning reads the beginning of a part's text.
func beginning(x *message.Index, p *message.Part) (string, error) {
	r := io.LimitReader(x.Text(p), maxPreviewText)
	var text []byte
	var strip stripper
	raw := make([]byte, previewChunk)
	for len(text) < previewChunk {
		n, err := r.Read(raw)
		if p.Subtype == "html" {
			text = strip.append(text, raw[:n], err != nil)
		} else {
			text = append(text, raw[:n]...)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", err
		}
	}
	return string(text), nil
}

// unquoted drops the lines that quote another message, and those that say whom
// they quote, where something else is left.
func unquoted(text string) string {
	var out strings.Builder
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		trimmed := strings.TrimSpace(line)
		introduces := strings.HasSuffix(trimmed, ":") && i+1 < len(lines) && strings.HasPrefix(lines[i+1], ">")
		if !strings.HasPrefix(trimmed, ">") && !introduces {
			out.WriteString(line)
			out.WriteByte('\n')
		}
	}
	if strings.TrimSpace(out.String()) == "" {
		return text
	}
	return out.String()
}

// oneLine joins white space and control characters to one space, and takes the
// first characters.
func oneLine(text string, limit int) string {
	var out strings.Builder
	n := 0
	space := false
	for _, r := range text {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			space = n > 0
			continue
		}
		if !unicode.IsPrint(r) && !unicode.IsMark(r) && !unicode.Is(unicode.Cf, r) || r == utf8.RuneError {
			continue
		}
		if space {
			if n++; n >= limit {
				break
			}
			out.WriteByte(' ')
			space = false
		}
		if n == limit {
			break
		}
		out.WriteRune(r)
		n++
	}
	return out.String()
}
