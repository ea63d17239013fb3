package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	miekg "github.com/miekg/dns"
)

// FaultKind is a way in which the lab can fail.
type FaultKind string

// The kinds of faults. The first three are of links as well as of hosts, the
// next two of name servers, the rest of mail servers.
const (
	FaultDown      FaultKind = "down"      // does not answer
	FaultSlow      FaultKind = "slow"      // Latency one way
	FaultLossy     FaultKind = "lossy"     // Percent of all packets are lost
	FaultServFail  FaultKind = "servfail"  // answers SERVFAIL to questions for Name and below; "" = all
	FaultSpoof     FaultKind = "spoof"     // somebody on the way answers Record to questions for its name and type
	FaultGreylist  FaultKind = "greylist"  // 450 to a recipient until Wait after its first try
	FaultBusy      FaultKind = "busy"      // 421 to more than Rate connections a minute
	FaultStripTLS  FaultKind = "striptls"  // somebody on the way takes STARTTLS out of the reply to EHLO
	FaultExpired   FaultKind = "expired"   // the certificate has expired
	FaultLostReply FaultKind = "lostreply" // the connection breaks after the final dot, before the reply
)

// Fault is something that goes wrong at a host, or on the way between two.
type Fault struct {
	ID   string    `json:"id"` // given by SetFault
	Kind FaultKind `json:"kind"`
	// Host is where: a host's or a site's name.
	Host string `json:"host"`
	// Peer narrows it to the way between Host and this host or site; "" = all
	// that comes to Host.
	Peer string `json:"peer,omitempty"`

	Latency Duration `json:"latency,omitempty"`
	Percent int      `json:"percent,omitempty"`
	Name    string   `json:"name,omitempty"`
	// Record is a line of a master file, such as hamburger.edu. 300 MX 1 thief.mallory.test.
	Record string   `json:"record,omitempty"`
	Wait   Duration `json:"wait,omitempty"`
	Rate   int      `json:"rate,omitempty"`
	// Times ends the fault after so many effects; 0 = none ends it. Of the
	// faults of mail servers and of servfail and spoof.
	Times int `json:"times,omitempty"`

	record miekg.RR // of Record
}

// FaultKinds lists the kinds with a word on each and what they take.
func FaultKinds() []FaultInfo {
	return []FaultInfo{
		{FaultDown, "does not answer", nil},
		{FaultSlow, "everything takes longer on the way, by so much each way", []string{"latency"}},
		{FaultLossy, "so many of 100 packets are lost", []string{"percent"}},
		{FaultServFail, "a name server says SERVFAIL", []string{"name", "times"}},
		{FaultSpoof, "somebody on the way answers in place of the name server", []string{"record", "times"}},
		{FaultGreylist, "a mail server says 450 until the sender has waited", []string{"wait", "times"}},
		{FaultBusy, "a mail server says 421 to more connections a minute", []string{"rate", "times"}},
		{FaultStripTLS, "somebody on the way takes STARTTLS out of what the server offers", []string{"times"}},
		{FaultExpired, "the certificate has expired", nil},
		{FaultLostReply, "the connection breaks after the final dot, before the reply", []string{"times"}},
	}
}

// FaultInfo describes a kind of fault.
type FaultInfo struct {
	Kind  FaultKind `json:"kind"`
	About string    `json:"about"`
	Takes []string  `json:"takes,omitempty"`
}

// maxFaults bounds the faults at once.
const maxFaults = 100

// maxLatency bounds FaultSlow.
const maxLatency = time.Minute

// check completes a fault, or says what is wrong with it.
func (f *Fault) check(w *World) error {
	for _, end := range []string{f.Host, f.Peer} {
		_, host := w.Host(end)
		if _, site := w.Site(end); !host && !site && (end != "" || f.Host == "") {
			return fmt.Errorf("%q is neither a host nor a site", end)
		}
	}
	if h, ok := w.Host(f.Host); ok && !f.fits(h.Kind) {
		return fmt.Errorf("%s is not for a host of kind %s", f.Kind, h.Kind)
	}
	switch f.Kind {
	case FaultSlow:
		if f.Latency <= 0 || time.Duration(f.Latency) > maxLatency {
			return fmt.Errorf("slow needs a latency up to %v", maxLatency)
		}
	case FaultLossy:
		if f.Percent < 1 || f.Percent > 100 {
			return errors.New("lossy needs percent from 1 to 100")
		}
	case FaultSpoof:
		rr, err := miekg.NewRR(f.Record)
		if err != nil || rr == nil {
			return fmt.Errorf("spoof needs a record such as \"hamburger.edu. 300 MX 1 thief.mallory.test.\": %v", err)
		}
		f.record = rr
	case FaultGreylist:
		if f.Wait <= 0 {
			f.Wait = Duration(5 * time.Minute)
		}
	case FaultBusy:
		if f.Rate < 0 {
			return errors.New("rate is a number of connections a minute")
		}
	case FaultDown, FaultServFail, FaultStripTLS, FaultExpired, FaultLostReply:
	default:
		return fmt.Errorf("%q is not a kind of fault", f.Kind)
	}
	if f.Name != "" {
		f.Name = miekg.CanonicalName(f.Name)
	}
	if f.Times < 0 {
		return errors.New("times is how often it happens")
	}
	return nil
}

// String says it as a scenario does: slow mx.crepes.fr 200ms.
func (f Fault) String() string {
	words := []string{string(f.Kind), f.Host}
	if f.Peer != "" {
		words = append(words, "to", f.Peer)
	}
	if f.Latency > 0 {
		words = append(words, time.Duration(f.Latency).String())
	}
	if f.Percent > 0 {
		words = append(words, fmt.Sprintf("%d%%", f.Percent))
	}
	if f.Wait > 0 {
		words = append(words, time.Duration(f.Wait).String())
	}
	if f.Kind == FaultBusy {
		words = append(words, fmt.Sprintf("%d a minute", f.Rate))
	}
	for _, w := range []string{f.Name, f.Record} {
		if w != "" {
			words = append(words, w)
		}
	}
	if f.Times > 0 {
		words = append(words, fmt.Sprintf("%d times", f.Times))
	}
	return strings.Join(words, " ")
}

// fits tells whether hosts of a kind can fail so.
func (f *Fault) fits(k Kind) bool {
	switch f.Kind {
	case FaultServFail, FaultSpoof:
		return k == KindRoot || k == KindTLD || k == KindName || k == KindResolver
	case FaultGreylist, FaultBusy, FaultStripTLS, FaultLostReply:
		return k == KindMail || k == KindOld || k == KindHostile
	case FaultExpired:
		return k == KindMail
	}
	return true
}

// covers tells whether the fault is of what goes from one host to another; from
// is nil outside the lab.
func (f *Fault) covers(from, to *Host) bool {
	is := func(name string, h *Host) bool {
		return h != nil && name != "" && (h.Name == name || h.Site == name)
	}
	switch {
	case f.Peer != "":
		return is(f.Host, to) && is(f.Peer, from) || is(f.Host, from) && is(f.Peer, to)
	case is(f.Host, to):
		// What stays within a site does not leave by its faulty line.
		return from == nil || f.Host == to.Name || from.Site != f.Host
	}
	// A host or site that is cut off reaches nobody, either.
	return (f.Kind == FaultDown || f.Kind == FaultSlow || f.Kind == FaultLossy) && is(f.Host, from) && from.Name != to.Name &&
		(f.Host == from.Name || to.Site != f.Host)
}

// way is what links and faults do to what goes from one host to another.
type way struct {
	down   bool
	rtt    time.Duration
	loss   float64
	tamper []*Fault // servfail and spoof
}

func (n *network) wayLocked(from, to *Host) way {
	var w way
	for _, l := range n.links {
		f := Fault{Host: l.From, Peer: l.To}
		if f.covers(from, to) {
			w.rtt += 2 * time.Duration(l.Latency)
		}
	}
	for i := range n.faults {
		f := &n.faults[i]
		if !f.covers(from, to) {
			continue
		}
		switch f.Kind {
		case FaultDown:
			w.down = true
		case FaultSlow:
			w.rtt += 2 * time.Duration(f.Latency)
		case FaultLossy:
			w.loss = max(w.loss, float64(f.Percent)/100)
		case FaultServFail, FaultSpoof:
			w.tamper = append(w.tamper, f)
		}
	}
	return w
}

// find returns a fault of a kind on the way to a host, and counts its effect.
func (n *network) strike(kind FaultKind, from, to *Host) (Fault, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.faults {
		if n.faults[i].Kind == kind && n.faults[i].covers(from, to) {
			f := n.faults[i]
			n.spendLocked(f.ID)
			return f, true
		}
	}
	return Fault{}, false
}

// spendLocked counts an effect of a fault, and ends it after its last.
func (n *network) spendLocked(id string) {
	i := slices.IndexFunc(n.faults, func(f Fault) bool { return f.ID == id })
	if i < 0 || n.faults[i].Times == 0 {
		return
	}
	// The slice is in the hands of those who read it: a new one.
	fresh := slices.Clone(n.faults)
	if fresh[i].Times--; fresh[i].Times == 0 {
		fresh = slices.Delete(fresh, i, i+1)
	}
	n.faults = fresh
}

// tampered gives the answer that somebody on the way gives to a question, if one
// does.
func (c *lineConn) tampered(faults []*Fault, p []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	query := p
	if !c.udp { // two octets of length, then the message (RFC 1035 section 4.2.2)
		if c.asked = append(c.asked, p...); len(c.asked) > 2+miekg.MaxMsgSize {
			c.asked = nil
			return false
		}
		if len(c.asked) < 2 || len(c.asked) < 2+int(binary.BigEndian.Uint16(c.asked)) {
			return false // a question in pieces: it goes by, nobody on the way is that patient
		}
		query = c.asked[2 : 2+int(binary.BigEndian.Uint16(c.asked))]
		defer func() { c.asked = nil }()
	}
	answer, by := forge(faults, query)
	if answer == nil {
		return false
	}
	c.network.mu.Lock()
	c.network.spendLocked(by.ID)
	c.network.mu.Unlock()
	if !c.udp {
		answer = append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)
	}
	c.forged = append(c.forged, answer)
	return true
}

// forge makes the answer to a query that one of the faults gives; nil when none
// does.
func forge(faults []*Fault, query []byte) ([]byte, *Fault) {
	q := new(miekg.Msg)
	if q.Unpack(query) != nil || q.Response || len(q.Question) != 1 {
		return nil, nil
	}
	asked := q.Question[0]
	for _, f := range faults {
		m := new(miekg.Msg)
		m.SetReply(q)
		switch {
		case f.Kind == FaultServFail && (f.Name == "" || miekg.IsSubDomain(f.Name, miekg.CanonicalName(asked.Name))):
			m.Rcode = miekg.RcodeServerFailure
		case f.Kind == FaultSpoof && f.record.Header().Rrtype == asked.Qtype && strings.EqualFold(f.record.Header().Name, asked.Name):
			m.Authoritative = true
			rr := miekg.Copy(f.record)
			rr.Header().Name = asked.Name
			m.Answer = []miekg.RR{rr}
		default:
			continue
		}
		if q.IsEdns0() != nil {
			m.SetEdns0(1232, false)
		}
		b, err := m.Pack()
		if err != nil {
			return nil, nil
		}
		return b, f
	}
	return nil, nil
}
