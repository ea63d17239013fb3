package imap

import (
	"errors"
	"io"
	"math"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"postrider/mailstore"
	"postrider/mailstore/message"
)

// codeExpungeIssued is of RFC 5530: the client may want to ask with NOOP.
const codeExpungeIssued imap.ResponseCode = "EXPUNGEISSUED"

// lost is the outcome of a command that named messages which another session
// has expunged (RFC 2180 section 4.1). Of UIDs that is no fault.
func lost(set imap.NumSet, missing int) error {
	if _, byUID := set.(imap.UIDSet); byUID || missing == 0 {
		return nil
	}
	return refuse(codeExpungeIssued, "Some of the messages are gone, another session expunged them")
}

// Fetch is FETCH.
func (s *session) Fetch(w *imapserver.FetchWriter, set imap.NumSet, options *imap.FetchOptions) error {
	defer s.begin()()
	spans, err := s.box.spans(set)
	if err != nil {
		return err
	}
	var damaged error // one such message does not hide the others
	missing, err := s.each(spans, func(list []numbered) error {
		told := s.setSeen(list, options)
		for len(list) > 0 {
			records := s.records(list, options)
			for i, record := range records {
				err := s.respond(w, &list[i], record, options, told[list[i].UID])
				if isDamage(err) {
					damaged = err
				} else if err != nil {
					return err
				}
			}
			list = list[len(records):]
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case damaged != nil:
		return damaged
	}
	return lost(set, missing)
}

// isDamage tells whether a response could not be begun since its message is
// damaged.
func isDamage(err error) bool {
	var no *imap.Error
	return errors.As(err, &no) && no.Code == imap.ResponseCodeCorruption
}

// setSeen sets \Seen where the client reads a body without PEEK. It returns the
// messages whose flags changed; list has the new ones. A failure does not keep
// the client from reading.
func (s *session) setSeen(list []numbered, options *imap.FetchOptions) (told map[mailstore.UID]bool) {
	if s.box.readOnly || !readsBody(options) {
		return nil
	}
	var uids []mailstore.UID
	for _, m := range list {
		if m.Flags.System&mailstore.Seen == 0 {
			uids = append(uids, m.UID)
		}
	}
	if len(uids) == 0 {
		return nil
	}
	var now []mailstore.Message
	err := s.change("set \\Seen", func(tx *mailstore.Tx) error {
		var err error
		now, _, err = tx.SetFlags(s.box.id, uids, mailstore.AddFlags, mailstore.Flags{System: mailstore.Seen}, 0)
		return err
	})
	if err != nil {
		return nil
	}
	told = make(map[mailstore.UID]bool, len(now))
	for _, m := range now {
		told[m.UID] = true
		s.box.mine[m.UID] = m.ModSeq
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

func readsBody(options *imap.FetchOptions) bool {
	for _, b := range options.BodySection {
		if !b.Peek {
			return true
		}
	}
	for _, b := range options.BinarySection {
		if !b.Peek {
			return true
		}
	}
	return false
}

// response is what one FETCH response says, all of it known before the first
// octet is written, except what streams.
type response struct {
	envelope  *imap.Envelope
	structure imap.BodyStructure
	sections  []*io.SectionReader
	binaries  []binary
	sizes     []uint32
}

// binary is a decoded section: size octets after skip.
type binary struct {
	r          io.Reader
	skip, size int64
}

// maxRecords is about how many octets of records one FETCH holds at a time.
const maxRecords = 128 << 10

// records reads what the store keeps beside the bodies of messages, where that
// spares parsing them: for the first of list, at least one. nil stands for what
// is not there or cannot be used, so that the message has to be read.
func (s *session) records(list []numbered, o *imap.FetchOptions) []*message.Stored {
	if !o.Envelope && !parses(o) {
		return make([]*message.Stored, len(list))
	}
	records := make([]*message.Stored, 0, len(list))
	held := 0
	err := s.srv.o.Store.View(s.ctx, func(v *mailstore.View) error {
		for i := 0; i < len(list) && held < maxRecords; {
			j := i + 1
			for j < len(list) && list[j].seq-list[j-1].seq <= maxGap {
				j++
			}
			err := v.Describe(s.box.id, list[i].UID, list[j-1].UID, func(d *mailstore.Described) bool {
				for list[len(records)].UID < d.UID {
					records = append(records, nil) // expunged since its row was read
				}
				if m := &list[len(records)]; m.UID == d.UID {
					records = append(records, usable(m, d))
					held += len(d.Record.Envelope) + len(d.Record.BodyStructure) + recordOverhead
				}
				return len(records) < j && held < maxRecords
			})
			if err != nil {
				return err
			}
			i = j
		}
		return nil
	})
	switch {
	case err != nil && len(records) == 0:
		return make([]*message.Stored, 1) // reading the message itself will tell
	case err == nil && held < maxRecords:
		return append(records, make([]*message.Stored, len(list)-len(records))...)
	}
	return records
}

// recordOverhead is what a record takes beside its texts, about.
const recordOverhead = 512

// usable is a copy of a message's record, nil if the prefix makes another
// message of the body.
func usable(m *numbered, d *mailstore.Described) *message.Stored {
	if m.Prefix != "" && !d.Record.Headed {
		return nil
	}
	record := d.Record.Clone()
	return &record
}

// respond writes the response for one message.
func (s *session) respond(w *imapserver.FetchWriter, m *numbered, record *message.Stored, options *imap.FetchOptions, flags bool) error {
	var r response
	if !r.recall(record, options) {
		content, err := s.srv.o.Store.OpenMessage(s.ctx, m.Message)
		if errors.Is(err, mailstore.ErrNotFound) {
			return nil // expunged since its row was read
		}
		if err != nil {
			return s.fault("open message", err)
		}
		defer content.Close()
		if err := r.prepare(content, int64(len(m.Prefix)), record, options); err != nil {
			return s.fault("read message", err)
		}
	}
	count(s.srv.o.Metrics.Fetched, 1)
	out := w.CreateMessage(m.seq)
	if options.UID {
		out.WriteUID(imap.UID(m.UID))
	}
	if options.Flags || flags {
		out.WriteFlags(toFlags(m.Flags))
	}
	if options.InternalDate {
		out.WriteInternalDate(m.Internal)
	}
	if options.RFC822Size {
		out.WriteRFC822Size(m.Size)
	}
	if options.Envelope {
		out.WriteEnvelope(r.envelope)
	}
	if options.BodyStructure != nil {
		out.WriteBodyStructure(r.structure)
	}
	for i, size := range r.sizes {
		out.WriteBinarySectionSize(options.BinarySectionSize[i], size)
	}
	err := s.stream(out, &r, options)
	if err != nil {
		// Inside a literal nothing else can be said: the client must not take
		// what it got for the message.
		s.log.Error("message could not be sent whole", "err", err)
		s.conn.abort()
	}
	return errors.Join(err, out.Close())
}

// stream writes the literals.
func (s *session) stream(out *imapserver.FetchResponseWriter, r *response, options *imap.FetchOptions) error {
	for i, section := range r.sections {
		wc := out.WriteBodySection(options.BodySection[i], section.Size())
		_, err := io.Copy(wc, section)
		if err := errors.Join(err, wc.Close()); err != nil {
			return err
		}
	}
	for i, b := range r.binaries {
		wc := out.WriteBinarySection(options.BinarySection[i], b.size)
		_, err := io.CopyN(io.Discard, b.r, b.skip)
		if err == nil {
			_, err = io.CopyN(wc, b.r, b.size)
		}
		if err := errors.Join(err, wc.Close()); err != nil {
			return err
		}
	}
	return nil
}

// recall takes from a record what the response says, and reports whether that is
// all. A record that cannot be read is none.
func (r *response) recall(record *message.Stored, o *imap.FetchOptions) bool {
	all := len(o.BodySection)+len(o.BinarySection)+len(o.BinarySectionSize) == 0
	if record == nil {
		return all && !o.Envelope && o.BodyStructure == nil
	}
	var err error
	if o.Envelope {
		if r.envelope, err = message.ReadEnvelope(record.Envelope); err != nil {
			r.envelope, all = nil, false
		}
	}
	if o.BodyStructure != nil {
		if r.structure, err = message.ReadBodyStructure(record.BodyStructure); err != nil {
			r.structure, all = nil, false
		}
	}
	return all
}

// parses tells whether it needs the structure of the body.
func parses(o *imap.FetchOptions) bool {
	if o.BodyStructure != nil || len(o.BinarySection)+len(o.BinarySectionSize) > 0 {
		return true
	}
	for _, b := range o.BodySection {
		if len(b.Part) > 0 {
			return true
		}
	}
	return false
}

// index is the index of a message, from its record where that is enough.
func index(content mailstore.Content, prefix int64, record *message.Stored, o *imap.FetchOptions) *message.Index {
	if record != nil {
		if x, err := record.Index(content, prefix, content.Size()); err == nil {
			return x
		}
	}
	if parses(o) {
		return message.Parse(content, content.Size())
	}
	return message.ParseTop(content, content.Size())
}

// prepare finds out all that the response will say and recall has not. The
// first prefix octets of content are not those of the record.
func (r *response) prepare(content mailstore.Content, prefix int64, record *message.Stored, o *imap.FetchOptions) error {
	x := index(content, prefix, record, o)
	err := x.Err()
	if err == nil && o.Envelope && r.envelope == nil {
		r.envelope, err = x.Envelope()
	}
	if err == nil && o.BodyStructure != nil && r.structure == nil {
		r.structure, err = x.BodyStructure()
	}
	for i := 0; err == nil && i < len(o.BodySection); i++ {
		var section *io.SectionReader
		section, err = x.Section(o.BodySection[i])
		r.sections = append(r.sections, section)
	}
	for i := 0; err == nil && i < len(o.BinarySection); i++ {
		var b binary
		b, err = decode(x, o.BinarySection[i].Part, o.BinarySection[i].Partial)
		r.binaries = append(r.binaries, b)
	}
	for i := 0; err == nil && i < len(o.BinarySectionSize); i++ {
		var b binary
		b, err = decode(x, o.BinarySectionSize[i].Part, nil)
		r.sizes = append(r.sizes, uint32(min(b.size, math.MaxUint32)))
	}
	return err
}

// decode measures a decoded section and opens it again for reading.
func decode(x *message.Index, part []int, partial *imap.SectionPartial) (binary, error) {
	r, ok := x.Binary(part)
	if !ok {
		return binary{}, refuse(imap.ResponseCodeUnknownCTE, "The part is in an unknown encoding")
	}
	size, err := io.Copy(io.Discard, r)
	if err != nil {
		return binary{}, err
	}
	r, _ = x.Binary(part)
	b := binary{r: r, size: size}
	if partial != nil {
		b.skip = min(max(partial.Offset, 0), size)
		b.size = min(max(partial.Size, 0), size-b.skip)
	}
	return b, nil
}
