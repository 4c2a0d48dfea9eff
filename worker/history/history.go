package history

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"studioworker/worker/atomicfile"
	"studioworker/worker/observe"
)

// Names in the folder.
const (
	listName   = "jobs.jsonl"
	thumbsName = "thumbnails"
)

// Bounds of what lies on disk.
const (
	maxFile      = 32 << 20 // bytes that are read at the start
	maxLines     = 2 * rewriteLines
	rewriteFile  = 16 << 20 // bytes from which the list is written anew
	keepFile     = 8 << 20  // bytes of the list when it is written anew
	rewriteLines = 4 * observe.HistoryCap
	maxThumb     = 1 << 20 // bytes of a thumbnail; one of 384 by 384 never needs as many
	maxAside     = 1 << 20 // bytes of damaged lines that are set aside
)

// Config is what a history needs.
type Config struct {
	Dir    string                           // made when it is missing
	Recent *observe.Ring[observe.RecentJob] // what the worker finishes
	Ring   *observe.Ring[observe.RecentJob] // filled from the disk, then kept true
	Log    *slog.Logger
	// Prompts says whether prompts and thumbnails are kept of jobs that finish now; nil = yes.
	Prompts func() bool
}

// History is the list of finished jobs. Only Run and Clear write.
type History struct {
	cfg Config

	mu    sync.Mutex // of all below, once Run runs
	since uint64     // number of the newest job in Recent when the history was cleared
	jobs  []record   // oldest first, at most observe.HistoryCap
	lines int        // in the file
	size  int64      // of the file
	told  bool       // that the disk refuses: once is enough
	short bool       // the file lacks jobs, or ends in half a line: it is to be written anew
}

// Open reads the history and fills the ring. Damaged lines are set aside beside
// the list. Jobs whose result still waits for the studio also come into Recent,
// so that the worker says how they end. An error means that the folder cannot be
// used; without it a job is only remembered until the program ends.
func Open(cfg Config) (*History, error) {
	h := &History{cfg: cfg}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, thumbsName), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the history: %w", err)
	}
	data, err := h.read()
	if err != nil {
		return nil, err
	}
	damaged := h.parse(data)
	if len(damaged) > 0 {
		h.setAside(damaged)
	}
	if len(damaged) > 0 || h.long() {
		if err := h.rewrite(); err != nil {
			return nil, err
		}
	}
	h.sweep()
	for _, r := range h.jobs {
		j := h.job(r)
		cfg.Ring.Add(j)
		if j.Outcome == observe.OutcomeKept {
			j.ThumbnailPath = ""
			cfg.Recent.Add(j)
		}
	}
	return h, nil
}

func (h *History) path() string { return filepath.Join(h.cfg.Dir, listName) }

// read returns the list's bytes; of one that is too long, the newest.
func (h *History) read() ([]byte, error) {
	f, err := os.Open(h.path())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the history: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() > maxFile {
		h.cfg.Log.Warn("the history is too long, its oldest lines are skipped", "bytes", info.Size())
		_, err = f.Seek(-maxFile, io.SeekEnd)
	}
	var data []byte
	if err == nil {
		data, err = io.ReadAll(io.LimitReader(f, maxFile))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	if info.Size() > maxFile { // the first line is half a line
		_, data, _ = bytes.Cut(data, []byte("\n"))
		h.lines = rewriteLines // it is to be written anew
	}
	h.size = int64(len(data))
	return h.newest(data), nil
}

// newest skips all but the last lines of a list that has more than we write.
func (h *History) newest(data []byte) []byte {
	if bytes.Count(data, []byte("\n")) <= maxLines {
		return data
	}
	h.lines = rewriteLines
	at := len(data)
	for range maxLines + 1 {
		at = bytes.LastIndexByte(data[:at], '\n')
	}
	return data[at+1:]
}

// parse takes up the lines and returns the damaged ones.
func (h *History) parse(data []byte) (damaged [][]byte) {
	for line := range bytes.Lines(data) {
		h.lines++
		text, whole := bytes.CutSuffix(line, []byte("\n"))
		r, err := decode(text)
		if err != nil || !whole { // a crash may have left half a line
			damaged = append(damaged, text)
			continue
		}
		h.merge(r)
	}
	return damaged
}

// merge takes up a line: it replaces the one about the same job, or is new.
func (h *History) merge(r record) (replaced bool) {
	if i, known := h.find(r); known {
		h.jobs[i] = r
		return true
	}
	h.jobs = append(h.jobs, r)
	if over := len(h.jobs) - observe.HistoryCap; over > 0 {
		for _, gone := range h.jobs[:over] {
			h.removeThumb(gone.Thumb)
		}
		h.jobs = slices.Delete(h.jobs, 0, over)
	}
	return false
}

// find returns the place of the job that a line is about.
func (h *History) find(r record) (int, bool) {
	for _, about := range []func(old record) bool{
		func(old record) bool { return old.same(r) },
		func(old record) bool { return old.goesOn(r) },
	} {
		for i, old := range slices.Backward(h.jobs) {
			if about(old) {
				return i, true
			}
		}
	}
	return 0, false
}

func (h *History) long() bool { return h.lines >= rewriteLines || h.size > rewriteFile }

// setAside keeps damaged lines for whoever wants to look at them.
func (h *History) setAside(damaged [][]byte) {
	text := append(bytes.Join(damaged, []byte("\n")), '\n')
	aside := h.path() + ".corrupt-" + time.Now().UTC().Format("20060102T150405Z")
	err := atomicfile.Write(aside, text[:min(len(text), maxAside)], 0o600)
	h.cfg.Log.Warn("damaged lines of the history were set aside", "lines", len(damaged), "file", aside, "write_error", errorText(err))
}

func errorText(err error) string {
	if err == nil {
		return "none"
	}
	return err.Error()
}

// rewrite replaces the list by one line for each job that is kept.
func (h *History) rewrite() error {
	var lines [][]byte
	size, first := 0, len(h.jobs)
	for first > 0 {
		line, err := h.jobs[first-1].encode()
		if err != nil {
			return fmt.Errorf("write the history: %w", err)
		}
		if size+len(line) > keepFile {
			break
		}
		size += len(line)
		lines = append(lines, line)
		first--
	}
	slices.Reverse(lines)
	if err := atomicfile.Write(h.path(), bytes.Join(lines, nil), 0o600); err != nil {
		return fmt.Errorf("write the history: %w", err)
	}
	h.lines, h.size, h.short = len(lines), int64(size), false
	return nil
}

// sweep removes thumbnails that no job has any more.
func (h *History) sweep() {
	files, err := os.ReadDir(filepath.Join(h.cfg.Dir, thumbsName))
	if err != nil {
		return // the next start looks again
	}
	used := make(map[string]bool, len(h.jobs))
	for _, r := range h.jobs {
		used[r.Thumb] = true
	}
	for _, f := range files {
		if !used[f.Name()] && !f.IsDir() {
			h.removeThumb(f.Name())
		}
	}
}

func (h *History) removeThumb(name string) {
	if name != "" {
		_ = os.Remove(h.thumbPath(name)) // the next start sweeps again
	}
}

func (h *History) thumbPath(name string) string { return filepath.Join(h.cfg.Dir, thumbsName, name) }

// job is a line for the window. A result that is not there any more has no path.
func (h *History) job(r record) observe.RecentJob {
	j := observe.RecentJob{
		ID: r.ID, Kind: r.Kind, Model: r.Model, Prompt: r.Prompt, Preview: observe.Preview(r.Prompt), Started: r.Started,
		Duration: time.Duration(r.Millis) * time.Millisecond, Outcome: observe.Outcome(r.Outcome), Error: r.Error, Class: r.Class,
		ResultPath: r.Result, ResultExt: r.Ext,
	}
	if r.Thumb != "" {
		j.ThumbnailPath = h.thumbPath(r.Thumb)
	}
	if r.Result != "" {
		if _, err := os.Stat(r.Result); errors.Is(err, os.ErrNotExist) {
			j.ResultPath = ""
		}
	}
	return j
}

// Run writes down what the worker finishes until ctx ends; what it finished until
// then is written, too.
func (h *History) Run(ctx context.Context) error {
	for range h.cfg.Recent.Newest.Watch(ctx) {
		h.sync()
	}
	h.sync()
	return nil
}

// Clear forgets all jobs, also on disk: their prompts and thumbnails, and damaged lines
// that were set aside. What finishes later is remembered again. An error means that
// something may be left on the disk. It is safe for concurrent use with Run.
func (h *History) Clear() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, h.since = h.cfg.Recent.Since(0)
	h.jobs = nil
	h.cfg.Ring.Clear()
	err := h.rewrite()
	aside, _ := filepath.Glob(h.path() + ".corrupt-*") // the pattern is a good one
	for _, path := range aside {
		err = errors.Join(err, os.Remove(path))
	}
	dir := filepath.Join(h.cfg.Dir, thumbsName)
	thumbs, readErr := os.ReadDir(dir)
	err = errors.Join(err, readErr)
	for _, f := range thumbs {
		err = errors.Join(err, os.Remove(filepath.Join(dir, f.Name())))
	}
	return err
}

// sync takes up what has changed in the list of recent jobs.
func (h *History) sync() {
	h.mu.Lock()
	defer h.mu.Unlock()
	jobs, _ := h.cfg.Recent.Since(h.since)
	var lines []byte
	count := 0
	for _, j := range jobs {
		if line := h.note(j); line != nil {
			lines = append(lines, line...)
			count++
		}
	}
	if count == 0 {
		return
	}
	var err error
	if !h.short {
		err = h.append(lines)
		h.lines += count
		h.short = err != nil
	}
	if err == nil && (h.short || h.long()) {
		err = h.rewrite()
	}
	if err != nil && !h.told {
		h.cfg.Log.Warn("the history could not be written", "error", err)
	}
	h.told = err != nil
}

// note takes up one job and returns its line; nil when nothing has changed.
func (h *History) note(j observe.RecentJob) []byte {
	r := recordOf(j)
	var old record
	i, known := h.find(r)
	if known {
		old = h.jobs[i]
	}
	switch {
	case h.cfg.Prompts == nil || h.cfg.Prompts():
	case known:
		r.Prompt, j.Thumbnail = old.Prompt, nil // as it was when the job finished
	default:
		r.Prompt, j.Thumbnail = "", nil
	}
	r.Thumb = old.Thumb
	if known && r == old {
		return nil
	}
	if r.Thumb == "" && len(j.Thumbnail) > 0 {
		r.Thumb = h.storeThumb(r, j.Thumbnail)
		if known && r == old { // it could not be stored
			return nil
		}
	}
	line, err := r.encode()
	if err != nil {
		if !h.told {
			h.cfg.Log.Warn("a job cannot be written into the history", "job_id", j.ID, "error", err)
			h.told = true
		}
		return nil
	}
	replaced := h.merge(r)
	row := h.job(r)
	if row.ThumbnailPath == "" {
		row.Thumbnail = j.Thumbnail // the disk did not take it: at least until the end of the program
	}
	if !replaced || !h.cfg.Ring.Update(
		func(k observe.RecentJob) bool {
			return k.ID == old.ID && k.Started.UTC().Truncate(time.Millisecond).Equal(old.Started)
		},
		func(observe.RecentJob) observe.RecentJob { return row }) {
		h.cfg.Ring.Add(row)
	}
	return line
}

// storeThumb writes a thumbnail and returns the name of its file, or nothing.
func (h *History) storeThumb(r record, data []byte) string {
	if len(data) > maxThumb {
		return ""
	}
	sum := sha256.Sum256([]byte(strconv.FormatInt(r.Started.UnixMilli(), 10) + " " + r.ID))
	name := hex.EncodeToString(sum[:16]) + ".png"
	// Without a sync: half a picture after a power cut is shown as none.
	if err := os.WriteFile(h.thumbPath(name), data, 0o600); err != nil {
		h.removeThumb(name)
		return ""
	}
	return name
}

// append adds lines to the list.
func (h *History) append(lines []byte) error {
	f, err := os.OpenFile(h.path(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the history: %w", err)
	}
	n, err := f.Write(lines)
	h.size += int64(n)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the history: %w", err)
	}
	return nil
}
