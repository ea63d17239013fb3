package page

import (
	"slices"
	"time"

	"postrider/lab"
)

// standard is a fault of a kind as its switch sets it.
func (w *world) standard(k lab.FaultKind) lab.Fault {
	f := lab.Fault{Kind: k}
	switch k {
	case lab.FaultSlow:
		f.Latency = lab.Duration(500 * time.Millisecond)
	case lab.FaultLossy:
		f.Percent = 30
	case lab.FaultGreylist:
		f.Wait = lab.Duration(5 * time.Minute)
	case lab.FaultLostReply:
		f.Times = 1
	case lab.FaultSpoof:
		lw := w.World()
		if len(lw.Accounts) > 1 {
			victim := lw.Accounts[1].Address
			f.Record = victim[slices.Index([]byte(victim), '@')+1:] + ". 300 MX 1 " + thief(lw) + "."
		}
	}
	return f
}

// thief is the host that a spoofed MX record names.
func thief(lw *lab.World) string {
	for i := range lw.Hosts {
		if lw.Hosts[i].Kind == lab.KindHostile {
			return lw.Hosts[i].Name
		}
	}
	return "thief.test"
}

// faultWords say what a switch does and how it shows.
var faultWords = map[lab.FaultKind]string{
	lab.FaultDown:      "Nobody answers. Letters wait in the sender's queue, questions go to the next server.",
	lab.FaultSlow:      "Half a second each way. Count the round trips: HELO and one command at a time against pipelining.",
	lab.FaultLossy:     "Thirty of a hundred packets are lost. Questions are asked again, connections stall.",
	lab.FaultServFail:  "Every question is answered with SERVFAIL: “not now”, which is not “does not exist”. Mail waits.",
	lab.FaultSpoof:     "Somebody on the way answers that the mail goes to a thief. Where the zone is signed, DNSSEC finds out.",
	lab.FaultGreylist:  "450 to whoever was never seen before; after five minutes the second try passes.",
	lab.FaultBusy:      "421 to every connection: the sender comes again later.",
	lab.FaultStripTLS:  "Somebody on the way takes STARTTLS out of the offer; the letter goes in the clear.",
	lab.FaultExpired:   "The certificate is no longer valid. Watch who minds.",
	lab.FaultLostReply: "Once, the connection breaks after the final dot and before the reply: the sender cannot know, and sends again.",
}

// fitting are the faults that a host of a kind can have.
func fitting(k lab.Kind) []lab.FaultKind {
	list := []lab.FaultKind{lab.FaultDown, lab.FaultSlow, lab.FaultLossy}
	switch k {
	case lab.KindRoot, lab.KindTLD, lab.KindName, lab.KindResolver:
		list = append(list, lab.FaultServFail, lab.FaultSpoof)
	case lab.KindMail:
		list = append(list, lab.FaultGreylist, lab.FaultBusy, lab.FaultStripTLS, lab.FaultExpired, lab.FaultLostReply)
	case lab.KindOld, lab.KindHostile:
		list = append(list, lab.FaultGreylist, lab.FaultBusy, lab.FaultStripTLS, lab.FaultLostReply)
	case lab.KindWeb, lab.KindClient:
	}
	return list
}

// switches are the faults that a click sets, and after them those in force that
// are of another sort.
func (w *world) switches(lw *lab.World) []Fault {
	active := w.Faults()
	var out []Fault
	add := func(host string, kinds []lab.FaultKind) {
		for _, k := range kinds {
			f := Fault{ID: string(k) + " " + host, Host: host, Label: string(k), About: faultWords[k]}
			for _, a := range active {
				if a.Kind == k && a.Host == host && a.Peer == "" {
					f.On = true
				}
			}
			out = append(out, f)
		}
	}
	for i := range lw.Hosts {
		add(lw.Hosts[i].Name, fitting(lw.Hosts[i].Kind))
	}
	for _, s := range lw.Sites {
		add(s.Name, []lab.FaultKind{lab.FaultDown, lab.FaultSlow, lab.FaultLossy})
	}
	for _, a := range active {
		if a.Peer != "" {
			out = append(out, Fault{ID: a.ID, Host: a.Host, Label: a.String(), About: "Switch it off to end it.", On: true})
		}
	}
	return out
}

// dialogues are what to type into the console.
func dialogues(lw *lab.World) []Hint {
	if len(lw.Accounts) < 2 {
		return nil
	}
	from, to := lw.Accounts[0], lw.Accounts[1]
	domain := from.Address[slices.Index([]byte(from.Address), '@')+1:]
	letter := []string{"DATA", "From: " + from.Address, "To: " + to.Address, "Subject: Searching for the meaning of life", "", "Do you like ketchup?", "How about pickles?", ".", "QUIT"}
	return []Hint{
		{"A letter typed into the receiver's server", to.Host, 25, append([]string{"HELO " + domain, "MAIL FROM: <" + from.Address + ">", "RCPT TO: <" + to.Address + ">"}, letter...)},
		{"A letter typed into the sender's server", from.Host, 25, append([]string{"HELO " + domain, "MAIL FROM: <" + from.Address + ">", "RCPT TO: <" + to.Address + ">"}, letter...)},
		{"What a server can do: EHLO", to.Host, 25, []string{"EHLO " + domain, "QUIT"}},
		{"The same under TLS: STARTTLS", to.Host, 25, []string{"EHLO " + domain, "STARTTLS", "EHLO " + domain, "QUIT"}},
		{"Read mail by POP3", to.Host, 110, []string{"USER " + to.Address, "PASS " + to.Password, "STAT", "LIST", "RETR 1", "QUIT"}},
		{"Read mail by IMAP", to.Host, 143, []string{"a1 LOGIN " + to.Address + " " + to.Password, "a2 SELECT INBOX", "a3 FETCH 1 (FLAGS BODY[HEADER.FIELDS (FROM SUBJECT)])", "a4 LOGOUT"}},
	}
}
