package wire

import "os"

// Payload is an encoded response body that is too large to copy: parts in order, each either bytes or a section of a
// file that goes out by sendfile.
type Payload struct {
	Parts []Part
	// Release is called once the payload was written or given up; it may be nil.
	Release func()
}

// Part is one stretch of a Payload.
type Part struct {
	Bytes []byte // where File is nil
	File  *os.File
	Off   int64 // bytes
	Len   int64 // bytes
}

// Size is the number of bytes on the wire.
func (p *Payload) Size() int64 {
	var n int64
	for i := range p.Parts {
		if p.Parts[i].File == nil {
			n += int64(len(p.Parts[i].Bytes))
		} else {
			n += p.Parts[i].Len
		}
	}
	return n
}
