package studio

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"studioworker/studio/client"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

// TestPackedUntilNeeded: after a start jobs are not decoded by what looks at all of
// them, and once they are needed they say what was stored.
func TestPackedUntilNeeded(t *testing.T) {
	dir := t.TempDir()
	st, err := store.Open(t.Context(), store.Config{Dir: dir, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().UTC().Add(-time.Minute)
	for i, state := range []store.JobState{store.Queued, store.Done, store.Failed, store.Cancelled} {
		rec := benchJob(fmt.Sprintf("%016x-a", i), benchImage())
		rec.State, rec.CreatedAt = state, at
		if state.Final() {
			rec.StartedAt, rec.FinishedAt = at.Add(time.Second), at.Add(3*time.Second)
		}
		if _, err := st.Jobs.Create(t.Context(), rec.ID, rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	f := newFarm(t, func(c *Config) { c.Data = dir })
	h := f.studio.hub
	states, queue := h.count()
	if states[store.Queued] != 1 || states[store.Done] != 1 || states[store.Failed] != 1 || queue[protocol.KindImage] != 1 {
		t.Errorf("counted %v, %v", states, queue)
	}
	if _, data := f.call(t, http.MethodGet, "/api/v1/stats", f.token, nil); !strings.Contains(string(data), `"cancelled":1`) {
		t.Errorf("statistics %s", data)
	}
	if old := h.outdated(at.Add(24 * time.Hour)); len(old) != 0 {
		t.Errorf("outdated %v", old)
	}
	if old := h.outdated(at.Add(365 * 24 * time.Hour)); len(old) != 3 {
		t.Errorf("%d are outdated", len(old))
	}
	for _, j := range h.all() {
		if j.record.Load() != nil || j.packed.Load() == nil {
			t.Fatalf("%s is decoded already", j.id)
		}
		before := j.brief()
		var asking sync.WaitGroup
		for range 8 { // all see the same
			asking.Go(func() {
				if j.revision() == 0 || j.now().ID != j.id || j.brief() != before {
					t.Errorf("%s is %v, was %v", j.id, j.brief(), before)
				}
			})
		}
		asking.Wait()
		stored, err := f.studio.store.Jobs.Get(t.Context(), j.id)
		if err != nil {
			t.Fatal(err)
		}
		want := stored.Value
		if want.State.Final() {
			want.Task, want.Source = protocol.Task{Kind: want.Task.Kind}, protocol.ModelSource{}
		}
		if e, err := j.entry(); err != nil || !same(e.Value, want) && !want.State.Final() || e.Revision != stored.Revision || j.packed.Load() != nil {
			t.Errorf("%s is %+v, %v", j.id, e, err)
		}
	}
	w := f.worker(t)
	l := w.connect(t, "")
	if claim := l.take(t); claim.Task.Image == nil || claim.Task.Image.Prompt != benchImage().Image.Prompt || claim.ModelSource.Engine != protocol.EngineSynthetic {
		t.Errorf("offered %+v", claim)
	}
}

// overwrite gives a job of a studio that does not run another record.
func overwrite(t *testing.T, dir, id, text string) (revision uint64) {
	t.Helper()
	srv, js, err := bareJetStream(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer srv.WaitForShutdown()
	defer srv.Shutdown()
	defer js.Conn().Close()
	for shard := range 4 {
		kv, err := js.KeyValue(t.Context(), fmt.Sprintf("jobs-%d", shard))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Get(t.Context(), id); errors.Is(err, jetstream.ErrKeyNotFound) {
			continue
		}
		if revision, err = kv.PutString(t.Context(), id, text); err != nil {
			t.Fatal(err)
		}
	}
	return revision
}

// TestUnreadableJobStays: a job whose record turns out to be none when it is
// needed is not offered, holds up no other, and is not written over.
func TestUnreadableJobStays(t *testing.T) {
	const odd = "0000000000000001-odd"
	dir := t.TempDir()
	st, err := store.Open(t.Context(), store.Config{Dir: dir, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	good := benchJob("0000000000000002-good", benchImage())
	bad := benchJob(odd, benchImage())
	data, err := json.Marshal(bad)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Jobs.Create(t.Context(), good.ID, good); err != nil {
		t.Fatal(err)
	}
	_, err = st.Jobs.Create(t.Context(), odd, bad)
	if err := errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
	revision := overwrite(t, dir, odd, strings.Replace(string(data), `"width":512`, `"width":"x"`, 1))
	f := newFarm(t, func(c *Config) { c.Data = dir })
	w := f.worker(t)
	l := w.connect(t, "")
	if claim := l.take(t); claim.JobID != good.ID {
		t.Fatalf("offered %s", claim.JobID)
	}
	j := f.studio.hub.job(odd)
	if j.revision() != revision || !strings.Contains(j.now().Error, errUnreadable.Error()) || j.now().State != store.Queued {
		t.Errorf("the job is %+v", j.now())
	}
	if status, body := f.call(t, http.MethodPost, "/api/v1/jobs/"+odd+"/cancel", f.token, nil); status != http.StatusServiceUnavailable {
		t.Errorf("cancelling it answers %d %s", status, body)
	}
	f.await(t, good.ID, in(client.Running)) // the studio may not have read the accept yet
}

// TestJobsInOrder: in whatever order the jobs of some shards come, they end up by
// id, each once.
func TestJobsInOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, late := range []int{0, 5, nearly, 10 * nearly} {
		var want []string
		var all []*job
		for range 3 {
			var shard shardJobs
			ids := make([]string, 1000)
			for i := range ids {
				ids[i] = fmt.Sprintf("%04d-%d", i, random.IntN(1<<30))
			}
			want = append(want, ids...)
			for i := range ids {
				k := min(len(ids)-1, i+random.IntN(late+1))
				ids[i], ids[k] = ids[k], ids[i]
			}
			for _, id := range ids {
				shard.add(newJob(id))
			}
			all = merge(all, shard.sorted())
		}
		slices.Sort(want)
		var got []string
		for _, j := range all {
			got = append(got, j.id)
		}
		if !slices.Equal(got, want) {
			t.Errorf("late by %d: %d jobs are not in order", late, len(got))
		}
	}
}
