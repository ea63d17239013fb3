package catch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"postrider/lab/page"
	"postrider/mailstore"
	"postrider/mailstore/message"
)

// Bounds of waiting.
const (
	maxWaits    = 100 // at once
	defaultWait = 30 * time.Second
	maxWait     = 5 * time.Minute
)

// letterPolicy is for what a stranger wrote: its own styles and pictures within
// it, and nothing else; no script, no form, no link that opens here.
const letterPolicy = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; form-action 'none'; base-uri 'none'"

// handler is everything below /; docs/catch.md describes it.
func (c *Catcher) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", page.File(static, "index.html"))
	for _, name := range []string{"catch.js", "catch.css"} {
		mux.Handle("GET /static/"+name, page.File(static, name))
	}
	mux.Handle("GET /static/{name}", page.Static())
	mux.HandleFunc("GET /api/messages", c.getList)
	mux.HandleFunc("DELETE /api/messages", c.deleteAll)
	mux.HandleFunc("GET /api/wait", c.getWait)
	mux.HandleFunc("GET /api/messages/{id}", c.getMessage)
	mux.HandleFunc("DELETE /api/messages/{id}", c.deleteMessage)
	mux.HandleFunc("GET /api/messages/{id}/raw", c.getRaw)
	mux.HandleFunc("GET /api/messages/{id}/html", c.getHTML)
	mux.HandleFunc("GET /api/messages/{id}/parts/{number}", c.getPart)
	return page.Guard(nil, mux)
}

// answer writes a value, or what an error means to whoever asked.
func (c *Catcher) answer(w http.ResponseWriter, value any, err error) {
	switch {
	case errors.Is(err, mailstore.ErrNotFound):
		http.Error(w, "There is no such message.", http.StatusNotFound)
		return
	case err != nil:
		c.o.Log.Error("answer a request", "err", err)
		http.Error(w, "The store could not answer.", http.StatusInternalServerError)
		return
	}
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		http.Error(w, "The answer could not be written.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(text, '\n'))
}

// readQuery reads which messages a request means. What it does not know it refuses:
// a test that looks for what it never meant would pass or wait in vain.
func readQuery(r *http.Request, known ...string) (query, error) {
	q := query{limit: defaultList}
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return q, err
	}
	for name := range v {
		if !slices.Contains(known, name) {
			return q, fmt.Errorf("%q is not one of %s", name, strings.Join(known, ", "))
		}
	}
	q.to, q.from, q.subject = v.Get("to"), v.Get("from"), v.Get("subject")
	if text := v.Get("after"); text != "" {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return q, fmt.Errorf("after is the id of a message, not %q", text)
		}
		q.after = uint32(n)
	}
	if text := v.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxList {
			return q, fmt.Errorf("limit is a number from 1 to %d, not %q", maxList, text)
		}
		q.limit = n
	}
	return q, nil
}

func (c *Catcher) getList(w http.ResponseWriter, r *http.Request) {
	q, err := readQuery(r, "to", "from", "subject", "after", "limit")
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	list, err := c.list(r.Context(), q)
	c.answer(w, list, err)
}

// getWait answers as soon as a message matches, or 408 when none came in time.
func (c *Catcher) getWait(w http.ResponseWriter, r *http.Request) {
	q, err := readQuery(r, "to", "from", "subject", "after", "timeout")
	patience := defaultWait
	if text := r.URL.Query().Get("timeout"); err == nil && text != "" {
		patience, err = time.ParseDuration(text)
		if err != nil || patience < 0 || patience > maxWait {
			err = fmt.Errorf("timeout is a time such as 10s, at most %v, not %q", maxWait, text)
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case c.waits <- struct{}{}:
		defer func() { <-c.waits }()
	default:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "Too many wait already.", http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	timer := c.o.Clock.AfterFunc(patience, cancel)
	defer timer.Stop()
	defer context.AfterFunc(r.Context(), cancel)()
	found, err := c.wait(ctx, q)
	if errors.Is(err, context.Canceled) {
		http.Error(w, "No such message came.", http.StatusRequestTimeout)
		return
	}
	c.answer(w, found, err)
}

// id is the message that a path names; 0, which none has, for a bad one.
func id(r *http.Request) uint32 {
	n, err := strconv.ParseUint(r.PathValue("id"), 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

func (c *Catcher) getMessage(w http.ResponseWriter, r *http.Request) {
	m, err := c.parse(r.Context(), id(r))
	c.answer(w, m, err)
}

func (c *Catcher) deleteMessage(w http.ResponseWriter, r *http.Request) {
	n, err := c.remove(r.Context(), id(r))
	if err == nil && n == 0 {
		err = mailstore.ErrNotFound
	}
	c.answer(w, map[string]int{"deleted": n}, err)
}

// deleteAll deletes all messages, or those that a query names.
func (c *Catcher) deleteAll(w http.ResponseWriter, r *http.Request) {
	q, err := readQuery(r, "to", "from", "subject")
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	n, err := c.removeMatching(r.Context(), q)
	c.answer(w, map[string]int{"deleted": n}, err)
}

// getRaw sends the octets as they came, with what was put in front of them.
func (c *Catcher) getRaw(w http.ResponseWriter, r *http.Request) {
	_, content, err := c.open(r.Context(), id(r))
	if err != nil {
		c.answer(w, nil, err)
		return
	}
	defer content.Close()
	w.Header().Set("Content-Type", "message/rfc822")
	w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%d.eml"`, id(r)))
	w.Header().Set("Content-Length", strconv.FormatInt(content.Size(), 10))
	_, _ = io.Copy(w, io.NewSectionReader(content, 0, content.Size())) // the client has gone, else
}

// getHTML sends the letter's HTML for a frame that cannot do anything.
func (c *Catcher) getHTML(w http.ResponseWriter, r *http.Request) {
	m, err := c.parse(r.Context(), id(r))
	if err == nil && m.HTML == "" {
		err = mailstore.ErrNotFound
	}
	if err != nil {
		c.answer(w, nil, err)
		return
	}
	w.Header().Set("Content-Security-Policy", letterPolicy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	io.WriteString(w, m.HTML)
}

// getPart sends a part, decoded, as a download.
func (c *Catcher) getPart(w http.ResponseWriter, r *http.Request) {
	_, content, err := c.open(r.Context(), id(r))
	if err != nil {
		c.answer(w, nil, err)
		return
	}
	defer content.Close()
	x := message.Parse(content, content.Size())
	parts := leaves(x.Root, nil)
	n := slices.IndexFunc(parts, func(l leaf) bool { return l.number == r.PathValue("number") })
	if n < 0 {
		http.Error(w, "There is no such part.", http.StatusNotFound)
		return
	}
	name := fmt.Sprintf("%d-%s", id(r), parts[n].number)
	if h, err := x.Header(parts[n].part); err == nil && h.Filename() != "" {
		name = h.Filename()
	}
	w.Header().Set("Content-Security-Policy", letterPolicy)
	w.Header().Set("Content-Type", "application/octet-stream")
	if d := mime.FormatMediaType("attachment", map[string]string{"filename": name}); d != "" {
		w.Header().Set("Content-Disposition", d)
	} else {
		w.Header().Set("Content-Disposition", "attachment")
	}
	decoded, _ := x.Binary(parts[n].path) // as it is where the encoding is unknown
	_, _ = io.Copy(w, decoded)            // the client has gone, else
}
