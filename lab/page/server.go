package page

import (
	"cmp"
	"context"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"postrider/internal/clock"
	"postrider/internal/journey"
)

//go:embed static
var static embed.FS

// Options says how the page is served; all but Lab may be zero.
type Options struct {
	Lab   Lab
	Names []string    // by which the page is reached, beside addresses and localhost
	Clock clock.Clock // of this machine; the lab's own clock jumps
	Log   *slog.Logger
	// Rand gives the names of runs and consoles; nil = crypto/rand. They are not
	// guessed from outside: Guard keeps other sites' pages away.
	Rand io.Reader
}

// Server is the page of one lab.
type Server struct {
	lab     Lab
	clock   clock.Clock
	logger  *slog.Logger
	run     string // names this run of the lab
	handler http.Handler
	log     *log
	changes *signal // of the scene
	streams chan struct{}
	console *consoles
	rand    io.Reader

	cancel  context.CancelFunc
	closing <-chan struct{}
	owned   sync.WaitGroup
}

// New starts to follow the lab. Close ends it.
func New(o Options) (*Server, error) {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		o.Rand = random{}
	}
	run, err := randomName(o.Rand)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{lab: o.Lab, clock: o.Clock, logger: o.Log, run: run, rand: o.Rand, log: newLog(), changes: newSignal(),
		streams: make(chan struct{}, maxStreams), cancel: cancel, closing: ctx.Done()}
	s.console = newConsoles(s)
	mux := http.NewServeMux()
	s.routes(mux)
	s.handler = Guard(o.Names, mux)
	events := o.Lab.Follow(ctx)
	s.owned.Go(func() { s.follow(events) })
	return s, nil
}

// randomName is 128 bits in hexadecimal.
func randomName(r io.Reader) (string, error) {
	b := make([]byte, 16)
	if _, err := io.ReadFull(r, b); err != nil {
		return "", err
	}
	return hex.EncodeToString(b), nil
}

// follow makes steps of the lab's events.
func (s *Server) follow(events iter.Seq[journey.Event]) {
	st := newStepper(s.lab.HostOf, s.lab.Records)
	for e := range events {
		if step := st.step(e); step != nil {
			s.log.add(step)
		}
		if strings.HasPrefix(string(e.Kind), "lab.") {
			s.Changed()
		}
	}
}

// Changed tells the pages that hosts, faults or the clock are other than they were.
func (s *Server) Changed() { s.changes.raise() }

// Handler is everything below /.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve serves on ln until ctx ends.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	return Serve(ctx, ln, s.handler, s.logger, s.closing)
}

// Close ends the streams and consoles, and returns when all has ended.
func (s *Server) Close() {
	s.cancel()
	s.console.close()
	s.owned.Wait()
}

// Bounds of one connection.
const (
	headerPatience  = 10 * time.Second
	requestPatience = 30 * time.Second
	idlePatience    = 2 * time.Minute
	maxHeader       = 16 << 10 // octets
	closePatience   = 3 * time.Second
)

// Serve runs an HTTP server for h on ln, with bounds on what slow and greedy
// peers can hold, until ctx ends or closed is closed.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, log *slog.Logger, closed <-chan struct{}) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerPatience,
		ReadTimeout:       requestPatience,
		IdleTimeout:       idlePatience,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	var ender sync.WaitGroup
	ended := make(chan struct{})
	ender.Go(func() {
		select {
		case <-ctx.Done():
		case <-closed:
		case <-ended:
			return
		}
		patience, cancel := context.WithTimeout(context.Background(), closePatience)
		defer cancel()
		if srv.Shutdown(patience) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(ln)
	close(ended)
	ender.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (s *Server) routes(mux *http.ServeMux) {
	mux.Handle("GET /{$}", File(static, "index.html"))
	mux.Handle("GET /static/{name}", Static())
	mux.HandleFunc("GET /api/scene", func(w http.ResponseWriter, r *http.Request) { reply(w, s.lab.Scene()) })
	mux.HandleFunc("GET /api/events", s.events)
	mux.HandleFunc("GET /api/steps", func(w http.ResponseWriter, r *http.Request) {
		steps, _, _ := s.log.after(lastSeen(r))
		reply(w, append([]*Step{}, steps...)) // [], not null
	})
	mux.HandleFunc("GET /api/tables", s.tables)
	mux.HandleFunc("GET /api/export", s.export)
	mux.HandleFunc("POST /api/letter", s.letter)
	mux.HandleFunc("POST /api/collect", s.collect)
	mux.HandleFunc("POST /api/fault", s.fault)
	mux.HandleFunc("POST /api/break", s.breakIt)
	mux.HandleFunc("POST /api/jump", s.jump)
	mux.HandleFunc("POST /api/register", s.register)
	mux.HandleFunc("POST /api/ask", s.ask)
	mux.HandleFunc("POST /api/console", s.console.open)
	mux.HandleFunc("GET /api/console/{id}", s.console.listen)
	mux.HandleFunc("POST /api/console/{id}", s.console.say)
	mux.HandleFunc("DELETE /api/console/{id}", s.console.hangUp)
}

// File serves one file of a folder static; "" stands for the path value "name".
func File(files fs.FS, name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := path.Base(cmp.Or(name, r.PathValue("name")))
		text, err := fs.ReadFile(files, path.Join("static", name))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
		w.Write(text)
	})
}

// Static serves the page's own files by the path value "name".
func Static() http.Handler { return File(static, "") }

// reply answers with JSON.
func reply(w http.ResponseWriter, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		http.Error(w, "The answer could not be written.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(text, '\n'))
}

// refuse answers with the sentence that the page shows.
func refuse(w http.ResponseWriter, status int, format string, args ...any) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, format+"\n", args...)
}

// read decodes the body of a request, which is JSON and nothing else.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "Say Content-Type: application/json.")
		return false
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		refuse(w, http.StatusRequestEntityTooLarge, "A request has at most %d octets.", tooLarge.Limit)
		return false
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "This is not the JSON that belongs here: %v.", err)
		return false
	}
	return true
}
