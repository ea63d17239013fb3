package sqlite

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"postrider/internal/clock"
	"postrider/mailstore"
)

// panel is one small plot: a cost at each size of a mailbox.
type panel struct {
	title, unit string
	values      []float64
}

// TestPlot measures what operations cost in mailboxes of 10,000 to 1,000,000
// letters of 1 KiB and writes the plot to the file that PLOT names: `make plot`
// does so, takes some minutes and wants an idle machine. Without PLOT it tries
// the same with small mailboxes.
func TestPlot(t *testing.T) {
	file, sizes := os.Getenv("PLOT"), []int{10000, 100000, sized(t, "SCALE", 1000000)}
	if file == "" {
		file, sizes = filepath.Join(t.TempDir(), "plot.svg"), []int{200, 400}
	}
	panels := []panel{
		{title: "SELECT, warm", unit: "µs"},
		{title: "SELECT, first after a start", unit: "ms"},
		{title: "start", unit: "ms"},
		{title: "delivery, one session", unit: "µs"},
		{title: "delivery, CPU", unit: "µs"},
		{title: "STORE of one", unit: "µs"},
		{title: "list, CPU per message", unit: "µs"},
		{title: "disk, per message", unit: "octets"},
		{title: "memory of the process", unit: "MiB"},
	}
	for _, n := range sizes {
		for i, v := range costs(t, n) {
			panels[i].values = append(panels[i].values, v)
			t.Logf("%d messages: %s: %s %s", n, panels[i].title, figure(v), panels[i].unit)
		}
	}
	if err := os.WriteFile(file, plot(sizes, panels), 0o644); err != nil {
		t.Fatal(err)
	}
}

// costs measures one size: a value for each panel.
func costs(t *testing.T, n int) []float64 {
	dir := filepath.Join(t.TempDir(), "data")
	s := openDir(t, dir)
	box := makeBoxes(t, s, 1)[0]
	fillLetters(t, s, box, 0, n, 1024)
	endStore(t, s)
	defer os.RemoveAll(dir)
	onDisk := float64(occupied(t, dir)) / float64(n)

	start := time.Now()
	s = openDir(t, dir)
	opened := time.Since(start)
	start = time.Now()
	if got := len(uidsOf(t, s, box)); got != n {
		t.Fatalf("%d messages of %d", got, n)
	}
	cold := time.Since(start)
	for range 4 { // the lowest of five is that of a disk cache that is warm
		endStore(t, s)
		start = time.Now()
		s = openDir(t, dir)
		opened = min(opened, time.Since(start))
		start = time.Now()
		uidsOf(t, s, box)
		cold = min(cold, time.Since(start))
	}
	defer endStore(t, s)
	warm := median(200, func(int) { uidsOf(t, s, box) })
	begin := clock.Processor()
	list(t, s, box)
	listed := clock.Processor() - begin
	begin = clock.Processor()
	delivery := median(500, func(i int) { fillLetters(t, s, box, n+i, 1, 1024) })
	delivered := (clock.Processor() - begin) / 500
	store := median(500, func(i int) {
		storeOne(t, s, box, mailstore.UID(1+i*n/500), mailstore.AddFlags)
	})
	return []float64{
		micros(warm), micros(cold) / 1000, micros(opened) / 1000, micros(delivery), micros(delivered), micros(store),
		micros(listed) / float64(n), onDisk, resident(t),
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func endStore(t *testing.T, s *mailstore.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func median(n int, op func(i int)) time.Duration {
	var took []time.Duration
	for i := range n {
		start := time.Now()
		op(i)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[n/2]
}

// occupied is how much files take, without the space held in reserve.
func occupied(t *testing.T, dir string) (sum int64) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "reserve" {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// resident is the process's memory in MiB, after what is not used any more was
// given back.
func resident(t *testing.T) float64 {
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := bytes.Cut(status, []byte("VmRSS:"))
	kib, err := strconv.Atoi(strings.Fields(string(after))[0])
	if err != nil {
		t.Fatal(err)
	}
	return float64(kib) / 1024
}

// Measures of the plot, in pixels.
const (
	columns               = 3
	panelWidth            = 280
	panelHeight           = 170
	left, right, top, low = 30, 40, 50, 30 // of the drawing in a panel
)

// plot draws panels: sizes to the right, one decade as wide as another, costs
// upward from zero.
func plot(sizes []int, panels []panel) []byte {
	rows := (len(panels) + columns - 1) / columns
	w := new(bytes.Buffer)
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n",
		columns*panelWidth, rows*panelHeight)
	fmt.Fprintf(w, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	for i, p := range panels {
		p.draw(w, sizes, i%columns*panelWidth, i/columns*panelHeight)
	}
	w.WriteString("</svg>\n")
	return w.Bytes()
}

func (p *panel) draw(w *bytes.Buffer, sizes []int, x, y int) {
	width, height := panelWidth-left-right, panelHeight-top-low
	fmt.Fprintf(w, `<g transform="translate(%d %d)">`+"\n", x+left, y+top)
	fmt.Fprintf(w, `<text x="0" y="-28" font-weight="bold">%s (%s)</text>`+"\n", p.title, p.unit)
	fmt.Fprintf(w, `<path d="M0 %d H%d" stroke="#999"/>`+"\n", height, width)
	most := slices.Max(p.values)
	var line []string
	for i, v := range p.values {
		px, py := i*width/(len(sizes)-1), height
		if most > 0 {
			py -= int(v / most * float64(height))
		}
		line = append(line, fmt.Sprintf("%d,%d", px, py))
		fmt.Fprintf(w, `<circle cx="%d" cy="%d" r="3" fill="#0a5"/>`+"\n", px, py)
		fmt.Fprintf(w, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", px, py-7, figure(v))
		fmt.Fprintf(w, `<text x="%d" y="%d" text-anchor="middle" fill="#666">%s</text>`+"\n", px, height+15, short(sizes[i]))
	}
	fmt.Fprintf(w, `<polyline points="%s" fill="none" stroke="#0a5"/>`+"\n</g>\n", strings.Join(line, " "))
}

// figure writes a value with two digits at least.
func figure(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2g", v)
}

// short writes a size as people do.
func short(n int) string {
	switch {
	case n%1000000 == 0:
		return fmt.Sprintf("%d M", n/1000000)
	case n%1000 == 0:
		return fmt.Sprintf("%d k", n/1000)
	}
	return strconv.Itoa(n)
}

// TestPlotDraws: the plot has each value, and is well formed.
func TestPlotDraws(t *testing.T) {
	got := string(plot([]int{10000, 100000, 1000000}, []panel{{"a cost", "ms", []float64{1, 2, 4}}, {"nothing", "µs", []float64{0, 0, 0}}}))
	for _, want := range []string{">a cost (ms)<", ">4<", ">10 k<", ">1 M<", "</svg>"} {
		if !strings.Contains(got, want) {
			t.Errorf("the plot lacks %q:\n%s", want, got)
		}
	}
	if open, shut := strings.Count(got, "<g "), strings.Count(got, "</g>"); open != 2 || shut != 2 {
		t.Errorf("%d groups begun, %d ended", open, shut)
	}
}
