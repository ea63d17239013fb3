package server

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strings"
	"time"

	miekg "github.com/miekg/dns"
)

// Key is a secret that is shared with another server or with a program that
// sends updates (RFC 8945). Printed it shows no secret.
type Key struct {
	Name      string // canonical, such as "transfer."
	Algorithm string // canonical, such as "hmac-sha256."
	secret    []byte
}

// minSecret and maxSecret bound a key's secret in octets; a shorter one could
// be tried through.
const (
	minSecret = 10
	maxSecret = 512
)

// ParseKey makes a key of its name, its algorithm ("hmac-sha256") and its secret
// in base64, as the files of other name servers have them.
func ParseKey(name, algorithm, secret string) (*Key, error) {
	if _, ok := miekg.IsDomainName(name); !ok || name == "" {
		return nil, fmt.Errorf("%q is not a name for a key", name)
	}
	k := &Key{Name: miekg.CanonicalName(name), Algorithm: miekg.CanonicalName(algorithm)}
	if k.hash() == nil {
		return nil, fmt.Errorf("the algorithm must be hmac-sha256, hmac-sha384, hmac-sha512, hmac-sha224 or hmac-sha1")
	}
	var err error
	if k.secret, err = base64.StdEncoding.DecodeString(strings.TrimSpace(secret)); err != nil {
		return nil, errors.New("the secret must be in base64")
	}
	if len(k.secret) < minSecret || len(k.secret) > maxSecret {
		return nil, fmt.Errorf("the secret must have %d to %d octets", minSecret, maxSecret)
	}
	return k, nil
}

func (k *Key) String() string { return "key " + k.Name }

// hash is nil for an algorithm that is not ours.
func (k *Key) hash() func() hash.Hash {
	switch k.Algorithm {
	case miekg.HmacSHA256:
		return sha256.New
	case miekg.HmacSHA384:
		return sha512.New384
	case miekg.HmacSHA512:
		return sha512.New
	case miekg.HmacSHA224:
		return sha256.New224
	case miekg.HmacSHA1:
		return sha1.New
	}
	return nil
}

// Errors of TSIG (RFC 8945 section 3).
const (
	badSig   = 16
	badKey   = 17
	badTime  = 18
	badTrunc = 22
)

const (
	// tsigFudge is how far the clocks of two servers may differ (RFC 8945
	// section 10); more is not believed, whatever the sender says.
	tsigFudge = 300
	// maxUnsigned is how many messages of a transfer may stand between two
	// that are signed (RFC 8945 section 5.3.1).
	maxUnsigned = 99
)

// tsig is a TSIG record.
type tsig struct {
	name, algorithm string // canonical
	time            uint64 // seconds; 48 bits
	fudge           uint16
	mac             []byte
	id, err         uint16
	other           []byte
}

var errTSIG = errors.New("malformed TSIG record")

// readTSIG reads the record that begins at off and ends the message.
func readTSIG(wire []byte, off int) (*tsig, error) {
	var t tsig
	name, next, err := miekg.UnpackDomainName(wire, off)
	if err != nil || next+10 > len(wire) {
		return nil, errTSIG
	}
	if binary.BigEndian.Uint16(wire[next:]) != miekg.TypeTSIG || binary.BigEndian.Uint16(wire[next+2:]) != miekg.ClassANY ||
		binary.BigEndian.Uint32(wire[next+4:]) != 0 || next+10+int(binary.BigEndian.Uint16(wire[next+8:])) != len(wire) {
		return nil, errTSIG
	}
	algorithm, next, err := miekg.UnpackDomainName(wire, next+10)
	if err != nil || next+10 > len(wire) {
		return nil, errTSIG
	}
	t.name, t.algorithm = miekg.CanonicalName(name), miekg.CanonicalName(algorithm)
	rest := wire[next:]
	t.time = binary.BigEndian.Uint64(append([]byte{0, 0}, rest[:6]...))
	t.fudge = binary.BigEndian.Uint16(rest[6:])
	n := int(binary.BigEndian.Uint16(rest[8:]))
	if rest = rest[10:]; n+6 > len(rest) {
		return nil, errTSIG
	}
	t.mac, rest = rest[:n], rest[n:]
	t.id, t.err = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
	n = int(binary.BigEndian.Uint16(rest[4:]))
	if t.other = rest[6:]; n != len(t.other) {
		return nil, errTSIG
	}
	return &t, nil
}

// digest is the MAC over what went before (a request's MAC, or the last one of
// a transfer with the messages since), a message without its TSIG record, and
// the record's own fields; of those only the times with timersOnly (RFC 8945
// sections 4.3 and 5.3.1).
func (t *tsig) digest(k *Key, before []byte, between [][]byte, msg []byte, timersOnly bool) []byte {
	h := hmac.New(k.hash(), k.secret)
	if before != nil {
		h.Write(binary.BigEndian.AppendUint16(nil, uint16(len(before))))
		h.Write(before)
	}
	for _, m := range between {
		h.Write(m)
	}
	h.Write(msg)
	var b []byte
	if !timersOnly {
		b = appendName(b, t.name)
		b = append(b, 0, miekg.ClassANY, 0, 0, 0, 0)
		b = appendName(b, t.algorithm)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(t.time>>32))
	b = binary.BigEndian.AppendUint32(b, uint32(t.time))
	b = binary.BigEndian.AppendUint16(b, t.fudge)
	if !timersOnly {
		b = binary.BigEndian.AppendUint16(b, t.err)
		b = binary.BigEndian.AppendUint16(b, uint16(len(t.other)))
		b = append(b, t.other...)
	}
	h.Write(b)
	return h.Sum(nil)
}

// appendName adds a canonical name in wire format; the root for one that is none.
func appendName(b []byte, name string) []byte {
	var wire [maxName + 1]byte
	n, err := miekg.PackDomainName(name, wire[:], 0, nil, false)
	if err != nil {
		return append(b, 0)
	}
	return append(b, wire[:n]...)
}

// unsigned is the message as it was when it was signed.
func (t *tsig) unsigned(wire []byte, at int) []byte {
	msg := append([]byte(nil), wire[:at]...)
	binary.BigEndian.PutUint16(msg, t.id)
	binary.BigEndian.PutUint16(msg[10:], binary.BigEndian.Uint16(msg[10:])-1)
	return msg
}

// append adds the record to a message.
func (t *tsig) append(msg []byte) []byte {
	msg = appendName(msg, t.name)
	msg = append(msg, 0, byte(miekg.TypeTSIG), 0, miekg.ClassANY, 0, 0, 0, 0)
	length := len(msg)
	msg = append(msg, 0, 0)
	msg = appendName(msg, t.algorithm)
	msg = binary.BigEndian.AppendUint16(msg, uint16(t.time>>32))
	msg = binary.BigEndian.AppendUint32(msg, uint32(t.time))
	msg = binary.BigEndian.AppendUint16(msg, t.fudge)
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(t.mac)))
	msg = append(msg, t.mac...)
	msg = binary.BigEndian.AppendUint16(msg, t.id)
	msg = binary.BigEndian.AppendUint16(msg, t.err)
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(t.other)))
	msg = append(msg, t.other...)
	binary.BigEndian.PutUint16(msg[length:], uint16(len(msg)-length-2))
	binary.BigEndian.PutUint16(msg[10:], binary.BigEndian.Uint16(msg[10:])+1)
	return msg
}

// size is the length of a TSIG record by a key, at most.
func (k *Key) size() int { return len(k.Name) + 2 + 10 + len(k.Algorithm) + 2 + 16 + 64 + 6 }

// signature makes and checks the signatures of one exchange: a request and its
// reply, which may be many messages.
type signature struct {
	key   *Key
	mac   []byte // the last one
	later bool   // the first message of the reply is done

	between [][]byte // not signed, since the last one that was
	octets  int
}

// sign adds a TSIG record to a message of ours. err is an error to tell the
// peer, which with BADTIME learns our time.
func (s *signature) sign(msg []byte, now time.Time, err uint16) []byte {
	t := tsig{name: s.key.Name, algorithm: s.key.Algorithm, time: uint64(now.Unix()), fudge: tsigFudge,
		id: binary.BigEndian.Uint16(msg), err: err}
	if err == badTime {
		t.other = binary.BigEndian.AppendUint16(nil, uint16(t.time>>32))
		t.other = binary.BigEndian.AppendUint32(t.other, uint32(t.time))
	}
	t.mac = t.digest(s.key, s.mac, nil, msg, s.later)
	s.mac, s.later = t.mac, true
	return t.append(msg)
}

// checkRequest checks a request that is signed, by the keys we have. The error
// code is one of TSIG's, 0 if all is well, or a FORMERR; with a key that is ours
// the reply can be signed, so that s is not nil (RFC 8945 section 5.2).
func checkRequest(wire []byte, at int, keys map[string]*Key, now time.Time) (s *signature, t *tsig, code uint16, err error) {
	t, err = readTSIG(wire, at)
	if err != nil {
		return nil, nil, 0, err
	}
	key := keys[t.name]
	if key == nil || key.Algorithm != t.algorithm {
		return nil, t, badKey, nil
	}
	size := key.hash()().Size()
	if len(t.mac) > size || len(t.mac) < max(10, size/2) { // section 5.2.2.1
		return nil, t, 0, errTSIG
	}
	mac := t.digest(key, nil, nil, t.unsigned(wire, at), false)
	if !hmac.Equal(mac[:len(t.mac)], t.mac) {
		return nil, t, badSig, nil
	}
	s = &signature{key: key, mac: t.mac}
	if !t.timely(now) {
		return s, t, badTime, nil
	}
	if len(t.mac) < size {
		return s, t, badTrunc, nil // section 5.2.4: we take no shortened ones
	}
	return s, t, 0, nil
}

func (t *tsig) timely(now time.Time) bool {
	d := now.Unix() - int64(t.time)
	return max(d, -d) <= int64(min(t.fudge, tsigFudge))
}

// maxBetween bounds the octets of unsigned messages that wait for the next
// signature.
const maxBetween = 8 << 20

// checkReply checks a message of the reply to a request that s signed, and
// returns it without its TSIG record. last says that no more come, so that
// this one has to be signed.
func (s *signature) checkReply(wire []byte, now time.Time) ([]byte, error) {
	at, err := findTSIG(wire)
	if err != nil {
		return nil, err
	}
	if at == 0 {
		if !s.later || len(s.between) >= maxUnsigned || s.octets+len(wire) > maxBetween {
			return nil, errors.New("the reply is not signed")
		}
		s.between = append(s.between, append([]byte(nil), wire...))
		s.octets += len(wire)
		return wire, nil
	}
	t, err := readTSIG(wire, at)
	switch {
	case err != nil:
		return nil, err
	case t.name != s.key.Name || t.algorithm != s.key.Algorithm:
		return nil, errors.New("the reply is signed by another key")
	case len(t.mac) == 0 && t.err != 0:
		return nil, fmt.Errorf("the server does not take the signature: %s", tsigErrorText(t.err))
	}
	msg := t.unsigned(wire, at)
	mac := t.digest(s.key, s.mac, s.between, msg, s.later)
	switch {
	case !hmac.Equal(mac, t.mac):
		return nil, errors.New("the signature of the reply is wrong")
	case t.err != 0:
		return nil, fmt.Errorf("the server does not take the signature: %s", tsigErrorText(t.err))
	case !t.timely(now):
		return nil, errors.New("the reply was signed at another time: compare the clocks of both servers")
	}
	s.mac, s.later, s.between, s.octets = append([]byte(nil), mac...), true, nil, 0
	return msg, nil
}

func tsigErrorText(code uint16) string {
	switch code {
	case badSig:
		return "BADSIG: the secrets differ"
	case badKey:
		return "BADKEY: it does not know the key"
	case badTime:
		return "BADTIME: the clocks differ"
	case badTrunc:
		return "BADTRUNC"
	}
	return fmt.Sprintf("error %d", code)
}

// findTSIG returns where the last additional record begins, if it is a TSIG
// record; else 0.
func findTSIG(wire []byte) (int, error) {
	if len(wire) < headerSize {
		return 0, errTSIG
	}
	off := headerSize
	for range binary.BigEndian.Uint16(wire[4:]) {
		if off = skipName(wire, off); off == 0 || off+4 > len(wire) {
			return 0, errTSIG
		}
		off += 4
	}
	n := int(binary.BigEndian.Uint16(wire[6:])) + int(binary.BigEndian.Uint16(wire[8:])) + int(binary.BigEndian.Uint16(wire[10:]))
	for i := range n {
		end, fixed := skipRR(wire, off)
		if end == 0 {
			return 0, errTSIG
		}
		if i == n-1 && binary.BigEndian.Uint16(wire[10:]) > 0 && binary.BigEndian.Uint16(wire[fixed:]) == miekg.TypeTSIG {
			return off, nil
		}
		off = end
	}
	return 0, nil
}
