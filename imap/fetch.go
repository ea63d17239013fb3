package imap

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"

	"github.com/emersion/go-imap/v2"

	"postrider/imap/syntax"
	"postrider/mailstore"
	"postrider/mailstore/message"
	"postrider/mailstore/search"
)

// fetchPlan is a FETCH command as it is carried out.
type fetchPlan struct {
	uid    bool // UID is told
	flags  bool
	modseq bool
	row    []rowItem // what the row of a message tells
	record []recordItem
	bodies []*syntax.FetchItem // what is read from the message
	sizes  []*syntax.FetchItem // BINARY.SIZE
	// preview: PREVIEW is told (RFC 8970); of lazy ones so many more.
	preview, lazy bool
	previews      int
	seen          bool // sets \Seen
	parses        bool // something of it needs the structure of the body
	heads         bool // something of it needs to know where the header ends
}

// plan sorts the items of FETCH. Each is told once.
func (s *session) plan(byUID bool, f *syntax.Fetch) *fetchPlan {
	p := &fetchPlan{uid: byUID, modseq: f.HasSince}
	for i := range f.Items {
		item := &f.Items[i]
		if !slices.ContainsFunc(f.Items[:i], func(other syntax.FetchItem) bool { return sameItem(item, &other) }) {
			p.add(item)
		}
	}
	p.uid = p.uid && !s.enabled.uidonly // UIDFETCH tells it already (RFC 9586)
	if p.modseq {
		s.wantModSeq()
	}
	slices.SortFunc(p.row, func(a, b rowItem) int { return a.rank - b.rank })
	slices.SortFunc(p.record, func(a, b recordItem) int { return a.rank - b.rank })
	return p
}

func sameItem(a, b *syntax.FetchItem) bool {
	return a.Name == b.Name && string(a.AppendName(nil)) == string(b.AppendName(nil)) && sameSize(a, b)
}

// sameSize: the response does not name the size of a partial range.
func sameSize(a, b *syntax.FetchItem) bool {
	return a.Section == nil || b.Section == nil || a.Section.Partial == nil || b.Section.Partial == nil ||
		*a.Section.Partial == *b.Section.Partial
}

func (p *fetchPlan) add(item *syntax.FetchItem) {
	switch item.Name {
	case "UID":
		p.uid = true
		return
	case "FLAGS":
		p.flags = true
		return
	case "MODSEQ":
		p.modseq = true
		return
	case "PREVIEW":
		p.preview, p.lazy, p.parses, p.previews = true, p.lazy || item.Lazy, true, maxLazyPreviews
		return
	case "BINARY.SIZE":
		p.sizes, p.parses = append(p.sizes, item), true
		return
	}
	if row, ok := rowItems[item.Name]; ok {
		row.name = item.Name
		p.row = append(p.row, row)
		return
	}
	if record, ok := recordItems[item.Name]; ok && item.Section == nil {
		record.name = item.Name
		p.record = append(p.record, record)
		p.parses = p.parses || item.Name != "ENVELOPE"
		return
	}
	p.bodies = append(p.bodies, item)
	p.seen = p.seen || !item.Section.Peek
	p.parses = p.parses || len(item.Section.Part) > 0
	p.heads = p.heads || item.Section.Specifier != imap.PartSpecifierNone
}

// columns are what it asks of the row of a message.
func (p *fetchPlan) columns() mailstore.Columns {
	want := mailstore.Columns(0)
	if p.flags {
		want |= mailstore.ColumnFlags
	}
	if p.modseq {
		want |= mailstore.ColumnModSeq
	}
	for i := range p.row {
		want |= p.row[i].want
	}
	return want
}

// remembers tells whether records of messages say or spare something.
func (p *fetchPlan) remembers() bool { return p.parses || len(p.record) > 0 }

// opens tells whether messages have to be opened.
func (p *fetchPlan) opens() bool { return len(p.bodies)+len(p.sizes) > 0 || p.preview }

// Of PREVIEW.
const (
	previewLength   = 200 // characters (RFC 8970 section 3.3)
	maxLazyPreviews = 500 // that a command with LAZY makes; the rest are NIL
)

// appendPreview appends the preview of a message.
func (p *fetchPlan) appendPreview(b []byte, x *message.Index) ([]byte, error) {
	b = append(b, "PREVIEW "...)
	if p.lazy {
		if p.previews--; p.previews < 0 {
			return append(b, "NIL "...), nil
		}
	}
	text, err := search.Preview(x, previewLength)
	return append(syntax.AppendString(b, text), ' '), err
}

// cmdFetch is FETCH (RFC 9051 section 6.4.5).
func (s *session) cmdFetch(ctx context.Context, c *call) error {
	set := c.p.Set()
	c.p.SP()
	f := c.p.Fetch()
	if err := c.p.End(); err != nil {
		return err
	}
	if f.Vanished && (!c.UID || !f.HasSince || !s.enabled.qresync) {
		return bad("VANISHED goes with UID FETCH, CHANGEDSINCE and QRESYNC enabled") // RFC 7162 section 3.2.6
	}
	spans, err := s.box.spans(set, c.UID)
	if err != nil {
		return err
	}
	p := s.plan(c.UID, &f)
	if f.HasSince {
		if spans, err = s.changedSince(ctx, spans, &set, &f); err != nil {
			return err
		}
	}
	if f.Partial != nil {
		if spans = part(spans, *f.Partial); s.exceeds(spans) { // a page is whole or none (RFC 9738 section 3.1)
			return s.refuseMany(0)
		}
	}
	fetch := s.fetch
	spans, lowest := s.topmost(s.box, spans)
	if lowest != 0 {
		fetch = s.fetchDown
	}
	missing, err := fetch(ctx, p, spans)
	if err != nil {
		return err
	}
	s.partly(c, lowest)
	return lost(c, missing)
}

// lost is the outcome of a command that named messages which another session
// has expunged (RFC 2180 section 4.1). Of UIDs that is no fault.
func lost(c *call, missing int) error {
	if c.UID || missing <= 0 {
		return nil
	}
	return refuse("EXPUNGEISSUED", "Some of the messages are gone, another session expunged them")
}

// part is the range of PARTIAL of spans (RFC 9394 section 3.3).
func part(spans []span, r syntax.PartialRange) []span {
	lo, hi := r.Of(total(spans))
	if lo == hi {
		return nil
	}
	rest := spans
	if lo > 0 {
		_, rest = split(spans, lo)
	}
	front, _ := split(rest, hi-lo)
	return front
}

// changedSince narrows spans to what changed after a mod-sequence, and tells of
// what vanished since (RFC 7162 sections 3.1.4.1 and 3.2.6).
func (s *session) changedSince(ctx context.Context, spans []span, set *syntax.Set, f *syntax.Fetch) ([]span, error) {
	b := s.box
	known := b.fixed(set)
	var gone []syntax.Range
	var c mailstore.Changes
	err := s.view(ctx, "changes", func(v *mailstore.View) error {
		var err error
		if c, err = v.Changes(b.id, mailstore.ModSeq(f.ChangedSince)); err != nil || !c.Horizon {
			return err
		}
		if c, err = b.since(v, mailstore.ModSeq(f.ChangedSince)); err == nil && f.Vanished && !set.Saved {
			gone = b.absent(known, c.UIDNext, 0)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if f.Vanished && !set.Saved {
		earlier := slices.DeleteFunc(c.Expunged, func(uid mailstore.UID) bool {
			_, present := b.index(uid) // it will be told as any other expunge
			return present || !within(known, uint32(uid))
		})
		s.tellVanished("(EARLIER) ", append(gone, rangesOf(earlier)...))
	}
	var changed []mailstore.UID
	for i := range c.Arrived {
		changed = append(changed, c.Arrived[i].UID)
	}
	for i := range c.Changed {
		changed = append(changed, c.Changed[i].UID)
	}
	return intersect(spans, b.spansOf(changed)), nil
}

// fixed is a set of UIDs in order without "*", which reaches as far as UIDs do here: what
// was behind the last message vanished too.
func (b *selection) fixed(set *syntax.Set) []syntax.Range {
	last := uint32(0)
	if n := len(b.uids); n > 0 {
		last = uint32(b.uids[n-1])
	}
	var ranges []syntax.Range
	for _, r := range set.Ranges {
		if r.First == 0 {
			r.First, r.Last = r.Last, r.First
		}
		if r.First == 0 {
			r.First = last
		}
		if r.Last == 0 {
			r.First, r.Last = min(r.First, last), math.MaxUint32
		}
		ranges = append(ranges, r)
	}
	return ordered(ranges)
}

// fetch answers for spans. It returns how many messages there are no more.
func (s *session) fetch(ctx context.Context, p *fetchPlan, spans []span) (missing int, err error) {
	if p.opens() {
		return s.fetchBodies(ctx, p, spans)
	}
	return s.fetchList(ctx, p, spans)
}

// Of a list so much is read in one snapshot: fewer messages when they have long
// records.
const (
	listOctets = 160 << 10
	listFirst  = 128 // messages of the first round
	listMost   = 4096
)

// fetchList answers from what the store keeps beside the bodies of messages: in
// the buffer that is sent, within a snapshot that waits for nobody.
func (s *session) fetchList(ctx context.Context, p *fetchPlan, spans []span) (missing int, err error) {
	var damaged error // one such message does not hide the others
	for n := listFirst; len(spans) > 0; {
		now, rest := split(spans, n)
		out := s.out.beginLarge()
		if len(out) > largeBuffer/4 {
			s.out.send()
			out = s.out.beginLarge()
		}
		before, told, next := len(out), 0, -1
		err := s.view(ctx, "read messages", func(v *mailstore.View) error {
			read := s.box.narrow(v, p.columns())
			if len(p.record) > 0 {
				read = described(v, s.box.id)
			}
			return s.box.scan(read, now, func(i int, d *mailstore.Described) bool {
				full := len(out)-before > 2*listOctets
				if !full && p.recalls(d) {
					out = s.appendMessage(out, p, i, d)
					told++
					return true
				}
				next = i // to be read, or to go on with
				return false
			})
		})
		s.out.end(out)
		if err != nil {
			return missing, err
		}
		count(s.srv.o.Metrics.Fetched, told)
		if next < 0 {
			missing += total(now) - told
			if size := len(out) - before; told > 0 && size > 0 {
				n = min(max(told*listOctets/size, 16), listMost)
			}
			spans = rest
		} else {
			done, left := cut(spans, next)
			missing += total(done) - told
			one, more := split(left, 1)
			no, err := s.fetchBodies(ctx, p, one)
			if isDamage(err) {
				damaged, err = err, nil
			}
			if err != nil {
				return missing, err
			}
			missing += no
			spans = more
		}
		if s.out.err != nil {
			return missing, s.out.err
		}
	}
	return missing, damaged
}

// cut splits spans before an index.
func cut(spans []span, at int) (front, rest []span) {
	for i, sp := range spans {
		if sp.hi <= at {
			continue
		}
		front = slices.Clone(spans[:i])
		rest = slices.Clone(spans[i:])
		if sp.lo < at {
			front = append(front, span{sp.lo, at})
			rest[0].lo = at
		}
		return front, rest
	}
	return spans, nil
}

// isDamage tells whether a response could not be begun since its message is
// damaged.
func isDamage(err error) bool {
	var no *refusal
	return errors.As(err, &no) && no.code == "CORRUPTION"
}

// recalls tells whether the record has all that the plan asks of it. Behind a
// prefix that makes another message of the body it has not.
func (p *fetchPlan) recalls(d *mailstore.Described) bool {
	for _, item := range p.record {
		if d.Prefix != "" && !d.Record.Headed || !item.has(&d.Record) {
			return false
		}
	}
	return true
}

// appendMessage appends the response for a message whose record is enough.
func (s *session) appendMessage(out []byte, p *fetchPlan, index int, d *mailstore.Described) []byte {
	out = s.appendFetch(out, index, d.UID)
	out = p.appendRow(out, &d.Message, false)
	for _, item := range p.record {
		out = append(out, item.name...)
		out = append(out, ' ')
		out = item.append(out, &d.Record)
		out = append(out, ' ')
	}
	return closeResponse(out)
}

// closeResponse ends a response whose last item a space follows.
func closeResponse(out []byte) []byte {
	if out[len(out)-1] == ' ' {
		out = out[:len(out)-1]
	}
	return append(out, ")\r\n"...)
}

// appendRow appends what the row tells, a space behind each item.
func (p *fetchPlan) appendRow(out []byte, m *mailstore.Message, flags bool) []byte {
	if p.uid {
		out = append(out, "UID "...)
		out = syntax.AppendNumber(out, m.UID)
		out = append(out, ' ')
	}
	if p.flags || flags {
		out = append(out, "FLAGS "...)
		out = appendFlags(out, m.Flags, "")
		out = append(out, ' ')
	}
	if p.modseq {
		out = append(out, "MODSEQ ("...)
		out = syntax.AppendNumber(out, m.ModSeq)
		out = append(out, ") "...)
	}
	for i := range p.row {
		out = append(out, p.row[i].name...)
		out = append(out, ' ')
		out = p.row[i].append(out, m)
		out = append(out, ' ')
	}
	return out
}

// maxRecords is about how many octets of records are held at a time.
const maxRecords = 128 << 10

// fetchBodies answers by opening each message.
func (s *session) fetchBodies(ctx context.Context, p *fetchPlan, spans []span) (missing int, err error) {
	var damaged error
	for len(spans) > 0 {
		now, rest := split(spans, batch)
		list, records, next, err := s.rows(ctx, p, now)
		if err != nil {
			return missing, err
		}
		if next >= 0 {
			now, rest = cut(spans, next)
		}
		missing += total(now) - len(list)
		told := s.setSeen(ctx, p, list)
		for i, opened := range s.opened(ctx, list) {
			err := s.respond(ctx, p, &list[i], opened, records[i], told[list[i].UID])
			if isDamage(err) {
				damaged = err
			} else if err != nil {
				return missing, err
			}
		}
		spans = rest
	}
	return missing, damaged
}

// rows reads the rows of spans, with records where these spare parsing: as many
// as may be held. next is the index of the first message that it left, -1 for
// none.
func (s *session) rows(ctx context.Context, p *fetchPlan, spans []span) (list []numbered, records []*message.Stored, next int, err error) {
	held := 0
	next = -1
	err = s.view(ctx, "read messages", func(v *mailstore.View) error {
		read := rows(v, s.box.id)
		if p.remembers() {
			read = described(v, s.box.id)
		}
		return s.box.scan(read, spans, func(i int, d *mailstore.Described) bool {
			if held > maxRecords {
				next = i
				return false
			}
			list = append(list, numbered{i, d.Message})
			var record *message.Stored
			if p.remembers() && (d.Prefix == "" || d.Record.Headed) {
				clone := d.Record.Clone()
				record = &clone
				const overhead = 512 // of a record beside its texts, about
				held += len(clone.Envelope) + len(clone.BodyStructure) + overhead
			}
			records = append(records, record)
			return true
		})
	})
	return list, records, next, err
}

// setSeen sets \Seen where the client reads a body without PEEK. It returns the
// messages whose flags changed; list has the new ones. A failure does not keep
// the client from reading.
func (s *session) setSeen(ctx context.Context, p *fetchPlan, list []numbered) (told map[mailstore.UID]bool) {
	if !p.seen || !s.box.may(mailstore.RightSeen) {
		return nil
	}
	var uids []mailstore.UID
	for i := range list {
		if list[i].Flags.System&mailstore.Seen == 0 {
			uids = append(uids, list[i].UID)
		}
	}
	if len(uids) == 0 {
		return nil
	}
	var now []mailstore.Message
	err := s.change(ctx, "set \\Seen", func(tx *mailstore.Tx) error {
		_, err := s.still(&tx.View, mailstore.RightSeen)
		if err != nil {
			return err
		}
		now, _, err = tx.SetFlags(s.box.id, uids, mailstore.AddFlags, mailstore.Flags{System: mailstore.Seen}, 0)
		return err
	})
	if err != nil {
		return nil
	}
	told = make(map[mailstore.UID]bool, len(now))
	for i := range now {
		told[now[i].UID] = true
		s.box.owns(now[i].UID, now[i].ModSeq)
	}
	i := 0
	for j := range list {
		for i < len(now) && now[i].UID < list[j].UID {
			i++
		}
		if i < len(now) && now[i].UID == list[j].UID {
			list[j].Message = now[i]
		}
	}
	return told
}

// respond writes the response for one message, which it closes. All is known
// before the first octet is written, except what streams.
func (s *session) respond(ctx context.Context, p *fetchPlan, m *numbered, content mailstore.Opened, record *message.Stored, flags bool) error {
	if errors.Is(content.Err, mailstore.ErrNotFound) {
		return nil // expunged since its row was read
	}
	if content.Err != nil {
		return s.fault(ctx, "open message", content.Err)
	}
	defer content.Close()
	r, err := p.prepare(content, int64(len(m.Prefix)), record)
	if err != nil {
		return s.fault(ctx, "read message", err)
	}
	count(s.srv.o.Metrics.Fetched, 1)
	out := s.appendFetch(s.out.beginLarge(), m.index, m.UID)
	if s.enabled.condstore && flags && !p.modseq { // RFC 7162 section 3.2.4
		out = append(out, "MODSEQ ("...)
		out = syntax.AppendNumber(out, m.ModSeq)
		out = append(out, ") "...)
	}
	out = p.appendRow(out, &m.Message, flags)
	out = append(out, r.texts...)
	if len(r.sections) == 0 {
		s.out.end(closeResponse(out))
		return s.out.err
	}
	s.out.end(out)
	if err := s.stream(r); err != nil {
		// Inside a literal nothing else can be said: the client must not take
		// what it got for the message.
		s.log.Error("message could not be sent whole", "err", err)
		s.broken = true
		return err
	}
	s.out.end(append(s.out.beginLarge(), ")\r\n"...))
	s.recordFetched(p, m)
	return s.out.err
}

// response is what was found out of a message.
type response struct {
	texts    []byte // items that are whole, a space behind each
	sections []piece
}

// piece is a section that streams: size octets of r, after skip.
type piece struct {
	item       *syntax.FetchItem
	r          io.Reader
	skip, size int64
	binary     bool
}

// stream writes the literals.
func (s *session) stream(r *response) error {
	for i := range r.sections {
		sec := &r.sections[i]
		out := s.out.beginLarge()
		out = sec.item.AppendName(out)
		out = append(out, ' ')
		out = syntax.AppendAnnouncement(out, sec.size, sec.binary)
		s.out.end(out)
		if sec.skip > 0 {
			if _, err := io.CopyN(io.Discard, sec.r, sec.skip); err != nil {
				return err
			}
		}
		if err := s.out.copyFrom(sec.r, sec.size); err != nil {
			return err
		}
		if i < len(r.sections)-1 {
			s.out.end(append(s.out.beginLarge(), ' '))
		}
	}
	return s.out.err
}

// index is the index of a message, from its record where that is enough.
func (p *fetchPlan) index(content mailstore.Content, prefix int64, record *message.Stored) *message.Index {
	if record != nil {
		if x, err := record.Index(content, prefix, content.Size()); err == nil {
			return x
		}
	}
	switch {
	case p.parses:
		return message.Parse(content, content.Size())
	case !p.heads && content.Size() <= mailstore.ChunkSize: // whose octets were found good when it was opened
		return message.Whole(content, content.Size())
	}
	return message.ParseTop(content, content.Size())
}

// prepare finds out all that the response will say beside the row. The first
// prefix octets of content are not those of the record.
func (p *fetchPlan) prepare(content mailstore.Content, prefix int64, record *message.Stored) (*response, error) {
	x := p.index(content, prefix, record)
	if err := x.Err(); err != nil {
		return nil, err
	}
	r := &response{}
	for _, item := range p.record {
		r.texts = append(r.texts, item.name...)
		r.texts = append(r.texts, ' ')
		if record != nil && item.has(record) {
			r.texts = item.append(r.texts, record)
		} else {
			var err error
			if r.texts, err = item.parse(r.texts, x); err != nil {
				return nil, err
			}
		}
		r.texts = append(r.texts, ' ')
	}
	if p.preview {
		var err error
		if r.texts, err = p.appendPreview(r.texts, x); err != nil {
			return nil, err
		}
	}
	for _, item := range p.sizes {
		b, err := decoded(x, item)
		if err != nil {
			return nil, err
		}
		r.texts = item.AppendName(r.texts)
		r.texts = append(r.texts, ' ')
		r.texts = syntax.AppendNumber(r.texts, b.size)
		r.texts = append(r.texts, ' ')
	}
	for _, item := range p.bodies {
		b, err := section(x, item)
		if err != nil {
			return nil, err
		}
		r.sections = append(r.sections, b)
	}
	return r, nil
}

// section opens a section for reading.
func section(x *message.Index, item *syntax.FetchItem) (piece, error) {
	if item.Name == "BINARY" || item.Name == "BINARY.PEEK" {
		return decoded(x, item)
	}
	r, err := x.Section(item.Section)
	if err != nil {
		return piece{}, err
	}
	return piece{item: item, r: r, size: r.Size()}, nil
}

// decoded measures a decoded part and opens it again for reading.
func decoded(x *message.Index, item *syntax.FetchItem) (piece, error) {
	r, ok := x.Binary(item.Section.Part)
	if !ok {
		return piece{}, refuse("UNKNOWN-CTE", "The part is in an unknown encoding")
	}
	size, err := io.Copy(io.Discard, r)
	if err != nil {
		return piece{}, err
	}
	r, _ = x.Binary(item.Section.Part)
	b := piece{item: item, r: r, size: size, binary: true}
	if partial := item.Section.Partial; partial != nil {
		b.skip = min(max(partial.Offset, 0), size)
		b.size = min(max(partial.Size, 0), size-b.skip)
	}
	return b, nil
}
