package page

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"strings"
	"time"
)

// modules are the page's scripts, each before those that import it, so that
// the export can hold them as one. Their top-level names differ.
var modules = [...]string{"dom.js", "words.js", "player.js", "map.js", "diagram.js", "details.js", "tables.js", "console.js", "forms.js", "app.js"}

// run is what an export holds.
type run struct {
	Title string    `json:"title"`
	When  time.Time `json:"when"`
	Scene Scene     `json:"scene"`
	Steps []*Step   `json:"steps"`
}

var (
	importLine = regexp.MustCompile(`(?m)^import .*;\n`)
	exportWord = regexp.MustCompile(`(?m)^export `)
	linkLine   = regexp.MustCompile(`(?m)^.*<(?:link|script) .*\n`)
)

// Export is a run of the lab as one HTML file that needs nothing else: the page
// itself with its script, style and the steps inside, under a policy that lets
// only these run, by their hashes.
func (s *Server) exportFile(after uint64) ([]byte, error) {
	steps, _, _ := s.log.after(after)
	scene := s.lab.Scene()
	for i := range scene.Accounts {
		scene.Accounts[i].Password = "" // nobody can log in to a file
	}
	data, err := json.Marshal(run{Title: scene.Title, When: scene.Now, Scene: scene, Steps: steps}) // with < as \u003c
	if err != nil {
		return nil, err
	}
	style, err := fs.ReadFile(static, "static/style.css")
	if err != nil {
		return nil, err
	}
	script, err := bundle()
	if err != nil {
		return nil, err
	}
	page, err := fs.ReadFile(static, "static/index.html")
	if err != nil {
		return nil, err
	}
	page = linkLine.ReplaceAll(page, nil)
	policy := fmt.Sprintf("default-src 'none'; script-src '%s'; style-src '%s'; base-uri 'none'; form-action 'none'", hash(script), hash(style))
	head := fmt.Sprintf("<meta http-equiv=\"Content-Security-Policy\" content=\"%s\">\n<style>%s</style>\n<script type=\"application/json\" id=\"run\">%s</script>\n", policy, style, data)
	page = bytes.Replace(page, []byte("</head>"), []byte(head+"</head>"), 1)
	return bytes.Replace(page, []byte("</body>"), fmt.Appendf(nil, "<script type=\"module\">%s</script>\n</body>", script), 1), nil
}

// bundle is all modules in one.
func bundle() ([]byte, error) {
	var all bytes.Buffer
	for _, name := range modules {
		text, err := fs.ReadFile(static, path.Join("static", name))
		if err != nil {
			return nil, err
		}
		text = exportWord.ReplaceAll(importLine.ReplaceAll(text, nil), nil)
		all.Write(text)
	}
	return all.Bytes(), nil
}

// hash is a source of the policy (Content Security Policy Level 3 section 2.3.1).
func hash(text []byte) string {
	sum := sha256.Sum256(text)
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// export is GET /api/export: the steps after ?after=.
func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	file, err := s.exportFile(lastSeen(r))
	if err != nil {
		refuse(w, http.StatusInternalServerError, "The export could not be made.")
		return
	}
	name := "postrider-lab-" + strings.NewReplacer(":", "", "-", "").Replace(s.clock.Now().UTC().Format(time.RFC3339)) + ".html"
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	w.Write(file)
}
