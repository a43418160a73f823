package store

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path"

	"chronik/internal/vfs"
)

// Identity is what a data directory says of itself, in the file "node" (docs/format/node.md).
type Identity struct {
	Directory [16]byte // random, drawn when the directory was made: a wiped disk is another directory
	NodeID    int32
	ClusterID string // empty until a cluster was formed or joined
}

const (
	nodeMagic     = 0x45444f4e4e524843 // "CHRNNODE"
	nodeVersion   = 1
	clusterIDMax  = 255
	nodeFixedSize = 8 + 4 + 16 + 4 + 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (id Identity) encode() []byte {
	b := binary.LittleEndian.AppendUint64(nil, nodeMagic)
	b = binary.LittleEndian.AppendUint32(b, nodeVersion)
	b = append(b, id.Directory[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(id.NodeID))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(id.ClusterID)))
	b = append(b, id.ClusterID...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeIdentity(b []byte) (id Identity, err error) {
	if len(b) < nodeFixedSize+4 || binary.LittleEndian.Uint64(b) != nodeMagic {
		return id, errors.New("it is not the identity file of a chronik data directory")
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return id, errors.New("its checksum is wrong: the file is damaged")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != nodeVersion {
		return id, fmt.Errorf("format version %d, this program reads version %d", v, nodeVersion)
	}
	copy(id.Directory[:], b[12:])
	id.NodeID = int32(binary.LittleEndian.Uint32(b[28:]))
	n := int(binary.LittleEndian.Uint16(b[32:]))
	if nodeFixedSize+n != len(body) {
		return id, errors.New("its length is wrong: the file is damaged")
	}
	id.ClusterID = string(body[nodeFixedSize:])
	return id, nil
}

// openIdentity reads the identity, and makes one for a new directory.
func openIdentity(fsys vfs.FS, dir string, nodeID int32) (Identity, error) {
	name := path.Join(dir, nodeName)
	b, err := readFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		// It is the first file that is made, and made durable: where there is anything else, it was lost.
		found, err := anyOf(fsys, dir, checkpointName, walDir, metadataDir, partitionsDir)
		if err == nil && found != "" {
			err = lost(name, found)
		}
		if err != nil {
			return Identity{}, err
		}
		id := Identity{NodeID: nodeID}
		_, _ = rand.Read(id.Directory[:]) // never fails
		return id, writeFile(fsys, dir, nodeName, id.encode())
	}
	if err != nil {
		return Identity{}, err
	}
	id, err := decodeIdentity(b)
	if err != nil {
		return id, fmt.Errorf("%s: %w", name, err)
	}
	if id.NodeID != nodeID {
		return id, fmt.Errorf("%s belongs to node.id %d, but this node is configured as %d: give it its own data directory, or its node.id back", dir, id.NodeID, nodeID)
	}
	return id, nil
}

// SetClusterID notes durably which cluster the directory belongs to. Another cluster than before is refused.
func (s *Store) SetClusterID(id string) error {
	s.mu.Lock()
	now := s.identity
	s.mu.Unlock()
	if now.ClusterID == id {
		return nil
	}
	if now.ClusterID != "" {
		return s.errorf("it belongs to cluster %s, not to %s", now.ClusterID, id)
	}
	if len(id) > clusterIDMax {
		return s.errorf("cluster ID of %d bytes, at most %d are possible", len(id), clusterIDMax)
	}
	now.ClusterID = id
	if err := writeFile(s.o.FS, s.o.Dir, nodeName, now.encode()); err != nil {
		return err
	}
	s.mu.Lock()
	s.identity = now
	s.mu.Unlock()
	return nil
}

const smallFileMax = 1 << 30

func readFile(fsys vfs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	n, err := f.Size()
	if err != nil {
		return nil, err
	}
	if n > smallFileMax {
		return nil, fmt.Errorf("%s has %d bytes, far more than such a file can have", name, n)
	}
	b := make([]byte, n)
	if m, err := f.ReadAt(b, 0); int64(m) < n {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// writeFile replaces a file atomically and durably: written aside, synced, renamed, directory synced.
func writeFile(fsys vfs.FS, dir, base string, b []byte) error {
	name := path.Join(dir, base)
	aside := name + ".new"
	if err := fsys.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := fsys.Create(aside)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = fsys.Rename(aside, name)
	}
	if err == nil {
		err = fsys.SyncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
