package browser

import (
	"fmt"
	"image/png"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestScreenshots takes the pictures that the README shows, into the folder that
// SCREENSHOTS names, or into none that stays. Each is a picture of something: not
// of one colour.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	p := openLab(t, 1280, 800)
	s := p.sendLetter()
	p.click("#play")
	mail := p.find(p.find(0, "deliver.tls", "").Seq+2, "deliver.command", "mx.crepes.fr")
	p.run(fmt.Sprintf(`const b = document.querySelector('#steps [data-seq="%d"]'); b.scrollIntoView({block: "center"}); b.click()`, mail.Seq))
	picture(t, p.tab, filepath.Join(dir, "lab-letter.png"))

	p.media("prefers-color-scheme", "dark")
	p.click("#tab-console")
	p.fill("hint", "0")
	p.click("#connect")
	for range 4 {
		n := eval[int](p.tab, `document.querySelectorAll("#lines .from-server").length`)
		p.wait(`!document.getElementById("hintnext").disabled`)
		p.click("#hintnext")
		p.wait(fmt.Sprintf(`document.querySelectorAll("#lines .from-server").length > %d`, n))
	}
	p.run(fmt.Sprintf(`const b = document.querySelector('#steps [data-seq="%d"]'); b.scrollIntoView({block: "center"}); b.click()`, s.Seq))
	picture(t, p.tab, filepath.Join(dir, "lab-console.png"))
}

// picture takes one, and looks whether there is anything on it.
func picture(t *testing.T, b *tab, file string) {
	t.Helper()
	b.shot(file)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	colours := map[[4]uint32]bool{}
	for y := range img.Bounds().Dy() {
		r, g, bl, a := img.At(img.Bounds().Dx()/2, y).RGBA()
		colours[[4]uint32{r, g, bl, a}] = true
	}
	if len(colours) < 5 {
		t.Errorf("%s has %d colours", file, len(colours))
	}
}

// TestCatch: caught mail is on the page, and its HTML can do nothing there.
func TestCatch(t *testing.T) {
	offset := 0
	var found []string
	for _, offset = range []int{30000, 20000, 10000} {
		found = run(t, `smtp://(\S+)   any(?s:.*)in a browser   (\S+)`, "lab", "--catch", "--port-offset", fmt.Sprint(offset))
		if found != nil {
			break
		}
	}
	b := newTab(t, 1280, 800)
	b.open(found[2])
	if b.wait(`!document.getElementById("none").hidden`); t.Failed() {
		return
	}
	letter := "From: shop@example.org\r\nTo: you@example.org\r\nSubject: Your <i>order</i>\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" +
		"<p style='color:green'>Thank you</p><script>parent.document.title = 'broken'; document.title = 'broken'</script>" +
		"<img src='" + found[2] + "api/messages?seen' onerror='parent.document.title = \"broken\"'><meta http-equiv=refresh content='0;url=" + found[2] + "'>\r\n"
	sendPlain(t, found[1], letter, "you@example.org", "hidden@example.org")
	b.wait(`document.querySelectorAll("#list button").length === 1`)
	b.click("#list button")
	b.wait(`document.querySelector("#content iframe")`)
	if got := eval[string](b, `document.getElementById("subject").textContent`); got != "Your <i>order</i>" {
		t.Error(got)
	}
	if got := eval[string](b, `document.getElementById("envelope").innerText`); !strings.Contains(got, "hidden@example.org") {
		t.Error(got)
	}
	// Its frame has an origin of its own, so that the page cannot look into it.
	b.wait(`document.querySelector("#content iframe").contentDocument === null`)
	ctx := b.ctx
	if _, err := chromedp.Run(ctx, chromedp.CaptureScreenshot()); err != nil {
		t.Fatal(err)
	}
	b.expected("Refused to load the image")
	b.expected("Loading the image")
	b.expected("Blocked script execution")
	b.expected("script-src")
	if got := eval[string](b, `document.title`); got != "postrider catches mail" {
		t.Errorf("the letter made the title %q", got)
	}
	b.click(`#views button[value=header]`)
	b.wait(`document.getElementById("content").innerText.includes("X-Envelope-To: ")`)
	b.click(`#views button[value=delete]`)
	b.wait(`document.querySelectorAll("#list button").length === 0`)
}

// sendPlain hands a letter to a server without TLS: nobody has to trust its
// certificate.
func sendPlain(t *testing.T, addr, letter string, to ...string) {
	t.Helper()
	c, err := smtp.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Mail("shop@example.org"); err != nil {
		t.Fatal(err)
	}
	for _, r := range to {
		if err := c.Rcpt(r); err != nil {
			t.Fatal(err)
		}
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(letter)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
