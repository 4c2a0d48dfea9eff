package store

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"studioworker/worker/protocol"
)

// fullJob is a job with something in every field.
func fullJob(id string, state JobState) Job {
	at := time.Date(2026, 5, 4, 12, 30, 0, 123456789, time.UTC)
	j := job(id)
	j.State, j.GameID, j.AssetName, j.Model, j.VRAMGBEstimate = state, "g", `a "quoted" \ <name>`, "m,{}", 2.5
	j.Attempts, j.WorkerID, j.Session, j.Workers, j.Error = 2, "wk", "se", []string{"wk", "wl"}, "why: }],\"{"
	j.Submitter, j.Priority, j.Allowed, j.Inputs, j.Cancelling = "key", -7, 5, []string{"in-1"}, true
	j.Hooks = []Hook{{ID: "wh-1", Attempts: 1, Done: true, At: at}, {ID: "wh-2", Next: at}}
	j.Past = []Attempt{{Number: 1, WorkerID: "wk", StartedAt: at, EndedAt: at, Error: "]}"}}
	j.NotBefore, j.CreatedAt, j.StartedAt, j.FinishedAt = at.Add(3*time.Second), at, at.Add(time.Second), at.Add(2*time.Second)
	j.Result = &Result{Ext: "wav", ContentType: "audio/wav", Bytes: 9, SHA256: "00", Folder: id + "/1-a", Parts: 3}
	j.DeliveryKey = "k"
	return j
}

// wantPacked fails unless p says what the job does.
func wantPacked(t *testing.T, p *Packed, result Place, want Job) {
	t.Helper()
	telling, place, size := false, Place{}, int64(0)
	for _, hook := range want.Hooks {
		telling = telling || !hook.Done
	}
	if want.Result != nil {
		place, size = Place{want.Result.Folder, want.Result.Parts}, want.Result.Bytes
	}
	if p.State() != want.State || p.Priority != want.Priority || p.Bytes != size || result != place ||
		p.HasInput != (len(want.Inputs) > 0) || p.HasHook != (len(want.Hooks) > 0) || p.Telling != telling ||
		!p.CreatedAt().Equal(want.CreatedAt) || !p.StartedAt().Equal(want.StartedAt) || !p.FinishedAt().Equal(want.FinishedAt) || !p.NotBefore().Equal(want.NotBefore) ||
		p.Kin.Kind != want.Task.Kind || p.Kin.Model != want.Model || p.Kin.Submitter != want.Submitter || p.Kin.VRAMGBEstimate != want.VRAMGBEstimate ||
		!reflect.DeepEqual(p.Kin.Source, want.Source) {
		t.Errorf("packed %+v with %+v and %+v, want %+v", p, p.Kin, result, want)
	}
	if want.State.Final() {
		want.Task, want.Source, want.Past = protocol.Task{Kind: want.Task.Kind}, protocol.ModelSource{}, nil
	}
	if got, err := p.Job(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("unpacked %+v, %v\nwant %+v", got, err, want)
	}
}

// TestPackedJobs: every job comes as it was stored, also one in a form that
// another program gave it, and of what cannot be read it is said which.
func TestPackedJobs(t *testing.T) {
	s := open(t, t.TempDir())
	want := map[string]Job{}
	for _, state := range JobStates() {
		for _, j := range []Job{job("plain-" + string(state)), fullJob("full-"+string(state), state)} {
			j.State, j.Source.Files = state, []protocol.ModelFile{}
			if _, err := s.Jobs.Create(t.Context(), j.ID, j); err != nil {
				t.Fatal(err)
			}
			want[j.ID] = j
		}
	}
	raw := func(id, text string) {
		t.Helper()
		if _, err := s.Jobs.shard(id).Put(t.Context(), id, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	spaced := fullJob("spaced", Running)
	spaced.Source.Files = []protocol.ModelFile{}
	data, err := json.MarshalIndent(spaced, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	raw("spaced", string(data))
	want["spaced"] = spaced
	later := job("later")
	later.Source.Files = []protocol.ModelFile{}
	if data, err = json.Marshal(later); err != nil {
		t.Fatal(err)
	}
	raw("later", strings.Replace(string(data), `"attempts"`, `"mood":"good","attempts"`, 1))
	want["later"] = later
	raw("bad-1", "{")
	raw("bad-2", `{"id":"bad-2","state":"queued"`)
	raw("bad-3", strings.Replace(strings.Replace(string(data), "later", "bad-3", 1), `"audio_tts"`, `"dance"`, 1))
	raw("bad-4", strings.Replace(strings.Replace(string(data), "later", "bad-4", 1), `"createdAt":"0001`, `"createdAt":"9001`, 1))

	seen := map[string]bool{}
	bad, err := s.PackedJobs(t.Context(), func(_ int, id string, p *Packed, result Place) {
		seen[id] = true
		if stored, err := s.Jobs.Get(t.Context(), id); err != nil || stored.Revision != p.Revision {
			t.Errorf("%s has the revision %d, %v; stored is %d", id, p.Revision, err, stored.Revision)
		}
		wantPacked(t, p, result, want[id])
	})
	if err != nil || len(seen) != len(want) {
		t.Errorf("read %d of %d, %v", len(seen), len(want), err)
	}
	text := ""
	for _, err := range bad {
		text += err.Error() + "\n"
	}
	for _, id := range []string{"bad-1", "bad-2", "bad-3", "bad-4"} {
		if strings.Count(text, "record "+id+" of") != 1 {
			t.Errorf("%s is not told in %s", id, text)
		}
	}
	if len(bad) != 4 {
		t.Errorf("told of %s", text)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.PackedJobs(ended, func(int, string, *Packed, Place) {}); err == nil {
		t.Error("an ended reading said nothing")
	}
}

// TestPackerKnowsEveryField: a record with something in every field is packed as it
// is, without being encoded anew.
func TestPackerKnowsEveryField(t *testing.T) {
	full := fullJob("a", Running)
	for i, v := 0, reflect.ValueOf(full); i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("%s is empty: give it a value in fullJob", v.Type().Field(i).Name)
		}
	}
	data, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := new(packer).pack(data); err != nil {
		t.Error(err)
	}
}

// FuzzPackJob: whatever a record holds, packing it ends; what packs and can be
// decoded says what the decoder reads, and shares nothing with the bytes.
func FuzzPackJob(f *testing.F) {
	for _, j := range []Job{job("a"), fullJob("b", Queued), fullJob("c", Done)} {
		data, err := json.Marshal(j)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"id":"a","state":"queued","model":"","vramGbEstimate":0,"task":{"kind":"audio_tts","text":"x"},"modelSource":{"engine":"x"},"attempts":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var k packer
		kept := string(data)
		id, p, result, err := k.pack(data)
		if err != nil {
			return
		}
		clear(data)
		var want Job
		if json.Unmarshal([]byte(kept), &want) != nil {
			if p.State().Final() { // what was cut away is not looked at
				return
			}
			if got, err := p.Job(); err == nil {
				t.Errorf("unpacked %+v from %q", got, kept)
			}
			return
		}
		written, err := json.Marshal(want)
		if err != nil || string(written) != kept { // not our form: members may come twice, or by another case
			return
		}
		if id != want.ID {
			t.Errorf("the id is %q, want %q", id, want.ID)
		}
		wantPacked(t, p, result, want)
	})
}
