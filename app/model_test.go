//go:build !windows

package app

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"studioworker/studio"
	"studioworker/studio/client"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// Bounds of the random sequences.
const (
	sequences   = 500
	labs        = 5 // that share them, side by side
	stepsMost   = 10
	attemptsMax = 3 // the studio's default
	moment      = 15 * time.Millisecond
)

// modelJob is a job as the model sees it.
type modelJob struct {
	id       string
	restarts int          // of the worker since it was queued
	asked    bool         // to be cancelled, and a worker was to stop it
	must     client.State // it had ended so when it was to be cancelled; empty = it had not
}

// allows says whether the job may end in the state, after so many runs of the
// engine.
func (j modelJob) allows(state client.State, runs int) error {
	switch {
	case j.must != "" && state != j.must:
		return fmt.Errorf("it was %s before", j.must)
	case state == client.Cancelled && j.must == "" && !j.asked:
		return errors.New("nobody cancelled it")
	case state == client.Failed && j.restarts < attemptsMax:
		return fmt.Errorf("its worker was restarted only %d times", j.restarts)
	case !state.Final():
		return errors.New("it has not ended")
	case state == client.Done && runs == 0:
		return errors.New("the engine never ran")
	case runs > 1+j.restarts:
		return fmt.Errorf("the engine ran %d times, with %d restarts", runs, j.restarts)
	}
	return nil
}

// sequence is one random life of a lab.
type sequence struct {
	*lab
	tb   testing.TB
	rng  *rand.Rand
	jobs []*modelJob
	said []string // what was done
}

// TestRandomInterleavings drives a worker and its studio through random
// sequences of drop, pause, resume, cancel and restart. Each job ends exactly
// once, in a state that the model allows, and a dropped connection never makes
// the engine run twice.
func TestRandomInterleavings(t *testing.T) {
	for n := range labs {
		t.Run(fmt.Sprint("lab ", n), func(t *testing.T) {
			t.Parallel()
			l := newLab(t, func(c *studio.Config) { c.CancelLimit = 300 * time.Millisecond })
			var all []*modelJob
			ends := map[string]client.State{}
			for seed := n; seed < sequences; seed += labs {
				s := &sequence{lab: l, tb: t, rng: rand.New(rand.NewPCG(uint64(seed), 5))}
				s.run(uint64(seed), ends)
				if t.Failed() {
					return
				}
				all = append(all, s.jobs...)
			}
			// What has ended stays as it ended, also over a restart.
			l.restartStudio(t)
			for _, j := range all {
				if job, err := l.operator.Get(t.Context(), j.id); err != nil || job.State != ends[j.id] {
					t.Errorf("job %s was %s and is %s: %v", j.id, ends[j.id], job.State, err)
				}
			}
		})
	}
}

func (l *lab) restartStudio(tb testing.TB) {
	tb.Helper()
	l.stopStudio(tb)
	l.http.CloseIdleConnections()
	l.startStudio(tb)
	l.worker.Reload()
}

func (s *sequence) run(seed uint64, ends map[string]client.State) {
	s.submit()
	for range 2 + s.rng.IntN(stepsMost-1) {
		s.step()
	}
	s.worker.Resume()
	for _, j := range s.jobs {
		s.engine.release(j.id)
	}
	for _, j := range s.jobs {
		end, err := s.outcome(j)
		if err == nil {
			err = j.allows(end, s.engine.ran(j.id))
		}
		if err != nil {
			s.tb.Errorf("seed %d: job %s ended as %q: %v\n%s", seed, j.id, end, err, strings.Join(s.said, "\n"))
			return
		}
		ends[j.id] = end
	}
	ctx, cancel := context.WithTimeout(s.tb.Context(), patience)
	defer cancel()
	for o := range s.seen.Outbox.Watch(ctx) {
		if o.Count == 0 {
			return
		}
	}
	s.tb.Errorf("seed %d: %d results wait\n%s", seed, s.seen.Outbox.Get().Count, strings.Join(s.said, "\n"))
}

// outcome follows the job to its end.
func (s *sequence) outcome(j *modelJob) (client.State, error) {
	ctx, cancel := context.WithTimeout(s.tb.Context(), patience)
	defer cancel()
	var last client.State
	for event, err := range s.operator.Events(ctx, j.id) {
		if err != nil {
			return last, err
		}
		last = event.Job.State
	}
	return last, nil
}

func (s *sequence) say(format string, v ...any) { s.said = append(s.said, fmt.Sprintf(format, v...)) }

func (s *sequence) submit() {
	kind := protocol.KindLLM
	if s.rng.IntN(2) == 0 {
		kind = protocol.KindTTS
	}
	id := s.queue(s.tb, kind)
	if s.rng.IntN(2) == 0 {
		s.engine.release(id)
	}
	s.jobs = append(s.jobs, &modelJob{id: id})
	s.say("submit %s %s", kind, id)
}

func (s *sequence) any() *modelJob { return s.jobs[s.rng.IntN(len(s.jobs))] }

// look waits a moment for a job to begin or to end.
func (s *sequence) look() {
	ctx, cancel := context.WithTimeout(s.tb.Context(), moment)
	defer cancel()
	first := s.seen.CurrentJob.Get().ID
	for job := range s.seen.CurrentJob.Watch(ctx) {
		if job.ID != first {
			return
		}
	}
}

// step does one random thing.
func (s *sequence) step() {
	switch n := s.rng.IntN(100); {
	case n < 5:
		s.submit()
	case n < 15:
		s.say("look")
		s.look()
	case n < 30:
		s.say("drop")
		s.drop()
	case n < 40:
		s.say("reconnect")
		s.reconnect(s.tb)
	case n < 48:
		s.say("pause")
		s.worker.Pause()
	case n < 60:
		s.say("resume")
		s.worker.Resume()
	case n < 78:
		s.cancel(s.any())
	case n < 92:
		j := s.any()
		s.say("finish %s", j.id)
		s.engine.release(j.id)
	case n < 98:
		s.say("restart the worker")
		for _, j := range s.jobs {
			j.restarts++
		}
		s.stopWorker(s.tb)
		s.startWorker(s.tb)
	default:
		s.say("restart the studio")
		s.restartStudio(s.tb)
		s.awaitSession(s.tb, observe.SessionConnected)
	}
}

// cancel cancels a job, and notes what the studio said of it.
func (s *sequence) cancel(j *modelJob) {
	now, err := s.operator.Cancel(s.tb.Context(), j.id)
	refused, ok := errors.AsType[*client.Error](err)
	switch {
	case ok && refused.Status == http.StatusConflict:
		job, err := s.operator.Get(s.tb.Context(), j.id)
		if err != nil || !job.State.Final() {
			s.tb.Errorf("a job that cannot be cancelled is %s, %v", job.State, err)
		}
		j.must = job.State
	case err != nil:
		s.tb.Errorf("cancel %s: %v", j.id, err)
	case now.State == client.Cancelled:
		j.must = client.Cancelled
	default:
		j.asked = true
	}
	s.say("cancel %s: it is %s, %v", j.id, now.State, err)
}
