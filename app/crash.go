package app

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/getsentry/sentry-go"
	"github.com/spf13/cobra"

	"studioworker/worker/atomicfile"
	"studioworker/worker/observe"
)

// A crash is a panic that nothing caught, or an error of the Go runtime. Go writes its
// text to a file; the next start makes a report of it, which holds no values: no messages
// of our own, no arguments, no folders. The text itself is removed.
const (
	rawCrash     = "crash.raw" // beside the config, while the program runs
	crashFolder  = "crashes"
	keptCrashes  = 10
	maxRawCrash  = 1 << 20 // bytes that are read of a text; a thousand goroutines
	maxFrames    = 100
	crashStamp   = "20060102T150405Z"
	crashPattern = "crash-*.txt"
)

// watchCrashes makes a report of the crash of the last run, if there was one, and has the
// Go runtime write down the next. The report is told by the function that is returned: only
// the config says whether it is sent by that. What fails is logged: a worker can do without.
func watchCrashes(configPath string, log *slog.Logger) (tell func(sent bool)) {
	dir := filepath.Dir(configPath)
	raw := filepath.Join(dir, rawCrash)
	tell, err := reportCrash(dir, raw, log)
	if err != nil {
		log.Warn("the crash of the last run cannot be reported", "error", err)
	}
	f, err := os.OpenFile(raw, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err == nil {
		// The runtime keeps a copy of the file's descriptor.
		err = errors.Join(debug.SetCrashOutput(f, debug.CrashOptions{}), f.Close())
	}
	if err != nil {
		log.Warn("a crash would not be written down", "error", err)
	}
	return tell
}

// reportCrash turns the raw text of a crash into a report, and tells of it when asked to.
func reportCrash(dir, raw string, log *slog.Logger) (tell func(sent bool), err error) {
	nothing := func(bool) {}
	info, err := os.Stat(raw)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		return nothing, nil
	}
	if err != nil {
		return nothing, err
	}
	f, err := os.Open(raw)
	if err != nil {
		return nothing, err
	}
	report := readCrash(io.LimitReader(f, maxRawCrash))
	report.at = info.ModTime().UTC()
	if err := f.Close(); err != nil {
		return nothing, err
	}
	folder := filepath.Join(dir, crashFolder)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nothing, err
	}
	path := filepath.Join(folder, "crash-"+report.at.Format(crashStamp)+".txt")
	if err := atomicfile.Write(path, []byte(report.text()), 0o600); err != nil {
		return nothing, err
	}
	tell = func(sent bool) {
		if sent {
			settled, err := settleCrash(path)
			if err != nil {
				log.Warn("a report will be shown as one that waits", "error", err)
			}
			path = settled
		}
		log.Error("the last run crashed", "report", path, "what", report.what, crashKey, report)
	}
	return tell, errors.Join(os.Remove(raw), pruneCrashes(folder))
}

// settledCrash ends the name of a report that was sent: it does not wait any more.
const settledCrash = "-sent.txt"

// waitingCrash finds the newest report that was neither sent nor discarded.
func waitingCrash(configPath string) (path string, err error) {
	reports, err := filepath.Glob(filepath.Join(filepath.Dir(configPath), crashFolder, crashPattern))
	if err != nil {
		return "", err
	}
	slices.Sort(reports) // the names are times
	for _, report := range slices.Backward(reports) {
		if !strings.HasSuffix(report, settledCrash) {
			return report, nil
		}
	}
	return "", nil
}

// settleCrash notes that a report was sent, and returns where it lies.
func settleCrash(path string) (string, error) {
	settled := strings.TrimSuffix(path, ".txt") + settledCrash
	if err := os.Rename(path, settled); err != nil {
		return path, err
	}
	return settled, nil
}

// sendsCrashes says whether the log sends crashes by itself.
func (h *host) sendsCrashes() bool {
	return os.Getenv("SENTRY_DSN") != "" || CrashDSN != "" && h.agreed.Load()
}

// showCrash has the window show a report that waits.
func (h *host) showCrash() {
	path, err := waitingCrash(h.path)
	var shown observe.Crash
	if err == nil && path != "" {
		var report writtenReport
		report, err = readReport(path)
		shown = observe.Crash{ID: filepath.Base(path), At: report.at, Text: report.text, Sendable: CrashDSN != ""}
	}
	if err != nil {
		h.log.Warn("the report of a crash cannot be shown", "error", err)
		shown = observe.Crash{}
	}
	h.observers.Crash.Set(shown)
}

// waiting returns the report that waits under a name, and where it lies.
func (h *host) waiting(id string) (path string, r writtenReport, err error) {
	if now := h.observers.Crash.Get(); id == "" || now.ID != id {
		return "", r, errors.New("this report does not wait any more")
	}
	path = filepath.Join(filepath.Dir(h.path), crashFolder, id)
	r, err = readReport(path)
	return path, r, err
}

// SendCrash sends a report that waits.
func (h *host) SendCrash(ctx context.Context, id string) error {
	path, report, err := h.waiting(id)
	if err != nil {
		return err
	}
	if CrashDSN == "" {
		return errors.New("this build has no address for reports")
	}
	hub, err := newSentry(CrashDSN, nil)
	if err != nil {
		return err
	}
	defer hub.Client().Close()
	if hub.CaptureEvent(report.event()) == nil || !flushed(ctx, hub) {
		return errors.New("the report was not taken: try again later")
	}
	if _, err := settleCrash(path); err != nil {
		return err
	}
	h.showCrash()
	return nil
}

// sendTime is how long a report may take on its way.
const sendTime = 20 * time.Second

func flushed(ctx context.Context, hub *sentry.Hub) bool {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	return hub.FlushWithContext(ctx)
}

// DiscardCrash removes a report that waits.
func (h *host) DiscardCrash(_ context.Context, id string) error {
	path, _, err := h.waiting(id)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	h.showCrash()
	return nil
}

// writtenReport is a report as its file has it.
type writtenReport struct {
	crashReport
	text    string
	version string
}

// maxReport bounds the file that is read.
const maxReport = 64 << 10

var (
	errReport  = errors.New("not a report of a crash")
	reportHead = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^studio-worker (\S{1,64}) \((\w{1,16})\) crashed at (\S{20,30})$`)
	})
)

// readReport reads a report's file.
func readReport(path string) (writtenReport, error) {
	f, err := os.Open(path)
	if err != nil {
		return writtenReport{}, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxReport+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return writtenReport{}, fmt.Errorf("read a report: %w", err)
	}
	r, err := parseReport(data)
	if err != nil {
		return writtenReport{}, fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	return r, nil
}

// parseReport reads what [crashReport.text] has written, by this version or another.
func parseReport(data []byte) (writtenReport, error) {
	r := writtenReport{text: string(data)}
	lines := strings.Split(r.text, "\n")
	if len(data) > maxReport || len(lines) < 3 {
		return r, errReport
	}
	head := reportHead().FindStringSubmatch(lines[0])
	if head == nil {
		return r, errReport
	}
	at, err := time.Parse(time.RFC3339, head[3])
	if err != nil {
		return r, fmt.Errorf("%w: %w", errReport, err)
	}
	r.version, r.at, r.what = head[1], at, lines[1]
	function := ""
	for _, line := range lines[2:] {
		place, ok := strings.CutPrefix(line, "\t")
		if !ok {
			function = line
			continue
		}
		file, number, _ := strings.Cut(place, ":")
		n, err := strconv.Atoi(number)
		if err != nil || function == "" || len(r.frames) == maxFrames {
			return r, errReport
		}
		r.frames = append(r.frames, crashFrame{function, file, n})
	}
	return r, nil
}

// event is the report as Sentry takes it, of the version that crashed.
func (r writtenReport) event() *sentry.Event {
	e := r.crashReport.event()
	e.Release = "studio-worker@" + r.version
	return e
}

// heedConsent follows whether the person agrees that reports are sent. The setting is
// followed, not looked up when there is something to send: the config's own errors are
// logged, too.
func (h *host) heedConsent(ctx context.Context) {
	for keys := range h.observers.Config.Watch(ctx) {
		for _, key := range keys {
			if key.Name == "send_crash_reports" {
				h.agreed.Store(key.Value == "true")
			}
		}
	}
}

// crashKey is the attribute by which the handler for Sentry knows a crash. The report's
// other readers see what it is.
const crashKey = "crash"

// pruneCrashes keeps the newest reports.
func pruneCrashes(folder string) error {
	reports, err := filepath.Glob(filepath.Join(folder, crashPattern))
	if err != nil || len(reports) <= keptCrashes {
		return err
	}
	slices.Sort(reports) // the names are times
	for _, path := range reports[:len(reports)-keptCrashes] {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// crashReport is what is told of a crash.
type crashReport struct {
	at     time.Time
	what   string // the runtime's words, or that the message is left out
	frames []crashFrame
}

// crashFrame is one call of the goroutine that crashed, the innermost first.
type crashFrame struct {
	function string // with its package
	file     string // with its folder
	line     int
}

var (
	crashHead = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(panic|fatal error): (.*)$`) })
	crashCall = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([A-Za-z0-9_./*()\[\]~-]+)\((?:[^()]|\.\.\.)*\)$`) })
	crashLine = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^\t([^[:cntrl:]]+\.(?:go|s)):(\d{1,9})(?: \+0x[0-9a-f]+)?$`)
	})
)

// readCrash reads the text that the Go runtime writes: what happened, then the calls of
// each goroutine. Only the first goroutine's are taken, and of no line more than is known
// to be code: a message may be anything that a job brought in.
func readCrash(text io.Reader) crashReport {
	r := crashReport{what: "unknown"}
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, maxRawCrash)
	goroutines, function := 0, ""
	for lines.Scan() {
		line := lines.Text()
		if match := crashHead().FindStringSubmatch(line); match != nil && r.what == "unknown" {
			r.what = match[1] + ": " + runtimeWords(match[1], match[2])
			continue
		}
		if strings.HasPrefix(line, "goroutine ") && strings.HasSuffix(line, "]:") {
			if goroutines++; goroutines > 1 {
				break
			}
			continue
		}
		if goroutines == 0 {
			continue // the message may have lines of its own
		}
		if match := crashCall().FindStringSubmatch(line); match != nil {
			function = match[1]
			continue
		}
		if match := crashLine().FindStringSubmatch(line); match != nil && function != "" && len(r.frames) < maxFrames {
			n, err := strconv.Atoi(match[2])
			if err != nil {
				continue
			}
			file := filepath.ToSlash(match[1])
			r.frames = append(r.frames, crashFrame{function, lastTwo(file), n})
			function = ""
		}
	}
	return r
}

// runtimeWords are the words of the Go runtime itself; any other message is left out.
func runtimeWords(sort, message string) string {
	if sort == "fatal error" || strings.HasPrefix(message, "runtime error: ") {
		message, _, _ = strings.Cut(message, " [recovered")
		return message
	}
	return "[message left out]"
}

// lastTwo is a file with the folder it lies in.
func lastTwo(path string) string {
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		if j := strings.LastIndexByte(path[:i], '/'); j >= 0 {
			return path[j+1:]
		}
	}
	return path
}

// text is the report as people read it. It is all there is.
func (r crashReport) text() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "studio-worker %s (%s) crashed at %s\n%s\n\n", Version, variant, r.at.Format(time.RFC3339), r.what)
	for _, f := range r.frames {
		fmt.Fprintf(&b, "%s\n\t%s:%d\n", f.function, f.file, f.line)
	}
	return b.String()
}

// LogValue makes a log line of the report: the call that crashed.
func (r crashReport) LogValue() slog.Value {
	for _, f := range r.frames {
		if !strings.HasPrefix(f.function, "runtime.") && f.function != "panic" {
			return slog.StringValue(fmt.Sprintf("%s at %s:%d", f.function, f.file, f.line))
		}
	}
	return slog.StringValue("unknown")
}

// event is the report as Sentry takes it.
func (r crashReport) event() *sentry.Event {
	e := sentry.NewEvent()
	e.Level, e.Timestamp = sentry.LevelFatal, r.at
	trace := &sentry.Stacktrace{}
	for _, f := range slices.Backward(r.frames) { // Sentry wants the innermost last
		module, function := "", f.function
		if i := strings.LastIndexByte(f.function, '/'); strings.Contains(f.function[i+1:], ".") {
			dot := i + 1 + strings.IndexByte(f.function[i+1:], '.')
			module, function = f.function[:dot], f.function[dot+1:]
		}
		trace.Frames = append(trace.Frames, sentry.Frame{
			Module: module, Function: function, Filename: f.file, Lineno: f.line, InApp: strings.HasPrefix(f.function, "studioworker/"),
		})
	}
	e.Exception = []sentry.Exception{{Type: "crash", Value: r.what, Stacktrace: trace}}
	return e
}

func (c *command) crashesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "crashes", Short: "Print the reports of crashes, as they would be sent", Args: noArgs,
		Long: `Print the reports of the last ten crashes, oldest first. A report names the code
that ran and nothing it worked on: no messages, no values, no folders. Exactly this is
sent at the next start, beside the constant texts of errors, if you agree to it: with
send_crash_reports in the config, to the makers of this build; with SENTRY_DSN, to the
Sentry that it names. Otherwise nothing is sent but what you send in the window, one by one.`,
		RunE: func(*cobra.Command, []string) error {
			path, err := c.path()
			if err != nil {
				return err
			}
			text, err := crashReports(path)
			if err != nil {
				return err
			}
			fmt.Fprint(c.Out, cmp.Or(text, "no crash was reported\n"))
			return nil
		},
	}
}

// crashReports are all reports beside a config, oldest first, each after its path.
func crashReports(configPath string) (string, error) {
	reports, err := filepath.Glob(filepath.Join(filepath.Dir(configPath), crashFolder, crashPattern))
	if err != nil {
		return "", err
	}
	slices.Sort(reports) // the names are times
	var all strings.Builder
	for _, report := range reports {
		text, err := os.ReadFile(report)
		if err != nil {
			return "", fmt.Errorf("read a report: %w", err)
		}
		fmt.Fprintf(&all, "%s\n%s\n", report, text)
	}
	return all.String(), nil
}
