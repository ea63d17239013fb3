package sqlite

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"postrider/mailstore"
)

// f makes fields of names and values.
func f(v ...any) []string {
	list := make([]string, len(v))
	for i, p := range v {
		switch p := p.(type) {
		case time.Time:
			list[i] = "never"
			if !p.IsZero() {
				list[i] = p.UTC().Format(time.RFC3339Nano)
			}
		default:
			list[i] = fmt.Sprint(p)
		}
	}
	return list
}

func flagText(g mailstore.Flags) string {
	var names []string
	for i, name := range []string{"\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft"} {
		if g.System&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return "(" + strings.Join(append(names, g.Keywords...), " ") + ")"
}

// placed is a domain by its place in the order.
type placed struct {
	mailstore.Domain
	place int
}

// numbered is the list of domains with their places.
func numbered(v view) func(func(placed) bool) error {
	return func(fn func(placed) bool) error {
		n := 0
		return v.Domains(func(d mailstore.Domain) bool {
			n++
			return fn(placed{d, n})
		})
	}
}

func quotaText(q mailstore.Quota) string {
	return fmt.Sprintf("%d octets %d messages", q.Storage, q.Messages)
}

func domainKind() kind[placed] {
	return kind[placed]{
		what:   func(d *placed) string { return fmt.Sprintf("domain %d", d.place) },
		order:  func(a, b *placed) int { return cmp.Compare(a.place, b.place) },
		fields: func(d *placed) []string { return f("name", d.Name, "created", d.Created, "quota", quotaText(d.Quota)) },
	}
}

func aliasKind() kind[mailstore.Alias] {
	return kind[mailstore.Alias]{
		what:   func(a *mailstore.Alias) string { return "alias " + a.Address },
		order:  func(a, b *mailstore.Alias) int { return cmp.Compare(a.Address, b.Address) },
		fields: func(a *mailstore.Alias) []string { return f("targets", a.Targets) },
	}
}

// digest stands for what is not shown.
func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%x", sum[:8])
}

func accountKind() kind[mailstore.Account] {
	return kind[mailstore.Account]{
		what:  func(a *mailstore.Account) string { return fmt.Sprintf("account %d", a.ID) },
		order: func(a, b *mailstore.Account) int { return cmp.Compare(a.ID, b.ID) },
		fields: func(a *mailstore.Account) []string {
			return f("address", a.Address, "created", a.Created, "password", digest(a.Credentials), "quota", quotaText(a.Quota), "shared", a.Shared)
		},
	}
}

func urlKeyKind(address string) kind[urlKey] {
	return kind[urlKey]{
		what:   func(k *urlKey) string { return fmt.Sprintf("key of URLs of %s, mailbox %d", address, k.Mailbox) },
		order:  func(a, b *urlKey) int { return cmp.Compare(a.Mailbox, b.Mailbox) },
		fields: func(k *urlKey) []string { return f("key", digest(k.Key)) },
	}
}

func aclKind(place string) kind[mailstore.ACLRow] {
	return kind[mailstore.ACLRow]{
		what:   func(e *mailstore.ACLRow) string { return "rights " + place + " of " + e.Identifier },
		order:  func(a, b *mailstore.ACLRow) int { return cmp.Compare(a.Identifier, b.Identifier) },
		fields: func(e *mailstore.ACLRow) []string { return f("rights", e.Rights) },
	}
}

func annotationKind(place string) kind[mailstore.AnnotationRow] {
	return kind[mailstore.AnnotationRow]{
		what: func(n *mailstore.AnnotationRow) string {
			return fmt.Sprintf("annotation %s %s of account %d", place, n.Entry, n.User)
		},
		order: func(a, b *mailstore.AnnotationRow) int {
			return cmp.Or(cmp.Compare(a.Entry, b.Entry), cmp.Compare(a.User, b.User))
		},
		fields: func(n *mailstore.AnnotationRow) []string { return f("value", digest(n.Value)) },
	}
}

func subscriptionKind(address string) kind[string] {
	return kind[string]{
		what:   func(s *string) string { return "subscription " + address + " " + *s },
		order:  func(a, b *string) int { return cmp.Compare(*a, *b) },
		fields: func(s *string) []string { return f("name", *s) },
	}
}

func mailboxKind(address string) kind[mailstore.MailboxRow] {
	return kind[mailstore.MailboxRow]{
		what:  func(m *mailstore.MailboxRow) string { return "mailbox " + address + " " + m.Name },
		order: func(a, b *mailstore.MailboxRow) int { return cmp.Compare(a.ID, b.ID) },
		fields: func(m *mailstore.MailboxRow) []string {
			return f("MAILBOXID", m.ID, "name", m.Name, "use", m.SpecialUse, "UIDVALIDITY", m.UIDValidity, "UIDNEXT", m.UIDNext,
				"HIGHESTMODSEQ", m.ModSeq, "MESSAGES", m.Messages, "UNSEEN", m.Unseen, "SIZE", m.Size, "horizon of expunges", m.Horizon)
		},
	}
}

func expungeKind(place string) kind[mailstore.ExpungeRow] {
	return kind[mailstore.ExpungeRow]{
		what: func(e *mailstore.ExpungeRow) string {
			return fmt.Sprintf("expunge %s UID %d:%d", place, e.First, e.Last)
		},
		order: func(a, b *mailstore.ExpungeRow) int {
			return cmp.Or(cmp.Compare(a.ModSeq, b.ModSeq), cmp.Compare(a.First, b.First))
		},
		fields: func(e *mailstore.ExpungeRow) []string { return f("MODSEQ", e.ModSeq, "to UID", e.Last) },
		same:   func(a, b *mailstore.ExpungeRow) bool { return *a == *b },
	}
}

func messageKind(place string) kind[mailstore.MessageRow] {
	return kind[mailstore.MessageRow]{
		what:  func(m *mailstore.MessageRow) string { return fmt.Sprintf("message %s UID %d", place, m.UID) },
		order: func(a, b *mailstore.MessageRow) int { return cmp.Compare(a.UID, b.UID) },
		fields: func(m *mailstore.MessageRow) []string {
			return f("FLAGS", flagText(m.Flags), "MODSEQ", m.ModSeq, "arrived at", m.Created, "INTERNALDATE", m.Internal, "SAVEDATE", m.Saved,
				"SIZE", m.Size, "EMAILID", m.Body, "THREADID", m.Thread, "first line", m.Prefix, "unended", m.Unended)
		},
		same: func(a, b *mailstore.MessageRow) bool {
			return a.ModSeq == b.ModSeq && a.Created == b.Created && a.Flags.System == b.Flags.System &&
				slices.Equal(a.Flags.Keywords, b.Flags.Keywords) && a.Internal.Equal(b.Internal) && a.Saved.Equal(b.Saved) &&
				a.Body == b.Body && a.Thread == b.Thread && a.Prefix == b.Prefix && a.Size == b.Size && a.Unended == b.Unended
		},
	}
}

func bodyKind() kind[mailstore.BodyRow] {
	return kind[mailstore.BodyRow]{
		what:  func(b *mailstore.BodyRow) string { return fmt.Sprintf("body %d", b.ID) },
		order: func(a, b *mailstore.BodyRow) int { return cmp.Compare(a.ID, b.ID) },
		fields: func(b *mailstore.BodyRow) []string {
			return f("size", b.Size, "SHA-256", fmt.Sprintf("%x", b.Hash), "checksums", digest(b.Sums), "file", b.File, "references", b.Refs)
		},
		same: func(a, b *mailstore.BodyRow) bool {
			return a.Size == b.Size && a.Hash == b.Hash && bytes.Equal(a.Sums, b.Sums) && a.File == b.File && a.Refs == b.Refs
		},
	}
}

func itemKind() kind[mailstore.QueueRow] {
	return kind[mailstore.QueueRow]{
		what:  func(q *mailstore.QueueRow) string { return fmt.Sprintf("queued message %d", q.ID) },
		order: func(a, b *mailstore.QueueRow) int { return cmp.Compare(a.ID, b.ID) },
		fields: func(q *mailstore.QueueRow) []string {
			return f("envelope", q.Envelope, "from", q.From, "BODY", q.BodyType, "SMTPUTF8", q.UTF8, "RET", q.Return, "ENVID", q.EnvID,
				"login", q.Login, "body", q.Body, "size", q.Size, "accepted", q.Accepted, "expires", q.Expires, "recipients", q.Left)
		},
	}
}

func recipientKind() kind[mailstore.QueueRecipient] {
	return kind[mailstore.QueueRecipient]{
		what: func(r *mailstore.QueueRecipient) string {
			return fmt.Sprintf("recipient %d of queued message %d", r.Index, r.Item)
		},
		order: func(a, b *mailstore.QueueRecipient) int { return cmp.Compare(a.Index, b.Index) },
		fields: func(r *mailstore.QueueRecipient) []string {
			return f("address", r.Address, "domain", r.Domain, "NOTIFY", r.Notify, "ORCPT", r.ORCPT, "original", r.Original, "held", r.Held,
				"attempts", r.Attempts, "last", r.Last, "next", r.Next, "reply", r.Reply, "host", r.Host, "delayed", r.Delayed)
		},
	}
}
