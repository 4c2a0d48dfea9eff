package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
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
	mu      sync.Mutex
	free    uint64          // bytes
	least   uint64          // bytes that new jobs leave free
	working context.Context //nolint:containedctx // ends when the disk takes no writes, and ends the writes that wait
	fail    context.CancelCauseFunc
}

// refusal says why nothing can be written now, nil when it can.
func (d *diskState) refusal() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return context.Cause(d.working)
}

// guarded runs a write, for at most limit. It is ErrFull at once while the disk
// is full, and as soon as that shows.
func (s *Store) guarded(ctx context.Context, limit time.Duration, write func(context.Context) error) error {
	s.disk.mu.Lock()
	working := s.disk.working
	s.disk.mu.Unlock()
	if err := context.Cause(working); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(working, cancel)()
	err := write(ctx)
	if err != nil && working.Err() != nil {
		return errors.Join(context.Cause(working), err)
	}
	return err
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
	broken := s.disk.working.Err() != nil
	fail := s.disk.fail
	s.disk.mu.Unlock()
	if !broken {
		err := s.local.health()
		if err == nil || ctx.Err() != nil {
			return
		}
		s.log.Error("the store cannot write", "error", err, "free_bytes", free)
		if free < max(healRoom, total/reserveShare) {
			fail(ErrFull)
			return
		}
		fail(errors.New("the store cannot write and restarts"))
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
	s.disk.mu.Lock()
	s.disk.working, s.disk.fail = context.WithCancelCause(context.Background())
	s.disk.mu.Unlock()
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
