package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"postrider/mailstore"
)

const (
	applicationID = 0x50524452 // "PRDR"
	// Version is the version of the schema that this package reads and writes.
	Version = len(migrations)
)

// settingProgram is the setting with the program that made the present schema.
const settingProgram = "schema made by"

// step leads from one version to the next: SQL that makes what is new, then
// convert where rows have to be written anew, then SQL that drops what is old.
type step struct {
	create  string
	convert func(c *conn, done func(messages int64) error) error
	drop    string
	// grows is how many octets the step adds to the database and its log, about;
	// nil for next to nothing.
	grows func(*conn) (int64, error)
	// view reads what clients see of the version that the step leads to; nil
	// where the present reader does.
	view func(reader) view
}

// migrations has the steps from each version to the next.
var migrations = [...]step{
	{create: schema1, view: func(r reader) view { return reader1{reader2{reader3{r}}} }},
	{create: schema2, convert: packMessages, drop: dropSchema1, grows: packedGrowth, view: func(r reader) view { return reader2{reader3{r}} }},
	{create: schema3, view: func(r reader) view { return reader3{r} }},
	{create: schema4},
}

const schema1 = `
CREATE TABLE counter(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE setting(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE domain(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL);
CREATE TABLE alias(address TEXT PRIMARY KEY, targets TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE account(
	id INTEGER PRIMARY KEY,
	address TEXT NOT NULL UNIQUE,
	credentials BLOB,
	created INTEGER NOT NULL
);
CREATE TABLE mailbox(
	id INTEGER PRIMARY KEY,
	account INTEGER NOT NULL,
	name TEXT NOT NULL,
	special_use TEXT NOT NULL,
	uidvalidity INTEGER NOT NULL,
	uidnext INTEGER NOT NULL,
	modseq INTEGER NOT NULL,
	messages INTEGER NOT NULL,
	unseen INTEGER NOT NULL,
	size INTEGER NOT NULL,
	horizon INTEGER NOT NULL,
	expunges INTEGER NOT NULL,
	UNIQUE(account, name)
);
CREATE TABLE subscription(account INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY(account, name)) WITHOUT ROWID;
CREATE TABLE message(
	id INTEGER PRIMARY KEY,
	modseq INTEGER NOT NULL,
	created INTEGER NOT NULL,
	flags INTEGER NOT NULL,
	keywords TEXT,
	internal INTEGER NOT NULL,
	saved INTEGER NOT NULL,
	body INTEGER NOT NULL,
	size INTEGER NOT NULL,
	unended INTEGER NOT NULL,
	prefix TEXT
);
CREATE INDEX message_changed ON message(id >> 32, modseq) WHERE modseq > created;
CREATE TABLE expunge(
	mailbox INTEGER NOT NULL,
	modseq INTEGER NOT NULL,
	first INTEGER NOT NULL,
	last INTEGER NOT NULL,
	PRIMARY KEY(mailbox, modseq, first)
) WITHOUT ROWID;
CREATE TABLE body(
	id INTEGER PRIMARY KEY,
	size INTEGER NOT NULL,
	hash BLOB NOT NULL,
	sums BLOB NOT NULL,
	file TEXT,
	data BLOB
);
CREATE UNIQUE INDEX body_file ON body(file) WHERE file IS NOT NULL;
CREATE TABLE body_share(body INTEGER PRIMARY KEY, extra INTEGER NOT NULL);
CREATE TABLE queue_item(
	id INTEGER PRIMARY KEY,
	pending INTEGER NOT NULL,
	envelope TEXT NOT NULL,
	sender TEXT NOT NULL,
	body_type TEXT NOT NULL,
	utf8 INTEGER NOT NULL,
	ret TEXT NOT NULL,
	envid TEXT NOT NULL,
	login TEXT NOT NULL,
	body INTEGER NOT NULL,
	size INTEGER NOT NULL,
	accepted INTEGER NOT NULL,
	expires INTEGER NOT NULL
);
CREATE TABLE queue_recipient(
	id INTEGER PRIMARY KEY,
	address TEXT NOT NULL,
	domain TEXT NOT NULL,
	notify TEXT NOT NULL,
	orcpt TEXT NOT NULL,
	original TEXT NOT NULL,
	held INTEGER NOT NULL,
	attempts INTEGER NOT NULL,
	last INTEGER NOT NULL,
	next INTEGER NOT NULL,
	reply TEXT NOT NULL,
	host TEXT NOT NULL,
	delayed INTEGER NOT NULL
);
CREATE INDEX queue_due ON queue_recipient(next) WHERE held = 0;
`

// schema2 adds quotas and what accounts use of them, packed messages, the records
// of messages, conversations, what is held of expunged messages, and how bodies
// are kept.
const schema2 = `
ALTER TABLE domain ADD COLUMN quota_storage INTEGER NOT NULL DEFAULT 0;
ALTER TABLE domain ADD COLUMN quota_messages INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN quota_storage INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN quota_messages INTEGER NOT NULL DEFAULT 0;
ALTER TABLE body ADD COLUMN coding BLOB;
CREATE TABLE usage(account INTEGER PRIMARY KEY, storage INTEGER NOT NULL, messages INTEGER NOT NULL);
INSERT INTO usage SELECT account, sum(size), sum(messages) FROM mailbox GROUP BY account HAVING sum(messages) > 0;

CREATE TABLE block(
	id INTEGER PRIMARY KEY,
	last INTEGER NOT NULL,
	count INTEGER NOT NULL,
	unseen INTEGER NOT NULL,
	size INTEGER NOT NULL,
	stamp INTEGER NOT NULL,
	head BLOB NOT NULL
);
CREATE TABLE block_data(id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE content(body INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE thread(
	account INTEGER NOT NULL,
	key INTEGER NOT NULL,
	thread INTEGER NOT NULL,
	PRIMARY KEY(account, key)
) WITHOUT ROWID;
CREATE TABLE held(
	id INTEGER PRIMARY KEY,
	account INTEGER NOT NULL,
	name TEXT NOT NULL,
	expunged INTEGER NOT NULL,
	mailbox INTEGER NOT NULL,
	first INTEGER NOT NULL,
	last INTEGER NOT NULL,
	count INTEGER NOT NULL,
	unseen INTEGER NOT NULL,
	size INTEGER NOT NULL,
	stamp INTEGER NOT NULL,
	head BLOB NOT NULL,
	data BLOB NOT NULL
);
CREATE INDEX held_account ON held(account);
`

// schema3 adds annotations.
const schema3 = `
CREATE TABLE annotation(
	account INTEGER NOT NULL,
	mailbox INTEGER NOT NULL,
	entry TEXT NOT NULL,
	user INTEGER NOT NULL,
	value BLOB NOT NULL,
	PRIMARY KEY(account, mailbox, entry, user)
) WITHOUT ROWID;
`

// schema4 adds rights of others to mailboxes, the accounts that are shared, and
// the keys of URLs.
const schema4 = `
ALTER TABLE account ADD COLUMN shared INTEGER NOT NULL DEFAULT 0;
CREATE TABLE acl(
	mailbox INTEGER NOT NULL,
	identifier TEXT NOT NULL,
	rights TEXT NOT NULL,
	PRIMARY KEY(mailbox, identifier)
) WITHOUT ROWID;
CREATE INDEX acl_identifier ON acl(identifier, mailbox);
CREATE TABLE urlkey(
	account INTEGER NOT NULL,
	mailbox INTEGER NOT NULL,
	key BLOB NOT NULL,
	PRIMARY KEY(account, mailbox)
) WITHOUT ROWID;
CREATE INDEX urlkey_mailbox ON urlkey(mailbox);
`

const dropSchema1 = `DROP TABLE message`

// makeSchema makes the schema of a new database, and refuses one of another
// version, or one that lacks something of this.
func makeSchema(c *conn, dir, program string) error {
	n, err := schemaVersion(c, dir, program)
	if err != nil {
		return err
	}
	if n == Version {
		return hasShape(c, dir, n)
	}
	if n > 0 {
		return older(dir, n)
	}
	return advance(c, dir, 0, program, func(int64) error { return nil })
}

// older says what can be done with a database of an older version.
func older(dir string, n int) error {
	return fmt.Errorf("%w: %s has version %d and this program works on version %d: run postrider upgrade (with --dry-run first, to try it on a copy), or start the server, which upgrades too",
		ErrOlder, dir, n, Version)
}

// schemaVersion is the version of the database's schema; 0 for a new one, which
// one that was cut short is, too.
func schemaVersion(c *conn, dir, program string) (int, error) {
	app, err := c.pragma("application_id")
	if err != nil {
		return 0, err
	}
	version, err := c.pragma("user_version")
	if err != nil {
		return 0, err
	}
	switch {
	case app == "0" && version == "0":
		return 0, nil
	case app != strconv.Itoa(applicationID):
		return 0, fmt.Errorf("the database in %s is not postrider's", dir)
	}
	n, err := strconv.Atoi(version)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%w: the database in %s has the schema version %q", mailstore.ErrDamaged, dir, version)
	}
	if n > Version {
		return 0, newer(c, dir, n, program)
	}
	return n, nil
}

// newer says who made a database that is too new, and what can be done.
func newer(c *conn, dir string, n int, program string) error {
	by, us := "a newer postrider", "this program"
	if made, err := (reader{c}).Setting(settingProgram); err == nil && len(made) > 0 {
		by = "postrider " + string(made)
	}
	if program != "" {
		us = "this is postrider " + program + ", which"
	}
	back := ""
	if kept := keptBeside(dir); len(kept) > 0 {
		back = ", or go back, without the mail that came since, to " + strings.Join(kept, " or ") + " as the README says"
	}
	return fmt.Errorf("%w: %s has version %d, made by %s, and %s knows up to %d: use that postrider or one after it%s",
		ErrNewer, dir, n, by, us, Version, back)
}

// keptBeside are the old databases that upgrades have left and this program can use.
func keptBeside(dir string) (list []string) {
	for n := 1; n <= Version; n++ {
		found, _ := filepath.Glob(filepath.Join(dir, fmt.Sprintf("postrider.db.v%d*", n)))
		list = append(list, found...)
	}
	return list
}

// headerVersion reads the version from the first page of a database file; its
// log may have a later one. It is 0 where the file has none, or is not ours.
func headerVersion(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	head := make([]byte, 100)
	_, err = io.ReadFull(f, head)
	if cerr := f.Close(); cerr != nil {
		return 0, cerr
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, nil
	}
	if err != nil || binary.BigEndian.Uint32(head[68:]) != applicationID {
		return 0, err
	}
	return int(int32(binary.BigEndian.Uint32(head[60:]))), nil
}

// advance takes the steps from a version to the present one, in one transaction.
// done is told of messages that were converted; its error ends it.
func advance(c *conn, dir string, from int, program string, done func(messages int64) error) error {
	err := c.script("BEGIN IMMEDIATE")
	for n := from; err == nil && n < Version; n++ {
		if err = migrations[n].take(c, done); err != nil {
			err = fmt.Errorf("migrate %s to version %d: %w", dir, n+1, err)
		}
	}
	if err == nil {
		_, err = c.exec("INSERT INTO setting VALUES(?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", settingProgram, []byte(program))
	}
	if err == nil {
		err = c.script(fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", applicationID, Version))
	}
	if err != nil {
		return errors.Join(err, rollback(c))
	}
	return nil
}

// take does the step.
func (s *step) take(c *conn, done func(messages int64) error) error {
	if err := c.script(s.create); err != nil {
		return err
	}
	if s.convert != nil {
		if err := s.convert(c, done); err != nil {
			return err
		}
	}
	return c.script(s.drop)
}

func rollback(c *conn) error {
	if c.c.AutoCommit() {
		return nil
	}
	return c.script("ROLLBACK")
}
