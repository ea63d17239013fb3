package lab

import "testing"

// BenchmarkFirstLetter is the time from the start of a lab until the first letter,
// sent at once, is in the mailbox of another organisation.
func BenchmarkFirstLetter(b *testing.B) {
	for b.Loop() {
		l, err := Start(b.Context(), Options{FreePorts: true})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := l.Send(b.Context(), Letter{From: "alice@crepes.fr", To: []string{"bob@hamburger.edu"}, Subject: "Toppings", Text: "Ketchup?"}); err != nil {
			b.Fatal(err)
		}
		if _, err := l.Arrives(b.Context(), "bob@hamburger.edu", 1); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
