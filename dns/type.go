package dns

import (
	"fmt"
	"strconv"
	"strings"

	miekg "github.com/miekg/dns"
)

// Type is a type of record.
type Type uint16

// The types that mail asks for. ParseType knows all others.
const (
	TypeA     = Type(miekg.TypeA)
	TypeNS    = Type(miekg.TypeNS)
	TypeCNAME = Type(miekg.TypeCNAME)
	TypeSOA   = Type(miekg.TypeSOA)
	TypePTR   = Type(miekg.TypePTR)
	TypeMX    = Type(miekg.TypeMX)
	TypeTXT   = Type(miekg.TypeTXT)
	TypeAAAA  = Type(miekg.TypeAAAA)
)

// ParseType reads a type by its name in any case, or as TYPEnn (RFC 3597
// section 5).
func ParseType(s string) (Type, error) {
	up := strings.ToUpper(s)
	if t, ok := miekg.StringToType[up]; ok && t != miekg.TypeNone && t != miekg.TypeReserved {
		return Type(t), nil
	}
	if n, ok := strings.CutPrefix(up, "TYPE"); ok {
		if t, err := strconv.ParseUint(n, 10, 16); err == nil && t != 0 {
			return Type(t), nil
		}
	}
	return 0, fmt.Errorf("%q is not a type of DNS record: give a name such as MX, or TYPE and a number from 1 to 65535", s)
}

func (t Type) String() string {
	switch t { // those that mail asks for, without a map
	case TypeA:
		return "A"
	case TypeAAAA:
		return "AAAA"
	case TypeMX:
		return "MX"
	}
	return miekg.Type(t).String()
}

// MarshalText makes the type readable in JSON.
func (t Type) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (t *Type) UnmarshalText(b []byte) error {
	var err error
	*t, err = ParseType(string(b))
	return err
}
