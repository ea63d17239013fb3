package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"postrider/internal/node"
	"postrider/mailstore/backup"
)

type backupCmd struct {
	Dir  string `arg:"" help:"The backup directory; it is made if it is not there."`
	Full bool   `help:"Copy the whole database, not only what changed."`
	Keep int    `default:"7" placeholder:"N" help:"Restore points to keep, the new one included; default: ${default}."`
}

func (c *backupCmd) Run(e *env) (err error) {
	if c.Keep < 1 {
		return usageError{errors.New("backup: --keep takes a number above 0")}
	}
	conf, err := e.loadConfig()
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return err
	}
	data, err := filepath.Abs(conf.node.DataDir)
	if err != nil {
		return err
	}
	if rel, err := filepath.Rel(data, dir); err == nil && filepath.IsLocal(rel) {
		return usageError{fmt.Errorf("backup: %s is in the data directory: give another", c.Dir)}
	}
	hold, err := node.OpenHold(e.ctx, conf.node)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hold.Close()) }()
	p := &backup.Progress{}
	stop := e.backupProgress(p)
	s, err := backup.Make(e.ctx, backup.Options{Data: data, Dir: dir, Program: node.Version(), Now: time.Now(), Full: c.Full,
		Keep: c.Keep, Held: hold.Check, Progress: p})
	stop()
	for _, text := range s.Unreadable {
		fmt.Fprintf(e.stderr, "postrider: %s\n", text)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "%s: database %s, %d large bodies; %s written, %d old restore points removed\n",
		s.ID, binarySize(s.Database), s.Bodies, binarySize(s.Written), s.Removed)
	return nil
}

// backupProgress shows how far a backup or a restore is, until stop.
func (e *env) backupProgress(p *backup.Progress) (stop func()) {
	return showText(e.stderr, func(took time.Duration) string {
		return octetsText(p.Done.Load(), p.Total.Load(), took)
	})
}

type restoreCmd struct {
	Backup string `arg:"" help:"The backup directory."`
	To     string `placeholder:"DIR" help:"A new or an empty directory; default: the data_dir of the configuration."`
	Point  string `placeholder:"ID" help:"The restore point; default: the latest."`
	List   bool   `help:"List the restore points."`
	jsonFlag
}

func (c *restoreCmd) Run(e *env) error {
	if c.List {
		return c.list(e)
	}
	to := c.To
	if to == "" {
		conf, err := e.loadConfig()
		if err != nil {
			return err
		}
		to = conf.node.DataDir
	}
	to, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	p := &backup.Progress{}
	stop := e.backupProgress(p)
	id, err := backup.Restore(e.ctx, c.Backup, c.Point, to, p)
	stop()
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: is %s a whole backup?", err, c.Backup)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "restored %s to %s; postrider verify checks it\n", id, to)
	return nil
}

func (c *restoreCmd) list(e *env) error {
	list, err := backup.List(c.Backup)
	if err != nil {
		return err
	}
	return printList(e, c.JSON, list, "POINT\tTAKEN\tDATABASE\tLARGE BODIES\tBY", func(p backup.Point) string {
		if p.Damaged != "" {
			return fmt.Sprintf("%s\t%s", p.ID, p.Damaged)
		}
		return fmt.Sprintf("%s\t%s\t%s\t%d (%s)\t%s", p.ID, p.Taken.Local().Format(time.DateTime), binarySize(p.Database),
			p.Bodies, binarySize(p.Octets), p.Program)
	})
}
