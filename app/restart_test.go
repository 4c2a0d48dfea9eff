//go:build !windows

package app

import (
	"slices"
	"testing"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// TestKillStudio kills the studio while one job runs and others are queued, and
// starts it again on the same folder and port, with the same worker at work all
// along (fault row 53).
func TestKillStudio(t *testing.T) {
	d, h, f := newDesk(t), newHome(t), newStudio(t)
	d.equip(t, h)
	h.write(t, f.url, "")
	w := h.start(t, "--config", h.config, "run")
	w.await(t, 1, "server welcomed")
	welcomes := 1
	again := func() { f = f.again(t) } // it lives longer than a subtest

	// ends lets the speech go on: while the studio is up again, or while it is
	// away, so that the result waits in the outbox.
	for _, c := range []struct {
		name string
		away bool
	}{
		{"the engine ends after the restart", false},
		{"the engine ends while the studio is away", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.holdAll(true)
			texts := []string{c.name, c.name + ", second", c.name + ", third"}
			var ids []string
			for _, text := range texts {
				ids = append(ids, f.submit(t, protocol.KindTTS, text))
			}
			llm := f.submit(t, protocol.KindLLM, c.name)
			engine := d.next(t)
			f.awaitState(t, ids[0], client.Running)
			for _, id := range append(slices.Clone(ids[1:]), llm) {
				f.awaitState(t, id, client.Queued)
			}

			f.kill(t)
			d.holdAll(false)
			if c.away {
				engine.release()
				w.await(t, len(ids)*(welcomes-1)+1, "job dispatched")
			}
			again()
			welcomes++
			w.await(t, welcomes, "server welcomed")
			if !c.away {
				engine.release()
			}

			for i, id := range ids {
				job := f.awaitState(t, id, client.Done)
				f.result(t, job)
				if n := d.count(texts[i]); n != 1 {
					t.Errorf("%q was spoken %d times", texts[i], n)
				}
				if job.Attempts != 1 {
					t.Errorf("%q took %d attempts", texts[i], job.Attempts)
				}
			}
			if job := f.awaitState(t, llm, client.Done); job.Attempts != 1 {
				t.Errorf("the llm job took %d attempts", job.Attempts)
			}
		})
	}
	w.await(t, 2, "studio confirmed completion") // the studio says done to us first
	w.stop(t)
	for _, folder := range []string{"outbox/tmp", "outbox/ready", "outbox/kept", "outbox/refused"} {
		if names := h.files(t, folder); len(names) > 0 {
			t.Errorf("%s holds %v", folder, names)
		}
	}
	if names := h.files(t, "results"); len(names) != 8 {
		t.Errorf("results/ holds %v, want 8 files", names)
	}
	f.stop(t)
}
