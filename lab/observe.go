package lab

import "postrider/dns/recursor"

// observer tells the journey what a resolver does.
func (l *Lab) observer(h *Host) func(recursor.Step) {
	return func(s recursor.Step) {
		if e, ok := s.Event(); ok {
			e.Node = h.Name
			l.journey.Record(e)
		}
	}
}
