package page

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// TestExport: the file has the steps, its policy lets run what is in it and
// nothing else, and no letter can end its script.
func TestExport(t *testing.T) {
	s, f, base := serve(t)
	r := listen(t, base, "/api/events")
	f.play()
	for range 12 {
		r.step()
	}
	w := answer(s.Handler(), request("GET", "/api/export?after=3", ""))
	page := w.Body.String()
	if w.Code != 200 || !strings.Contains(w.Header().Get("Content-Disposition"), "attachment") {
		t.Fatal(w.Code, w.Header())
	}
	if strings.Contains(page, "<script>alert") {
		t.Error("a letter became markup")
	}
	data := regexp.MustCompile(`(?s)<script type="application/json" id="run">(.*?)</script>`).FindStringSubmatch(page)
	var got run
	if data == nil || json.Unmarshal([]byte(data[1]), &got) != nil || len(got.Steps) != 9 || got.Steps[0].Seq != 4 {
		t.Errorf("the steps: %.300s", data)
	}
	for _, a := range got.Scene.Accounts {
		if a.Password != "" {
			t.Error("a password is in the file")
		}
	}
	script := regexp.MustCompile(`(?s)<script type="module">(.*?)</script>`).FindStringSubmatch(page)
	style := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindStringSubmatch(page)
	for _, part := range [][]string{script, style} {
		if part == nil || !strings.Contains(page, "'"+hash([]byte(part[1]))+"'") {
			t.Errorf("the policy does not know what is in the file: %.200s", part)
		}
	}
	if script != nil && regexp.MustCompile(`(?m)^(import|export) `).MatchString(script[1]) {
		t.Error("the script has a module's lines left")
	}
	if found := regexp.MustCompile(`(src|href)="/[^"]*"`).FindAllString(page, -1); len(found) != 1 || found[0] != `href="/api/export"` {
		t.Errorf("the file asks for %q", found)
	}
}

// TestModules: the export knows every script, and their names differ, so that
// they can stand in one.
func TestModules(t *testing.T) {
	files, err := static.ReadDir("static")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, m := range modules {
		known[m] = true
	}
	names := map[string]string{}
	top := regexp.MustCompile(`(?m)^(?:export )?(?:async )?(?:const|let|var|function|class) ([A-Za-z]+)`)
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".js") || strings.HasPrefix(f.Name(), "catch") {
			continue
		}
		if !known[f.Name()] {
			t.Errorf("the export does not have %s", f.Name())
		}
		text, err := static.ReadFile("static/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range top.FindAllStringSubmatch(string(text), -1) {
			if names[m[1]] != "" {
				t.Errorf("%s is in %s and in %s", m[1], names[m[1]], f.Name())
			}
			names[m[1]] = f.Name()
		}
	}
}
