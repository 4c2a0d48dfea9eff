package models

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"studioworker/worker/observe"
)

// File is one file of a model, as a studio names it (protocol spec §5.2).
type File struct {
	Role     string
	URL      string
	Filename string
	// ApproxBytes is 0 when unknown.
	ApproxBytes uint64
	// SHA256 is 64 hex digits, or empty when unknown.
	SHA256 string
}

// wanted is the file's hash in lower case; empty when unknown.
func (f File) wanted() string { return strings.ToLower(strings.TrimSpace(f.SHA256)) }

// The folders that many models share (engines spec §3).
const (
	FolderLLM = "llm"
	FolderSTT = "stt"
)

// Set is what one model consists of.
type Set struct {
	// Model is the model's id; it names the folder when Folder is empty.
	Model string
	// Folder is FolderLLM or FolderSTT for models that lie beside others.
	Folder string
	Files  []File
}

func (s Set) folder() string {
	if s.Folder != "" {
		return s.Folder
	}
	return FolderOf(s.Model)
}

// Progress is how far the download of one file is, in bytes. Total 0 means
// unknown.
type Progress struct {
	File        string
	Done, Total int64
}

// Kind says what sort of trouble an Error is.
type Kind string

// The kinds of errors. Anything else that goes wrong, such as a full disk, is no
// *Error.
const (
	Refused     Kind = "refused"     // a name or an address that no attempt can make good
	Unavailable Kind = "unavailable" // the server does not give the file
	Corrupt     Kind = "corrupt"     // what came is not what was promised
	NoRoom      Kind = "no_room"     // disk or quota
)

// Error is a model file that cannot be had.
type Error struct {
	Kind Kind
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Config is what a store needs.
type Config struct {
	// Root is the models folder in force; it is made when it is needed.
	Root func() string
	// Quota bounds what the store has fetched, in bytes; nil or 0 = no bound.
	Quota func() int64
	// HTTP makes the requests. Its redirect rule is replaced.
	HTTP      *http.Client
	UserAgent string
	// FirstPause is how long a failed request waits before it is made again; the
	// pauses double from there. 0 = a second.
	FirstPause time.Duration
	// FreeDisk tells the room on the disk of an existing folder, in bytes.
	FreeDisk func(dir string) (uint64, error)
	// Observer, when set, is told of every download in flight.
	Observer *observe.Slot[[]observe.Download]
	Log      *slog.Logger
}

// Store keeps model files in one folder. It is safe for concurrent use; several
// processes may use the same folder.
type Store struct {
	cfg  Config
	http *http.Client

	mu      sync.Mutex
	flights map[string]*flight // by target path
	held    map[string]int     // how many hold a path
}

// New returns a store. It touches nothing before the first call.
func New(cfg Config) *Store {
	client := *cfg.HTTP
	client.CheckRedirect = followRedirect
	client.Timeout = 0 // a stall limit stands in for it
	if cfg.FirstPause <= 0 {
		cfg.FirstPause = firstPause
	}
	return &Store{cfg: cfg, http: &client, flights: map[string]*flight{}, held: map[string]int{}}
}

// Held are the files of a model that somebody uses. They are not evicted before
// Release.
type Held struct {
	// Paths has one absolute path for each file of the set, in its order.
	Paths []string

	store *Store // nil = nobody else knows of them
	once  sync.Once
}

// Release lets the files go. It may be called more than once.
func (h *Held) Release() {
	h.once.Do(func() {
		if h.store == nil {
			return
		}
		h.store.mu.Lock()
		defer h.store.mu.Unlock()
		for _, path := range h.Paths {
			if h.store.held[path]--; h.store.held[path] <= 0 {
				delete(h.store.held, path)
			}
		}
	})
}

// Ensure returns the files of a model and fetches those that are not here. The
// names and addresses of all files are checked before anything else is done.
// progress, which may be nil, is called from other goroutines too, but not after
// Ensure has returned. The error is an *Error where the file itself is the
// trouble, the cause of ctx when that has ended, and names the file.
func (s *Store) Ensure(ctx context.Context, set Set, progress func(Progress)) (*Held, error) {
	for _, f := range set.Files {
		if err := CheckName(f.Filename); err != nil {
			return nil, err
		}
	}
	held := &Held{store: s}
	for _, f := range set.Files {
		path, err := s.ensure(ctx, set, f, progress)
		if err != nil {
			held.Release()
			return nil, fmt.Errorf("model file %s: %w", f.Filename, err)
		}
		held.Paths = append(held.Paths, path)
	}
	if err := s.touch(held.Paths); err != nil {
		s.cfg.Log.Warn("the use of a model was not noted", "model", set.Model, "error", err)
	}
	return held, nil
}

// ensure returns the path of one file, which is held.
func (s *Store) ensure(ctx context.Context, set Set, f File, progress func(Progress)) (string, error) {
	for {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		path, here, err := s.find(set, f)
		if err != nil {
			return "", err
		}
		if here {
			s.hold(path)
			if isFile(path) { // nobody evicted it in between
				return path, nil
			}
			s.drop(path)
			continue
		}
		if err := CheckURL(f.URL); err != nil {
			return "", err
		}
		if err := s.join(ctx, set, f, path, progress); err != nil {
			return "", err
		}
	}
}

func (s *Store) hold(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[path]++
}

func (s *Store) drop(path string) { (&Held{Paths: []string{path}, store: s}).Release() }

func (s *Store) root() (string, error) {
	root, err := filepath.Abs(s.cfg.Root())
	if err != nil {
		return "", fmt.Errorf("find the models folder: %w", err)
	}
	return root, nil
}

// find says where a file is, or where it is to be (engines spec §3). A file of
// the same name that was fetched with another hash is another file.
func (s *Store) find(set Set, f File) (path string, here bool, err error) {
	root, err := s.root()
	if err != nil {
		return "", false, err
	}
	index, err := s.readIndex(root)
	if err != nil {
		return "", false, err
	}
	other := func(path string) bool {
		known, ok := index.entry(root, path)
		return ok && f.wanted() != "" && known.SHA256 != "" && known.SHA256 != f.wanted()
	}
	target := filepath.Join(root, set.folder(), f.Filename)
	if isFile(target) && !other(target) {
		return target, true, nil
	}
	if flat := filepath.Join(root, f.Filename); isFile(flat) && !other(flat) {
		size := f.ApproxBytes
		if info, err := os.Stat(flat); set.Folder == "" || size == 0 || err == nil && uint64(info.Size()) == size {
			return flat, true, nil
		}
		s.cfg.Log.Info("a file of the same name but another size is not used", "file", f.Filename, "model", set.Model)
	}
	if set.Folder != "" && isFile(target) { // another model's: it keeps its place
		own := filepath.Join(root, FolderOf(set.Model), f.Filename)
		return own, isFile(own) && !other(own), nil
	}
	return target, false, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// flight is one download that any number of callers wait for.
type flight struct {
	done    chan struct{} // closed when it is over
	err     error         // set before done is closed
	cancel  context.CancelFunc
	waiting int // guarded by Store.mu; 0 = it is being given up

	mu        sync.Mutex
	listeners map[int]func(Progress)
	next      int
}

func (f *flight) listen(progress func(Progress)) (stop func()) {
	if progress == nil {
		return func() {}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	id := f.next
	f.next++
	f.listeners[id] = progress
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.listeners, id)
	}
}

func (f *flight) tell(p Progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, progress := range f.listeners {
		progress(p)
	}
}

// join waits for the download of a file, and starts it if nobody has.
func (s *Store) join(ctx context.Context, set Set, f File, target string, progress func(Progress)) error {
	s.mu.Lock()
	fl, flying := s.flights[target]
	if flying && fl.waiting == 0 { // it is being given up: wait for the end, then look again
		s.mu.Unlock()
		select {
		case <-fl.done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if !flying {
		inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
		fl = &flight{done: make(chan struct{}), cancel: cancel, listeners: map[int]func(Progress){}}
		s.flights[target] = fl
		go func() { // its last waiter waits for it
			defer cancel()
			err := s.fetch(inner, set, f, target, fl.tell)
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.flights, target)
			fl.err = err
			close(fl.done)
		}()
	}
	fl.waiting++
	s.mu.Unlock()
	stop := fl.listen(progress)
	defer stop()
	select {
	case <-fl.done:
		return fl.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	fl.waiting--
	last := fl.waiting == 0
	s.mu.Unlock()
	if last {
		fl.cancel()
		<-fl.done
	}
	return context.Cause(ctx)
}

// showDownload puts a download into the list of those in flight.
func (s *Store) showDownload(d observe.Download) {
	if s.cfg.Observer == nil {
		return
	}
	s.cfg.Observer.Update(func(list []observe.Download) []observe.Download {
		fresh := make([]observe.Download, 0, len(list)+1)
		found := false
		for _, old := range list {
			if old.Model == d.Model && old.File == d.File {
				old, found = d, true
			}
			fresh = append(fresh, old)
		}
		if !found {
			fresh = append(fresh, d)
		}
		return fresh
	})
}

func (s *Store) hideDownload(d observe.Download) {
	if s.cfg.Observer == nil {
		return
	}
	s.cfg.Observer.Update(func(list []observe.Download) []observe.Download {
		fresh := make([]observe.Download, 0, len(list))
		for _, old := range list {
			if old.Model != d.Model || old.File != d.File {
				fresh = append(fresh, old)
			}
		}
		return fresh
	})
}

// errStall says that a server stopped sending.
var errStall = errors.New("the server sent nothing")

// Limits of a download.
const (
	stallLimit = 60 * time.Second // without a byte
	checkpoint = 10 * time.Second // between two notes of how far the file is good
	tellPeriod = 250 * time.Millisecond
	idleTries  = 5 // in a row that bring no byte
	firstPause = time.Second
	lastPause  = 30 * time.Second
	copyBuffer = 256 << 10
	// writebackStep is how many bytes wait before the disk is asked to take them.
	writebackStep = 4 << 20
	partSuffix    = ".part"
	stateSuffix   = ".part.json"
)
