package logs

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"studioworker/worker/observe"
)

func TestLinesOfAJob(t *testing.T) {
	ring, queue := observe.NewRing[observe.LogEntry](observe.RecentLogsCap), &Queue{}
	h := NewHandler(ring, queue)
	log := slog.New(h)
	mine := log.With("job_id", "job-31")
	mine.Debug("a detail", "step", 3)
	mine.Info("offer received", "game", "g", "asset", "a", "model", "m", "vram", 2.5)
	log.Warn("job failed", "job_id", "job-31", "error", "no")
	log.Debug("of nobody")
	log.Info("of nobody")
	log.Info("of another", "job_id", "job-32")

	lines, dropped, ok := h.JobLines("job-31")
	if !ok || dropped != 0 || len(lines) != 3 {
		t.Fatalf("got %+v, %d dropped, %v", lines, dropped, ok)
	}
	for i, want := range []string{"a detail step=3", "offer received job-31 game=g asset=a model=m vram=2.5", "dispatch failed: no"} {
		if lines[i].Message != want || lines[i].JobID != "job-31" {
			t.Errorf("line %d is %+v, want %q", i, lines[i], want)
		}
	}
	if lines[0].Level != slog.LevelDebug {
		t.Errorf("level %v", lines[0].Level)
	}
	if shown, _ := ring.Since(0); len(shown) != 4 { // details are for the job's log only
		t.Errorf("the ring has %+v", shown)
	}
	if shipped := queue.Take(); len(shipped) != 4 {
		t.Errorf("%d lines are to be shipped", len(shipped))
	}
	for _, id := range []string{"job-33", ""} {
		if lines, _, ok := h.JobLines(id); ok || len(lines) > 0 {
			t.Errorf("%q has %+v", id, lines)
		}
	}
}

func TestLinesOfJobsAreBounded(t *testing.T) {
	h := NewHandler(observe.NewRing[observe.LogEntry](1), &Queue{})
	log := slog.New(h)
	for i := range JobLinesCap + 10 {
		log.Info("line", "job_id", "long", "n", i)
	}
	lines, dropped, _ := h.JobLines("long")
	if len(lines) != JobLinesCap || dropped != 10 || lines[0].Message != "line n=10" {
		t.Errorf("%d lines from %q, %d dropped", len(lines), lines[0].Message, dropped)
	}
	for _, text := range []string{strings.Repeat("x", JobLineChars+1), strings.Repeat("ä", JobLineChars+1)} {
		log.Info("line", "job_id", "wide", "text", text)
	}
	lines, _, _ = h.JobLines("wide")
	for _, line := range lines {
		if n := utf8.RuneCountInString(line.Message); n != JobLineChars || !strings.HasSuffix(line.Message, "…") {
			t.Errorf("a line of %d characters", n)
		}
	}
	log.Info("line", "job_id", strings.Repeat("x", maxJobID+1))
	if _, _, ok := h.JobLines(strings.Repeat("x", maxJobID+1)); ok {
		t.Error("an endless id is kept")
	}
	for i := range JobsCap - 1 {
		log.Info("line", "job_id", fmt.Sprint("job-", i))
	}
	if _, _, ok := h.JobLines("long"); ok {
		t.Error("the job that began first is still there")
	}
	for _, id := range []string{"wide", "job-0", fmt.Sprint("job-", JobsCap-2)} {
		if _, _, ok := h.JobLines(id); !ok {
			t.Errorf("%s is gone", id)
		}
	}
	if n := len(h.jobs.byID); n != JobsCap || len(h.jobs.order) != JobsCap {
		t.Errorf("%d jobs, %d in order", n, len(h.jobs.order))
	}
}

func TestManyJobsAtOnce(t *testing.T) {
	h := NewHandler(observe.NewRing[observe.LogEntry](10), &Queue{})
	var g sync.WaitGroup
	for i := range 8 {
		g.Go(func() {
			log := slog.New(h).With("job_id", fmt.Sprint(i))
			for range 100 {
				log.Debug("line")
				if _, _, ok := h.JobLines(fmt.Sprint(i)); !ok {
					t.Errorf("job %d has no line", i)
				}
			}
		})
	}
	g.Wait()
	for i := range 8 {
		if lines, dropped, _ := h.JobLines(fmt.Sprint(i)); len(lines) != 100 || dropped != 0 {
			t.Errorf("job %d has %d lines", i, len(lines))
		}
	}
}
