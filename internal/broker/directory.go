package broker

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"chronik/internal/vfs"
)

// The names in the data directory that are not the storage's.
const (
	pidName         = "chronik.pid"
	metadataDirName = "metadata"
)

func (b *Broker) metadataDir() string { return path.Join(b.cfg.DataDir, metadataDirName) }
func (b *Broker) pidFile() string     { return path.Join(b.cfg.DataDir, pidName) }

// writePid says which process uses the data directory. The lock is what keeps others away; this is for scripts.
func (b *Broker) writePid() error {
	b.removePid()
	f, err := b.deps.FS.Create(b.pidFile())
	if err != nil {
		return fmt.Errorf("write %s: %w", b.pidFile(), err)
	}
	_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", b.pidFile(), err)
	}
	return nil
}

func (b *Broker) removePid() { _ = b.deps.FS.Remove(b.pidFile()) }

// locked says who uses a data directory that another process has.
func (b *Broker) locked(err error) error {
	if !errors.Is(err, vfs.ErrLocked) {
		return err
	}
	who := "another process"
	if f, openErr := b.deps.FS.Open(b.pidFile()); openErr == nil {
		var text [20]byte
		n, _ := f.ReadAt(text[:], 0)
		_ = f.Close()
		if pid := strings.TrimSpace(string(text[:n])); pid != "" {
			who = "process " + pid
		}
	}
	return fmt.Errorf("the data directory %s is in use by %s: stop it, or give another directory with --data (%w)", b.cfg.DataDir, who, err)
}
