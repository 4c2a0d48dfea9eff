package app

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sync/errgroup"
)

// Limits of the instance socket.
const (
	instanceTime = 5 * time.Second // one question and its answer
	maxQuestion  = 4 << 10         // bytes
	maxAnswer    = 64 << 10        // bytes
	maxSocket    = 100             // bytes of a socket's path that every system takes
)

// Questions to a running instance.
const (
	askShow   = "show"
	askStatus = "status"
	askPause  = "pause"
	askResume = "resume"
	askQuit   = "quit"
	askReload = "reload" // the config was changed by a command
	askLogs   = "logs"
)

// question is what a command asks a running instance.
type question struct {
	Command string `json:"command"`
	Job     string `json:"job,omitempty"`   // for askLogs; empty = all lines
	Until   string `json:"until,omitempty"` // for askPause: when it ends by itself, RFC 3339; empty = until resumed
	Key     string `json:"key,omitempty"`   // for askSaveKept and askDiscardKept
	Path    string `json:"path,omitempty"`  // for askSaveKept: an absolute path
}

// limit is how long the answer to a question may take.
func (q question) limit() time.Duration {
	switch q.Command {
	case askSaveKept:
		return saveTime
	case askCheckUpdate:
		return checkTime
	}
	return instanceTime
}

// answer is what a running instance answers.
type answer struct {
	Error  string         `json:"error,omitempty"`
	PID    int            `json:"pid"`
	Window bool           `json:"window"` // the instance has one
	Status *runningStatus `json:"status,omitempty"`
	Update *updateStatus  `json:"update,omitempty"`
	Lines  string         `json:"lines,omitempty"` // for askLogs and askKept; each ends with a newline
	More   int            `json:"more,omitempty"`  // for askKept: how many did not fit
}

// runningStatus is the part of a status that only the running instance knows.
type runningStatus struct {
	Session      string `json:"session"`
	Availability string `json:"availability"` // the reason why no jobs are taken; empty = they are
	Sentence     string `json:"sentence"`     // the same in words
	Job          string `json:"job,omitempty"`
	Waiting      int    `json:"waiting"` // results in the outbox
	Version      string `json:"version,omitempty"`
	Skew         string `json:"skew,omitempty"` // how far the studio's clock is ahead, when that is much
}

var errNotRunning = errors.New("no worker is running with this config; `studio-worker run` starts one")

// instance is the one running program of a config. The lock decides who that
// is; the socket is how others talk to it.
type instance struct {
	lock     *flock.Flock
	listener net.Listener
	socket   string
}

// claimInstance makes this process the instance of the config, or returns false
// when another one is.
func claimInstance(ctx context.Context, configPath string) (*instance, bool, error) {
	if err := os.MkdirAll(filepath.Dir(configPath), 0o700); err != nil {
		return nil, false, fmt.Errorf("create the config folder: %w", err)
	}
	lock := flock.New(filepath.Join(filepath.Dir(configPath), "daemon.lock"))
	held, err := lock.TryLock()
	if err != nil {
		return nil, false, fmt.Errorf("lock the config folder: %w", err)
	}
	if !held {
		return nil, false, nil
	}
	socket, err := socketPath(configPath)
	if err != nil {
		return nil, false, errors.Join(err, lock.Unlock())
	}
	// Only the holder of the lock removes what a killed instance left.
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, false, errors.Join(fmt.Errorf("remove the old socket: %w", err), lock.Unlock())
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", socket)
	if err == nil {
		err = os.Chmod(socket, 0o600)
	}
	if err != nil {
		return nil, false, errors.Join(fmt.Errorf("open the instance socket: %w", err), lock.Unlock())
	}
	return &instance{lock: lock, listener: listener, socket: socket}, true, nil
}

// release ends the claim.
func (i *instance) release() error {
	return errors.Join(ignoreClosed(i.listener.Close()), i.lock.Unlock())
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// socketPath returns the socket beside the config, or one in the person's
// runtime folder when that path is too long for a socket.
func socketPath(configPath string) (string, error) {
	path := filepath.Join(filepath.Dir(configPath), "daemon.sock")
	if len(path) <= maxSocket {
		return path, nil
	}
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("studio-worker-%d", os.Getuid()))
		if err := ownFolder(dir); err != nil {
			return "", err
		}
	} else if err := os.MkdirAll(dir, 0o700); err != nil { // #nosec G703 -- the person's own environment names it
		return "", fmt.Errorf("create the socket's folder: %w", err)
	}
	sum := sha256.Sum256([]byte(path))
	return filepath.Join(dir, "studio-worker-"+hex.EncodeToString(sum[:8])+".sock"), nil
}

// ownFolder makes a folder for this account alone. Where everybody may write, another
// account may have made it before: its socket would not be ours.
func ownFolder(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create the socket's folder: %w", err)
	}
	info, err := os.Lstat(dir)
	if err == nil && !info.IsDir() {
		err = errors.New("it is no folder")
	}
	if err == nil {
		err = os.Chmod(dir, 0o700) //nolint:gosec // G302: a folder. Only its owner can
	}
	if err != nil {
		return fmt.Errorf("%s cannot be the socket's folder; remove it, or set XDG_RUNTIME_DIR: %w", dir, err)
	}
	return nil
}

// serve answers questions until ctx ends.
func (i *instance) serve(ctx context.Context, reply func(question) answer) error {
	stop := context.AfterFunc(ctx, func() { _ = i.listener.Close() }) // wakes Accept
	defer stop()
	var g errgroup.Group
	g.SetLimit(8)
	for {
		conn, err := i.listener.Accept()
		if err != nil {
			waitErr := g.Wait()
			if ctx.Err() != nil {
				return waitErr
			}
			return errors.Join(fmt.Errorf("instance socket: %w", err), waitErr)
		}
		g.Go(func() error {
			defer func() { _ = conn.Close() }()
			answerOne(conn, reply)
			return nil
		})
	}
}

// answerOne reads one question and answers it. Whoever sends nonsense gets an
// error or nothing.
func answerOne(conn net.Conn, reply func(question) answer) {
	if err := conn.SetDeadline(time.Now().Add(instanceTime)); err != nil {
		return
	}
	var q question
	var a answer
	line, err := bufio.NewReader(io.LimitReader(conn, maxQuestion)).ReadBytes('\n')
	switch {
	case err != nil:
		a.Error = "the question is too long or not whole"
	case json.Unmarshal(line, &q) != nil:
		a.Error = "the question is not JSON"
	default:
		if err := conn.SetDeadline(time.Now().Add(q.limit())); err != nil {
			return
		}
		a = reply(q)
	}
	_ = json.NewEncoder(conn).Encode(a) // the asker may be gone
}

// ask puts a command to the running instance of a config. Its error is
// errNotRunning when there is none.
func ask(ctx context.Context, configPath, command string) (answer, error) {
	return askMore(ctx, configPath, question{Command: command})
}

// askMore is ask for a command with more to it.
func askMore(ctx context.Context, configPath string, q question) (answer, error) {
	var a answer
	socket, err := socketPath(configPath)
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(ctx, q.limit())
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if errors.Is(err, fs.ErrPermission) {
		return a, fmt.Errorf("the worker of this config is another account's; use this command as that account: %w", err)
	}
	if err != nil {
		return a, errNotRunning
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(q.limit())); err != nil {
		return a, err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // wakes what waits
	if err := json.NewEncoder(conn).Encode(q); err != nil {
		return a, fmt.Errorf("ask the running worker: %w", err)
	}
	if err := json.NewDecoder(io.LimitReader(conn, maxAnswer)).Decode(&a); err != nil {
		return a, fmt.Errorf("the running worker gave no answer: %w", err)
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}
