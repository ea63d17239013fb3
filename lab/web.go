package lab

import (
	"context"
	"fmt"
	"html"
	"net"
	"net/http"
	"time"
)

// Bounds of a web host.
const (
	webPatience = 10 * time.Second
	webHeader   = 8 << 10
)

// startWebLocked runs a server that has one page: enough to see that a name
// leads somewhere.
func (m *machine) startWebLocked() {
	name, about := html.EscapeString(m.host.Name), html.EscapeString(m.host.About)
	s := &http.Server{ReadTimeout: webPatience, WriteTimeout: webPatience, MaxHeaderBytes: webHeader,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			fmt.Fprintf(w, "<!DOCTYPE html>\n<title>%s</title>\n<h1>%s</h1>\n<p>%s</p>\n<p>You asked for %s.</p>\n", name, name, about, html.EscapeString(r.Host))
		})}
	m.serveLocked("http", func(l net.Listener) { _ = s.Serve(l) }, func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if s.Shutdown(ctx) != nil {
			s.Close()
		}
	})
}
