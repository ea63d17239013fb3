package mta

import "time"

// idAlphabet sorts as its values do and has no letters that look alike.
const idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// NewID makes the name of an envelope: 18 characters that are fit for a file
// name, a header field and a shell, and sort by time. It holds now to the
// microsecond and 35 bits of random.
func NewID(now time.Time, random uint64) string {
	const timeChars, randomChars = 11, 7
	var b [timeChars + randomChars]byte
	micro := uint64(now.UnixMicro())
	for i := timeChars - 1; i >= 0; i-- {
		b[i] = idAlphabet[micro&31]
		micro >>= 5
	}
	for i := len(b) - 1; i >= timeChars; i-- {
		b[i] = idAlphabet[random&31]
		random >>= 5
	}
	return string(b[:])
}
