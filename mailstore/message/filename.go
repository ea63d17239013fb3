package message

// Filename is the file name that the header of a part suggests, in UTF-8: of
// Content-Disposition (RFC 2183), else the name of Content-Type. Encoded words,
// which do not belong there but are common, are decoded. "" is none.
func (h Header) Filename() string {
	if v, ok := h.Get("Content-Disposition"); ok {
		if _, ps := parseDisposition(v); ps.get("filename") != "" {
			return DecodeWords(ps.get("filename"))
		}
	}
	v, ok := h.Get("Content-Type")
	if !ok {
		return ""
	}
	_, _, ps := parseMediaType(v, nil)
	return DecodeWords(ps.get("name"))
}
