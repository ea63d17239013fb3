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
