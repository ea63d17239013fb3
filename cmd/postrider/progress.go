package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"postrider/internal/transfer"
)

const (
	barEvery  = 200 * time.Millisecond // on a terminal
	lineEvery = 5 * time.Second        // elsewhere
	barWidth  = 24
)

// showProgress shows how far a transfer is until stop is called: a bar on a
// terminal, else a line now and then.
func showProgress(w io.Writer, p *transfer.Progress) (stop func()) {
	return showText(w, func(took time.Duration) string {
		return progressText(p.Done.Load(), p.Total.Load(), p.Messages.Load(), took)
	})
}

// showText shows what text says of the time so far.
func showText(w io.Writer, line func(took time.Duration) string) (stop func()) {
	f, ok := w.(*os.File)
	terminal := ok && isTerminal(f)
	every := lineEvery
	if terminal {
		every = barEvery
	}
	end, ended := make(chan struct{}), make(chan struct{})
	start := time.Now()
	tick := time.NewTicker(every)
	go func() {
		defer close(ended)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				text := line(time.Since(start))
				if terminal {
					fmt.Fprintf(w, "\r%s\x1b[K", text)
				} else {
					fmt.Fprintln(w, text)
				}
			case <-end:
				if terminal {
					fmt.Fprint(w, "\r\x1b[K")
				}
				return
			}
		}
	}()
	return func() {
		close(end)
		<-ended
	}
}

// progressText is one line: a bar, the messages so far, their rate, and the time
// that is left at the rate of the work so far.
func progressText(done, total, messages int64, took time.Duration) string {
	return fmt.Sprintf("%s%d messages  %.0f/s%s", barText(done, total), messages, perSecond(messages, took), leftText(done, total, took))
}

// octetsText is the same of work that is counted in octets.
func octetsText(done, total int64, took time.Duration) string {
	return fmt.Sprintf("%s%s  %s/s%s", barText(done, total), binarySize(done), binarySize(int64(perSecond(done, took))), leftText(done, total, took))
}

func perSecond(n int64, took time.Duration) float64 {
	if took <= 0 {
		return 0
	}
	return float64(n) / took.Seconds()
}

// leftText is the time that is left; "" where that is not known.
func leftText(done, total int64, took time.Duration) string {
	if done <= 0 || done >= total {
		return ""
	}
	rest := time.Duration(float64(took) * float64(total-done) / float64(done))
	return fmt.Sprintf("  %v left", rest.Round(time.Second))
}

// barText is the bar; "" without a total.
func barText(done, total int64) string {
	if total <= 0 {
		return ""
	}
	share := min(float64(done)/float64(total), 1)
	n := int(share * barWidth)
	return fmt.Sprintf("[%s%s] %3.0f %%  ", strings.Repeat("#", n), strings.Repeat(".", barWidth-n), share*100)
}

func isTerminal(f *os.File) bool {
	_, err := termios(f)
	return err == nil
}

// termios reads a terminal's settings.
func termios(f *os.File) (t syscall.Termios, err error) {
	_, _, e := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TCGETS, uintptr(unsafe.Pointer(&t)))
	if e != 0 {
		return t, e
	}
	return t, nil
}

// hideInput lets nothing that is typed be seen, until show.
func hideInput(f *os.File) (show func(), err error) {
	t, err := termios(f)
	if err != nil {
		return nil, err
	}
	set := func(t syscall.Termios) error {
		if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TCSETS, uintptr(unsafe.Pointer(&t))); e != 0 {
			return e
		}
		return nil
	}
	hidden := t
	hidden.Lflag &^= syscall.ECHO
	if err := set(hidden); err != nil {
		return nil, err
	}
	return func() { _ = set(t) }, nil // nothing better can be done at the end
}
