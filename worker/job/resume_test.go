package job

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"studioworker/worker/engine"
	"studioworker/worker/observe"
	"studioworker/worker/outbox"
	"studioworker/worker/protocol"
)

// waits is an engine that makes its result when it is told to.
func waits(ext, data string) (run runs, release func()) {
	gate := make(chan struct{})
	return func(ctx context.Context, req engine.Request, _ func(engine.Progress)) (engine.Result, error) {
		select {
		case <-gate:
			return leave(req, ext, data)
		case <-ctx.Done():
			return engine.Result{}, context.Cause(ctx)
		}
	}, func() { close(gate) }
}

// cut ends the link: nothing more can be sent on it.
func cut(l *link) {
	l.send = func(protocol.WorkerFrame) error { return errors.New("the session is over") }
}

// away is a studio that cannot be reached for uploads.
func away(*fixture, outbox.Entry) (outbox.Outcome, error) {
	return outbox.Outcome{State: outbox.StateWaiting}, errors.New("no route")
}

func TestAKeptJobIsAnsweredOnTheNewSession(t *testing.T) {
	run, release := waits("json", `{"n":1}`)
	f := setup(t, run, nil)
	old, fresh := newLink(protocol.FeatureResume), newLink(protocol.FeatureResume)
	f.Offer(t.Context(), llm("j", "hi"), old)
	next[protocol.Accept](t, old)
	if ids := f.Unfinished(); !slices.Equal(ids, []string{"j"}) {
		t.Errorf("unfinished: %q", ids)
	}
	f.Resumed(t.Context(), []string{"j"}, nil, fresh)
	release()
	if done := next[protocol.CompleteJSON](t, fresh); done.JobID != "j" || string(done.Result) != `{"n":1}` {
		t.Errorf("sent %+v", done)
	}
	f.idle(t)
	old.silent(t)
	if ids := f.Unfinished(); !slices.Equal(ids, []string{"j"}) { // until the studio confirms it
		t.Errorf("unfinished: %q", ids)
	}
	f.Acknowledged("j")
	if ids := f.Unfinished(); len(ids) > 0 {
		t.Errorf("unfinished: %q", ids)
	}
}

func TestAFailureIsSaidOnTheNextSession(t *testing.T) {
	f := setup(t, runs(func(context.Context, engine.Request, func(engine.Progress)) (engine.Result, error) {
		return engine.Result{}, errors.New("out of memory")
	}), nil)
	old, fresh := newLink(protocol.FeatureResume), newLink(protocol.FeatureResume)
	old.send = func(frame protocol.WorkerFrame) error {
		if _, fails := frame.(protocol.Fail); fails {
			return errors.New("the session is over")
		}
		return nil
	}
	f.Offer(t.Context(), llm("j", "hi"), old)
	next[protocol.Accept](t, old)
	f.idle(t)
	if ids := f.Unfinished(); !slices.Equal(ids, []string{"j"}) {
		t.Errorf("unfinished: %q", ids)
	}
	f.Resumed(t.Context(), []string{"j"}, nil, fresh)
	if fail := next[protocol.Fail](t, fresh); fail.JobID != "j" || !strings.Contains(fail.Error, "out of memory") {
		t.Errorf("said %+v", fail)
	}
	if ids := f.Unfinished(); len(ids) > 0 {
		t.Errorf("unfinished: %q", ids)
	}
}

func TestADroppedJobIsStoppedWithoutAWord(t *testing.T) {
	run, _ := waits("json", "{}")
	f := setup(t, run, nil)
	old, fresh := newLink(protocol.FeatureResume), newLink(protocol.FeatureResume)
	f.Offer(t.Context(), llm("j", "hi"), old)
	next[protocol.Accept](t, old)
	f.Resumed(t.Context(), nil, []string{"j"}, fresh)
	f.idle(t)
	old.silent(t)
	fresh.silent(t)
	if row := f.recent(t, 1)[0]; row.Outcome != observe.OutcomeCancelled {
		t.Errorf("shown as %+v", row)
	}
}

func TestADroppedResultIsKept(t *testing.T) {
	for _, claim := range []protocol.Claim{llm("j", "hi"), picked("j", "a lighthouse")} {
		ext, data := "json", "{}"
		if claim.Task.Kind != protocol.KindLLM {
			ext, data = "png", pngOf(t, 8, 8)
		}
		f := setup(t, makes(ext, data), away)
		l := newLink(protocol.FeatureResume)
		f.Offer(t.Context(), claim, l)
		next[protocol.Accept](t, l)
		f.idle(t)
		f.Resumed(t.Context(), nil, []string{"j"}, newLink(protocol.FeatureResume))
		if ready, kept := f.folder(t, "ready"), f.folder(t, "kept"); len(ready) != 0 || len(kept) != 1 {
			t.Errorf("%s: ready/ holds %v, kept/ %v", ext, ready, kept)
		}
	}
}

func TestRevoke(t *testing.T) {
	run, _ := waits("json", "{}")
	f := setup(t, run, nil)
	l := newLink(protocol.FeatureCancel)
	f.Offer(t.Context(), llm("j", "hi"), l)
	next[protocol.Accept](t, l)
	f.Revoke(t.Context(), "other", "", l)
	f.Revoke(t.Context(), "j", "not needed", l)
	if fail := next[protocol.Fail](t, l); fail != (protocol.Fail{JobID: "j", Error: "cancelled"}) {
		t.Errorf("answered %+v", fail)
	}
	f.idle(t)
	l.silent(t)
	if !strings.Contains(f.log.String(), "cancelled job is not here") {
		t.Errorf("the log is silent about the unknown job:\n%s", f.log)
	}
}

func TestRevokeOfAResultThatWaits(t *testing.T) {
	f := setup(t, makes("png", pngOf(t, 8, 8)), away)
	l := newLink(protocol.FeatureCancel)
	f.Offer(t.Context(), picked("j", "a lighthouse"), l)
	next[protocol.Accept](t, l)
	f.idle(t)
	f.Revoke(t.Context(), "j", "not needed", l)
	if fail := next[protocol.Fail](t, l); fail != (protocol.Fail{JobID: "j", Error: "cancelled"}) {
		t.Errorf("answered %+v", fail)
	}
	if ready, kept := f.folder(t, "ready"), f.folder(t, "kept"); len(ready)+len(kept) != 0 {
		t.Errorf("ready/ holds %v, kept/ %v", ready, kept)
	}
	if row := f.recent(t, 1)[0]; row.Outcome != observe.OutcomeCancelled || row.ResultPath != "" {
		t.Errorf("shown as %+v", row)
	}
}

// TestDeltaFrames: text is gathered for 30 ms, a frame that may have arrived is
// said again as it was, and all of it comes before the result.
func TestDeltaFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, runs(func(_ context.Context, req engine.Request, _ func(engine.Progress)) (engine.Result, error) {
			for _, word := range strings.SplitAfter("we sail at dawn and not before it", " ") {
				req.Delta(word)
				time.Sleep(20 * time.Millisecond)
			}
			req.Delta(strings.Repeat("ü", protocol.MaxDelta/2+1))
			return leave(req, "json", "{}")
		}), nil)
		l := newLink(protocol.FeatureStream)
		failed := 0
		l.send = func(frame protocol.WorkerFrame) error {
			if d, ok := frame.(protocol.Delta); ok && d.Seq == 1 && failed < 2 {
				failed++
				return errors.New("the session is over")
			}
			return nil
		}
		f.Offer(t.Context(), llm("j", "hi"), l)
		next[protocol.Accept](t, l)
		start := time.Now()
		text := ""
		for seq := 0; ; seq++ {
			frame := <-l.frames
			if _, ok := frame.(protocol.CompleteJSON); ok {
				break
			}
			d, ok := frame.(protocol.Delta)
			if !ok || d.JobID != "j" || d.Seq != seq || len(d.Text) > protocol.MaxDelta {
				t.Fatalf("sent %s %+v, want piece %d", frame.Type(), d, seq)
			}
			if seq == 0 && time.Since(start) != piecePeriod {
				t.Errorf("the first piece came after %v", time.Since(start))
			}
			text += d.Text
		}
		if want := "we sail at dawn and not before it" + strings.Repeat("ü", protocol.MaxDelta/2+1); text != want {
			t.Errorf("told %.60q of %d bytes, want %d", text, len(text), len(want))
		}
		f.idle(t)
		f.stop()
	})
}

// TestNoDeltaForAStudioThatDidNotAsk: nor beyond what is told before a result.
func TestNoDeltaForAStudioThatDidNotAsk(t *testing.T) {
	f := setup(t, runs(func(_ context.Context, req engine.Request, _ func(engine.Progress)) (engine.Result, error) {
		req.Delta("we ")
		req.Delta(strings.Repeat("x", maxPieces))
		req.Delta("sail")
		return leave(req, "json", "{}")
	}), nil)
	for _, l := range []*link{newLink(), newLink(protocol.FeatureStream)} {
		f.Offer(t.Context(), llm("j"+strings.Join(l.features, ""), "hi"), l)
		next[protocol.Accept](t, l)
		if l.Has(protocol.FeatureStream) {
			if d := next[protocol.Delta](t, l); d.Text != "we " {
				t.Errorf("told %.20q", d.Text)
			}
		}
		if done := next[protocol.CompleteJSON](t, l); !json.Valid(done.Result) {
			t.Errorf("result %s", done.Result)
		}
		f.idle(t)
	}
}

// TestUnfinishedIsOfThisStudio: another studio hears nothing of a job.
func TestUnfinishedIsOfThisStudio(t *testing.T) {
	run, release := waits("json", "{}")
	f := prepare(t, t.TempDir(), run, nil)
	origin := "http://studio.example"
	f.cfg.Origin = func() (string, string) { return origin, "wk-20" }
	f.start(t)
	l := newLink(protocol.FeatureResume)
	f.Offer(t.Context(), llm("j", "hi"), l)
	next[protocol.Accept](t, l)
	origin = "http://other.example"
	if ids := f.Unfinished(); len(ids) > 0 {
		t.Errorf("another studio is told of %q", ids)
	}
	origin = "http://studio.example"
	cut(l)
	release()
	f.idle(t)
	origin = "http://other.example"
	if ids := f.Unfinished(); len(ids) > 0 {
		t.Errorf("another studio is told of %q", ids)
	}
	f.Revoke(t.Context(), "j", "", l)
	if ready := f.folder(t, "ready"); len(ready) != 1 {
		t.Errorf("another studio emptied ready/: %v", ready)
	}
}
