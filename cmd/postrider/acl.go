package main

import (
	"postrider/internal/node"
)

type aclCmd struct {
	List   aclListCmd   `cmd:"" help:"List who else has rights to an account's mailboxes."`
	Set    aclSetCmd    `cmd:"" help:"Give somebody rights to a mailbox, in place of those that he had."`
	Delete aclDeleteCmd `cmd:"" help:"Take somebody's rights to a mailbox away."`
}

type (
	aclListCmd struct {
		addressArg
		Mailbox string `arg:"" optional:"" help:"One mailbox; all without it."`
		jsonFlag
	}
	aclWho struct {
		addressArg
		Mailbox    string `arg:"" help:"Mailbox, such as INBOX; '*' is each that the account has."`
		Identifier string `arg:"" help:"Who: an address, @domain, or anyone."`
	}
	aclSetCmd struct {
		aclWho
		Rights string `arg:"" help:"Letters of RFC 4314: l lists it, r reads, s w t change flags, i adds, e expunges, k creates below it, x deletes it, a administers."`
	}
	aclDeleteCmd struct{ aclWho }
)

func (c *aclListCmd) Run(e *env) error {
	return e.admin(func(a *node.AdminClient) error {
		var list []node.ACL
		if err := a.Call("ACLList", node.ACLArgs{Address: c.Address, Mailbox: c.Mailbox}, &list); err != nil {
			return err
		}
		return printList(e, c.JSON, list, "MAILBOX\tWHO\tRIGHTS", func(l node.ACL) string {
			return l.Mailbox + "\t" + l.Identifier + "\t" + l.Rights
		})
	})
}

func (c *aclSetCmd) Run(e *env) error {
	return e.call("ACLSet", node.ACLArgs{Address: c.Address, Mailbox: c.Mailbox, Identifier: c.Identifier, Rights: c.Rights})
}

func (c *aclDeleteCmd) Run(e *env) error {
	return e.call("ACLSet", node.ACLArgs{Address: c.Address, Mailbox: c.Mailbox, Identifier: c.Identifier})
}
