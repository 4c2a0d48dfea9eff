package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/pelletier/go-toml/v2"

	"studioworker/worker/atomicfile"
)

// maxFile bounds what is read as a config, in bytes.
const maxFile = 1 << 20

// Errors of reading. Callers ask with errors.Is.
var (
	ErrMissing = errors.New("there is no config file")
	ErrDamaged = errors.New("the config file cannot be read as TOML")
	// ErrNotChosen: with a first save the file would be there, and the default studio be asked.
	ErrNotChosen = errors.New("choose a studio first: `studio-worker register --api-base-url ADDRESS`, or in the window")
	ErrMode      = errors.New("the config file holds credentials and others can read it")
)

// file is a config file in memory: its known keys and the rest.
type file struct {
	Config
	extra map[string]any // keys we do not know; kept at the next save
}

// Store is the config file of one worker. It is safe for concurrent use.
type Store struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	current file
	stamp   stamp
	unread  bool // what lies there now cannot be used; current is what was there before
}

// stamp tells whether a file was changed since it was read.
type stamp struct {
	size int64
	mod  time.Time
}

// Open reads the config at path. A damaged file is set aside as
// NAME.corrupt-TIME when a last good copy exists, which then takes its place;
// without one Open fails and leaves the file alone. Its errors are ErrMissing,
// ErrDamaged, ErrMode, or name the key that is wrong; none quotes the file.
func Open(path string, log *slog.Logger) (*Store, error) {
	s := &Store{path: path, log: log}
	err := s.load()
	if errors.Is(err, ErrDamaged) {
		err = s.recover(err)
	}
	if err != nil {
		return nil, err
	}
	s.keepGood()
	s.warn()
	return s, nil
}

// New returns a store for a file that may not exist yet; nothing is written
// before the first Update. An existing file is opened.
func New(path string, first Config, log *slog.Logger) (*Store, error) {
	s, err := Open(path, log)
	if errors.Is(err, ErrMissing) {
		return &Store{path: path, log: log, current: file{Config: first}}, nil
	}
	return s, err
}

// Path returns the path of the file.
func (s *Store) Path() string { return s.path }

// Chosen says whether there is a file, that is, whether the person has chosen a
// studio. Before that nobody is called.
func (s *Store) Chosen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	return s.stamp != stamp{}
}

// Get returns the config in force. It reads the file again when another process
// changed it; a file that is damaged since then is reported once and the values
// before it stay in force.
func (s *Store) Get() Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	return s.current.Config
}

func (s *Store) refresh() {
	now, err := stampOf(s.path)
	if err != nil || now == s.stamp {
		return
	}
	if err := s.load(); err != nil {
		s.stamp, s.unread = now, true // once is enough
		s.log.Warn("config file was changed and cannot be used", "path", s.path, "error", err)
	}
}

// Update changes the config and saves it: read afresh, changed, checked, saved,
// then in force. When any step fails nothing changes. Refused is what the change makes
// wrong; what was wrong before stays as it is. A file that somebody has changed and that
// cannot be used is set aside first, as NAME.corrupt-TIME.
func (s *Store) Update(change func(*Config)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return fmt.Errorf("create the config folder: %w", err)
	}
	// Another process may be at it too.
	lock := flock.New(s.path + ".lock")
	if err := lock.Lock(); err != nil {
		return fmt.Errorf("lock the config: %w", err)
	}
	defer func() { _ = lock.Unlock() }() // the file is closed either way
	s.refresh()
	next := s.current
	change(&next.Config)
	for _, bad := range next.newProblems(s.current.Config) {
		return bad
	}
	data, err := next.encode()
	if err != nil {
		return fmt.Errorf("encode the config: %w", err)
	}
	if s.unread { // somebody's work
		aside, err := s.setAside("corrupt")
		if err != nil {
			return err
		}
		s.log.Error("config file could not be used and was set aside: what was in force before is saved", "kept_as", aside, "path", s.path)
	}
	if err := atomicfile.Write(s.path, data, 0o600); err != nil {
		return fmt.Errorf("save the config: %w", err)
	}
	s.current, s.unread = next, false
	if now, err := stampOf(s.path); err == nil {
		s.stamp = now
	}
	s.keepGood()
	return nil
}

func (s *Store) load() error {
	now, err := stampOf(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w at %s", ErrMissing, s.path)
	}
	if err != nil {
		return fmt.Errorf("look at the config: %w", err)
	}
	read, err := readFile(s.path)
	if err != nil {
		return err
	}
	s.current, s.stamp, s.unread = read, now, false
	return nil
}

func readFile(path string) (file, error) {
	f, err := os.Open(path) // #nosec G304 -- the person names the file
	if err != nil {
		return file{}, fmt.Errorf("open the config: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return file{}, fmt.Errorf("read the config: %w", err)
	}
	read, err := decode(data)
	if err != nil {
		return file{}, fmt.Errorf("%s: %w", path, err)
	}
	info, err := f.Stat()
	if err != nil {
		return file{}, fmt.Errorf("look at the config: %w", err)
	}
	if wide := info.Mode().Perm()&0o077 != 0; wide && read.holdsSecret() && runtime.GOOS != "windows" {
		return file{}, fmt.Errorf("%w: run `chmod 600 %s`", ErrMode, path)
	}
	return read, nil
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	return stamp{size: info.Size(), mod: info.ModTime()}, nil
}

// recover puts the last good copy in the place of a damaged file.
func (s *Store) recover(damage error) error {
	good, err := readFile(s.goodPath())
	if err != nil {
		return damage // nothing to go back to: the person must mend the file
	}
	aside := s.asideName("corrupt")
	if err := os.Rename(s.path, aside); err != nil {
		return errors.Join(damage, fmt.Errorf("set the damaged config aside: %w", err))
	}
	data, err := good.encode()
	if err != nil {
		return errors.Join(damage, err)
	}
	if err := atomicfile.Write(s.path, data, 0o600); err != nil {
		return errors.Join(damage, fmt.Errorf("restore the last good config: %w", err))
	}
	s.log.Error("config file was damaged: the last good copy is in use", "kept_as", aside, "path", s.path)
	return s.load()
}

// SetAside keeps a copy of the file as it is, as NAME.REASON-TIME, and returns
// where. The copy is as private as the file.
func (s *Store) SetAside(reason string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.setAside(reason)
}

// asideName is the path for a copy that is set aside now. It takes no other's place.
func (s *Store) asideName(reason string) string {
	first := fmt.Sprintf("%s.%s-%s", s.path, reason, time.Now().UTC().Format("20060102T150405Z"))
	name := first
	for n := 2; ; n++ {
		if _, err := os.Lstat(name); err != nil { // free, or nothing can be written there anyway
			return name
		}
		name = fmt.Sprintf("%s-%d", first, n)
	}
}

func (s *Store) setAside(reason string) (string, error) {
	data, err := os.ReadFile(s.path)
	if err != nil {
		return "", fmt.Errorf("read the config: %w", err)
	}
	aside := s.asideName(reason)
	if err := atomicfile.Write(aside, data, 0o600); err != nil {
		return "", fmt.Errorf("keep a copy of the config: %w", err)
	}
	return aside, nil
}

func (s *Store) goodPath() string { return s.path + ".last-good" }

// keepGood keeps a copy of what is in force. It is a help for a bad day, so a
// failure is only said.
func (s *Store) keepGood() {
	data, err := s.current.encode()
	if err == nil {
		if old, readErr := os.ReadFile(s.goodPath()); readErr == nil && bytes.Equal(old, data) {
			return
		}
		err = atomicfile.Write(s.goodPath(), data, 0o600)
	}
	if err != nil {
		s.log.Warn("no copy of the config could be kept", "error", err)
	}
}

// warn says which keys of the file nobody knows, and which have values that an edit would
// not be allowed to give them.
func (s *Store) warn() {
	for _, bad := range s.current.problems() {
		s.log.Warn("a value in the config is wrong: change it", "key", bad.Key, "error", bad.Err)
	}
	for _, key := range slices.Sorted(maps.Keys(s.current.extra)) {
		s.log.Warn("unknown key in the config is kept but has no effect", "key", key, "did_you_mean", nearest(key))
	}
}

// dropped are keys of older versions: ignored, and gone at the next save
// (§11.1).
func dropped() []string {
	return []string{"engine", "engines", "auto_enabled", "label", "auto_start", "bootstrap_token"}
}

// decode reads the text of a config file. Its errors never quote the text, but
// for an entry of hours.
func decode(data []byte) (file, error) {
	if len(data) > maxFile {
		return file{}, fmt.Errorf("%w: larger than %d bytes", ErrDamaged, maxFile)
	}
	var all map[string]any
	if err := toml.Unmarshal(data, &all); err != nil {
		return file{}, fmt.Errorf("%w%s", ErrDamaged, position(err))
	}
	for _, key := range []string{"api_base_url", "vram_threshold_gb"} {
		if _, ok := all[key]; !ok {
			return file{}, fmt.Errorf("the key %s is missing", key)
		}
	}
	read := file{Config: Default()}
	if err := toml.Unmarshal(data, &read.Config); err != nil {
		return file{}, fmt.Errorf("a key has a value of the wrong type%s", position(err))
	}
	// With these, jobs would be taken that must not be. The rest can be done without.
	for _, bad := range []KeyError{
		{"vram_threshold_gb", read.checkThreshold()}, {"weekly_hours", checkHours(read.WeeklyHours)}, {"auto_update_hours", checkHours(read.AutoUpdateHours)},
	} {
		if bad.Err != nil {
			return file{}, &bad
		}
	}
	if strings.TrimSpace(read.ModelsRoot) == "" {
		read.ModelsRoot = defaultModels() // as an absent key
	}
	read.ModelsRoot, read.CAFile = expandHome(read.ModelsRoot), expandHome(read.CAFile)
	for _, list := range []*[]string{&read.AutoUpdateHours, &read.WeeklyHours, &read.AllowInputHosts} {
		if len(*list) == 0 {
			*list = nil // an empty list is an absent key
		}
	}
	for _, key := range slices.Concat(Keys(), dropped()) {
		delete(all, key)
	}
	read.extra = all
	return read, nil
}

// position says where a TOML error is, without quoting anything.
func position(err error) string {
	bad, ok := errors.AsType[*toml.DecodeError](err)
	if !ok {
		return ""
	}
	row, column := bad.Position()
	if key := strings.Join(bad.Key(), "."); slices.Contains(Keys(), key) {
		return fmt.Sprintf(" (key %s, line %d)", key, row)
	}
	return fmt.Sprintf(" (line %d, column %d)", row, column)
}

func (f file) encode() ([]byte, error) {
	data, err := toml.Marshal(f.Config)
	if err != nil || len(f.extra) == 0 {
		return data, err
	}
	rest, err := toml.Marshal(f.extra) // last: it may hold tables
	return append(data, rest...), err
}

// Show returns the config as TOML with its secrets masked.
func (s *Store) Show() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	// Unknown keys may hold anything, so they are not shown.
	data, err := file{Config: s.current.Masked()}.encode()
	return string(data), err
}

// Keys lists the keys of the config, in file order.
func Keys() []string {
	t := reflect.TypeFor[Config]()
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i], _, _ = strings.Cut(t.Field(i).Tag.Get("toml"), ",")
	}
	return keys
}

// nearest returns the known key that differs from key in the fewest letters.
func nearest(key string) string {
	return slices.MinFunc(Keys(), func(a, b string) int { return cmp.Compare(distance(key, a), distance(key, b)) })
}

// distance is the Levenshtein distance in bytes. A key much longer than any of
// ours is nobody's typing error.
func distance(a, b string) int {
	const longest = 64
	if len(a) > longest {
		return math.MaxInt
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
