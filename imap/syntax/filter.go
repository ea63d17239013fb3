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
		f.Mailboxes = oneOrMore(p, MaxMailboxes, "mailboxes", "a mailbox", func() string { return p.AString("a mailbox") })
	default:
		p.fail("SELECTED, INBOXES, PERSONAL, SUBSCRIBED, SUBTREE or MAILBOXES")
	}
	return f
}

// EventGroup says of which events in which mailboxes a client wants to hear
// (RFC 5465 section 8).
type EventGroup struct {
	Filter
	Events []string    // in capitals; none is NONE
	Items  []FetchItem // of MESSAGENEW
}

// maxEvents bounds the events of one group.
const maxEvents = 20

// Notify reads the arguments of NOTIFY; without groups it is NONE.
func (p *Parser) Notify() (groups []EventGroup, status bool) {
	switch p.Keyword("SET or NONE") {
	case "NONE":
		return nil, false
	case "SET":
	default:
		p.fail("SET or NONE")
	}
	p.SP()
	if p.takeWord("STATUS") {
		status = true
		p.SP()
	}
	for more := true; more && p.err == nil; more = p.More() {
		if len(groups) == MaxFilters {
			p.limit("groups of events")
			break
		}
		groups = append(groups, p.eventGroup())
	}
	return groups, status
}

func (p *Parser) eventGroup() EventGroup {
	p.expect('(')
	g := EventGroup{Filter: p.Filter()}
	p.SP()
	if p.takeWord("NONE") {
		p.expect(')')
		return g
	}
	g.Events = items(p, maxEvents, "events", "", func() string {
		event := p.Keyword("an event")
		if event == "MESSAGENEW" && p.takeBefore('(') {
			g.Items = p.fetchItems()
		}
		return event
	})
	p.expect(')')
	return g
}

// ESearch reads the arguments of ESEARCH; no filters stand for the selected
// mailbox (RFC 7377 section 4).
func (p *Parser) ESearch() ([]Filter, Search) {
	var filters []Filter
	if p.takeWord("IN") {
		p.SP()
		filters = items(p, MaxFilters, "filters", "a filter", p.Filter)
		p.SP()
	}
	return filters, p.Search()
}
