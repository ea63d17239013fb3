package server

import (
	"bytes"
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
)

const secret = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IQ=="

func key(t testing.TB, name, algorithm, secret string) *Key {
	t.Helper()
	k, err := ParseKey(name, algorithm, secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestTSIGLibrary: what the library signs we take, and it takes what we sign.
func TestTSIGLibrary(t *testing.T) {
	for _, algorithm := range []string{"hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512"} {
		k := key(t, "Transfer.Key", algorithm, secret)
		w := newTown(t, Options{}, Settings{Keys: []*Key{k}}, parse(t, "example.test.", exampleZone))
		m := question("www.example.test.", miekg.TypeA)
		m.SetTsig("transfer.key.", algorithm+".", 300, time.Now().Unix())
		wire, mac, err := miekg.TsigGenerate(m, secret, "", false)
		if err != nil {
			t.Fatal(err)
		}
		reply := w.direct("198.51.100.7", UDP, wire)
		if err := miekg.TsigVerify(reply, secret, mac, false); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
		if r := unpacked(t, reply); len(r.Answer) != 3 {
			t.Errorf("%s: %v", algorithm, r)
		}
	}
}

// TestTSIGRefused: each fault gets the error of RFC 8945 section 5.2, signed
// where the key is known to be the client's.
func TestTSIGRefused(t *testing.T) {
	k := key(t, "k", "hmac-sha256", secret)
	other := key(t, "k", "hmac-sha256", "b3RoZXIgb3RoZXIgb3RoZXI=")
	unknown := key(t, "unknown", "hmac-sha256", secret)
	w := newTown(t, Options{}, Settings{Keys: []*Key{k}}, parse(t, "example.test.", exampleZone))
	now := time.Now()
	query := packed(t, question("www.example.test.", miekg.TypeA))
	signed := func(k *Key, at time.Time) []byte {
		return (&signature{key: k}).sign(bytes.Clone(query), at, 0)
	}
	cut := func(n int) []byte { // a MAC of n octets
		whole := signed(k, now)
		at, err := findTSIG(whole)
		if err != nil {
			t.Fatal(err)
		}
		ts, err := readTSIG(whole, at)
		if err != nil {
			t.Fatal(err)
		}
		ts.mac = ts.mac[:n]
		return ts.append(bytes.Clone(query))
	}
	changed := signed(k, now)
	changed[13] = 'x' // in the name
	for _, c := range []struct {
		name   string
		msg    []byte
		rcode  int
		err    uint16
		signed bool
	}{
		{"good", signed(k, now), miekg.RcodeSuccess, 0, true},
		{"unknown key", signed(unknown, now), miekg.RcodeNotAuth, badKey, false},
		{"another secret", signed(other, now), miekg.RcodeNotAuth, badSig, false},
		{"another question", changed, miekg.RcodeNotAuth, badSig, false},
		{"six minutes old", signed(k, now.Add(-6*time.Minute)), miekg.RcodeNotAuth, badTime, true},
		{"six minutes ahead", signed(k, now.Add(6*time.Minute)), miekg.RcodeNotAuth, badTime, true},
		{"MAC of 16 octets", cut(16), miekg.RcodeNotAuth, badTrunc, true},
		{"MAC of 15 octets", cut(15), miekg.RcodeFormatError, 0, false},
		{"no MAC", cut(0), miekg.RcodeFormatError, 0, false},
	} {
		reply := w.direct("198.51.100.7", TCP, c.msg)
		if reply == nil {
			t.Errorf("%s: no reply", c.name)
			continue
		}
		r := unpacked(t, reply)
		ts := r.IsTsig()
		if r.Rcode != c.rcode || (ts == nil) != (c.rcode == miekg.RcodeFormatError) || ts != nil && ts.Error != c.err {
			t.Errorf("%s: %v", c.name, r)
			continue
		}
		if c.signed {
			at, _ := findTSIG(c.msg)
			req, _ := readTSIG(c.msg, at)
			sig := &signature{key: k, mac: req.mac}
			_, err := sig.checkReply(reply, now)
			if (err == nil) != (c.err == 0) || err != nil && !strings.Contains(err.Error(), "does not take the signature") {
				t.Errorf("%s: the reply's signature: %v", c.name, err)
			}
		} else if ts != nil && ts.MACSize != 0 {
			t.Errorf("%s: the reply is signed", c.name)
		}
		if c.err == badTime && (len(ts.OtherData) != 12 || !strings.HasPrefix(ts.OtherData, "0000")) {
			t.Errorf("%s: other data %q, want our time", c.name, ts.OtherData)
		}
	}
}

// TestTSIGPlace: a TSIG record that is not the last, or is malformed, makes the
// query so.
func TestTSIGPlace(t *testing.T) {
	k := key(t, "k", "hmac-sha256", secret)
	w := newTown(t, Options{}, Settings{Keys: []*Key{k}}, parse(t, "example.test.", exampleZone))
	signed := (&signature{key: k}).sign(packed(t, question("www.example.test.", miekg.TypeA)), time.Now(), 0)
	opt := []byte{0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0}
	notLast := append(bytes.Clone(signed), opt...)
	binary.BigEndian.PutUint16(notLast[10:], 2)
	short := bytes.Clone(signed)
	at, _ := findTSIG(short)
	_, fixed := skipRR(short, at)
	binary.BigEndian.PutUint16(short[fixed+8:], 20)
	short = short[:fixed+10+20]
	class := bytes.Clone(signed)
	class[fixed+3] = 1
	for name, msg := range map[string][]byte{"not last": notLast, "short": short, "class IN": class} {
		r := unpacked(t, w.direct("198.51.100.7", UDP, msg))
		if r.Rcode != miekg.RcodeFormatError {
			t.Errorf("%s: %v", name, r)
		}
	}
}

// TestKeySecret: a key that is printed shows nothing, and weak ones are refused.
func TestKeySecret(t *testing.T) {
	if s := key(t, "k", "HMAC-SHA256", secret).String(); s != "key k." {
		t.Error(s)
	}
	for _, c := range [][3]string{{"", "hmac-sha256", secret}, {"k", "hmac-md5", secret}, {"k", "hmac-sha256", "!"}, {"k", "hmac-sha256", "c2hvcnQ="}} {
		if k, err := ParseKey(c[0], c[1], c[2]); err == nil {
			t.Errorf("ParseKey(%q) = %v", c, k)
		}
	}
}

// TestTransferSigned: the library's client takes a signed transfer of many
// messages, and one by a stranger gets nothing.
func TestTransferSigned(t *testing.T) {
	k := key(t, "k.", "hmac-sha256", secret)
	text := exampleZone
	for i := range 2000 {
		text += "host" + string(rune('a'+i%26)) + strings.Repeat("x", i/26%40) + string(rune('a'+i/1040)) + " TXT \"" + long[:60] + "\"\n"
	}
	z := parse(t, "example.test.", text)
	w := newTown(t, Options{}, Settings{Keys: []*Key{k}, Zones: []ZoneConfig{{Name: "example.test.", AllowTransfer: ACL{Keys: []string{"K"}}}}})
	if err := w.s.Publish(z); err != nil {
		t.Fatal(err)
	}
	w.listen()
	records, messages, err := axfr(w.tcp, "example.test.", map[string]string{"k.": secret}, "k.")
	if err != nil || records != z.Len()+1 || messages < 5 {
		t.Errorf("%d records in %d messages, %v; want %d records", records, messages, err, z.Len()+1)
	}
	if _, _, err := axfr(w.tcp, "example.test.", nil, ""); err == nil || !strings.Contains(err.Error(), "5") { // REFUSED
		t.Errorf("unsigned: %v", err)
	}
	if n := w.s.Stats().Transfers; n != 1 {
		t.Errorf("%d transfers", n)
	}
}

// axfr transfers a zone by the library's client.
func axfr(addr, name string, secrets map[string]string, key string) (records, messages int, err error) {
	m := new(miekg.Msg)
	m.SetAxfr(name)
	if key != "" {
		m.SetTsig(key, miekg.HmacSHA256, 300, time.Now().Unix())
	}
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	tr := &miekg.Transfer{TsigSecret: secrets, Conn: &miekg.Conn{Conn: conn, TsigSecret: secrets}}
	ch, err := tr.In(m, addr)
	if err != nil {
		return 0, 0, err
	}
	for e := range ch {
		if e.Error != nil {
			return records, messages, e.Error
		}
		records += len(e.RR)
		messages++
	}
	return records, messages, nil
}
