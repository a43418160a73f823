package wal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// The on-disk format, described in docs/format/wal.md. All numbers are little-endian.
const (
	fileMagic     = 0x4c41574b4e524843 // "CHRNKWAL"
	groupMagic    = 0x50524757         // "WGRP"
	formatVersion = 1

	headerBlock  = 4096 // the file header's block; the first group follows
	fileHeader   = 8 + 4 + 4 + 8 + 8 + 8 + 4
	groupHeader  = 4 + 4 + 4 + 4 + 8 + 8 + 8
	recordHeader = 4
	groupAlign   = 8

	byReferenceBit = 1 << 31
	recordBytesMax = byReferenceBit - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is what the first block of a file says.
type header struct {
	number uint64 // counts the uses of all files
	salt   uint64 // new at each use, so that what an earlier use left behind is not taken for its records
	first  LSN    // of the first record in the file; all below were durable when the header was written
}

func (h header) encode(block []byte) {
	clear(block)
	binary.LittleEndian.PutUint64(block[0:], fileMagic)
	binary.LittleEndian.PutUint32(block[8:], formatVersion)
	binary.LittleEndian.PutUint64(block[16:], h.number)
	binary.LittleEndian.PutUint64(block[24:], h.salt)
	binary.LittleEndian.PutUint64(block[32:], uint64(h.first))
	binary.LittleEndian.PutUint32(block[40:], crc32.Checksum(block[:40], castagnoli))
}

// headerState tells files in use from spare and from damaged ones.
type headerState int

const (
	headerZero    headerState = iota // zero-written, never used
	headerValid                      // in use, or used before
	headerDamaged                    // neither
)

// decodeHeader reads the start of a file. The error is that of a format version that this program does not know.
func decodeHeader(b []byte) (h header, state headerState, err error) {
	if len(b) < fileHeader {
		return h, headerDamaged, nil
	}
	b = b[:fileHeader]
	if isZero(b) {
		return h, headerZero, nil
	}
	if binary.LittleEndian.Uint64(b) != fileMagic || binary.LittleEndian.Uint32(b[40:]) != crc32.Checksum(b[:40], castagnoli) {
		return h, headerDamaged, nil
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != formatVersion {
		return h, headerDamaged, fmt.Errorf("write-ahead log format version %d, this program reads version %d: use the program that wrote it", v, formatVersion)
	}
	h.number = binary.LittleEndian.Uint64(b[16:])
	h.salt = binary.LittleEndian.Uint64(b[24:])
	h.first = LSN(binary.LittleEndian.Uint64(b[32:]))
	if h.number == 0 || h.first == 0 {
		return h, headerDamaged, nil
	}
	return h, headerValid, nil
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// groupHead is a group's header.
type groupHead struct {
	crc             uint32
	length          uint32 // of the records in bytes, the padding behind them not counted
	count           uint32 // records
	salt            uint64 // the file's
	first           LSN
	referencesUntil LSN // the bodies of all records by reference below it were synced when the group was written
}

func decodeGroupHead(b []byte) (g groupHead, ok bool) {
	if binary.LittleEndian.Uint32(b) != groupMagic {
		return g, false
	}
	g.crc = binary.LittleEndian.Uint32(b[4:])
	g.length = binary.LittleEndian.Uint32(b[8:])
	g.count = binary.LittleEndian.Uint32(b[12:])
	g.salt = binary.LittleEndian.Uint64(b[16:])
	g.first = LSN(binary.LittleEndian.Uint64(b[24:]))
	g.referencesUntil = LSN(binary.LittleEndian.Uint64(b[32:]))
	return g, g.first != 0 && g.count != 0
}

// sealGroup fills in the header in front of the records. b is the whole group, header included.
func sealGroup(b []byte, h header, count int, first, referencesUntil LSN) {
	binary.LittleEndian.PutUint32(b[0:], groupMagic)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)-groupHeader))
	binary.LittleEndian.PutUint32(b[12:], uint32(count))
	binary.LittleEndian.PutUint64(b[16:], h.salt)
	binary.LittleEndian.PutUint64(b[24:], uint64(first))
	binary.LittleEndian.PutUint64(b[32:], uint64(referencesUntil))
	binary.LittleEndian.PutUint32(b[4:], groupCRC(b, h.salt))
}

// groupCRC covers the salt of the file and all of the group behind the CRC's own field.
func groupCRC(b []byte, salt uint64) uint32 {
	var s [8]byte
	binary.LittleEndian.PutUint64(s[:], salt)
	return crc32.Update(crc32.Checksum(s[:], castagnoli), castagnoli, b[8:])
}

func align(n int64) int64 { return (n + groupAlign - 1) &^ (groupAlign - 1) }

// Record is one record as Replay yields it. Data belongs to the reader and is valid during the call.
type Record struct {
	LSN         LSN
	Data        []byte
	ByReference bool // Data is the entry's Head alone
	// ReferencesUntil: the bodies of records by reference below it are known to have been synced. A broken one below
	// it is corruption; one at or above it was perhaps never synced, and nothing behind it was acknowledged.
	ReferencesUntil LSN
}

// decodeRecords yields the records of a whole group. ok is false where the lengths do not add up.
func decodeRecords(g groupHead, records []byte, fn func(Record) error) (ok bool, err error) {
	for i := range LSN(g.count) {
		if len(records) < recordHeader {
			return false, nil
		}
		n := binary.LittleEndian.Uint32(records)
		size := int64(n &^ uint32(byReferenceBit))
		if int64(len(records)-recordHeader) < size {
			return false, nil
		}
		r := Record{LSN: g.first + i, Data: records[recordHeader : recordHeader+size], ByReference: n&byReferenceBit != 0, ReferencesUntil: g.referencesUntil}
		records = records[recordHeader+size:]
		if fn == nil {
			continue
		}
		if err := fn(r); err != nil {
			return true, err
		}
	}
	return len(records) == 0, nil
}
