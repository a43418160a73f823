package record

import (
	"strings"

	"chronik/internal/kafka"
)

// Codec is a batch's compression, with the number that the attributes hold.
type Codec uint8

const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

var codecNames = [...]string{"none", "gzip", "snappy", "lz4", "zstd"}

func (c Codec) String() string {
	if int(c) < len(codecNames) {
		return codecNames[c]
	}
	return "unknown"
}

// Known tells whether the codec is one that exists.
func (c Codec) Known() bool { return int(c) < len(codecNames) }

// ParseCodec reads a compression.type; "none" and "uncompressed" are the same.
func ParseCodec(name string) (Codec, error) {
	if name == "uncompressed" {
		return None, nil
	}
	for i, n := range codecNames {
		if n == name {
			return Codec(i), nil
		}
	}
	return None, kafka.ErrUnsupportedCompressionType.With("compression %q is not known; known are %s", name, strings.Join(codecNames[:], ", "))
}

// Origin is who appends.
type Origin uint8

const (
	// FromClient is a Produce request: everything is checked.
	FromClient Origin = iota
	// FromCoordinator is this node's own coordinator: no sequence numbers.
	FromCoordinator
	// FromLeader is replication or replay: what the leader accepted is taken.
	FromLeader
)
