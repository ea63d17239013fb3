package search

import (
	"encoding/binary"

	"postrider/mailstore"
)

// places tells which document the messages of a mailbox are: a part of the
// mailbox, in order of UID. Written, each is the distance of its UID to that
// before and, zigzag, of its document, varints both; a CRC-32C ends it.
type places struct {
	uids []mailstore.UID
	docs []uint32 // of the account
}

func (p *places) add(uid mailstore.UID, doc uint32) {
	p.uids = append(p.uids, uid)
	p.docs = append(p.docs, doc)
}

func (p *places) size() int { return 4*cap(p.uids) + 4*cap(p.docs) + 64 }

func (p *places) encode() []byte {
	var out []byte
	var uid mailstore.UID
	var doc uint32
	for i := range p.uids {
		out = binary.AppendUvarint(out, uint64(p.uids[i]-uid))
		out = binary.AppendVarint(out, int64(p.docs[i])-int64(doc))
		uid, doc = p.uids[i], p.docs[i]
	}
	return seal(out)
}

// decodePlaces reads what encode has written.
func decodePlaces(b []byte) (*places, error) {
	b, err := unseal(b)
	if err != nil {
		return nil, err
	}
	p := &places{uids: make([]mailstore.UID, 0, len(b)/2), docs: make([]uint32, 0, len(b)/2)}
	uid, doc := uint64(0), int64(0)
	for len(b) > 0 {
		d, n := binary.Uvarint(b)
		b = b[max(n, 0):]
		dd, n2 := binary.Varint(b)
		b = b[max(n2, 0):]
		uid, doc = uid+d, doc+dd
		if n <= 0 || n2 <= 0 || d == 0 || d > 1<<32 || uid >= 1<<32 || doc < 0 || doc >= 1<<32 {
			return nil, errDamaged
		}
		p.add(mailstore.UID(uid), uint32(doc))
	}
	return p, nil
}
