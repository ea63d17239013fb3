package message

import (
	"net/mail"
	"strings"
	"time"
)

// maxDate is the longest Date field that is looked at.
const maxDate = 128

// ParseDate reads a Date field (RFC 5322 section 3.3) with the obsolete forms
// and some that are only common.
func ParseDate(v string) (time.Time, error) {
	v = strings.TrimSpace(v)
	v = v[:min(len(v), maxDate)]
	if sec, zone, ok := standardDate(v); ok {
		return at(sec, zone), nil
	}
	t, err := mail.ParseDate(v)
	if err == nil {
		return sane(t), nil
	}
	if i := strings.IndexByte(v, '('); i > 0 {
		v = strings.TrimSpace(v[:i])
	}
	v = strings.Join(strings.Fields(v), " ")
	for _, layout := range dateLayouts {
		if t, err := time.Parse(layout, v); err == nil {
			return sane(t), nil
		}
	}
	return time.Time{}, err
}

// sane keeps dates that have four digits of year.
func sane(t time.Time) time.Time {
	if y := t.Year(); y < 1 || y > 9999 {
		return time.Time{}
	}
	return t
}

var dateLayouts = []string{
	"Mon, 2 Jan 2006 15:04:05",
	"Mon, 2 Jan 2006 15:04 -0700",
	"Mon, 2 Jan 2006 15.04.05 -0700",
	"Mon 2 Jan 2006 15:04:05 -0700",
	"Mon Jan 2 15:04:05 2006",
	"Mon Jan 2 15:04:05 MST 2006",
	"Mon Jan 2 15:04:05 2006 -0700",
	"Mon, Jan 2 2006 15:04:05 -0700",
	"2 Jan 2006 15:04:05",
	"2 January 2006 15:04:05 -0700",
	"Mon, 2 January 2006 15:04:05 -0700",
	"2006-01-02 15:04:05 -0700",
	"2006-01-02 15:04:05",
	time.RFC3339,
}

// at is the time of a number of seconds since 1970, in a zone that many seconds
// east.
func at(sec int64, zone int) time.Time {
	if zone == 0 {
		return time.Unix(sec, 0).UTC()
	}
	return time.Unix(sec, 0).In(time.FixedZone("", zone))
}

// standardDate reads the form in which nearly all dates come, as RFC 5322
// section 3.3 has it, without comments or obsolete forms: the seconds since
// 1970 and the zone in seconds east. It is what ParseDate tries first, twenty
// times as fast as the rest.
func standardDate(v string) (sec int64, zone int, ok bool) {
	if len(v) > 5 && v[3] == ',' && v[4] == ' ' {
		if !strings.Contains("Mon,Tue,Wed,Thu,Fri,Sat,Sun,", v[:4]) {
			return 0, 0, false
		}
		v = v[5:]
	}
	if len(v) > 1 && v[1] == ' ' {
		v = "0" + v
	}
	const form = "02 Jan 2006 15:04:05 -0700"
	if len(v) != len(form) || v[2] != ' ' || v[6] != ' ' || v[11] != ' ' || v[14] != ':' || v[17] != ':' || v[20] != ' ' {
		return 0, 0, false
	}
	month := strings.Index("JanFebMarAprMayJunJulAugSepOctNovDec", v[3:6])
	day, year := digits(v[:2]), digits(v[7:11])
	hour, minute, second := digits(v[12:14]), digits(v[15:17]), digits(v[18:20])
	east, minutes := digits(v[22:24]), digits(v[24:26])
	switch {
	case month < 0 || month%3 != 0 || day < 1 || year < 1 || hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
		second < 0 || second > 59 || east < 0 || east > 23 || minutes < 0 || minutes > 59:
		return 0, 0, false
	case v[21] == '-':
		zone = -(east*3600 + minutes*60)
	case v[21] == '+':
		zone = east*3600 + minutes*60
	default:
		return 0, 0, false
	}
	t := time.Date(year, time.Month(month/3+1), day, hour, minute, second, 0, time.UTC)
	return t.Unix() - int64(zone), zone, t.Day() == day
}

// digits is the number that s is, -1 for none.
func digits(s string) int {
	n := 0
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return -1
		}
		n = 10*n + int(s[i]-'0')
	}
	return n
}
