package zone

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"

	miekg "github.com/miekg/dns"

	"postrider/dns/names"
)

// copier copies records by way of their wire format, which leaves one spelling
// of each and shows what cannot be sent.
type copier struct {
	buf, again []byte
	names      map[reflect.Type][]int // of a type of record: its fields that are names
}

// copy gives the zone's own copy of a record.
func (c *copier) copy(rr miekg.RR) (miekg.RR, error) {
	if c.buf == nil {
		c.buf = make([]byte, miekg.MaxMsgSize+names.MaxWire)
		c.again = make([]byte, miekg.MaxMsgSize+names.MaxWire)
		c.names = map[reflect.Type][]int{}
	}
	h := rr.Header()
	bad := func(format string, args ...any) (miekg.RR, error) {
		return nil, fmt.Errorf("%w: %s %s: %s", ErrInvalid, h.Name, miekg.Type(h.Rrtype), fmt.Sprintf(format, args...))
	}
	if h.Class != miekg.ClassINET {
		return bad("its class is %s, not IN", miekg.Class(h.Class))
	}
	if isMeta(h.Rrtype) {
		return bad("no zone holds records of this type")
	}
	// PackRR writes into the record, which may be others' too.
	n, err := miekg.PackRR(ordered(miekg.Copy(rr)), c.buf, 0, nil, false)
	if err != nil {
		return bad("%v", err)
	}
	own, end, err := miekg.UnpackRR(c.buf[:n], 0)
	if err != nil || end != n {
		return bad("its data is malformed (%v)", err)
	}
	if own.Header().Rdlength == 0 && !mayBeEmpty(own) {
		return bad("it has no data")
	}
	// The library takes data that ends where any field does.
	size, err := miekg.PackRR(own, c.again, 0, nil, false)
	if err != nil || !bytes.Equal(c.again[:size], c.buf[:n]) || !c.named(own) || !complete(own) {
		return bad("its data is cut short")
	}
	if own.Header().Ttl > 1<<31-1 {
		own.Header().Ttl = 0 // RFC 2181 section 8
	}
	return own, nil
}

// named tells that the names in a record's data are there.
func (c *copier) named(rr miekg.RR) bool {
	v := data(rr)
	fields, known := c.names[v.Type()]
	if !known {
		for i := range v.NumField() {
			if tag := v.Type().Field(i).Tag.Get("dns"); tag == "domain-name" && v.Field(i).Kind() == reflect.String || tag == "cdomain-name" {
				fields = append(fields, i)
			}
		}
		c.names[v.Type()] = fields
	}
	for _, i := range fields {
		if v.Field(i).Len() == 0 {
			return false
		}
	}
	return true
}

// data is the struct whose fields are the record's: that of HTTPS is inside, as
// SVCB, and CDS, CDNSKEY and others are likewise.
func data(rr miekg.RR) reflect.Value {
	v := reflect.ValueOf(rr).Elem()
	for v.NumField() == 1 && v.Field(0).Kind() == reflect.Struct && v.Field(0).Type() != reflect.TypeFor[miekg.RR_Header]() {
		v = v.Field(0)
	}
	return v
}

// complete tells that the last field of records is there which cannot be empty,
// and which the library could not read back from text.
func complete(rr miekg.RR) bool {
	switch rr := rr.(type) {
	case *miekg.RRSIG:
		return rr.Signature != "" && !isMeta(rr.TypeCovered)
	case *miekg.DNSKEY:
		return rr.PublicKey != ""
	case *miekg.DS:
		return rr.Digest != ""
	case *miekg.NSEC3:
		return rr.NextDomain != ""
	}
	return true
}

// blank tells that every field of a record is zero: the parser makes such of a
// line that ends after the type. Types that may be so are not blank.
func blank(rr miekg.RR) bool {
	switch rr.(type) {
	case *miekg.HINFO, *miekg.EUI48, *miekg.EUI64, *miekg.UID, *miekg.GID, *miekg.NID, *miekg.L64:
		return false
	}
	if mayBeEmpty(rr) {
		return false
	}
	v := data(rr)
	for i := 1; i < v.NumField(); i++ {
		if !v.Field(i).IsZero() {
			return false
		}
	}
	return true
}

// ordered is the record with its list of types in the order of the wire: text may
// have them in any.
func ordered(rr miekg.RR) miekg.RR {
	types := func(rr miekg.RR) []uint16 {
		switch rr := rr.(type) {
		case *miekg.NSEC:
			return rr.TypeBitMap
		case *miekg.NSEC3:
			return rr.TypeBitMap
		case *miekg.CSYNC:
			return rr.TypeBitMap
		}
		return nil
	}
	if !slices.IsSorted(types(rr)) {
		rr = miekg.Copy(rr)
		slices.Sort(types(rr))
	}
	return rr
}

// isMeta tells types that are in questions and messages only (RFC 6895 section
// 3.1).
func isMeta(typ uint16) bool {
	return typ == miekg.TypeNone || typ == miekg.TypeOPT || 128 <= typ && typ <= 255
}

// mayBeEmpty tells whether a record may have no data at all.
func mayBeEmpty(rr miekg.RR) bool {
	switch rr.(type) {
	case *miekg.NULL, *miekg.APL, *miekg.RFC3597, *miekg.ANY:
		return true
	}
	return false
}
