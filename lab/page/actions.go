package page

import (
	"context"
	"net/http"
	"strings"
	"time"
)

const (
	// actionPatience is how long a host may take to do what the page asks.
	actionPatience = 30 * time.Second
	// maxJump bounds one jump of the lab's clock.
	maxJump = 365 * 24 * time.Hour
	// maxLetterRecipients bounds the form's letter.
	maxLetterRecipients = 20
	// maxField bounds a name, address or subject that the page sends, in octets.
	maxField = 998 // RFC 5322 section 2.1.1
)

// act does what a request asks of the lab, and answers with its error or with
// what it returned.
func (s *Server) act(w http.ResponseWriter, r *http.Request, do func(ctx context.Context) (any, error)) {
	ctx, cancel := context.WithTimeout(r.Context(), actionPatience)
	defer cancel()
	value, err := do(ctx)
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, "%v", err)
		return
	}
	if value == nil {
		value = struct{}{}
	}
	reply(w, value)
}

func (s *Server) tables(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, func(ctx context.Context) (any, error) { return s.lab.Tables(ctx) })
}

// oneLine tells whether a field is short and cannot become two.
func oneLine(text string) bool {
	return len(text) <= maxField && !strings.ContainsAny(text, "\r\n\x00")
}

func (s *Server) letter(w http.ResponseWriter, r *http.Request) {
	var l Letter
	if !read(w, r, &l) {
		return
	}
	fields := append([]string{l.From, l.Subject}, l.recipients()...)
	for _, f := range fields {
		if !oneLine(f) {
			refuse(w, http.StatusBadRequest, "An address or a subject is one line of at most %d octets.", maxField)
			return
		}
	}
	if n := len(l.recipients()); n == 0 || n > maxLetterRecipients {
		refuse(w, http.StatusBadRequest, "A letter has 1 to %d recipients.", maxLetterRecipients)
		return
	}
	s.act(w, r, func(ctx context.Context) (any, error) {
		text, err := s.lab.Send(ctx, l)
		return map[string]string{"text": text}, err
	})
}

func (l *Letter) recipients() []string {
	return append(append(append([]string(nil), l.To...), l.Cc...), l.Bcc...)
}

func (s *Server) collect(w http.ResponseWriter, r *http.Request) {
	var in struct{ Account, Protocol string }
	if !read(w, r, &in) {
		return
	}
	if in.Protocol != "pop3" && in.Protocol != "imap" {
		refuse(w, http.StatusBadRequest, "Mail is collected by pop3 or by imap.")
		return
	}
	s.act(w, r, func(ctx context.Context) (any, error) { return nil, s.lab.Collect(ctx, in.Account, in.Protocol) })
}

func (s *Server) fault(w http.ResponseWriter, r *http.Request) {
	var in struct {
		ID string
		On bool
	}
	if !read(w, r, &in) {
		return
	}
	s.act(w, r, func(ctx context.Context) (any, error) {
		defer s.Changed()
		return nil, s.lab.Set(ctx, in.ID, in.On)
	})
}

func (s *Server) breakIt(w http.ResponseWriter, r *http.Request) {
	var in Break
	if !read(w, r, &in) {
		return
	}
	if !oneLine(in.Value) {
		refuse(w, http.StatusBadRequest, "A value is one line.")
		return
	}
	s.act(w, r, func(ctx context.Context) (any, error) {
		defer s.Changed()
		return nil, s.lab.Break(ctx, in)
	})
}

func (s *Server) jump(w http.ResponseWriter, r *http.Request) {
	var in struct{ Seconds int64 }
	if !read(w, r, &in) {
		return
	}
	if in.Seconds <= 0 || in.Seconds > int64(maxJump/time.Second) {
		refuse(w, http.StatusBadRequest, "The clock jumps forward, by a second to a year.")
		return
	}
	s.act(w, r, func(ctx context.Context) (any, error) {
		defer s.Changed()
		return nil, s.lab.Jump(ctx, time.Duration(in.Seconds)*time.Second)
	})
}

func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	var in struct{ Domain string }
	if !read(w, r, &in) {
		return
	}
	s.act(w, r, func(ctx context.Context) (any, error) {
		defer s.Changed()
		return s.lab.Register(ctx, in.Domain)
	})
}

func (s *Server) ask(w http.ResponseWriter, r *http.Request) {
	var in struct{ Resolver, Name, Type string }
	if !read(w, r, &in) {
		return
	}
	if !oneLine(in.Name) || !oneLine(in.Type) {
		refuse(w, http.StatusBadRequest, "A name is one line.")
		return
	}
	s.act(w, r, func(ctx context.Context) (any, error) {
		text, err := s.lab.Ask(ctx, in.Resolver, in.Name, in.Type)
		return map[string]string{"text": text}, err
	})
}
