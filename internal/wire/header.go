package wire

import (
	"encoding/binary"
	"errors"
)

// Header is a request's header, read by hand: nothing of it is allocated.
type Header struct {
	Key           int16
	Version       int16
	CorrelationID int32
	ClientID      []byte // a part of the frame; nil for null
	Body          []byte // what follows the header
}

// Errors of ParseHeader.
var (
	ErrShortHeader = errors.New("the frame ends inside the request header")
	ErrHeaderTags  = errors.New("the request header has too many tagged fields")
)

// maxHeaderTags bounds the tagged fields of a request header; Kafka has none so far.
const maxHeaderTags = 64

const (
	apiVersionsKey = 18
	// MinHeader is the part of a request header that every version has: key, version and correlation ID, in bytes.
	MinHeader = 8
)

// ParseHeader reads a request header. Key, Version and CorrelationID are set whenever the frame has their [MinHeader] bytes,
// even if an error is returned. A key that has no schema ends after them: what follows cannot be read, and Body is nil.
//
// Header versions: 1, and 2 (flexible: with tagged fields). The client ID is never compact (KIP-511). Version 0, without
// a client ID, belongs to ControlledShutdown version 0 alone, which no node of chronik serves.
func ParseHeader(frame []byte) (Header, error) {
	if len(frame) < MinHeader {
		return Header{}, ErrShortHeader
	}
	h := Header{
		Key:           int16(binary.BigEndian.Uint16(frame)),
		Version:       int16(binary.BigEndian.Uint16(frame[2:])),
		CorrelationID: int32(binary.BigEndian.Uint32(frame[4:])),
	}
	if schemaOf(h.Key) == nil {
		return h, nil
	}
	w := walker{buf: frame, pos: MinHeader, maxTags: maxHeaderTags, maxDecoded: 1 << 20}
	n, ok := w.length(2)
	if !ok || n > w.left() {
		return h, ErrShortHeader
	}
	if n >= 0 {
		h.ClientID = frame[w.pos : w.pos+int(n) : w.pos+int(n)]
		w.pos += int(n)
	}
	if Flexible(h.Key, h.Version) && !w.tagSection(nil) {
		return h, ErrHeaderTags
	}
	h.Body = frame[w.pos:]
	return h, nil
}

// BeginResponse appends four bytes for the frame's length, to be filled by EndResponse, and the response header.
// ApiVersions always has header version 0, so that a client can read the answer whatever versions it knows (KIP-511).
func BeginResponse(dst []byte, key, version int16, correlationID int32) []byte {
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(correlationID))
	if key != apiVersionsKey && Flexible(key, version) {
		dst = append(dst, 0)
	}
	return dst
}

// EndResponse fills in the length of the response that starts at the given index of buf; more is what follows that
// is not in buf (file sections), in bytes.
func EndResponse(buf []byte, start int, more int64) {
	binary.BigEndian.PutUint32(buf[start:], uint32(int64(len(buf)-start-4)+more))
}
