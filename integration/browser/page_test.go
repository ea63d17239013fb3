package browser

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestLetter: from form to mailbox, and the diagram is the journey: every step
// of it, in order, with the same words; one that is chosen shows its octets, its
// meaning and the section that it follows.
func TestLetter(t *testing.T) {
	p := openLab(t, 1440, 900)
	if from, to := eval[string](p.tab, `document.getElementById("from").value`), eval[string](p.tab, `document.getElementById("to").value`); from != "alice@crepes.fr" || to != "bob@hamburger.edu" {
		t.Errorf("the form begins with %s and %s", from, to)
	}
	p.sendLetter()
	journey := p.steps()
	p.drawn(journey[len(journey)-1].Seq)
	shown := eval[[]string](p.tab, `[...document.querySelectorAll("#steps button")].map((b) => b.dataset.seq + " " + b.step.from + " " + b.step.to + " " + b.querySelector(".label").textContent)`)
	for i, s := range journey {
		if want := fmt.Sprintf("%d %s %s %s", s.Seq, s.From, s.To, s.Label); i >= len(shown) || shown[i] != want {
			t.Fatalf("step %d is not %s but %s", i, want, shown[min(i, len(shown)-1)])
		}
	}
	var kinds []string
	for _, s := range journey {
		if !slices.Contains(kinds, s.Kind) {
			kinds = append(kinds, s.Kind)
		}
	}
	for _, want := range []string{"smtp.command", "smtp.reply", "message.accepted", "dns.query", "dns.reply", "queue.attempt", "deliver.command", "deliver.reply", "deliver.tls", "deliver.content", "queue.delivered", arrived} {
		if !slices.Contains(kinds, want) {
			t.Errorf("the journey has no %s: %v", want, kinds)
		}
	}
	mail := p.find(0, "deliver.command", "mx.crepes.fr")
	p.run(fmt.Sprintf(`document.querySelector('#steps [data-seq="%d"]').click()`, mail.Seq))
	detail := eval[string](p.tab, `document.getElementById("detail").innerText`)
	for _, want := range []string{mail.Label, mail.Say, mail.RFC, "octets", "0000  "} {
		if !strings.Contains(detail, want) {
			t.Errorf("the details of %s have no %q:\n%s", mail.Label, want, detail)
		}
	}
	if lit := eval[[]string](p.tab, `[...document.querySelectorAll("#map .host.on")].map((h) => h.dataset.host)`); !slices.Contains(lit, "mx.crepes.fr") || !slices.Contains(lit, "mx.hamburger.edu") {
		t.Errorf("lit are %v", lit)
	}
	query := p.find(0, "dns.reply", "")
	p.run(fmt.Sprintf(`document.querySelector('#steps [data-seq="%d"]').click()`, query.Seq))
	if detail := eval[string](p.tab, `document.getElementById("detail").innerText`); !strings.Contains(detail, "question") || !strings.Contains(detail, "QR (an answer)") {
		t.Errorf("the answer is not decoded:\n%s", detail)
	}
	p.click("#tab-tables")
	p.wait(`document.getElementById("tables").innerText.includes("Searching for the meaning of life")`)
}

// TestReading: the mail program fetches the letter by POP3 and by IMAP.
func TestReading(t *testing.T) {
	p := openLab(t, 1440, 900)
	p.sendLetter()
	for _, protocol := range []string{"pop3", "imap"} {
		after := p.last()
		p.click(`#collect button[value=` + protocol + `]`)
		s := p.find(after, protocol+".command", "laptop.hamburger.edu")
		if s.To != "mx.hamburger.edu" {
			t.Errorf("%+v", s)
		}
		p.drawn(s.Seq)
		p.find(after, protocol+".reply", "mx.hamburger.edu")
	}
}

// TestPlayer: pause, step, back, replay, the slider, filters, a new run.
func TestPlayer(t *testing.T) {
	p := openLab(t, 1440, 900)
	count := func() int { return eval[int](p.tab, `document.querySelectorAll("#steps button").length`) }
	p.click("#play")
	after := p.last()
	p.click(`#letter button[type=submit]`)
	s := p.find(after, arrived, "mx.hamburger.edu")
	p.wait(fmt.Sprintf(`Number(document.getElementById("seek").max) >= %d`, s.Seq))
	if n := count(); n != 0 {
		t.Errorf("paused, and %d steps are shown", n)
	}
	p.click("#next")
	p.click("#next")
	p.wait(`document.querySelectorAll("#steps button").length === 2`)
	if now := eval[string](p.tab, `document.querySelector("#steps [aria-current]").dataset.seq`); now != "2" {
		t.Errorf("step %s is the current one", now)
	}
	p.click("#back")
	p.wait(`document.querySelectorAll("#steps button").length === 1`)
	p.run(`const s = document.getElementById("seek"); s.value = 5; s.dispatchEvent(new Event("input", {bubbles: true}))`)
	if n := count(); n != 5 {
		t.Errorf("the slider shows %d steps", n)
	}
	p.click("#replay")
	p.drawn(s.Seq)
	p.run(`document.querySelector('#filters input[value=dns]').click()`)
	if n := eval[int](p.tab, `document.querySelectorAll("#steps .via-dns").length`); n != 0 {
		t.Errorf("%d questions are shown", n)
	}
	p.click("#fresh")
	if n := count(); n != 0 {
		t.Errorf("a new run begins with %d steps", n)
	}
}

// TestLetterFilter: one letter's steps are those that name it, and what the
// resolver asked for it, from the root down; not what it asked for others.
func TestLetterFilter(t *testing.T) {
	p := openLab(t, 1440, 900)
	p.click("#tab-names")
	p.fill("resolver", "dns.crepes.fr")
	p.fill("name", "gaia.cs.umass.edu")
	p.click("#ask button")
	p.wait(`document.getElementById("answer").textContent.includes("non-authoritative")`)
	others := p.find(0, "dns.query", "dns.crepes.fr")
	after := p.last()
	p.click("#tab-letter")
	p.sendLetter()
	p.drawn(others.Seq)
	p.fill("which", p.find(after, "message.accepted", "mx.crepes.fr").Message)
	for _, s := range p.steps() {
		if s.Seq > after && s.Via == "dns" && s.From == "dns.crepes.fr" && strings.Contains(s.Label, "hamburger") {
			p.drawn(s.Seq)
		}
	}
	p.drawn(p.find(after, "dns.query", "dns.crepes.fr").Seq)
	p.drawn(p.find(after, "queue.delivered", "mx.crepes.fr").Seq)
	if shown := eval[bool](p.tab, fmt.Sprintf(`!!document.querySelector('#steps [data-seq="%d"]')`, others.Seq)); shown {
		t.Errorf("a question for nobody's letter is shown: %s", others.Label)
	}
}

// TestLetterFollowed: one letter's steps go on at each server that takes it, the
// backup server included, to the mailboxes, the report about a recipient who is not
// there, and the first time that a program fetched it; they are one letter of the
// choice, and another's are not among them.
func TestLetterFollowed(t *testing.T) {
	p := openLab(t, 1440, 900)
	p.sendLetter()
	other := p.find(0, arrived, "mx.hamburger.edu")
	p.click("#tab-faults")
	p.fill("faulty", "mx.hamburger.edu")
	p.flip("down mx.hamburger.edu", true)
	after := p.last()
	p.click("#tab-letter")
	p.fill("to", "bob@hamburger.edu, nobody@hamburger.edu, alice@crepes.fr")
	p.click(`#letter button[type=submit]`)
	here := p.find(after, arrived, "mx.crepes.fr")
	p.until(after, "the backup server has it", func(s step) bool { return s.Kind == "queue.delivered" && s.To == "mx.crepes.fr" })
	p.click("#tab-faults")
	p.flip("down mx.hamburger.edu", false)
	p.click(`#jump button[value="3600"]`)
	there := p.find(after, arrived, "mx.hamburger.edu")
	report := p.find(after, "queue.bounce", "mx.relay.test")
	refused := step{}
	p.until(after, "the refusal", func(s step) bool {
		refused = s
		return s.Kind == "check.failed" && strings.Contains(s.Label, "nobody@hamburger.edu")
	})
	reported := step{}
	p.until(report.Seq, "the report in the mailbox", func(s step) bool {
		reported = s
		return s.Kind == arrived && s.From == "mx.crepes.fr"
	})
	p.click("#tab-letter")
	p.fill("reader", "bob@hamburger.edu")
	p.click(`#collect button[value=imap]`)
	read := step{}
	p.until(there.Seq, "the letter is read", func(s step) bool {
		read = s
		return s.Kind == "mailbox.fetched" && slices.Contains(s.For, there.Message)
	})
	p.drawn(read.Seq)
	p.wait(`document.querySelectorAll("#which option").length === 3`) // all, and two letters
	p.fill("which", p.find(after, "message.accepted", "mx.crepes.fr").Message)
	for _, s := range []step{here, there, refused, report, reported, read} {
		p.drawn(s.Seq)
	}
	p.wait(fmt.Sprintf(`!document.querySelector('#steps [data-seq="%d"]')`, other.Seq))
	if text := eval[string](p.tab, `document.getElementById("which").selectedOptions[0].textContent`); !strings.Contains(text, "alice@crepes.fr → bob@hamburger.edu, nobody@hamburger.edu") {
		t.Errorf("the letter is called %q", text)
	}
}

// TestConsole: a letter typed into the console, each line explained, reaches the
// mailbox; another host than the lab's cannot be reached.
func TestConsole(t *testing.T) {
	p := openLab(t, 1440, 900)
	p.click("#tab-console")
	p.fill("host", "mx.hamburger.edu")
	p.fill("port", "25")
	p.click("#connect")
	p.wait(`document.getElementById("lines").innerText.includes("S: 220")`)
	for _, l := range []string{"HELO crepes.fr", "MAIL FROM: <alice@crepes.fr>", "RCPT TO: <bob@hamburger.edu>", "DATA"} {
		n := eval[int](p.tab, `document.querySelectorAll("#lines .from-server").length`)
		p.do(chromedp.SendKeys("#line", l+kb.Enter))
		p.wait(fmt.Sprintf(`document.querySelectorAll("#lines .from-server").length > %d`, n))
	}
	for _, l := range []string{"Subject: typed", "", "Do you like ketchup?", ".", "QUIT"} {
		p.do(chromedp.SendKeys("#line", l+kb.Enter))
	}
	p.wait(`document.getElementById("lines").innerText.includes("The server closed the connection")`)
	text := eval[string](p.tab, `document.getElementById("lines").innerText`)
	for _, want := range []string{"C: HELO crepes.fr", "RFC 5321 section 4.1.1.1", "Go ahead: type the letter", "divides the header from the text", "A dot alone on a line ends the letter", "answers for it from now on"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	p.find(0, arrived, "mx.hamburger.edu")
	answer, err := http.Post(p.url+"api/console", "application/json", strings.NewReader(`{"host":"192.0.2.1","port":25}`))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if said, _ := io.ReadAll(answer.Body); answer.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("%s %s", answer.Status, said)
	}
}

// TestConsoleTLS: the dialogue goes on under TLS after STARTTLS, by SMTP and by IMAP,
// with the server's certificate shown.
func TestConsoleTLS(t *testing.T) {
	p := openLab(t, 1440, 900)
	p.click("#tab-console")
	for port, said := range map[string][][2]string{
		"25":  {{"EHLO crepes.fr", "S: 250"}, {"STARTTLS", "S: 220 2.0.0"}, {"EHLO crepes.fr", "S: 250 "}, {"QUIT", "S: 221"}},
		"143": {{"a STARTTLS", "S: a OK"}, {"b NOOP", "S: b OK"}, {"c LOGOUT", "S: c OK"}},
	} {
		p.fill("host", "mx.hamburger.edu")
		p.fill("port", port)
		p.click("#connect")
		p.wait(`document.querySelectorAll("#lines .from-server").length > 0`)
		for _, s := range said {
			n := eval[int](p.tab, `document.querySelectorAll("#lines li").length`)
			p.do(chromedp.SendKeys("#line", s[0]+kb.Enter))
			p.wait(fmt.Sprintf(`[...document.querySelectorAll("#lines li")].slice(%d).some((l) => l.innerText.includes(%q))`, n, s[1]))
			if strings.Contains(s[0], "STARTTLS") {
				p.wait(`document.getElementById("lines").innerText.includes("The certificate is of mx.hamburger.edu")`)
			}
		}
		p.wait(`document.getElementById("lines").innerText.includes("The server closed the connection")`)
	}
	p.find(0, "session.tls", "mx.hamburger.edu")
}

// TestKeyboard: a letter goes out, and the diagram is read, without a mouse.
func TestKeyboard(t *testing.T) {
	p := openLab(t, 1440, 900)
	focus := func() string {
		return eval[string](p.tab, `document.activeElement.id || document.activeElement.dataset.host || document.activeElement.textContent`)
	}
	p.press("l")
	if at := focus(); at != "to" {
		t.Fatalf("L leads to %s", at)
	}
	after := p.last()
	p.key(kb.Enter)
	s := p.find(after, arrived, "mx.hamburger.edu")
	p.drawn(s.Seq)
	p.run(`document.activeElement.blur()`)
	p.press(" ")
	p.wait(`document.getElementById("play").textContent.includes("Go on")`)
	p.press("d")
	p.key(kb.End)
	p.key(kb.ArrowUp)
	n := eval[int](p.tab, `document.querySelectorAll("#steps button").length`)
	if at := eval[int](p.tab, `[...document.querySelectorAll("#steps button")].indexOf(document.activeElement)`); at != n-2 {
		t.Errorf("the focus is at step %d of %d", at, n)
	}
	if !eval[bool](p.tab, `document.getElementById("detail").innerText.includes(document.activeElement.step.label)`) {
		t.Error("the details are of another step")
	}
	if width := eval[string](p.tab, `getComputedStyle(document.activeElement).outlineStyle`); width == "none" {
		t.Error("the focus is not seen")
	}
	p.press("m")
	if at := focus(); at != "a.root-servers.net" {
		t.Errorf("M leads to %s", at)
	}
	p.key(kb.ArrowRight)
	if at := focus(); at != "b.root-servers.net" {
		t.Errorf("→ leads to %s", at)
	}
	p.key(kb.Enter)
	p.wait(`document.getElementById("detail").innerText.includes("b.root-servers.net")`)
	for key, want := range map[string]string{"c": "host", "a": "name", "f": "faulty", "t": "tablekind"} {
		p.run(`document.activeElement.blur()`)
		p.press(key)
		if at := focus(); at != want {
			t.Errorf("%s leads to %s", key, at)
		}
	}
	p.run(`document.getElementById("tab-tables").focus()`)
	p.key(kb.ArrowRight) // round to the first
	if at := focus(); at != "tab-letter" {
		t.Errorf("→ among the tabs leads to %s", at)
	}
	p.run(`document.activeElement.blur()`)
	p.press("?")
	p.wait(`document.getElementById("keys").open`)
	p.key(kb.Escape)
	p.wait(`!document.getElementById("keys").open`)
	p.press("+")
	if size := eval[string](p.tab, `document.documentElement.dataset.size`); size != "2" {
		t.Errorf("+ makes the text size %s", size)
	}
	named := eval[[]string](p.tab, `[...document.querySelectorAll("button, input, select, textarea, a")].filter((e) => !(e.labels && e.labels.length) && !e.getAttribute("aria-label") && !e.textContent.trim()).map((e) => e.outerHTML)`)
	if len(named) > 0 {
		t.Errorf("without a name: %v", named)
	}
}

// TestPhone: on a phone nothing is wider than the screen but the diagram, which
// scrolls by itself, and a letter can be sent and followed.
func TestPhone(t *testing.T) {
	p := openLab(t, 390, 844)
	p.sendLetter()
	if wide := eval[int](p.tab, `document.documentElement.scrollWidth`); wide > 390 {
		t.Errorf("the page is %d wide: %v", wide, eval[[]string](p.tab, `[...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > 391 && !e.closest("#scroll")).map((e) => e.tagName + "#" + e.id).slice(0, 10)`))
	}
	small := eval[[]string](p.tab, `[...document.querySelectorAll("button, select, input:not([type=checkbox]):not([type=range])")].filter((e) => e.offsetParent && e.getBoundingClientRect().height < 36).map((e) => e.id || e.textContent).slice(0, 10)`)
	if len(small) > 0 {
		t.Errorf("too small for a finger: %v", small)
	}
	p.click("#play")
	p.run(`const b = document.querySelector("#steps li:last-child button"); b.scrollIntoView({block: "start"}); b.click()`)
	p.wait(`document.getElementById("details").getBoundingClientRect().bottom <= innerHeight + 1`)
}

// TestColours: in light and in dark, what is written can be read: a contrast of
// 4.5 to 1 (WCAG 2.2, 1.4.3).
func TestColours(t *testing.T) {
	p := openLab(t, 1440, 900)
	p.sendLetter()
	grounds := map[string]string{}
	for _, scheme := range []string{"light", "dark"} {
		p.media("prefers-color-scheme", scheme)
		p.wait(fmt.Sprintf(`document.documentElement.hasAttribute("data-dark") === %t`, scheme == "dark"))
		grounds[scheme] = eval[string](p.tab, `getComputedStyle(document.body).backgroundColor`)
		bad := eval[[]string](p.tab, `(() => {
			const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
			const light = (c) => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
			const parse = (s) => { const n = s.match(/[\d.]+/g).map(Number); return n.length > 3 && n[3] === 0 ? null : n; };
			const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c) return c; } return [255, 255, 255]; };
			const out = [];
			for (const e of document.querySelectorAll("h1, h2, p, label, button, .label, #lanes span, dt, dd, #when, caption, td")) {
				if (!e.offsetParent || e.disabled || !e.textContent.trim()) continue;
				const a = light(parse(getComputedStyle(e).color)), b = light(ground(e));
				const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
				if (ratio < 4.5) out.push(e.textContent.trim().slice(0, 30) + " " + ratio.toFixed(2));
			}
			return out;
		})()`)
		if len(bad) > 0 {
			t.Errorf("%s: hard to read: %v", scheme, bad)
		}
	}
	if grounds["light"] == grounds["dark"] {
		t.Errorf("both are %s", grounds["light"])
	}
	p.fill("theme", "light")
	if dark := eval[bool](p.tab, `document.documentElement.hasAttribute("data-dark")`); dark {
		t.Error("light was chosen, and it is dark")
	}
}

// TestMotion: whoever wants no motion gets none.
func TestMotion(t *testing.T) {
	p := openLab(t, 1440, 900)
	p.media("prefers-reduced-motion", "reduce")
	p.fill("pace", "350")
	p.run(`window.moved = 0; new MutationObserver((l) => { for (const m of l) if (m.attributeName === "transform") window.moved++; }).observe(document.getElementById("map"), {subtree: true, attributes: true})`)
	after := p.last()
	p.click(`#letter button[type=submit]`)
	s := p.find(after, "message.accepted", "mx.crepes.fr")
	p.drawn(s.Seq)
	if n := eval[int](p.tab, `window.moved`); n > 0 {
		t.Errorf("something moved %d times", n)
	}
	p.media("prefers-reduced-motion", "no-preference")
	p.click("#replay")
	p.wait(`window.moved > 0`)
}

// TestExport: the file opens by itself, without a server, with every step, and
// plays.
func TestExport(t *testing.T) {
	p := openLab(t, 1440, 900)
	s := p.sendLetter()
	answer, err := http.Get(p.url + "api/export")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "run.html")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	b := newTab(t, 1440, 900)
	b.open("file://" + file)
	b.wait(fmt.Sprintf(`document.querySelector('#steps [data-seq="%d"]')`, s.Seq))
	if live := eval[bool](b, `[...document.querySelectorAll("[data-live]")].some((e) => e.offsetParent)`); live {
		t.Error("the file shows what only a lab can do")
	}
	if n := eval[int](b, `performance.getEntriesByType("resource").length`); n > 0 {
		t.Errorf("the file loads %s", eval[string](b, `performance.getEntriesByType("resource").map((r) => r.name).join(" ")`))
	}
	b.run(`document.getElementById("replay").click(); document.getElementById("play").click()`)
	for n := range 3 {
		if shown := eval[int](b, `document.querySelectorAll("#steps button").length`); shown != n {
			t.Errorf("%d steps are shown, not %d", shown, n)
		}
		b.click("#next")
	}
	b.fill("pace", "40")
	b.click("#replay")
	b.wait(fmt.Sprintf(`document.querySelector('#steps [data-seq="%d"]')`, s.Seq))
	b.run(fmt.Sprintf(`document.querySelector('#steps [data-seq="%d"]').click()`, s.Seq))
	if detail := eval[string](b, `document.getElementById("detail").innerText`); !strings.Contains(detail, s.Label) {
		t.Error(detail)
	}
}
