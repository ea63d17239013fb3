package page

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const (
	// maxStreams bounds the event streams that are open at once.
	maxStreams = 128
	// streamWrite is how long a browser may take to read what is sent.
	streamWrite = 20 * time.Second
	// streamSilence is after how long without a step a comment shows both ends
	// that the other is there.
	streamSilence = 15 * time.Second
)

// stream writes server-sent events (HTML Living Standard section 9.2).
type stream struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	now func() time.Time
}

// openStream begins a stream, or answers that there are too many; done ends it.
func (s *Server) openStream(w http.ResponseWriter) (st *stream, done func()) {
	select {
	case s.streams <- struct{}{}:
	default:
		w.Header().Set("Retry-After", "5")
		http.Error(w, "Too many pages are open.", http.StatusServiceUnavailable)
		return nil, nil
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	return &stream{w: w, rc: http.NewResponseController(w), now: s.clock.Now}, func() { <-s.streams }
}

// send writes one event; an id of 0 leaves the browser's last one.
func (st *stream) send(id uint64, name string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	text := ""
	if id > 0 {
		text = "id: " + strconv.FormatUint(id, 10) + "\n"
	}
	return st.write(fmt.Sprintf("%sevent: %s\ndata: %s\n\n", text, name, data))
}

func (st *stream) write(text string) error {
	if err := st.rc.SetWriteDeadline(st.now().Add(streamWrite)); err != nil {
		return err
	}
	if _, err := st.w.Write([]byte(text)); err != nil {
		return err
	}
	return st.rc.Flush()
}

// lastSeen is where a stream is to go on: after the step of the header that a
// browser sends when it connects again, or of the query; 0 = from the beginning.
func lastSeen(r *http.Request) uint64 {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = r.URL.Query().Get("after")
	}
	seq, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return seq
}

// events streams the steps: "hello" with the name of this run of the lab, then
// each step, "gone" where some are no longer kept, "scene" whenever
// hosts, faults or the clock have changed.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	st, done := s.openStream(w)
	if st == nil {
		return
	}
	defer done()
	seen := lastSeen(r)
	silence := s.clock.NewTimer(streamSilence)
	defer silence.Stop()
	scene, _ := s.changes.state()
	if st.send(0, "hello", map[string]any{"run": s.run}) != nil {
		return
	}
	for {
		steps, gone, more := s.log.after(seen)
		if gone && st.send(0, "gone", map[string]any{"first": steps[0].Seq}) != nil {
			return
		}
		for _, step := range steps {
			if st.send(step.Seq, "step", step) != nil {
				return
			}
			seen = step.Seq
		}
		version, changed := s.changes.state()
		if version != scene {
			scene = version
			if st.send(0, "scene", struct{}{}) != nil {
				return
			}
		}
		silence.Reset(streamSilence)
		select {
		case <-more:
		case <-changed:
		case <-silence.Chan():
			if st.write(": still here\n\n") != nil {
				return
			}
		case <-r.Context().Done():
			return
		case <-s.closing:
			return
		}
	}
}
