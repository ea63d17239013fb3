package lab

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// outsider is a connection of a program that is not the lab's. What links and faults
// do to the way is done at the server's end: the greeting, and each answer, is sent
// a round trip later, as it would come.
type outsider struct {
	*guest
	network *network
	to      *Host

	answers atomic.Bool // what is written next answers something
	once    sync.Once
	done    chan struct{}
}

func newOutsider(n *network, to *Host, c *guest) *outsider {
	o := &outsider{guest: c, network: n, to: to, done: make(chan struct{})}
	o.answers.Store(true)
	return o
}

func (o *outsider) Read(p []byte) (int, error) {
	n, err := o.guest.Read(p)
	if n > 0 {
		o.answers.Store(true)
	}
	return n, err
}

func (o *outsider) Write(p []byte) (int, error) {
	if o.answers.Swap(false) {
		n := o.network
		n.mu.Lock()
		w := n.wayLocked(nil, o.to)
		n.mu.Unlock()
		if err := n.wait(context.Background(), w.rtt+n.lost(w.loss, lostSegment), o.done); err != nil {
			return 0, err
		}
	}
	return o.guest.Write(p)
}

func (o *outsider) Close() error {
	o.once.Do(func() { close(o.done) })
	return o.guest.Close()
}

// questioner is the connection of a program that is not the lab's to a name server:
// somebody on the way may answer first.
type questioner struct {
	*outsider
	in, out []byte // from the client: not looked at yet; for the server
}

func (q *questioner) Read(p []byte) (int, error) {
	for len(q.out) == 0 {
		if q.pass() {
			continue
		}
		buf := make([]byte, maxFilterLine)
		n, err := q.outsider.Read(buf)
		if q.in = append(q.in, buf[:n]...); err != nil {
			return 0, err // of a question that is not whole nobody hears
		}
	}
	n := copy(p, q.out)
	q.out = q.out[n:]
	return n, nil
}

// pass moves one question on to the server, or answers it; false when it is not
// whole (RFC 1035 section 4.2.2).
func (q *questioner) pass() bool {
	if len(q.in) < 2 || len(q.in) < 2+int(binary.BigEndian.Uint16(q.in)) {
		return false
	}
	size := 2 + int(binary.BigEndian.Uint16(q.in))
	question := q.in[:size]
	q.in = q.in[size:]
	n := q.network
	n.mu.Lock()
	tamper := n.wayLocked(nil, q.to).tamper
	n.mu.Unlock()
	answer, by := forge(tamper, question[2:])
	if answer == nil {
		q.out = append(q.out, question...)
		return true
	}
	n.mu.Lock()
	n.spendLocked(by.ID)
	n.mu.Unlock()
	_, _ = q.outsider.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)) // an error is the next read's, too
	return true
}

// later sends a datagram to a program outside the lab when it would come there.
func (d *packetDoor) later(p []byte, to net.Addr, rtt time.Duration) {
	p = append([]byte(nil), p...)
	send := func() { _, _ = d.UDPConn.WriteTo(p, to) } // lost, as it may be on the way
	if d.network.instant {
		d.network.clock.advance(rtt)
		send()
		return
	}
	d.network.clock.AfterFunc(rtt, send)
}
