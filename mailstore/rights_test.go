package mailstore

import (
	"errors"
	"testing"
)

// FuzzRights: what is read is written back, in one form, and means the same.
func FuzzRights(f *testing.F) {
	for _, s := range []string{"", "lrswipkxtea", "lrswipcda", "cd", "aetxkpiwsrl", "lrswipkxteacd", "q", "L", "0", "l l", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRights(s)
		if err != nil {
			if !errors.Is(err, ErrRights) || r != 0 {
				t.Errorf("ParseRights(%q) = %v, %v", s, r, err)
			}
			return
		}
		for _, form := range []string{r.String(), s + s, r.String() + s} {
			if again, err := ParseRights(form); err != nil || again != r {
				t.Errorf("ParseRights(%q) = %v; %q = %v, %v", s, r, form, again, err)
			}
		}
		if w, err := ParseRights(r.Wire()); err != nil || !w.Has(r) || (w&^r)&^(virtualCreate|virtualDelete) != 0 {
			t.Errorf("%v goes out as %s, which is %v, %v", r, r.Wire(), w, err)
		}
		if r > AllRights {
			t.Errorf("%q has rights that are none", s)
		}
	})
}

// TestRightsWire: RFC 4314 section 2.1.1, virtual rights.
func TestRightsWire(t *testing.T) {
	for in, want := range map[string]string{"lrswikda": "lrswikteacd", "lrswida": "lrswitead", "x": "xc", "lr": "lr", "": "", "c": "kxc", "t": "td"} {
		r, err := ParseRights(in)
		if err != nil || r.Wire() != want {
			t.Errorf("%q: %q, %v; want %q", in, r.Wire(), err, want)
		}
	}
}
