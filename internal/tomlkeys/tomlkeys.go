// Package tomlkeys finds where the keys of a TOML document are, so that what is
// wrong with a value is told with its line. It keeps nothing, and does no input or
// output.
package tomlkeys

import (
	"bytes"
	"fmt"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Lines returns the line, from 1, of each key and each table of a well-formed
// document by its path: title, tls.cert, and with the number of the table in an
// array host[2], host[2].address, host[2].mail.domains. A key inside an inline
// table is not there; its table is.
func Lines(doc []byte) map[string]int {
	lines := map[string]int{}
	counts := map[string]int{} // how many tables an array has so far
	var p unstable.Parser
	p.Reset(doc)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		path, offset := "", -1
		if e.Kind == unstable.KeyValue {
			path = table
		}
		for it := e.Key(); it.Next(); {
			if offset < 0 {
				offset = int(it.Node().Raw.Offset)
			}
			if path != "" {
				path += "."
			}
			path += string(it.Node().Data)
			// A name of an array within a path means its last table.
			if n := counts[path]; n > 0 && !(e.Kind == unstable.ArrayTable && it.IsLast()) {
				path = fmt.Sprintf("%s[%d]", path, n-1)
			}
		}
		if offset < 0 {
			continue
		}
		switch e.Kind {
		case unstable.ArrayTable:
			counts[path]++
			path = fmt.Sprintf("%s[%d]", path, counts[path]-1)
			table = path
		case unstable.Table:
			table = path
		}
		if lines[path] == 0 {
			lines[path] = 1 + bytes.Count(doc[:offset], []byte{'\n'})
		}
	}
	return lines
}
