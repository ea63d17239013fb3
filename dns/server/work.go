package server

import (
	"context"
	"fmt"
	"net/netip"
	"runtime/debug"

	miekg "github.com/miekg/dns"
)

// work is a message whose answer takes time: recursion, transfers, updates, and
// all that is signed.
type work struct {
	worker
	client
	msg    []byte
	signed *signature               // of the reply; nil: not signed
	send   func(reply []byte) error // may be called more than once over a stream
}

// begin answers a message on a goroutine of its own. Too many at once, of all or
// of one network, are not answered; false says so. done is called after the
// answer.
func (s *Server) begin(c *client, msg []byte, send func([]byte) error, done func()) bool {
	network := clientNetwork(c.addr)
	if !s.enter(network) {
		s.stats.Busy.Add(1)
		s.recordBusy(c, msg)
		return false
	}
	w := &work{client: *c, msg: append([]byte(nil), msg...), send: send}
	go func() {
		defer s.leave(network)
		defer done()
		defer func() {
			if v := recover(); v != nil {
				s.stats.Panics.Add(1)
				s.log.Error("panic in an answer", "client", w.addr.String(), "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			}
		}()
		s.answer(w)
	}()
	return true
}

// clientNetwork is the unit in which work is counted.
func clientNetwork(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 56
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

func (s *Server) enter(network netip.Prefix) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.works >= maxWorks || s.clients[network] >= maxClientWorks {
		return false
	}
	s.works++
	s.clients[network]++
	s.wg.Add(1)
	return true
}

func (s *Server) leave(network netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.works--
	if s.clients[network]--; s.clients[network] == 0 {
		delete(s.clients, network)
	}
	s.wg.Done()
}

// answer does the work.
func (s *Server) answer(w *work) {
	w.now, w.listened = s.clock.Now(), s.listened()
	if v, _ := w.q.read(w.msg); v != proceed {
		return // take has seen that it is well-formed
	}
	at := s.setup.Load()
	q := &w.q
	if q.tsigAt > 0 {
		if done := s.checkSignature(at, w); done {
			return
		}
	}
	w.recursion = s.recursor != nil && contains(at.Recursion, w.addr)
	switch {
	case q.questions == 0:
		s.fail(w, miekg.RcodeFormatError)
	case q.opcode == miekg.OpcodeNotify:
		s.notified(at, w)
	case q.opcode == miekg.OpcodeUpdate:
		s.update(at, w)
	case q.qtype == miekg.TypeAXFR || q.qtype == miekg.TypeIXFR:
		s.transfer(at, w)
	default:
		s.look(at, w)
	}
}

// look answers a question that take could not.
func (s *Server) look(at *setup, w *work) {
	ctx, cancel := context.WithTimeout(s.base, workTime)
	defer cancel()
	e, pending := s.local(at, &w.q, &w.client)
	if pending {
		e = s.resolve(ctx, at, &w.q, &w.client, w.now)
		if ctx.Err() != nil && s.base.Err() != nil {
			return
		}
	}
	if w.signed == nil {
		w.key = w.q.key(w.key[:0], w.recursion)
		s.keep(e, w.key, at, w.now)
	}
	w.now = s.clock.Now()
	s.reply(w, e)
}

// fail answers with an error.
func (s *Server) fail(w *work, rcode int, errs ...extended) {
	s.reply(w, w.failure(&w.q, rcode, errs...))
}

// reply sends an answer of one message.
func (s *Server) reply(w *work, e *entry) {
	reply := s.octets(nil, e, &w.worker, &w.client)
	if reply != nil && w.signed != nil {
		room := min(w.q.size, s.setup.Load().MaxUDP)
		if w.transport != UDP {
			room = maxMessage
		}
		if len(reply)+w.signed.key.size() > room { // RFC 8945 section 5.3: TC, and signed
			cut := *e
			cut.wire, cut.counts, cut.ttls, cut.runs = e.wire[:e.records], [3]uint16{}, nil, nil
			cut.withoutExtra = e.records
			cut.flags |= flagTC
			reply = s.octets(nil, &cut, &w.worker, &w.client)
		}
		if reply != nil {
			reply = w.signed.sign(reply, w.now, 0)
		}
	}
	s.send(w, e, reply)
}

// send sends the reply, if there is one, and tells the journey.
func (s *Server) send(w *work, e *entry, reply []byte) {
	if w.listened {
		s.recordReply(&w.q, &w.client, e, reply, w.fate)
	}
	if reply == nil {
		return
	}
	if err := w.send(reply); err != nil {
		s.log.Debug("answer not sent", "client", w.addr.String(), "err", err)
	}
}

// checkSignature checks the TSIG record of a request; done means that it has
// been answered with an error (RFC 8945 section 5.2).
func (s *Server) checkSignature(at *setup, w *work) (done bool) {
	signed, t, code, err := checkRequest(w.q.wire, w.q.tsigAt, at.keys, w.now)
	switch {
	case err != nil:
		s.fail(w, miekg.RcodeFormatError)
		return true
	case code == 0:
		w.signed = signed
		return false
	}
	s.log.Info("a signed request was refused", "client", w.addr.String(), "key", t.name, "reason", tsigErrorText(code))
	w.fate.reason = "the signature: " + tsigErrorText(code)
	e := w.failure(&w.q, miekg.RcodeNotAuth)
	reply := s.octets(nil, e, &w.worker, &w.client)
	switch {
	case reply == nil:
	case signed != nil:
		reply = signed.sign(reply, w.now, code)
	default:
		refused := tsig{name: t.name, algorithm: t.algorithm, time: t.time, fudge: t.fudge, id: w.q.id, err: code}
		reply = refused.append(reply)
	}
	s.send(w, e, reply)
	return true
}
