package deliver

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postrider/internal/wire/wiretest"
	"postrider/mta"
)

// oddPeer is a server that does at every step what its script says: mostly what
// is right.
type oddPeer struct {
	mu     sync.Mutex
	script []byte
	taken  map[string]int // recipients of messages that it answered with 2xx
}

func (p *oddPeer) next() byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.script) == 0 {
		return 0
	}
	b := p.script[0]
	p.script = p.script[1:]
	return b
}

// oddReplies may come in place of the right one.
var oddReplies = []string{
	"421 4.3.2 closing\r\n", "451 4.3.0 later\r\n", "550 5.1.1 never\r\n", "552 full\r\n", "452 too many\r\n",
	"250\r\n", "250-a\r\n250 b\r\n", "250-a\r\n251 b\r\n", "354 go on\r\n", "334 eA==\r\n", "220 what\r\n", "221 bye\r\n",
	"99 bad\r\n", "\r\n", "250 a\r\n250 twice\r\n", "2", "600 x\r\n", "rubbish\r\n",
}

// answer sends right, or what the script has instead. It returns the code that
// a sane client reads; 0 when there is none. Before it sends a success, it calls
// taken.
func (p *oddPeer) answer(c net.Conn, right string, taken ...func()) int {
	b := p.next()
	reply := right
	switch {
	case b < 160:
	case b < 200:
		reply = oddReplies[int(b)%len(oddReplies)]
	case b < 210:
		time.Sleep(time.Minute)
	case b < 215:
		time.Sleep(11 * time.Minute)
	case b < 225:
		c.Close()
		return 0
	case b < 235:
		wiretest.Break(c)
		return 0
	}
	code := 0
	if rep, err := (&replyReader{src: strings.NewReader(reply)}).reply(nil); err == nil {
		code = rep.Code
	}
	for _, f := range taken {
		if code/100 == 2 {
			f()
		}
	}
	if _, err := c.Write([]byte(reply)); err != nil {
		return 0
	}
	return code
}

func (p *oddPeer) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	p.answer(c, "220 mx ESMTP\r\n")
	var to []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch verb {
		case "EHLO":
			p.answer(c, []string{"250 mx\r\n", "250-mx\r\n250-PIPELINING\r\n250-DSN\r\n250 LIMITS RCPTMAX=2\r\n", "250-mx\r\n250-SIZE 10\r\n250 STARTTLS\r\n"}[p.next()%3])
		case "MAIL", "RSET":
			to = nil
			p.answer(c, "250 ok\r\n")
		case "RCPT":
			if p.answer(c, "250 ok\r\n")/100 == 2 {
				to = append(to, line[strings.IndexByte(line, '<')+1:strings.IndexByte(line, '>')])
			}
		case "DATA":
			if p.answer(c, "354 go on\r\n") != 354 {
				continue
			}
			for line != ".\r\n" {
				if line, err = r.ReadString('\n'); err != nil {
					return
				}
			}
			p.answer(c, "250 taken\r\n", func() {
				p.mu.Lock()
				defer p.mu.Unlock()
				for _, a := range to {
					p.taken[a]++
				}
			})
			to = nil
		default:
			p.answer(c, "250 ok\r\n")
		}
	}
}

// odd makes one attempt with three recipients at two hosts that follow script.
// Whatever they do, Record is called once and within bounded time, with an
// answer for everybody; who is said to have the message was told so by a peer,
// and nobody got it twice.
func odd(t *testing.T, script []byte) {
	p := &oddPeer{script: script, taken: map[string]int{}}
	var network wiretest.Network
	var peers sync.WaitGroup
	d := mta.Delivery{ID: "odd", From: mta.Address{Local: "a", Domain: "crepes.test"}}
	var listeners []*wiretest.Listener
	for i := range 3 {
		addr := netip.MustParseAddrPort(fmt.Sprintf("192.0.2.%d:25", i+1))
		l, err := network.Listen(addr.String())
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
		peers.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				p.serve(c)
			}
		})
		d.Hops = append(d.Hops, mta.Hop{Host: fmt.Sprintf("mx%d.test", i), Addrs: []netip.AddrPort{addr}})
	}
	d.Open = func() (mta.Content, error) { return memory("Subject: odd\r\n\r\n.\r\n"), nil }
	c := New(Options{Hostname: "crepes.test", Dial: network.Dial})
	if p.next()%2 == 0 {
		d.Partial = func([]mta.Outcome) error { return nil }
	}
	for n := range 2 { // the second uses what the first left in the pool
		d.To = nil
		for i := range 3 {
			d.To = append(d.To, mta.DeliveryRecipient{Address: mta.Address{Local: fmt.Sprintf("b%d%d", n, i), Domain: "hamburger.test"}})
		}
		records := 0
		d.Record = func(out []mta.Outcome) error {
			records++
			p.mu.Lock()
			defer p.mu.Unlock()
			for i, o := range out {
				to := d.To[i].Address.String()
				switch {
				case o.Reply == nil:
					t.Errorf("no reply for %s", to)
				case o.Reply.Code < 200 || o.Reply.Code > 599 || o.Reply.Code/100 == 3:
					t.Errorf("%s: %v", to, o.Reply)
				case o.Reply.Success() && p.taken[to] != 1:
					t.Errorf("%s has it %d times: %v", to, p.taken[to], o.Reply)
				case o.Reply.Success() && (o.Host == "" || !o.Addr.IsValid()):
					t.Errorf("%s: nobody said %v", to, o.Reply)
				case p.taken[to] > 1:
					t.Errorf("%s has it %d times", to, p.taken[to])
				}
			}
			return nil
		}
		begin := time.Now()
		if err := c.Deliver(t.Context(), &d); err != nil || records != 1 {
			t.Errorf("Deliver: %v, Record was called %d times", err, records)
		}
		if took := time.Since(begin); took > 5*time.Hour {
			t.Errorf("it took %v", took)
		}
	}
	c.Close()
	for _, l := range listeners {
		l.Close()
	}
	peers.Wait()
}

func TestOddPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewChaCha8([32]byte{1}))
		for n := range 3000 {
			script := make([]byte, rnd.IntN(60))
			for i := range script {
				script[i] = byte(rnd.Uint32())
				if n%2 == 0 && rnd.IntN(3) > 0 {
					script[i] = 0
				}
			}
			odd(t, script)
			if t.Failed() {
				t.Fatalf("script %d: %v", n, script)
			}
		}
	})
}

func FuzzOddPeers(f *testing.F) {
	f.Add([]byte{0, 0, 1, 160, 0, 170})
	f.Fuzz(func(t *testing.T, script []byte) {
		synctest.Test(t, func(t *testing.T) { odd(t, script[:min(len(script), 200)]) })
	})
}
