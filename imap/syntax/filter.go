package syntax

// Filter names mailboxes (RFC 5465 section 6, RFC 7377 section 2.2).
type Filter struct {
	// Name is SELECTED, SELECTED-DELAYED, INBOXES, PERSONAL, SUBSCRIBED, SUBTREE,
	// SUBTREE-ONE or MAILBOXES.
	Name      string
	Mailboxes []string // of the last three
}

// Limits of filters.
const (
	MaxFilters   = 20
	MaxMailboxes = 1000 // of all filters of one command
)

// Filter reads one.
func (p *Parser) Filter() Filter {
	f := Filter{Name: p.Keyword("SELECTED, INBOXES, PERSONAL, SUBSCRIBED, SUBTREE or MAILBOXES")}
	switch f.Name {
	case "SELECTED", "SELECTED-DELAYED", "INBOXES", "PERSONAL", "SUBSCRIBED":
	case "SUBTREE", "SUBTREE-ONE", "MAILBOXES":
		p.SP()
		if p.peek() != '(' {
			f.Mailboxes = []string{p.AString("a mailbox")}
			break
		}
		p.List(func() {
			if len(f.Mailboxes) == MaxMailboxes {
				p.limit("mailboxes")
				return
			}
			f.Mailboxes = append(f.Mailboxes, p.AString("a mailbox"))
		})
		if len(f.Mailboxes) == 0 {
			p.fail("a mailbox")
		}
	default:
		p.fail("SELECTED, INBOXES, PERSONAL, SUBSCRIBED, SUBTREE or MAILBOXES")
	}
	return f
}

// ESearch reads the arguments of ESEARCH; no filters stand for the selected
// mailbox (RFC 7377 section 4).
func (p *Parser) ESearch() ([]Filter, Search) {
	var filters []Filter
	if p.takeWord("IN") {
		p.SP()
		p.List(func() {
			if len(filters) == MaxFilters {
				p.limit("filters")
				return
			}
			filters = append(filters, p.Filter())
		})
		if len(filters) == 0 {
			p.fail("a filter")
		}
		p.SP()
	}
	return filters, p.Search()
}
