package page

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/miekg/dns"

	"postrider/internal/journey"
)

// dns makes a step of a question or an answer; it reports false for what another
// step shows. Of the asker's events node is who asks, of the server's who is asked.
func (st *stepper) dns(s *Step, e journey.Event, part, what, node, peer string) bool {
	asker, server := node, peer
	switch {
	case part == "nameserver":
		asker, server = peer, node
		if t := st.questions.told(server, asker, nameOf(e), typeOf(e)); t != nil {
			t.came, t.at = true, server
			if what == "reply" {
				t.said = true
				t.facts, t.say = originOf(e)
				if t.over {
					t.told = false // it is, and another question may be the same
				}
			}
			return false
		}
	case e.Get("server") != "" && what != "answer":
		server = st.host(e.Get("server"))
	}
	msg := new(dns.Msg)
	if len(e.Wire) == 0 || msg.Unpack(e.Wire) != nil {
		msg = nil
	}
	shown := true
	switch what {
	case "query":
		s.From, s.To = asker, server
		shown = st.query(s, e, msg, part != "nameserver")
	case "reply":
		s.From, s.To = server, asker
		shown = st.reply(s, e, msg)
	case "changed":
		s.Label = "zone " + nameOf(e) + ", serial " + e.Get("serial")
		shown = st.questions.change(e)
	case "answer":
		s.For = st.questions.letters(s, node, nameOf(e))
		shown = st.answer(s, e, node, peer)
	}
	if msg != nil {
		s.Fields = append(s.Fields, decode(msg)...)
	}
	return shown
}

// typeOf is the type that a question asks for, or what it is instead of one.
func typeOf(e journey.Event) string {
	if opcode := e.Get("opcode"); opcode != "" {
		return opcode
	}
	return e.Get("type")
}

func (st *stepper) query(s *Step, e journey.Event, msg *dns.Msg, told bool) bool {
	name, typ := nameOf(e), typeOf(e)
	s.For = st.questions.query(s, name, typ, told)
	s.Label, s.Say = typ+" "+name+" ?", "A question to a name server."
	switch typ {
	case "NOTIFY":
		s.Label, s.Say = "NOTIFY "+name, "“The zone has changed”: the secondary is to look, and does not have to wait until it is time."
	case "UPDATE":
		s.Label, s.Say = "UPDATE "+name, "A change of the zone, if what comes first in it is so."
		if changes := e.All("change"); len(changes) > 0 {
			s.Label += ": " + changes[0]
		}
	case "AXFR":
		s.Say = "A secondary wants the whole zone."
	case "IXFR":
		s.Say = "A secondary wants what has changed in the zone since its version."
	default:
		if msg != nil {
			s.Say = asks(msg)
		}
		fill(&s.RFC, "RFC 1035 section 4.1.2")
	}
	return st.questions.shows(e, st.records(s.From))
}

func (st *stepper) reply(s *Step, e journey.Event, msg *dns.Msg) bool {
	name, typ := nameOf(e), typeOf(e)
	t := st.questions.reply(s, name, typ)
	s.For = t.letters
	s.Label = e.Get("rcode")
	switch typ {
	case "NOTIFY", "UPDATE":
		s.Say = "The server's answer: " + s.Label + "."
	case "AXFR", "IXFR":
		if serial := e.Get("serial"); serial != "" {
			s.Label, s.Say, s.Letter = "zone "+name+", serial "+serial+", "+e.Get("records")+" records", "The zone, or what has changed in it, goes to the secondary.", true
		}
	default:
		if msg != nil {
			s.Label, s.Say = outcome(msg)
		}
		fill(&s.RFC, "RFC 1034 section 4.3.2")
	}
	s.Tone = rcodeTone(e.Get("rcode"))
	st.ends(s, e, t)
	return st.questions.shows(e, st.records(s.To))
}

// ends adds what the server says of its answer.
func (st *stepper) ends(s *Step, e journey.Event, t *task) {
	facts, say := t.facts, t.say
	if strings.HasPrefix(string(e.Kind), "nameserver.") {
		facts, say = originOf(e)
		if s.Label == "" { // nothing goes out
			s.Label, s.Tone, s.To = "no answer: "+e.Get("limit")+e.Get("reason"), "bad", s.From
		}
	} else if !t.came {
		facts, say = [][2]string{{"nothing", "the question did not come there"}}, "The question itself did not come to the server."
	} else if t.at != "" && t.at != s.From {
		facts = append(facts, [2]string{"itself", t.at + ", a replica"})
	}
	for _, f := range facts {
		s.Fields = append(s.Fields, [2]string{"at the server: " + f[0], f[1]})
	}
	if say != "" {
		s.Say = strings.TrimSpace(s.Say + " " + say)
	}
}

// nameOf is the name that an event is about.
func nameOf(e journey.Event) string {
	if name := strings.ToLower(strings.TrimSuffix(cmp.Or(e.Get("name"), e.Get("zone")), ".")); name != "" {
		return name
	}
	return "the root"
}

// answer is what the asker was told: a note where it came from the cache, an
// arrow to whoever is not of the lab.
func (st *stepper) answer(s *Step, e journey.Event, node, peer string) bool {
	cache := e.Get("cache")
	security := e.Get("security")
	hit := cache != "" && cache != "miss" && cache != "no" && cache != "false"
	switch {
	case hit:
		s.Label = fmt.Sprintf("from the cache: %s %s", e.Get("type"), nameOf(e))
		s.Say = "The answer was known from before; nobody else was asked."
		if ttl := e.Get("ttl"); ttl != "" {
			s.Label += ", " + ttl + " s left"
			s.Say += " It may be used for " + ttl + " more seconds."
		}
		fill(&s.RFC, "RFC 1034 section 4.3.4")
		s.Tone = "ok"
	case security != "" && security != "indeterminate":
		s.Label = "DNSSEC: " + security
		s.Say = securityWords[security]
		fill(&s.RFC, "RFC 4035 section 4.3")
		if security == "bogus" {
			s.Tone = "bad"
		}
	case e.Peer != "" && peer == Outside && node != Outside:
		s.To = peer
		fill(&s.RFC, "RFC 1034 section 4.3.2")
	default:
		return false
	}
	if answer := e.Get("answer"); answer != "" && s.Label == "" {
		s.Label = answer
	}
	return true
}

var securityWords = map[string]string{
	"secure":   "Signatures lead from the root to this answer, and each is right.",
	"insecure": "The zone above says that this one is not signed: the answer cannot be checked.",
	"bogus":    "A signature is missing or wrong: somebody may have changed the answer, so it is not used.",
}

func rcodeTone(rcode string) string {
	switch rcode {
	case "", "NOERROR":
		return ""
	case "NXDOMAIN":
		return "wait"
	}
	return "bad"
}

func asks(m *dns.Msg) string {
	if m.RecursionDesired {
		return "A recursive question: the server is to find the answer, and to ask others if it must."
	}
	return "An iterative question: the server is to say what it knows itself, or who knows more."
}

// outcome is what an answer says, short and as a sentence.
func outcome(m *dns.Msg) (label, say string) {
	from := "The server found the answer for the asker."
	if m.Authoritative {
		from = "The server is responsible for the name (authoritative)."
	}
	switch {
	case m.Rcode == dns.RcodeNameError:
		return "no such name", "There is no such name. " + from
	case m.Rcode != dns.RcodeSuccess:
		return dns.RcodeToString[m.Rcode], "The server could not or would not answer."
	case m.Truncated:
		return "too long, ask by TCP", "The answer does not fit a datagram; the asker comes again by TCP."
	case len(m.Answer) > 0:
		return records(m.Answer), from
	}
	for _, rr := range m.Ns {
		if ns, ok := rr.(*dns.NS); ok {
			zone := strings.ToLower(strings.TrimSuffix(ns.Hdr.Name, "."))
			return "ask " + strings.ToLower(strings.TrimSuffix(ns.Ns, ".")) + " (for " + zone + ")",
				"A referral: this server does not know, but knows who is responsible for " + zone + "."
		}
	}
	return "no such record", "The name exists, but has no record of this type. " + from
}

// records is the data of an answer, without signatures.
func records(list []dns.RR) string {
	const few = 3
	var out []string
	for _, rr := range list {
		if rr.Header().Rrtype == dns.TypeRRSIG {
			continue
		}
		if len(out) == few {
			out = append(out, "…")
			break
		}
		data := strings.TrimPrefix(rr.String(), rr.Header().String())
		switch rr.Header().Rrtype {
		case dns.TypeNS, dns.TypeMX, dns.TypeCNAME, dns.TypePTR, dns.TypeSRV, dns.TypeSOA:
			data = strings.ToLower(data) // the asker mixes cases against forgers
		}
		out = append(out, dns.TypeToString[rr.Header().Rrtype]+" "+data)
	}
	return strings.Join(out, ", ")
}

// decode is a message's header and sections (RFC 1035 section 4.1).
func decode(m *dns.Msg) [][2]string {
	fields := [][2]string{
		{"id", fmt.Sprintf("%d", m.Id)},
		{"flags", flags(m)},
		{"rcode", dns.RcodeToString[m.Rcode]},
	}
	for _, q := range m.Question {
		fields = append(fields, [2]string{"question", q.Name + " " + dns.ClassToString[q.Qclass] + " " + dns.TypeToString[q.Qtype]})
	}
	for _, part := range []struct {
		name string
		list []dns.RR
	}{{"answer", m.Answer}, {"authority", m.Ns}, {"additional", m.Extra}} {
		for _, rr := range part.list {
			fields = append(fields, [2]string{part.name, strings.TrimSpace(strings.ReplaceAll(strings.TrimPrefix(rr.String(), "\n"), "\t", " "))})
		}
	}
	return fields
}

func flags(m *dns.Msg) string {
	var on []string
	for _, f := range []struct {
		set  bool
		name string
	}{
		{m.Response, "QR (an answer)"}, {m.Authoritative, "AA (authoritative)"}, {m.Truncated, "TC (cut)"},
		{m.RecursionDesired, "RD (recursion desired)"}, {m.RecursionAvailable, "RA (recursion available)"},
		{m.AuthenticatedData, "AD (checked by DNSSEC)"}, {m.CheckingDisabled, "CD (do not check)"},
	} {
		if f.set {
			on = append(on, f.name)
		}
	}
	if len(on) == 0 {
		return "none"
	}
	return strings.Join(on, ", ")
}
