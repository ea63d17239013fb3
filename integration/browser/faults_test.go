package browser

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// fault is a switch, as the page's server has it.
type fault struct {
	ID, Host string
	On       bool
}

func (p *page) faults() []fault {
	p.t.Helper()
	answer, err := http.Get(p.url + "api/scene")
	if err != nil {
		p.t.Fatal(err)
	}
	defer answer.Body.Close()
	var scene struct{ Faults []fault }
	if err := json.NewDecoder(answer.Body).Decode(&scene); err != nil {
		p.t.Fatal(err)
	}
	return scene.Faults
}

// flip flips a switch and waits until the lab has it so.
func (p *page) flip(id string, on bool) {
	p.t.Helper()
	p.run(fmt.Sprintf(`document.querySelector('#faults input[value="%s"]').click()`, id))
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		for _, f := range p.faults() {
			if f.ID == id && f.On == on {
				p.wait(fmt.Sprintf(`document.querySelector('#faults input[value="%s"]').checked === %t`, id, on))
				return
			}
		}
		if time.Now().After(end) {
			p.t.Fatalf("%s is not %t", id, on)
		}
	}
}

// TestFaultsFlip: each switch of a mail server, a name server, a resolver and a
// site goes on and off, and the map shows it.
func TestFaultsFlip(t *testing.T) {
	p := openLab(t, 1440, 900)
	p.click("#tab-faults")
	for host, n := range map[string]int{"mx.hamburger.edu": 8, "ns1.hamburger.edu": 5, "dns.crepes.fr": 5, "hamburger": 3} {
		p.fill("faulty", host)
		var ids []string
		for _, f := range p.faults() {
			if f.Host == host {
				ids = append(ids, f.ID)
			}
		}
		if len(ids) != n {
			t.Errorf("%s has the switches %q", host, ids)
		}
		for _, id := range ids {
			p.flip(id, true)
			if strings.Contains(host, ".") {
				p.wait(fmt.Sprintf(`document.querySelector('#map .host.broken[data-host="%s"]')?.getAttribute("aria-label").includes("broken: ")`, host))
			}
			p.flip(id, false)
			p.wait(`!document.querySelector('#map .host.broken[data-host="` + host + `"]')`)
		}
	}
}

// TestFaultsShow: what is broken is seen in the letter's steps, and a jump of
// the clock brings a letter that waited.
func TestFaultsShow(t *testing.T) {
	p := openLab(t, 1440, 900)
	p.sendLetter()
	for _, c := range []struct {
		id    string
		shows func(step) bool
		again bool // it needs a jump to arrive
	}{
		{"down mx.hamburger.edu", func(s step) bool { return s.Kind == "deliver.connect" && s.Tone == "bad" }, true},
		{"greylist mx.hamburger.edu", func(s step) bool { return s.Tone == "wait" && strings.HasPrefix(s.Label, "450") }, true},
		{"busy mx.hamburger.edu", func(s step) bool { return strings.HasPrefix(s.Label, "421") }, true},
		{"lostreply mx.hamburger.edu", func(s step) bool { return s.Kind == "queue.deferred" && strings.Contains(s.Label, "was lost") }, true},
	} {
		p.click("#tab-faults")
		p.fill("faulty", "mx.hamburger.edu")
		p.flip(c.id, true)
		after := p.last()
		p.click("#tab-letter")
		p.click(`#letter button[type=submit]`)
		p.until(after, c.id, c.shows)
		p.click("#tab-faults")
		if c.id != "lostreply mx.hamburger.edu" { // that one is over after its effect
			p.flip(c.id, false)
		}
		if c.again {
			p.click(`#jump button[value="3600"]`)
		}
		p.until(after, c.id+", over", func(s step) bool { return s.Kind == arrived && s.From == "mx.hamburger.edu" })
	}
}

// breakIt puts a fault in force by the form.
func (p *page) breakIt(kind, at, value string) {
	p.t.Helper()
	p.fill("kind", kind)
	p.fill("at", at)
	p.fill("peer", "")
	p.fill("value", value)
	p.click("#break button")
	p.broken(kind, at, true)
}

// broken waits until a fault is in force, or is not, and the page has it so.
func (p *page) broken(kind, at string, on bool) {
	p.t.Helper()
	p.wait(fmt.Sprintf(`document.querySelector('#faults input[value="%s %s"]')?.checked === %t`, kind, at, on))
}

// write sends a letter to somebody.
func (p *page) write(to string) {
	p.t.Helper()
	p.click("#tab-letter")
	p.fill("to", to)
	p.click(`#letter button[type=submit]`)
}

// shows waits until the diagram has a step after seq that is as it should be, and
// returns it with what the details say of it.
func (p *page) shows(seq uint64, what string, match func(step) bool) (step, string) {
	p.t.Helper()
	var found step
	p.until(seq, what, func(s step) bool {
		found = s
		return match(s)
	})
	p.click("#now") // a step that is chosen halts the player
	p.drawn(found.Seq)
	p.run(fmt.Sprintf(`document.querySelector('#steps [data-seq="%d"]').click()`, found.Seq))
	return found, eval[string](p.tab, `document.getElementById("detail").innerText`)
}

// mended ends a fault, and lets the letter that waits for it come. What is known of
// names is too old afterwards to be of use to anybody (RFC 8767).
func (p *page) mended(seq uint64, kind, host, mail string) {
	p.t.Helper()
	p.click("#tab-faults")
	p.fill("faulty", host)
	p.flip(kind+" "+host, false)
	p.click(`#jump button[value="86400"]`)
	p.shows(seq, "the letter's end after "+kind, func(s step) bool { return s.Kind == arrived && s.From == mail })
	p.jump("432000")
}

// jump sets the lab's clock ahead by so many seconds, and waits until it is.
func (p *page) jump(seconds string) {
	p.t.Helper()
	after := p.last()
	p.click(`#jump button[value="` + seconds + `"]`)
	p.until(after, "the jump", func(s step) bool { return s.Kind == "lab.jump" })
}

// TestFaultsOfNames: what is wrong with a name server is seen in the diagram: what
// it said, or somebody in its place, or that nothing came, and what becomes of the
// letter.
func TestFaultsOfNames(t *testing.T) {
	const ns, resolver, alices, dans = "ns.sfu.ca", "dns.crepes.fr", "mx.crepes.fr", "mail.sfu.ca"
	p := openLab(t, 1440, 900)
	reply := func(label string) func(step) bool {
		return func(s step) bool {
			return s.Kind == "dns.reply" && s.From == ns && s.To == resolver && strings.Contains(s.Label, label)
		}
	}
	for _, c := range []struct{ kind, value, label string }{
		{"servfail", "", "SERVFAIL"},
		{"lossy", "100", ""},
	} {
		p.click("#tab-faults")
		p.fill("faulty", ns)
		p.breakIt(c.kind, ns, c.value)
		after := p.last()
		p.write("dan@sfu.ca")
		s, detail := p.shows(after, c.kind, reply(c.label))
		if s.Tone != "bad" || !strings.Contains(detail, "the question did not come there") {
			t.Errorf("%s: %s, %s:\n%s", c.kind, s.Label, s.Tone, detail)
		}
		s, _ = p.shows(s.Seq, "that the letter waits", func(s step) bool { return s.Kind == "queue.deferred" && s.From == alices })
		if s.Tone != "wait" || !strings.Contains(s.Label, "dan@sfu.ca has to wait") {
			t.Errorf("%s: %s, %s", c.kind, s.Label, s.Tone)
		}
		p.mended(after, c.kind, ns, dans)
	}
	p.breakIt("spoof", ns, "sfu.ca. 300 MX 1 thief.mallory.test.")
	after := p.last()
	p.write("dan@sfu.ca")
	s, detail := p.shows(after, "the forged answer", reply("thief.mallory.test"))
	if !strings.Contains(detail, "the question did not come there") {
		t.Errorf("the forged answer: %s", detail)
	}
	p.shows(s.Seq, "the letter on its way to the thief", func(s step) bool {
		return s.Kind == "deliver.command" && s.To == "thief.mallory.test" && strings.HasPrefix(s.Label, "RCPT TO:<dan@sfu.ca>")
	})
	p.shows(s.Seq, "that the thief has it", func(s step) bool { return s.Kind == arrived && s.From == "thief.mallory.test" })
}

// TestFaultsOfTheWay: a STARTTLS that is taken out, an expired certificate and a
// slow way are seen in the lines of the delivery.
func TestFaultsOfTheWay(t *testing.T) {
	const alices, bobs = "mx.crepes.fr", "mx.hamburger.edu"
	p := openLab(t, 1440, 900)
	p.sendLetter()
	broken := func(kind string) (after uint64, there step) {
		p.click("#tab-faults")
		p.jump("60") // connections that were kept are closed
		p.fill("faulty", bobs)
		p.flip(kind+" "+bobs, true)
		after = p.last()
		p.write("bob@hamburger.edu")
		there, _ = p.shows(after, "the letter after "+kind, func(s step) bool { return s.Kind == arrived && s.From == bobs })
		p.click("#tab-faults")
		p.flip(kind+" "+bobs, false)
		return after, there
	}
	from := func(host, kind string) func(step) bool {
		return func(s step) bool { return s.From == host && s.Kind == kind }
	}

	after, there := broken("striptls")
	_, detail := p.shows(after, "the answer to EHLO", func(s step) bool {
		return from(bobs, "deliver.reply")(s) && strings.HasPrefix(s.Label, "250 mx.hamburger.edu Hello")
	})
	if !strings.Contains(detail, "250-XXXXXXXX") || strings.Contains(detail, "STARTTLS") {
		t.Errorf("what is offered: %s", detail)
	}
	for _, s := range p.steps() {
		if s.Seq > after && s.Seq < there.Seq && s.From == alices && s.Via == "tls" {
			t.Errorf("TLS, though it was taken out: %s", s.Label)
		}
	}

	after, _ = broken("expired")
	s, detail := p.shows(after, "the expired certificate", from(alices, "deliver.tls"))
	if !strings.Contains(s.Label, "certificate expired") || s.Tone != "wait" || !strings.Contains(detail, "it expired on ") {
		t.Errorf("%s, %s: %s", s.Label, s.Tone, detail)
	}

	after, _ = broken("slow")
	asked, _ := p.shows(after, "a line", from(alices, "deliver.command"))
	told, _ := p.shows(asked.Seq, "its answer", from(bobs, "deliver.reply"))
	took := eval[float64](p.tab, fmt.Sprintf(`(([a, b]) => b - a)([%d, %d].map((n) => new Date(document.querySelector('#steps [data-seq="' + n + '"]').step.time)))`, asked.Seq, told.Seq))
	if took < 1000 {
		t.Errorf("%s was answered after %v ms, by a way of 500 ms each way", asked.Label, took)
	}
}

// until waits for a step after seq that is as it should be.
func (p *page) until(seq uint64, what string, match func(step) bool) {
	p.t.Helper()
	var list []step
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		list = p.steps()
		for _, s := range list {
			if s.Seq > seq && match(s) {
				return
			}
		}
	}
	for _, s := range list {
		if s.Seq > seq {
			p.t.Logf("%d %s > %s %s %s %s", s.Seq, s.From, s.To, s.Kind, s.Tone, s.Label)
		}
	}
	p.t.Fatalf("no step shows %s", what)
}

// TestFaultOfALink: the form breaks the way between two, and it can be mended.
func TestFaultOfALink(t *testing.T) {
	p := openLab(t, 1440, 900)
	p.click("#tab-faults")
	p.fill("kind", "slow")
	p.fill("at", "crepes")
	p.fill("peer", "hamburger")
	p.fill("value", "50ms")
	p.click("#break button")
	p.wait(`[...document.querySelectorAll("#faults label")].some((l) => l.textContent.includes("slow crepes to hamburger 50ms"))`)
	p.fill("value", "soon")
	p.click("#break button")
	p.wait(`document.getElementById("result").dataset.tone === "bad"`)
	p.expected("422")
	p.run(`[...document.querySelectorAll("#faults label")].find((l) => l.textContent.includes("slow crepes to hamburger")).querySelector("input").click()`)
	p.wait(`![...document.querySelectorAll("#faults label")].some((l) => l.textContent.includes("slow crepes to hamburger"))`)
}

// TestNames: a question is answered, not by authority; a domain is registered,
// its hosts are on the map, and mail for it arrives.
func TestNames(t *testing.T) {
	p := openLab(t, 1440, 900)
	p.click("#tab-names")
	p.fill("resolver", "dns.crepes.fr")
	p.fill("name", "gaia.cs.umass.edu")
	p.click("#ask button")
	p.wait(`document.getElementById("answer").textContent.includes("non-authoritative")`)
	p.find(0, "dns.reply", "dns.cs.umass.edu") // from the root down
	p.fill("domain", "networkutopia.com")
	p.click("#register button")
	p.wait(`document.querySelectorAll("#registered li").length >= 3`)
	if text := eval[string](p.tab, `document.getElementById("registered").innerText`); !strings.Contains(text, "glue") {
		t.Error(text)
	}
	p.wait(`document.querySelector('#map [data-host="mail.networkutopia.com"]')`)
	after := p.last()
	p.click("#tab-letter")
	p.fill("to", "info@networkutopia.com")
	p.click(`#letter button[type=submit]`)
	p.find(after, arrived, "mail.networkutopia.com")
}
