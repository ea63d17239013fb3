package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// Of the ioctl that shuts down an ext4 or xfs file system; see linux/fs.h and
// fs/ext4/ext4.h.
const (
	goingDown  = 0x8004587d // EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN
	noLogFlush = 2          // what is in memory, the journal's included, is lost
)

// looseDisk is a file system in a file, which can lose its power.
type looseDisk struct {
	t            *testing.T
	image, mount string
}

// newLooseDisk makes and mounts one; nil where that is not allowed.
func newLooseDisk(t *testing.T, mount string) *looseDisk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Log("NOT TRIED: this needs root and a loop device")
		return nil
	}
	d := &looseDisk{t: t, image: filepath.Join(t.TempDir(), "disk.img"), mount: mount}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(mount, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, line := range [][]string{
		{"mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", d.image}, {"mount", "-o", "loop", d.image, mount}, {"chmod", "700", mount},
	} {
		if out, err := exec.Command(line[0], line[1:]...).CombinedOutput(); err != nil {
			t.Logf("NOT TRIED: this needs root and a loop device: %s: %v\n%s", strings.Join(line, " "), err, out)
			return nil
		}
	}
	t.Cleanup(d.unmount)
	d.try()
	return d
}

// try makes sure that it loses what was not synced, and nothing else.
func (d *looseDisk) try() {
	d.t.Helper()
	synced, unsynced := filepath.Join(d.mount, "synced"), filepath.Join(d.mount, "unsynced")
	f, err := os.Create(synced)
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := f.WriteString("synced"); err != nil {
		d.t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		d.t.Fatal(err)
	}
	writeFile(d.t, unsynced, "not synced")
	d.cut()
	d.back()
	if text, err := os.ReadFile(synced); err != nil || string(text) != "synced" {
		d.t.Fatalf("the disk has lost what was synced: %q, %v", text, err)
	}
	if text, err := os.ReadFile(unsynced); err == nil && string(text) != "" {
		d.t.Fatalf("the disk has kept what was not synced: %q", text)
	}
	if err := os.Remove(synced); err != nil {
		d.t.Fatal(err)
	}
}

// cut shuts the file system down as a loss of power would: what was not synced
// is gone, and nothing can be written. A sync that is under way meanwhile may
// succeed and have done nothing (ext4 in Linux 6.18: one in ten cuts): what is
// acknowledged after cut was called proves nothing.
func (d *looseDisk) cut() {
	d.t.Helper()
	f, err := os.Open(d.mount)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	flags := uint32(noLogFlush)
	if _, _, err := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), goingDown, uintptr(unsafe.Pointer(&flags))); err != 0 {
		d.t.Fatalf("shut the file system down: %v", err)
	}
}

func (d *looseDisk) unmount() {
	d.t.Helper()
	eventually(d.t, func() error {
		err := syscall.Unmount(d.mount, 0)
		if errors.Is(err, syscall.EINVAL) {
			return nil // it is not mounted
		}
		return err
	})
}

// back mounts it again, with what was on disk.
func (d *looseDisk) back() {
	d.t.Helper()
	d.unmount()
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.mount).CombinedOutput(); err != nil {
		d.t.Fatalf("mount again: %v\n%s", err, out)
	}
}

// TestPowerR2: whatever was acknowledged before the power went is in effect
// after the next start, byte for byte, once.
func TestPowerR2(t *testing.T) {
	s := prepare(t, options{plain: true, quiet: true, config: crashConfig})
	d := newLooseDisk(t, filepath.Join(s.dir, "data"))
	if d == nil {
		return
	}
	t.Cleanup(func() {
		if s.cmd != nil {
			s.kill()
		}
	})
	c := crashLoopOn(t, s, "alice/INBOX", "bob/INBOX", "carol/Drafts", "carol/Archive")
	c.blackout = d.cut
	c.remount = d.back
	c.run(rounds(t, 3, 500), sendMail, sendMail, sendMail, drainMail, fileMail, fileMail, fileMail)
}
