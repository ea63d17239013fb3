package server

import (
	"context"
	"encoding/binary"
	"errors"

	miekg "github.com/miekg/dns"

	"postrider/dns/zone"
)

// update does a dynamic update (RFC 2136), or passes it on to the primary. What
// it changes is on disk before the answer.
func (s *Server) update(at *setup, w *work) {
	question := w.q.question()
	if question.Qtype != miekg.TypeSOA || w.q.questions != 1 {
		s.fail(w, miekg.RcodeFormatError) // section 3.1.1
		return
	}
	z := at.zones[question.Name]
	switch {
	case z == nil || question.Qclass != miekg.ClassINET:
		s.fail(w, miekg.RcodeNotAuth)
		return
	case !z.conf().AllowUpdate.allows(w.addr, w.signer()):
		s.log.Info("update refused", "zone", shown(z.name), "client", w.addr.String())
		w.fate.reason = "not of those who may change the zone"
		s.fail(w, miekg.RcodeRefused)
		return
	case z.conf().secondary():
		s.forward(z, w)
		return
	}
	m := new(miekg.Msg)
	if err := m.Unpack(w.msg); err != nil {
		s.fail(w, miekg.RcodeFormatError)
		return
	}
	rcode, err := z.update(m)
	if err != nil {
		s.log.Error("an update could not be kept", "zone", shown(z.name), "err", err)
		rcode = miekg.RcodeServerFailure
	} else {
		s.log.Info("update", "zone", shown(z.name), "client", w.addr.String(), "rcode", miekg.RcodeToString[rcode])
	}
	s.fail(w, rcode)
}

func (z *served) update(m *miekg.Msg) (rcode int, err error) {
	z.changing.Lock()
	defer z.changing.Unlock()
	have := z.current.Load()
	if have == nil {
		return miekg.RcodeServerFailure, nil
	}
	next, diff, rcode := have.Update(m)
	if rcode != miekg.RcodeSuccess || next == have {
		return rcode, nil
	}
	if z.signer != nil {
		if next, err = z.sign(next, have, false); err != nil {
			return rcode, err
		}
		diff = zone.Between(have, next)
	}
	return rcode, z.appendLocked(next, diff)
}

// forward passes an update on to the primaries as it came, whose signature is
// thus the sender's, and the reply back (RFC 2136 section 6).
func (s *Server) forward(z *served, w *work) {
	ctx, cancel := withTimeout(z.ctx, s.clock, workTime)
	defer cancel()
	var errs []error
	for _, r := range z.conf().Primaries {
		asking := s.asking("tcp", r.Addr, &miekg.Msg{MsgHdr: miekg.MsgHdr{Opcode: w.q.opcode}, Question: []miekg.Question{w.q.question()}}, w.msg)
		reply, err := s.relay(ctx, r.Addr, w.msg)
		asking.said(reply, err)
		if err == nil {
			w.fate.reason = "as the primary says"
			s.send(w, nil, reply)
			return
		}
		errs = append(errs, err)
	}
	s.log.Warn("update not passed on", "zone", shown(z.name), "client", w.addr.String(), "err", errors.Join(errs...))
	s.fail(w, miekg.RcodeServerFailure)
}

// relay sends a message as it is, over TCP, and returns the reply.
func (s *Server) relay(ctx context.Context, addr string, msg []byte) ([]byte, error) {
	conn, err := s.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, ended(ctx, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	reply, err := exchangeStream(conn, msg)
	if err != nil {
		return nil, ended(ctx, err)
	}
	if len(reply) < headerSize || binary.BigEndian.Uint16(reply) != binary.BigEndian.Uint16(msg) || reply[2]&(flagQR>>8) == 0 {
		return nil, errors.New("the reply is to another request")
	}
	return reply, nil
}
