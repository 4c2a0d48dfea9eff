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

// Errors of the store as a whole.
var (
	// ErrLocked: another studio has the folder.
	ErrLocked = errors.New("another studio uses this folder")
	// ErrFull: the disk has no room. It ends by itself when there is room again.
	ErrFull = errors.New("the store is full: free some space on the disk of the studio's data")
)

const (
	jobShards   = 4 // by id hash; one stream writes one message at a time
	openLimit   = 30 * time.Second
	opLimit     = 10 * time.Second // one record
	healthLimit = 2 * time.Second
	maxMemory   = 64 << 20
	maxRecord   = 8 << 20 // a 1 MiB task whose every character is escaped, and room
	defaultDisk = 256 << 30
	defaultRAM  = 400 << 20
)

// Config says where and how much to keep. Zero limits mean the defaults.
type Config struct {
	Dir          string   // created with mode 0700
	MaxStore     int64    // bytes on disk; default 256 GiB
	UploadBytes  int64    // memory for results on their way in; default 400 MiB, so four at a time
	AcceptDamage bool     // Verify goes on with what is left
	Cluster      *Cluster // nil: a server inside this process, on Dir
	Log          *slog.Logger
}

// Store is an open folder. Its methods may be called from any goroutine.
type Store struct {
	Jobs          *Bucket[Job]
	Workers       *Bucket[Worker]
	Registrations *Bucket[Registration]
	Models        *Bucket[Model]
	Audit         *Audit
	Inputs        *Bucket[Input]
	Keys          *Bucket[Key]
	Webhooks      *Bucket[Webhook]

	cfg     Config
	log     *slog.Logger
	lock    *flock.Flock
	local   *local
	conn    *nats.Conn
	js      jetstream.JetStream
	kvs     []jetstream.KeyValue // of all buckets
	objects jetstream.ObjectStore
	budget  int64
	uploads *semaphore.Weighted
	reads   *semaphore.Weighted
	disk    diskState
	marks   marks
	stop    context.CancelFunc // ends watch
	watched chan struct{}      // closed when watch has ended

	durability string       // of a cluster, in words
	ask        func() error // whether most servers of a cluster work
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
		cfg: cfg, log: cfg.Log,
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
	limit, begin := openLimit, s.start
	if cfg.Cluster != nil {
		limit, begin = clusterLimit, s.join
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := begin(ctx); err != nil {
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

// start runs the server on the folder and connects to it.
func (s *Store) start(ctx context.Context) (err error) {
	cfg := s.cfg
	s.local = &local{opts: options(cfg), log: cfg.Log}
	if err := s.local.start(); err != nil {
		return err
	}
	s.conn, err = nats.Connect("", nats.InProcessServer(s.local), nats.Name("studio"), nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(0, 0))
	if err != nil {
		return fmt.Errorf("connect to the store: %w", err)
	}
	if s.js, err = jetstream.New(s.conn); err != nil {
		return fmt.Errorf("connect to the store: %w", err)
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	if err := s.marks.load(cfg.Dir); err != nil {
		return err
	}
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop, s.watched = stop, make(chan struct{})
	go func() {
		defer close(s.watched)
		s.watch(watch)
	}()
	return nil
}

// open opens the buckets, and makes those that are not there yet.
func (s *Store) open(ctx context.Context) (err error) {
	shards := make([]string, jobShards)
	for i := range shards {
		shards[i] = fmt.Sprintf("jobs-%d", i)
	}
	if s.Jobs, err = openBucket[Job](ctx, s, shards...); err != nil {
		return err
	}
	s.Jobs.parse = new(sources).parseJob
	if s.Workers, err = openBucket[Worker](ctx, s, "workers"); err != nil {
		return err
	}
	if s.Registrations, err = openBucket[Registration](ctx, s, "registrations"); err != nil {
		return err
	}
	if s.Models, err = openBucket[Model](ctx, s, "models"); err != nil {
		return err
	}
	if s.Inputs, err = openBucket[Input](ctx, s, "inputs"); err != nil {
		return err
	}
	if s.Keys, err = openBucket[Key](ctx, s, "keys"); err != nil {
		return err
	}
	if s.Webhooks, err = openBucket[Webhook](ctx, s, "webhooks"); err != nil {
		return err
	}
	copies := 1
	if s.local == nil {
		copies = replicas
	}
	if s.Audit, err = openAudit(ctx, s.js, copies); err != nil {
		return err
	}
	if s.local == nil {
		s.objects, err = s.openSharedResults(ctx)
	} else {
		s.objects, err = s.js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: resultBucket, Storage: jetstream.FileStorage})
	}
	if err != nil {
		return fmt.Errorf("open the results: %w", err)
	}
	return nil
}

// streams names all streams.
func (s *Store) streams() []string {
	names := []string{resultStream}
	for _, kv := range s.kvs {
		names = append(names, stream(kv))
	}
	return names
}

// Healthy says whether the store works; the error says why not.
func (s *Store) Healthy() error {
	if err := s.disk.refusal(); err != nil {
		return err
	}
	if !s.conn.IsConnected() {
		return errors.New("the store is not connected")
	}
	if s.local == nil {
		return s.ask()
	}
	if err := s.local.health(); err != nil {
		return fmt.Errorf("the store is not well: %w", err)
	}
	return nil
}

// Close stops the server, waits for it, and gives the folder back. It may
// follow an Open that failed.
func (s *Store) Close() error {
	if s.stop != nil {
		s.stop()
		<-s.watched
	}
	if s.conn != nil {
		s.conn.Close()
	}
	if s.local != nil {
		s.local.shutdown()
	}
	s.disk.fail(errors.New("the store is closed"))
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
