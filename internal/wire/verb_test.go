package wire

import "testing"

func TestOneOff(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"RCPT", "RCPT", true},
		{"RCP", "RCPT", true},
		{"RCPTT", "RCPT", true},
		{"RXPT", "RCPT", true},
		{"RCTP", "RCPT", true},
		{"CRPT", "RCPT", true},
		{"", "Q", true},
		{"RC", "RCPT", false},
		{"TPCR", "RCPT", false},
		{"RTPC", "RCPT", false},
		{"STAT", "DATA", false},
	} {
		if got := OneOff(tt.a, tt.b); got != tt.want || OneOff(tt.b, tt.a) != tt.want {
			t.Errorf("OneOff(%q, %q) = %v", tt.a, tt.b, got)
		}
	}
}
