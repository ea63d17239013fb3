package sqlite

import (
	"errors"
	"fmt"
	"strconv"
)

const (
	applicationID = 0x50524452 // "PRDR"
	// Version is the version of the schema that this package reads and writes.
	Version = len(migrations)
)

// step leads from one version to the next: SQL that makes what is new, then
// convert where rows have to be written anew, then SQL that drops what is old.
type step struct {
	create  string
	convert func(*conn) error
	drop    string
}

// migrations has the steps from each version to the next.
var migrations = [...]step{{create: schema1}, {schema2, packMessages, dropSchema1}}

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

const dropSchema1 = `DROP TABLE message`

// migrate brings the database to the present version.
func migrate(c *conn, dir string) error {
	app, err := c.pragma("application_id")
	if err != nil {
		return err
	}
	version, err := c.pragma("user_version")
	if err != nil {
		return err
	}
	switch {
	case app == "0" && version == "0": // new, or a first step that was cut short
	case app != strconv.Itoa(applicationID):
		return fmt.Errorf("the database in %s is not postrider's", dir)
	}
	n, err := strconv.Atoi(version)
	if err != nil {
		return fmt.Errorf("schema version %q: %w", version, err)
	}
	if n > Version {
		return fmt.Errorf("%w: %s has version %d and this program knows up to %d; use a newer postrider",
			ErrNewer, dir, n, Version)
	}
	for ; n < Version; n++ {
		if err := migrations[n].take(c, n+1); err != nil {
			return fmt.Errorf("migrate %s to version %d: %w", dir, n+1, err)
		}
	}
	return nil
}

// take does the step in one transaction.
func (s *step) take(c *conn, version int) error {
	if err := c.script("BEGIN IMMEDIATE; " + s.create); err != nil {
		return errors.Join(err, rollback(c))
	}
	if s.convert != nil {
		if err := s.convert(c); err != nil {
			return errors.Join(err, rollback(c))
		}
	}
	end := fmt.Sprintf("%s; PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", s.drop, applicationID, version)
	if err := c.script(end); err != nil {
		return errors.Join(err, rollback(c))
	}
	return nil
}

func rollback(c *conn) error {
	if c.c.AutoCommit() {
		return nil
	}
	return c.script("ROLLBACK")
}
