package node

import (
	"errors"
	"fmt"

	"postrider/mailstore"
)

// UserAddShared creates an account that nobody logs in to.
func (a *Admin) UserAddShared(address string, _ *None) (err error) {
	ctx, end := a.command(&err)
	defer end()
	return a.n.Directory.AddShared(ctx, address)
}

// ACLArgs names mailboxes of an account ("*" is all), and who may do what there.
type ACLArgs struct {
	Address    string
	Mailbox    string // "" in ACLList: all
	Identifier string // not in ACLList
	Rights     string // letters, for ACLSet; "" removes the entry
}

// ACL is one line of `acl list`.
type ACL struct {
	Mailbox    string `json:"mailbox"`
	Identifier string `json:"identifier"`
	Rights     string `json:"rights"`
}

// ACLList lists access control lists.
func (a *Admin) ACLList(args ACLArgs, reply *[]ACL) (err error) {
	ctx, end := a.command(&err)
	defer end()
	*reply = []ACL{}
	lists, err := a.n.Directory.ACLs(ctx, args.Address, args.Mailbox)
	for _, l := range lists {
		for _, e := range l.Entries {
			*reply = append(*reply, ACL{l.Mailbox, e.Identifier, e.Rights.String()})
		}
	}
	return err
}

// ACLSet replaces the rights that an identifier has.
func (a *Admin) ACLSet(args ACLArgs, _ *None) (err error) {
	ctx, end := a.command(&err)
	defer end()
	rights, err := mailstore.ParseRights(args.Rights)
	if errors.Is(err, mailstore.ErrRights) {
		return fmt.Errorf("rights %q: they are the letters %s", args.Rights, mailstore.AllRights.Wire())
	}
	if err != nil {
		return err
	}
	return a.n.Directory.SetACL(ctx, args.Address, args.Mailbox, args.Identifier, rights)
}
