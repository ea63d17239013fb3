package message

import "testing"

func TestFilename(t *testing.T) {
	for in, want := range map[string]string{
		"Subject: x\r\n\r\n": "",
		"Content-Disposition: attachment; filename=\"a b.pdf\"\r\nContent-Type: x/y; name=c\r\n\r\n":          "a b.pdf",
		"Content-Disposition: inline\r\nContent-Type: x/y; name=c.txt\r\n\r\n":                                "c.txt",
		"Content-Disposition: attachment; filename*=utf-8''Gr%C3%BC%C3%9Fe.txt; filename=old\r\n\r\n":         "Grüße.txt",
		"Content-Disposition: attachment; filename*0=part; filename*1=one.zip\r\n\r\n":                        "partone.zip",
		"Content-Type: application/pdf;\r\n name=\"=?utf-8?Q?caf=C3=A9?=\r\n =?utf-8?Q?_menu.pdf?=\"\r\n\r\n": "café menu.pdf",
	} {
		if got := ParseHeader([]byte(in)).Filename(); got != want {
			t.Errorf("Filename of %q = %q, want %q", in, got, want)
		}
	}
}
