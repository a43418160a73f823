package ext4

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	ioctlShutdown = 0x8004587d // EXT4_IOC_SHUTDOWN
	noLogFlush    = uint32(2)  // EXT4_GOING_FLAGS_NOLOGFLUSH: not even the journal is written
)

// Disk is an ext4 file system in an image file, mounted at Mount.
type Disk struct {
	Mount string

	t       *testing.T
	image   string
	mounted bool
}

// New makes and mounts one, or skips the test, loudly, where that is impossible.
func New(t *testing.T) *Disk {
	t.Helper()
	impossible := func(format string, args ...any) {
		reason := fmt.Sprintf(format, args...)
		if os.Getenv("CHRONIK_REQUIRE_CLIENTS") == "1" { // CI
			t.Fatalf("power cuts must be tested here, but: %s", reason)
		}
		t.Skipf("POWER CUTS ARE NOT TESTED: %s", reason)
	}
	if os.Geteuid() != 0 {
		impossible("that needs root")
	}
	for _, tool := range []string{"mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			impossible("%v", err)
		}
	}
	d := &Disk{t: t, image: filepath.Join(t.TempDir(), "image"), Mount: filepath.Join(t.TempDir(), "mount")}
	if err := os.Mkdir(d.Mount, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(d.image)
	if err == nil {
		err = f.Truncate(4 << 30)
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", d.image).CombinedOutput(); err != nil {
		impossible("mkfs.ext4: %v: %s", err, out)
	}
	if err := d.tryMount(); err != nil {
		impossible("%v", err)
	}
	t.Cleanup(d.Unmount)
	return d
}

func (d *Disk) tryMount() error {
	out, err := exec.Command("mount", "-t", "ext4", "-o", "loop", d.image, d.Mount).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mount: %w: %s", err, strings.TrimSpace(string(out)))
	}
	d.mounted = true
	return nil
}

// Cut ends the file system as a loss of power does: what it has not yet written, it never will.
func (d *Disk) Cut() {
	d.t.Helper()
	f, err := os.Open(d.Mount)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	flag := noLogFlush
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ioctlShutdown, uintptr(unsafe.Pointer(&flag))); errno != 0 {
		d.t.Fatalf("shut %s down: %v", d.Mount, errno)
	}
}

// Remount is the power's return. Nobody may use the file system any more.
func (d *Disk) Remount() {
	d.t.Helper()
	d.Unmount()
	if err := d.tryMount(); err != nil {
		d.t.Fatal(err)
	}
}

// Unmount waits until nobody uses the file system.
func (d *Disk) Unmount() {
	if !d.mounted {
		return
	}
	var out []byte
	var err error
	for range 50 {
		if out, err = exec.Command("umount", d.Mount).CombinedOutput(); err == nil {
			d.mounted = false
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	d.t.Errorf("umount %s: %v: %s", d.Mount, err, out)
}
