package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"postrider/internal/node"
	"postrider/mailstore"
)

type quotaCmd struct {
	Show quotaShowCmd `cmd:"" help:"Show what accounts use, and their limits."`
	Set  quotaSetCmd  `cmd:"" help:"Limit an account, or each account of a domain that has no limit of its own."`
}

type quotaShowCmd struct {
	Name string `arg:"" optional:"" help:"Address or domain; all without it."`
	jsonFlag
}

type quotaSetCmd struct {
	Name     string  `arg:"" help:"Address or domain."`
	Storage  *string `help:"Sum of the messages' sizes, such as 1GiB; none, or default." placeholder:"SIZE"`
	Messages *string `help:"Number of messages; none, or default." placeholder:"N"`
}

func (c *quotaSetCmd) Run(e *env) error {
	if c.Storage == nil && c.Messages == nil {
		return usageError{errors.New("quota set: say what to limit: --storage, --messages or both")}
	}
	args := node.QuotaArgs{Name: c.Name}
	var err error
	if args.Storage, err = parseLimit("--storage", c.Storage, parseSize); err != nil {
		return err
	}
	args.Messages, err = parseLimit("--messages", c.Messages, func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) })
	if err != nil {
		return err
	}
	return e.call("QuotaSet", args)
}

// parseLimit reads a limit as Admin takes it: nil where none was given.
func parseLimit(flag string, value *string, parse func(string) (int64, error)) (*int64, error) {
	if value == nil {
		return nil, nil
	}
	var limit int64
	switch strings.ToLower(*value) {
	case "default":
	case "none":
		limit = mailstore.Unlimited
	default:
		var err error
		if limit, err = parse(*value); err != nil || limit < 1 {
			return nil, usageError{fmt.Errorf("quota set: %s %s: give a number above 0 (of octets also as 500MiB), none, or default", flag, *value)}
		}
	}
	return &limit, nil
}

func (c *quotaShowCmd) Run(e *env) error {
	return e.admin(func(a *node.AdminClient) error {
		var list []node.Quota
		if err := a.Call("QuotaShow", c.Name, &list); err != nil {
			return err
		}
		return printList(e, c.JSON, list, "NAME\tSTORAGE\tLIMIT\tMESSAGES\tLIMIT", func(q node.Quota) string {
			storage, messages := "-", "-"
			if strings.Contains(q.Name, "@") {
				storage, messages = sizeText(q.Storage.Used), strconv.FormatInt(q.Messages.Used, 10)
			}
			return fmt.Sprintf("%s\t%s\t%s\t%s\t%s", q.Name, storage, limitText(q.Storage, sizeText),
				messages, limitText(q.Messages, func(n int64) string { return strconv.FormatInt(n, 10) }))
		})
	})
}

// limitText shows a limit, how much of it is used, and whether it is a default.
func limitText(s node.Share, text func(int64) string) string {
	shown := "none"
	if s.Limit > 0 {
		shown = text(s.Limit)
		if s.Used > 0 {
			shown += fmt.Sprintf(" (%d %%)", int64(float64(s.Used)/float64(s.Limit)*100))
		}
	}
	if !s.Set {
		shown += " by default"
	}
	return shown
}

// sizeText shows a number of octets: exactly where that is short.
func sizeText(n int64) string {
	name, factor := "B", int64(1)
	for _, u := range units {
		if u.factor > 1 && n >= u.factor {
			name, factor = u.name, u.factor
		}
	}
	if n%factor == 0 {
		return fmt.Sprintf("%d%s", n/factor, name)
	}
	return fmt.Sprintf("%.1f%s", float64(n)/float64(factor), name)
}
