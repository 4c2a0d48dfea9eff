package studio

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"studioworker/studio/client"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

// queued makes a job in memory as submit does.
func queuedJob(id int, submitter, model string, priority int) *job {
	j := newJob(fmt.Sprintf("%016x", id))
	j.keep(&store.Entry[store.Job]{Value: store.Job{
		ID: j.id, State: store.Queued, Submitter: submitter, Model: model, Priority: priority, CreatedAt: time.Now(),
		Task: protocol.Task{Kind: protocol.KindImage}, Source: protocol.ModelSource{Engine: protocol.EngineSDCpp},
	}})
	return j
}

func painter(warm string) *session {
	return &session{id: "s", warm: warm, caps: protocol.Capabilities{TaskKinds: []protocol.TaskKind{protocol.KindImage}, VRAMThresholdGB: 8}}
}

// drainQueue takes jobs until none is left, each for a second, and returns their
// submitters, models and priorities.
func drainQueue(q *queue, s *session, now time.Time) []string {
	var out []string
	for {
		j := q.first(s, now)
		if j == nil {
			return out
		}
		q.remove(j)
		q.taken(j.lot.submitter)
		s.warm = j.lot.model
		out = append(out, fmt.Sprintf("%s%s%d", j.lot.submitter, j.lot.model, j.priority))
	}
}

func TestQueueOrder(t *testing.T) {
	type entry struct {
		submitter, model string
		priority         int
	}
	for name, c := range map[string]struct {
		jobs []entry
		warm string
		age  time.Duration
		want string
	}{
		"by creation":            {[]entry{{"a", "m", 0}, {"a", "n", 0}, {"a", "m", 0}}, "", warmWait, "am0 an0 am0"},
		"by priority":            {[]entry{{"a", "m", -100}, {"a", "m", 0}, {"b", "m", 100}, {"a", "m", 5}}, "", 0, "bm100 am5 am0 am-100"},
		"fair":                   {[]entry{{"a", "m", 0}, {"a", "m", 0}, {"a", "m", 0}, {"b", "m", 0}, {"b", "m", 0}, {"c", "m", 0}}, "", 0, "am0 bm0 cm0 am0 bm0 am0"},
		"at hand":                {[]entry{{"a", "m", 0}, {"a", "n", 0}, {"a", "m", 0}, {"a", "n", 0}}, "n", 0, "an0 an0 am0 am0"},
		"at hand, but too late":  {[]entry{{"a", "m", 0}, {"a", "n", 0}, {"a", "m", 0}, {"a", "n", 0}}, "n", warmWait, "am0 an0 am0 an0"},
		"at hand, but less loud": {[]entry{{"a", "n", 0}, {"a", "m", 1}}, "n", 0, "am1 an0"},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQueue()
			for i, e := range c.jobs {
				q.add(queuedJob(i, e.submitter, e.model, e.priority))
			}
			if got := strings.Join(drainQueue(q, painter(c.warm), time.Now().Add(c.age)), " "); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if q.total != 0 || len(q.levels) != 0 || len(q.waiting) != 0 {
				t.Errorf("left over: %+v", q)
			}
		})
	}
}

// TestQueueIsFairByTime: who asks for long jobs gets fewer of them, and who comes
// late does not make up for what it missed.
func TestQueueIsFairByTime(t *testing.T) {
	q := newQueue()
	for i := range 1000 {
		q.add(queuedJob(i, "long", "m", 0))
		q.add(queuedJob(1000+i, "short", "m", 0))
	}
	s := painter("m")
	used := map[string]time.Duration{}
	serve := func(n int) map[string]int {
		count := map[string]int{}
		for range n {
			j := q.first(s, time.Now())
			q.remove(j)
			q.taken(j.lot.submitter)
			took := 3 * time.Second
			if j.lot.submitter == "long" {
				took = 30 * time.Second
			}
			q.charge(j.lot.submitter, took)
			used[j.lot.submitter] += took
			count[j.lot.submitter]++
		}
		return count
	}
	serve(400)
	if ratio := used["long"].Seconds() / used["short"].Seconds(); ratio < 0.7 || ratio > 1.4 {
		t.Errorf("used %v", used)
	}
	for i := range 100 {
		q.add(queuedJob(5000+i, "late", "m", 0))
	}
	if count := serve(40); count["late"] > 25 || count["short"] < 10 {
		t.Errorf("after it came: %v", count)
	}
}

// TestQueueAgainstAList: random additions and removals leave what a plain list
// would, and what is taken is never what does not fit.
func TestQueueAgainstAList(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	q := newQueue()
	var all []*job
	s := painter("")
	s.caps.VRAMThresholdGB = 8
	for i := range 5000 {
		if random.IntN(2) == 0 || len(all) == 0 {
			j := queuedJob(random.IntN(1<<30)<<10+i%1024, string(rune('a'+random.IntN(5))), string(rune('m'+random.IntN(3))), random.IntN(5)-2)
			rec := j.now()
			rec.VRAMGBEstimate = float64(random.IntN(3) * 8)
			j.keep(&store.Entry[store.Job]{Value: rec})
			if random.IntN(8) == 0 {
				j.refuse("s")
			}
			q.add(j)
			all = append(all, j)
			continue
		}
		if random.IntN(2) == 0 {
			at := random.IntN(len(all))
			q.remove(all[at])
			all = slices.Delete(all, at, at+1)
			continue
		}
		got := q.first(s, time.Now())
		best, fits := -1000, false
		for _, j := range all {
			if s.fits(j) {
				best, fits = max(best, j.priority), true
			}
		}
		if (got != nil) != fits || (fits && (got.priority != best || !s.fits(got) || !got.queued)) {
			t.Fatalf("took %+v, best priority %d", got, best)
		}
	}
	if q.total != len(all) {
		t.Errorf("%d in the queue, want %d", q.total, len(all))
	}
}

// TestPriorityAndFairness over the wire: the worker gets the operator's urgent job
// first, then the two keys in turn.
func TestPriorityAndFairness(t *testing.T) {
	f := newFarm(t, nil)
	one, two := f.key(t, client.KeyRequest{Name: "one"}), f.key(t, client.KeyRequest{Name: "two"})
	queue := func(token string, priority int) {
		body := fmt.Sprintf(`{"model":"synthetic-image","priority":%d,"task":{"kind":"image","prompt":"x"}}`, priority)
		if status, data := f.call(t, http.MethodPost, "/api/v1/jobs", token, strings.NewReader(body)); status != http.StatusCreated {
			t.Fatalf("submit answered %d %s", status, data)
		}
	}
	for _, key := range []string{one.Text, one.Text, one.Text, two.Text, two.Text} {
		queue(key, 0)
	}
	queue(f.token, 1)
	w := f.worker(t)
	l := w.connect(t, "")
	var got []string
	for range 6 {
		id := l.take(t).JobID
		got = append(got, f.job(t, id).Submitter)
		w.deliver(t, id, []byte("picture"))
		l.beat(t, "")
	}
	if got[0] != "" || got[1] == got[2] || got[3] == got[4] {
		t.Errorf("taken for %q", got)
	}
}

// TestTheModelAtHand: of two free workers the one that had the model before gets
// the job, though the other was there first.
func TestTheModelAtHand(t *testing.T) {
	f := newFarm(t, nil)
	cold, warm := f.worker(t), f.worker(t)
	cold.caps.VRAMThresholdGB = 1
	first := cold.connect(t, "")
	second := warm.connect(t, "")
	big := f.submit(t, `{"model":"synthetic-image","vramGbEstimate":4,"task":{"kind":"image","prompt":"x"}}`)
	if claim := second.take(t); claim.JobID != big.ID {
		t.Fatalf("offered %s", claim.JobID)
	}
	warm.deliver(t, big.ID, []byte("picture"))
	second.beat(t, "")
	f.await(t, big.ID, in(client.Done))
	for _, submit := range []struct {
		body string
		line *line
	}{{imageJob, second}, {llmJob, first}} {
		id := f.submit(t, submit.body).ID
		if claim := expect[protocol.Offer](t, submit.line).Claim; claim.JobID != id {
			t.Errorf("offered %s, want %s", claim.JobID, id)
		}
	}
}

// TestFailedAttemptsPause before they are repeated, also over a restart; then the
// job is a dead letter that can be queued again.
func TestFailedAttemptsPause(t *testing.T) {
	dir := t.TempDir()
	f := newFarm(t, func(c *Config) { c.Data, c.MaxAttempts, c.RetryPause = dir, 2, retryMost })
	w := f.modern(t)
	l := w.connect(t, "")
	id := f.submit(t, imageJob).ID
	fail := func(attempt int) {
		t.Helper()
		if claim := l.take(t); claim.JobID != id || claim.Attempt != attempt {
			t.Fatalf("offered %s attempt %d, want %s attempt %d", claim.JobID, claim.Attempt, id, attempt)
		}
		l.send(t, protocol.Fail{JobID: id, Error: "out of memory", Retryable: true})
		expect[protocol.FailAck](t, l)
		l.beat(t, "")
	}
	fail(1)
	job := f.job(t, id)
	if pause := time.Until(job.NotBefore); job.State != client.Queued || pause < retryMost/3 || pause > retryMost {
		t.Errorf("the job is %+v", job)
	}
	other := f.submit(t, llmJob).ID // another goes first
	if claim := l.take(t); claim.JobID != other {
		t.Errorf("took %s", claim.JobID)
	}
	f.await(t, other, in(client.Running))
	f.cancel(t, other, client.Running)
	expect[protocol.Cancel](t, l)
	l.send(t, protocol.Fail{JobID: other, Error: "cancelled"})
	expect[protocol.FailAck](t, l)
	f.stop()

	f = newFarm(t, func(c *Config) { c.Data, c.MaxAttempts, c.RetryPause = dir, 2, time.Millisecond })
	w.farm = f
	if job := f.job(t, id); time.Until(job.NotBefore) < retryMost/4 {
		t.Errorf("after a restart the job is %+v", job)
	}
	rec, err := f.studio.store.Jobs.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	f.stop()
	rec.Value.NotBefore = time.Now().Add(50 * time.Millisecond)
	rewrite(t, dir, rec.Value)
	f = newFarm(t, func(c *Config) { c.Data, c.MaxAttempts, c.RetryPause = dir, 2, time.Millisecond })
	w.farm = f
	l = w.connect(t, "")
	fail(2)
	if job := f.await(t, id, in(client.Failed)); job.Attempts != 2 || job.Error != "out of memory" {
		t.Errorf("the job is %+v", job)
	}
	dead, err := f.operator.Retry(t.Context(), id)
	if err != nil || dead.State.Final() || !dead.FinishedAt.IsZero() {
		t.Errorf("queued again it is %+v, %v", dead, err)
	}
	fail(3)
	fail(4)
	f.await(t, id, in(client.Failed))
	if _, err := f.operator.Retry(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if claim := l.take(t); claim.Task.Image == nil || claim.Task.Image.Prompt != "a lighthouse in fog" { // the task was kept
		t.Errorf("offered %+v", claim)
	}
	w.deliver(t, id, []byte("picture"))
	f.await(t, id, in(client.Done))
	if _, err := f.operator.Retry(t.Context(), id); !isStatus(err, http.StatusConflict) {
		t.Errorf("a job that is done: %v", err)
	}
}

// rewrite changes the record of a job in the folder of a studio that is stopped.
func rewrite(tb testing.TB, dir string, rec store.Job) {
	tb.Helper()
	st, err := store.Open(tb.Context(), store.Config{Dir: dir, Log: testLog(tb)})
	if err != nil {
		tb.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			tb.Error(err)
		}
	}()
	e, err := st.Jobs.Get(tb.Context(), rec.ID)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := st.Jobs.Update(tb.Context(), rec.ID, rec, e.Revision); err != nil {
		tb.Fatal(err)
	}
}

func isStatus(err error, status int) bool {
	failed, ok := errors.AsType[*client.Error](err)
	return ok && failed.Status == status
}

func TestRetryPause(t *testing.T) {
	for n, most := range map[int]time.Duration{1: time.Second, 2: 4 * time.Second, 3: 16 * time.Second, 5: 256 * time.Second, 6: retryMost, 1000: retryMost} {
		for range 100 {
			if pause := retryPause(time.Second, n); pause < most/2 || pause > most {
				t.Errorf("after %d attempts %v, want %v to %v", n, pause, most/2, most)
			}
		}
	}
}

// TestFullQueue: too much is refused with a time to come back, for one key before
// it is for all.
func TestFullQueue(t *testing.T) {
	f := newFarm(t, func(c *Config) { c.MaxQueued, c.MaxQueuedByKey = 3, 2 })
	key := f.key(t, client.KeyRequest{Name: "x"})
	submit := func(token string, want int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+"/api/v1/jobs", strings.NewReader(imageJob))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want || (want != http.StatusCreated) != (resp.Header.Get("Retry-After") == "10") {
			t.Errorf("answered %d, Retry-After %q, want %d", resp.StatusCode, resp.Header.Get("Retry-After"), want)
		}
	}
	submit(key.Text, http.StatusCreated)
	submit(key.Text, http.StatusCreated)
	submit(key.Text, http.StatusTooManyRequests)
	submit(f.token, http.StatusCreated)
	submit(f.token, http.StatusServiceUnavailable)
}
