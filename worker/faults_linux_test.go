package worker

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"studioworker/worker/config"
	"studioworker/worker/disktest"
	"studioworker/worker/engine"
	"studioworker/worker/observe"
	"studioworker/worker/outbox"
	"studioworker/worker/protocol"
	"studioworker/worker/session/sessiontest"
)

// onDisk makes a worker whose config and outbox lie on that disk.
func onDisk(t *testing.T, s *studio, disk string, run runs, tune ...func(*Config)) *fixture {
	t.Helper()
	return prepare(t, nil, run, append(tune, func(c *Config) {
		store, err := config.New(filepath.Join(disk, "config.toml"), config.Default(), c.Log)
		if err == nil {
			err = store.Update(approved(s))
		}
		if err != nil {
			t.Fatal(err)
		}
		c.Store = store
	})...).start(t)
}

// fills writes a result as an engine does, until it is whole or the disk full.
func fills(req engine.Request, size int) (engine.Result, error) {
	f, err := os.Create(filepath.Join(req.Dir, "made.json"))
	if err != nil {
		return engine.Result{}, err
	}
	for part := []byte(strings.Repeat("0", 1<<20)); err == nil && size > 0; size -= len(part) {
		_, err = f.Write(part)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return engine.Result{File: "made.json", Ext: "json"}, err
}

// TestRow05DiskFull: on a disk of 24 MiB no job is taken, and one that was taken
// while there seemed to be room fails with the reason, so that another worker
// gets it. Nothing of it is left, and the next small one is done.
func TestRow05DiskFull(t *testing.T) {
	t.Parallel()
	t.Run("no new offers", func(t *testing.T) {
		t.Parallel()
		disk := disktest.Small(t, 24)
		s := newStudio(t)
		f := onDisk(t, s, disk, func(context.Context, engine.Request) (engine.Result, error) {
			t.Error("the engine was started")
			return engine.Result{}, nil
		})
		c := s.Welcome(t)
		sessiontest.Await(t, c, func(b protocol.Heartbeat) bool { return !b.Capabilities.AutoEnabled })
		c.Send(t, llmOffer("j", "test"))
		got := sessiontest.Await[protocol.Reject](t, c, nil)
		if got.Code != protocol.RejectBusy || !strings.HasPrefix(got.Reason, "worker busy: its disk is almost full: 0 GB free, 1 GB needed") {
			t.Errorf("got %+v", got)
		}
		if a := f.seen.Availability.Get(); a.Block != observe.BlockDiskFull {
			t.Errorf("shown: %+v", a)
		}
		f.counts(t, 0, 0)
	})
	t.Run("while the engine writes", func(t *testing.T) {
		t.Parallel()
		disk := disktest.Small(t, 24)
		s := newStudio(t)
		size, ran := 32<<20, 0
		f := onDisk(t, s, disk, func(ctx context.Context, req engine.Request) (engine.Result, error) {
			if ran++; ran > 1 {
				return answers(ctx, req)
			}
			return fills(req, size)
		}, func(c *Config) { c.OutboxFS = outbox.OS() }) // no look at the room before
		c := s.Welcome(t)
		c.Send(t, llmOffer("large", "test"))
		sessiontest.Await(t, c, accepted("large"))
		got := sessiontest.Await[protocol.Fail](t, c, nil)
		if !got.Retryable || got.JobID != "large" || !strings.Contains(got.Error, "made.json: no space left on device") || strings.Contains(got.Error, disk) {
			t.Errorf("got %+v", got)
		}
		f.job(t, "large", observe.OutcomeFailed)
		until(t, &f.seen.CurrentJob, func(j observe.CurrentJob) bool { return j.ID == "" })
		if left, err := os.ReadDir(filepath.Join(disk, "outbox", "tmp")); err != nil || len(left) != 0 {
			t.Errorf("left in tmp: %v, %v", left, err)
		}
		c.Send(t, llmOffer("small", "test"))
		sessiontest.Await(t, c, accepted("small"))
		if got := sessiontest.Await[protocol.CompleteJSON](t, c, nil); got.JobID != "small" {
			t.Errorf("got %+v", got)
		}
		c.Send(t, protocol.CompleteAck{JobID: "small"})
		f.job(t, "small", observe.OutcomeCompleted)
		f.counts(t, 2, 1)
	})
}

// TestRow08ReadOnlyRemount: a disk that takes no more writes fails the job within
// five seconds, with the reason, and the worker lives on: when the disk is
// mended, so is the worker.
func TestRow08ReadOnlyRemount(t *testing.T) {
	t.Parallel()
	disk := disktest.Small(t, 2048) // of which nothing is used
	remount := func(flags uintptr) {
		t.Helper()
		if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT|flags, "size=2g,mode=700"); err != nil {
			t.Fatal(err)
		}
	}
	s, h := newStudio(t), newHeld()
	f := onDisk(t, s, disk, h.run)
	c := s.Welcome(t)
	c.Send(t, llmOffer("running", "test"))
	sessiontest.Await(t, c, accepted("running"))
	until(t, &f.seen.CurrentJob, func(j observe.CurrentJob) bool { return j.ID == "running" })
	remount(syscall.MS_RDONLY)
	start := time.Now()
	close(h.release)
	for i, id := range []string{"running", "new"} {
		if i > 0 {
			c.Send(t, llmOffer(id, "test"))
			sessiontest.Await(t, c, accepted(id))
		}
		got := sessiontest.Await[protocol.Fail](t, c, nil)
		if got.JobID != id || !got.Retryable || !strings.Contains(got.Error, "read-only file system") || strings.Contains(got.Error, disk) {
			t.Errorf("got %+v", got)
		}
		f.job(t, id, observe.OutcomeFailed)
		until(t, &f.seen.CurrentJob, func(j observe.CurrentJob) bool { return j.ID == "" })
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v to say so", took)
	}
	if n := h.runs.Load(); n > 1 {
		t.Errorf("the engine ran %d times", n)
	}
	remount(0)
	c.Send(t, llmOffer("again", "test"))
	sessiontest.Await(t, c, accepted("again"))
	if got := sessiontest.Await[protocol.CompleteJSON](t, c, nil); got.JobID != "again" {
		t.Errorf("got %+v", got)
	}
	c.Send(t, protocol.CompleteAck{JobID: "again"})
	f.job(t, "again", observe.OutcomeCompleted)
	f.counts(t, int(h.runs.Load()), 1) // one that finds no room for its files is not started
}
