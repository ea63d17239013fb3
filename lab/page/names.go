package page

import (
	"fmt"
	"strings"

	"github.com/miekg/dns"

	"postrider/internal/journey"
)

// dns makes a step of a question or an answer; it reports false for what another
// step shows.
func (st *stepper) dns(s *Step, e journey.Event, what, node, peer string) bool {
	if server := e.Get("server"); server != "" && (what == "query" || what == "reply") {
		peer = st.host(server)
	}
	name, typ := nameOf(e), e.Get("type")
	msg := new(dns.Msg)
	if len(e.Wire) == 0 || msg.Unpack(e.Wire) != nil {
		msg = nil
	}
	switch what {
	case "query":
		s.From, s.To = node, peer
		s.Label = typ + " " + name + " ?"
		s.Say = "A question to a name server."
		if msg != nil {
			s.Say = asks(msg)
		}
		fill(&s.RFC, "RFC 1035 section 4.1.2")
	case "reply":
		s.From, s.To = peer, node
		s.Label = e.Get("rcode")
		if msg != nil {
			s.Label, s.Say = outcome(msg)
		}
		s.Tone = rcodeTone(e.Get("rcode"))
		fill(&s.RFC, "RFC 1034 section 4.3.2")
	case "answer":
		if !st.answer(s, e, node, peer) {
			return false
		}
	}
	if msg != nil {
		s.Fields = append(s.Fields, decode(msg)...)
	}
	s.For = st.behalf.dns(s, what, node, name, typ)
	return true
}

// nameOf is the name that an event is about.
func nameOf(e journey.Event) string {
	if name := strings.ToLower(strings.TrimSuffix(e.Get("name"), ".")); name != "" {
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
