package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"
)

// ErrLocked says that another studio has the folder.
var ErrLocked = errors.New("another studio uses this folder")

const (
	jobShards   = 4 // by id hash; one stream writes one message at a time
	openLimit   = 30 * time.Second
	opLimit     = 10 * time.Second // one record
	maxMemory   = 64 << 20
	maxRecord   = 8 << 20 // a 1 MiB task whose every character is escaped, and room
	defaultDisk = 256 << 30
	defaultRAM  = 400 << 20
)

// Config says where and how much to keep. Zero limits mean the defaults.
type Config struct {
	Dir         string // created with mode 0700
	MaxStore    int64  // bytes on disk; default 256 GiB
	UploadBytes int64  // memory for results on their way in; default 400 MiB, so four at a time
	Log         *slog.Logger
}

// Store is an open folder. Its methods may be called from any goroutine.
type Store struct {
	Jobs          *Bucket[Job]
	Workers       *Bucket[Worker]
	Registrations *Bucket[Registration]
	Models        *Bucket[Model]
	Inputs        *Bucket[Input]
	Keys          *Bucket[Key]

	lock    *flock.Flock
	server  *server.Server
	conn    *nats.Conn
	js      jetstream.JetStream
	objects jetstream.ObjectStore
	budget  int64
	uploads *semaphore.Weighted
	reads   *semaphore.Weighted
}

// Open locks the folder, starts the server on it and removes what unfinished
// uploads left behind. A second call on the same folder ends in ErrLocked.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.MaxStore <= 0 {
		cfg.MaxStore = defaultDisk
	}
	if cfg.UploadBytes < uploadWeight {
		cfg.UploadBytes = defaultRAM
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the data folder: %w", err)
	}
	s := &Store{
		lock:    flock.New(filepath.Join(cfg.Dir, "studio.lock"), flock.SetPermissions(0o600)),
		budget:  cfg.UploadBytes,
		uploads: semaphore.NewWeighted(cfg.UploadBytes),
		reads:   semaphore.NewWeighted(cfg.UploadBytes),
	}
	locked, err := s.lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	if !locked {
		return nil, fmt.Errorf("%w: %s", ErrLocked, cfg.Dir)
	}
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	if err := s.start(ctx, cfg); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// options are the server's. Nothing in Config reaches SyncAlways.
func options(cfg Config) *server.Options {
	return &server.Options{
		ServerName:         "studio",
		StoreDir:           filepath.Join(cfg.Dir, "jetstream"),
		JetStream:          true,
		SyncAlways:         true,
		DontListen:         true,
		NoSigs:             true,
		JetStreamMaxMemory: maxMemory,
		JetStreamMaxStore:  cfg.MaxStore,
		MaxPayload:         maxRecord,
	}
}

func (s *Store) start(ctx context.Context, cfg Config) error {
	opts := options(cfg)
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("configure the store: %w", err)
	}
	s.server = srv
	srv.SetLoggerV2(logger{log: cfg.Log}, false, false, false)
	srv.Start()
	if !srv.ReadyForConnections(openLimit) {
		return errors.New("start the store: not ready in time")
	}
	if s.conn, err = nats.Connect("", nats.InProcessServer(srv), nats.Name("studio"), nats.MaxReconnects(-1)); err != nil {
		return fmt.Errorf("connect to the store: %w", err)
	}
	if s.js, err = jetstream.New(s.conn); err != nil {
		return fmt.Errorf("connect to the store: %w", err)
	}
	shards := make([]string, jobShards)
	for i := range shards {
		shards[i] = fmt.Sprintf("jobs-%d", i)
	}
	if s.Jobs, err = openBucket[Job](ctx, s.js, shards...); err != nil {
		return err
	}
	if s.Workers, err = openBucket[Worker](ctx, s.js, "workers"); err != nil {
		return err
	}
	if s.Registrations, err = openBucket[Registration](ctx, s.js, "registrations"); err != nil {
		return err
	}
	if s.Models, err = openBucket[Model](ctx, s.js, "models"); err != nil {
		return err
	}
	if s.Inputs, err = openBucket[Input](ctx, s.js, "inputs"); err != nil {
		return err
	}
	if s.Keys, err = openBucket[Key](ctx, s.js, "keys"); err != nil {
		return err
	}
	s.objects, err = s.js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: resultBucket, Storage: jetstream.FileStorage})
	if err != nil {
		return fmt.Errorf("open the results: %w", err)
	}
	return nil
}

// Healthy says whether the store works; the error says why not.
func (s *Store) Healthy() error {
	if !s.conn.IsConnected() {
		return errors.New("the store is not connected")
	}
	if h := s.server.Healthz(nil); h.Error != "" {
		return fmt.Errorf("the store is not well: %s", h.Error)
	}
	return nil
}

// Close stops the server, waits for it, and gives the folder back. It may
// follow an Open that failed.
func (s *Store) Close() error {
	if s.conn != nil {
		s.conn.Close()
	}
	if s.server != nil {
		s.server.Shutdown()
		s.server.WaitForShutdown()
	}
	if err := s.lock.Close(); err != nil {
		return fmt.Errorf("unlock the data folder: %w", err)
	}
	return nil
}

// logger hands the server's own words on. It speaks in sentences, so they are
// an attribute.
type logger struct{ log *slog.Logger }

func (l logger) write(level slog.Level, format string, v []any) {
	l.log.Log(context.Background(), level, "store server", "text", strings.TrimSpace(fmt.Sprintf(format, v...)))
}

// The server's levels. Its notices are of no interest to a studio's operator.
func (l logger) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }
func (l logger) Debugf(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }
func (l logger) Tracef(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }
func (l logger) Warnf(format string, v ...any)   { l.write(slog.LevelWarn, format, v) }
func (l logger) Errorf(format string, v ...any)  { l.write(slog.LevelError, format, v) }
func (l logger) Fatalf(format string, v ...any)  { l.write(slog.LevelError, format, v) }
