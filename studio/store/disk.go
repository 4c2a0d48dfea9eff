package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/nats-io/nats.go/jetstream"
)

// What the disk must have.
const (
	// reserve is what new jobs leave free, so that those at work can end: this much,
	// or a twentieth of a small disk.
	reserve      = 2 << 30
	reserveShare = 20
	diskEvery    = time.Second // a disk tells nobody that it has room again
	// healRoom is what a server needs to start.
	healRoom = 4 << 20
)

// diskState is whether the disk takes writes.
type diskState struct {
	mu     sync.Mutex
	free   uint64                  // bytes
	least  uint64                  // bytes that new jobs leave free
	broken error                   // why the disk takes no writes
	writes map[*diskWrite]struct{} // that wait for the disk
}

type diskWrite struct{ cancel context.CancelFunc }

// refusal says why nothing can be written now, nil when it can.
func (d *diskState) refusal() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.broken
}

// fail ends the writes that wait and refuses others, until mended.
func (d *diskState) fail(why error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = why
	for w := range d.writes {
		w.cancel()
	}
}

func (d *diskState) mended() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = nil
}

// begin registers a write, unless the disk takes none.
func (d *diskState) begin(cancel context.CancelFunc) (*diskWrite, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		return nil, d.broken
	}
	if d.writes == nil {
		d.writes = map[*diskWrite]struct{}{}
	}
	w := &diskWrite{cancel}
	d.writes[w] = struct{}{}
	return w, nil
}

func (d *diskState) end(w *diskWrite) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.writes, w)
}

// guarded runs a write, for at most limit. It is ErrFull at once while the disk
// is full, and as soon as that shows.
func (s *Store) guarded(ctx context.Context, limit time.Duration, write func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	w, err := s.disk.begin(cancel)
	if err != nil {
		return err
	}
	defer s.disk.end(w)
	if err = write(ctx); err == nil {
		return nil
	}
	if failed, ok := errors.AsType[*jetstream.APIError](err); ok && slices.Contains(fullCodes(), failed.ErrorCode) {
		return errors.Join(ErrFull, err)
	}
	return errors.Join(s.disk.refusal(), err)
}

// fullCodes are the codes of a NATS server that has no room.
func fullCodes() []jetstream.ErrorCode {
	const insufficient, storage, stream = 10023, 10047, 10077 // resources, storage resources, the stream's limit
	return []jetstream.ErrorCode{insufficient, storage, stream}
}

// Room says whether there is room for a new job: ErrFull when the disk is nearly
// full. Jobs that are there already may use what is left.
func (s *Store) Room() error {
	if err := s.disk.refusal(); err != nil {
		return err
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.disk.free < s.disk.least {
		return fmt.Errorf("%w: %s are free, new jobs need %s", ErrFull, humanize.IBytes(s.disk.free), humanize.IBytes(s.disk.least))
	}
	return nil
}

// watch looks at the disk and keeps the marks until ctx ends.
func (s *Store) watch(ctx context.Context) {
	tick, mark := time.NewTicker(diskEvery), time.NewTicker(markEvery)
	defer tick.Stop()
	defer mark.Stop()
	s.look(ctx)
	for {
		select {
		case <-ctx.Done():
			s.keepMarks(context.WithoutCancel(ctx))
			return
		case <-mark.C:
			s.keepMarks(ctx)
		case <-tick.C:
			s.look(ctx)
		}
	}
}

// look measures the disk. When the server could not write, it says so to all
// who wait; when there is room again, it starts the server anew: one that met a
// full disk never writes again.
func (s *Store) look(ctx context.Context) {
	free, total, err := space(s.cfg.Dir)
	if err != nil {
		s.log.Warn("the disk cannot be measured", "error", err)
		return
	}
	s.disk.mu.Lock()
	s.disk.free, s.disk.least = free, min(reserve, total/reserveShare)
	broken := s.disk.broken != nil
	s.disk.mu.Unlock()
	if !broken {
		err := s.local.health()
		if err == nil || ctx.Err() != nil {
			return
		}
		s.log.Error("the store cannot write", "error", err, "free_bytes", free)
		if free < max(healRoom, total/reserveShare) {
			s.disk.fail(ErrFull)
			return
		}
		s.disk.fail(errors.New("the store cannot write and restarts"))
	}
	if free < healRoom {
		return
	}
	s.local.shutdown()
	if err := s.local.start(); err != nil {
		s.log.Error("the store could not be restarted, trying again", "error", err)
		return
	}
	if err := s.await(ctx); err != nil {
		s.log.Error("the store does not answer after its restart, trying again", "error", err)
		return
	}
	s.disk.mended()
	s.log.Info("the store works again", "free_bytes", free)
}

// await returns when the store answers.
func (s *Store) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	for {
		err := s.local.health()
		if err == nil {
			if _, err = s.js.AccountInfo(ctx); err == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(reconnectWait):
		}
	}
}
