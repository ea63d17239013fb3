package sqlite

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"postrider/mailstore"
)

// maxMissing is how many tables, columns and indexes an error names.
const maxMissing = 8

// shape is what a schema has: tables and indexes by name, and columns as table.column
// with their type, NOT NULL and place in the primary key.
type shape map[string]string

// shapeOf reads the shape of a database.
func shapeOf(c *conn) (shape, error) {
	s := shape{}
	err := c.query("SELECT type, name, tbl_name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'", nil, func(r row) bool {
		s[r.str(0)+" "+r.str(1)] = r.str(2)
		return true
	})
	if err != nil {
		return nil, err
	}
	err = c.query(`SELECT m.name, p.name, p.type, p."notnull", p.pk FROM sqlite_schema m JOIN pragma_table_info(m.name) p WHERE m.type = 'table'`, nil, func(r row) bool {
		s["column "+r.str(0)+"."+r.str(1)] = fmt.Sprint(r.str(2), r.int(3), r.int(4))
		return true
	})
	return s, err
}

// shapeFor is the shape of a version of the schema, made in memory.
func shapeFor(version int) (s shape, err error) {
	c, err := connect(":memory:", role{cache: readerCache, write: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	for i := range migrations[:version] {
		if err := migrations[i].take(c, func(int64) error { return nil }); err != nil {
			return nil, err
		}
	}
	return shapeOf(c)
}

// hasShape is ErrDamaged where the database does not have all that its version of
// the schema has. What it has besides does no harm.
func hasShape(c *conn, dir string, version int) error {
	want, err := shapeFor(version)
	if err != nil {
		return fmt.Errorf("make the schema to compare with: %w", err)
	}
	have, err := shapeOf(c)
	if err != nil {
		return fmt.Errorf("read the schema of the database in %s: %w", dir, err)
	}
	missing := want.beyond(have)
	if len(missing) == 0 {
		return nil
	}
	if n := len(missing) - maxMissing; n > 0 {
		missing = append(missing[:maxMissing], fmt.Sprintf("%d more", n))
	}
	return fmt.Errorf("%w: the database in %s says that its schema has version %d and lacks %s; was it changed by hand, or by a program that is no release? Restore a backup (postrider restore), or put back the database as it was",
		mailstore.ErrDamaged, dir, version, strings.Join(missing, ", "))
}

// beyond lists, sorted, what s has and other has not, or otherwise. Of a table that is
// missing, nothing else is told.
func (s shape) beyond(other shape) (list []string) {
	for _, name := range slices.Sorted(maps.Keys(s)) {
		is, found := other[name]
		if found && is == s[name] {
			continue
		}
		kind, rest, _ := strings.Cut(name, " ")
		table := s[name]
		if kind == "column" {
			table, _, _ = strings.Cut(rest, ".")
		}
		if _, whole := other["table "+table]; !whole && kind != "table" {
			continue
		}
		if found {
			name += " as it should be"
		}
		list = append(list, name)
	}
	return list
}
