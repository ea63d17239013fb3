package main

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"postrider/internal/node"
)

// admin opens the way to the server, runs fn and closes it.
func (e *env) admin(fn func(*node.AdminClient) error) error {
	c, err := e.loadConfig()
	if err != nil {
		return err
	}
	c.node.Log = c.logger(io.Discard)
	return e.adminOf(c, fn)
}

// adminOf is admin with a configuration.
func (e *env) adminOf(c *config, fn func(*node.AdminClient) error) error {
	a, err := node.OpenAdmin(e.ctx, c.node)
	if err != nil {
		return err
	}
	defer a.Close()
	return fn(a)
}

// call runs one method of the server that has no result.
func (e *env) call(method string, args any) error {
	return e.admin(func(a *node.AdminClient) error {
		return a.Call(method, args, &node.None{})
	})
}

// printList prints rows as a table, or as JSON.
func printList[T any](e *env, asJSON bool, rows []T, columns string, line func(T) string) error {
	if asJSON {
		return printJSON(e, rows)
	}
	if len(rows) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(e.stdout, 0, 8, 2, ' ', 0)
	if columns != "" {
		fmt.Fprintln(w, columns)
	}
	for _, r := range rows {
		fmt.Fprintln(w, line(r))
	}
	return w.Flush()
}

// printJSON prints rows as a list, an empty one as [].
func printJSON[T any](e *env, rows []T) error {
	if rows == nil {
		rows = []T{}
	}
	return printValue(e, rows)
}

// printValue prints JSON.
func printValue(e *env, v any) error {
	enc := json.NewEncoder(e.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

type jsonFlag struct {
	JSON bool `help:"Print JSON."`
}

type nameArg struct {
	Name string `arg:"" help:"Domain name."`
}

type domainCmd struct {
	Add    domainAddCmd    `cmd:"" help:"Accept mail for a domain."`
	List   domainListCmd   `cmd:"" help:"List the domains; the first is that of login names without @."`
	Remove domainRemoveCmd `cmd:"" help:"Stop accepting mail for a domain without accounts."`
}

type (
	domainAddCmd    struct{ nameArg }
	domainRemoveCmd struct{ nameArg }
	domainListCmd   struct{ jsonFlag }
)

func (c *domainAddCmd) Run(e *env) error    { return e.call("DomainAdd", c.Name) }
func (c *domainRemoveCmd) Run(e *env) error { return e.call("DomainRemove", c.Name) }

func (c *domainListCmd) Run(e *env) error {
	return e.admin(func(a *node.AdminClient) error {
		var names []string
		if err := a.Call("DomainList", node.None{}, &names); err != nil {
			return err
		}
		return printList(e, c.JSON, names, "", func(s string) string { return s })
	})
}

type userCmd struct {
	Add    userAddCmd    `cmd:"" help:"Create an account; without --password-stdin it makes up a password and prints it."`
	List   userListCmd   `cmd:"" help:"List the accounts."`
	Remove userRemoveCmd `cmd:"" help:"Remove an account with all its mail."`
	Passwd userPasswdCmd `cmd:"" help:"Set a new password."`
	Cert   certCmd       `cmd:"" help:"TLS client certificates that log an account in."`
}

type addressArg struct {
	Address string `arg:"" help:"Address, such as bob@example.org."`
}

type passwordFlag struct {
	PasswordStdin bool `help:"Read the password from the first line of standard input."`
}

// maxPasswordLine bounds the line that --password-stdin reads.
const maxPasswordLine = 1 << 10

// password reads or makes up a password; made tells which.
func (p passwordFlag) password(e *env) (password string, made bool, err error) {
	if !p.PasswordStdin {
		return strings.ToLower(rand.Text()[:16]), true, nil
	}
	line, err := bufio.NewReader(io.LimitReader(e.stdin, maxPasswordLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", false, fmt.Errorf("read the password: %w", err)
	}
	password = strings.TrimRight(line, "\r\n")
	if password == "" {
		return "", false, errors.New("standard input has no password on its first line")
	}
	return password, false, nil
}

type (
	userAddCmd struct {
		addressArg
		passwordFlag
		Shared bool `help:"Nobody logs in to it: postrider acl says who sees its mailboxes."`
	}
	userPasswdCmd struct {
		addressArg
		passwordFlag
	}
	userRemoveCmd struct{ addressArg }
	userListCmd   struct{ jsonFlag }
)

func (c *userAddCmd) Run(e *env) error {
	switch {
	case c.Shared && c.PasswordStdin:
		return usageError{errors.New("user add: a shared account has no password")}
	case c.Shared:
		return e.call("UserAddShared", c.Address)
	}
	return setPassword(e, "UserAdd", c.Address, c.passwordFlag)
}

func (c *userPasswdCmd) Run(e *env) error {
	return setPassword(e, "UserPasswd", c.Address, c.passwordFlag)
}

func setPassword(e *env, method, address string, p passwordFlag) error {
	password, made, err := p.password(e)
	if err != nil {
		return err
	}
	if err := e.call(method, node.UserArgs{Address: address, Password: password}); err != nil {
		return err
	}
	if made {
		fmt.Fprintf(e.stdout, "%s password: %s\n", address, password)
	}
	return nil
}

func (c *userRemoveCmd) Run(e *env) error {
	return e.admin(func(a *node.AdminClient) error {
		if err := a.Call("UserRemove", c.Address, &node.None{}); err != nil {
			return err
		}
		var aliases []node.AliasArgs
		if err := a.Call("AliasList", node.None{}, &aliases); err != nil {
			return err
		}
		for _, al := range aliases {
			for _, target := range al.Targets {
				if strings.EqualFold(target, c.Address) {
					fmt.Fprintf(e.stdout, "The alias %s still names it: postrider alias remove %s %s\n", al.Address, al.Address, target)
				}
			}
		}
		return nil
	})
}

func (c *userListCmd) Run(e *env) error {
	return e.admin(func(a *node.AdminClient) error {
		var users []node.User
		if err := a.Call("UserList", node.None{}, &users); err != nil {
			return err
		}
		return printList(e, c.JSON, users, "ADDRESS\tMESSAGES\tOCTETS\tCREATED", func(u node.User) string {
			created := u.Created.Format("2006-01-02")
			if u.Shared {
				created += "  shared"
			}
			return fmt.Sprintf("%s\t%d\t%d\t%s", u.Address, u.Messages, u.Size, created)
		})
	})
}

type aliasCmd struct {
	Add    aliasAddCmd    `cmd:"" help:"Let an address stand for others; @domain is the domain's catch-all."`
	List   aliasListCmd   `cmd:"" help:"List the aliases."`
	Remove aliasRemoveCmd `cmd:"" help:"Remove targets, or without targets the whole alias."`
}

type (
	aliasAddCmd struct {
		addressArg
		Target []string `arg:"" help:"Where its mail goes."`
	}
	aliasRemoveCmd struct {
		addressArg
		Target []string `arg:"" optional:"" help:"What to remove of it."`
	}
	aliasListCmd struct{ jsonFlag }
)

func (c *aliasAddCmd) Run(e *env) error {
	return e.call("AliasAdd", node.AliasArgs{Address: c.Address, Targets: c.Target})
}

func (c *aliasRemoveCmd) Run(e *env) error {
	return e.call("AliasRemove", node.AliasArgs{Address: c.Address, Targets: c.Target})
}

func (c *aliasListCmd) Run(e *env) error {
	return e.admin(func(a *node.AdminClient) error {
		var aliases []node.AliasArgs
		if err := a.Call("AliasList", node.None{}, &aliases); err != nil {
			return err
		}
		return printList(e, c.JSON, aliases, "ALIAS\tTARGETS", func(al node.AliasArgs) string {
			return al.Address + "\t" + strings.Join(al.Targets, " ")
		})
	})
}
