package studio

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats-server/v2/server"

	"studioworker/studio/client"
	"studioworker/studio/store"
	"studioworker/worker/protocol"
)

const (
	childNATS    = "STUDIO_TEST_NATS"    // makes the test binary a NATS server with these natsOptions
	childCluster = "STUDIO_TEST_CLUSTER" // makes the studio of childFolder share the cluster at these addresses
	// fullScaleOut asks for the long form of TestScaleOut: 2,000 jobs and five rounds
	// of kills.
	fullScaleOut = "STUDIO_TEST_SCALE_OUT"
	slow         = 2 * time.Minute // how long a cluster may take to go on
)

// natsOptions are a NATS server of a test.
type natsOptions struct {
	Name    string
	Dir     string
	Port    int
	Routing int    // port
	Routes  []int  // ports of all
	Monitor int    // port
	Config  string // file; it holds all options
}

// serveNATS is the NATS server of a child process; it ends by being killed.
func serveNATS(text string) int {
	var o natsOptions
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Println(err)
		return 1
	}
	const here = "127.0.0.1"
	opts := &server.Options{
		ServerName: o.Name, Host: here, Port: o.Port, HTTPHost: here, HTTPPort: o.Monitor,
		JetStream: true, StoreDir: o.Dir, SyncAlways: true, NoSigs: true, NoLog: true,
		JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 4 << 30, MaxPayload: 8 << 20,
	}
	if len(o.Routes) > 0 {
		opts.Cluster = server.ClusterOpts{Name: "farm", Host: here, Port: o.Routing}
	}
	for _, port := range o.Routes {
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("%s:%d", here, port)})
	}
	if o.Config != "" {
		read, err := server.ProcessConfigFile(o.Config)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		opts = read
		opts.NoSigs, opts.NoLog = true, true
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	srv.Start()
	if !srv.ReadyForConnections(slow) {
		fmt.Println("not ready")
		return 1
	}
	fmt.Println("ready")
	select {}
}

// freePorts returns ports that nobody uses now.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var out []int
	for range n {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }() // only the number was wanted
		out = append(out, l.Addr().(*net.TCPAddr).Port)
	}
	return out
}

// natsServer is a NATS server in a process of its own.
type natsServer struct {
	options natsOptions
	cmd     *exec.Cmd
}

func (n *natsServer) start(t *testing.T) {
	t.Helper()
	data, err := json.Marshal(n.options)
	if err != nil {
		t.Fatal(err)
	}
	n.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0]) // #nosec G204 -- this very program
	n.cmd.Env = append(os.Environ(), childNATS+"="+string(data))
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said, err := bufio.NewReader(out).ReadString('\n')
	if said != "ready\n" {
		t.Fatalf("the NATS server said %q, %v", said, err)
	}
}

func (n *natsServer) kill() {
	_ = n.cmd.Process.Kill() // it may be gone already
	_ = n.cmd.Wait()
}

// natsCluster starts NATS servers that know each other.
func natsCluster(t *testing.T, size int) (servers []*natsServer, addresses string, monitors []string) {
	t.Helper()
	ports := freePorts(t, 3*size)
	var urls []string
	for i := range size {
		servers = append(servers, &natsServer{options: natsOptions{
			Name: fmt.Sprintf("n%d", i), Dir: t.TempDir(), Port: ports[i], Routing: ports[size+i], Routes: ports[size : 2*size], Monitor: ports[2*size+i],
		}})
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", ports[i]))
		monitors = append(monitors, fmt.Sprintf("http://127.0.0.1:%d", ports[2*size+i]))
	}
	for _, n := range servers {
		n.start(t)
		t.Cleanup(n.kill)
	}
	return servers, strings.Join(urls, ","), monitors
}

const sharedToken = "operator-token-of-the-whole-test-cluster"

// tokenFolder makes a data folder with the operator token that all studios of a
// cluster share.
func tokenFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "operator-token"), []byte(sharedToken), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sharedFarm is one of several studios in this process that share a cluster.
func sharedFarm(t *testing.T, addresses string, change func(*Config)) *farm {
	t.Helper()
	return newFarm(t, func(c *Config) {
		c.Data, c.Cluster = tokenFolder(t), &store.Cluster{URL: addresses}
		if change != nil {
			change(c)
		}
	})
}

// eventually waits for what nothing tells.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(slow); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came to that: %s", what)
		}
	}
}

// TestStudiosShareTheWork: what is asked of one studio happens at the other that
// the worker is connected to.
func TestStudiosShareTheWork(t *testing.T) {
	_, addresses, monitors := natsCluster(t, 3)
	a := sharedFarm(t, addresses, func(c *Config) { c.Cluster.Monitors = monitors })
	b := sharedFarm(t, addresses, func(c *Config) { c.Cluster.Monitors = monitors[:1] })
	if got := a.studio.store.Durability(); !strings.HasPrefix(got, "verified") {
		t.Errorf("durability: %s", got)
	}
	if got := b.studio.store.Durability(); !strings.HasPrefix(got, "not verified") {
		t.Errorf("durability with one of three servers asked: %s", got)
	}

	// Registered at one, connected to the other.
	w := a.worker(t)
	w.farm = b
	w.caps.Features = protocol.Features()
	l := w.connect(t, "")
	expect[protocol.HeartbeatAck](t, l)
	eventually(t, "the other studio shows the worker", func() bool {
		_, data := a.call(t, http.MethodGet, "/api/v1/workers", a.token, nil)
		return bytes.Contains(data, []byte(`"connected":true`))
	})

	// A job, its progress and its text.
	job := a.submit(t, llmJob)
	claim := l.take(t)
	if claim.JobID != job.ID {
		t.Fatalf("offered %s", claim.JobID)
	}
	ctx, cancel := context.WithTimeout(t.Context(), slow)
	defer cancel()
	seen := map[client.EventType]bool{}
	text := ""
	told := false
	for event, err := range a.operator.Events(ctx, job.ID) {
		if err != nil {
			t.Fatal(err)
		}
		seen[event.Type] = true
		if event.Delta != nil {
			text += event.Delta.Text
		}
		if event.Job.State == client.Running && !told {
			told = true
			l.send(t, protocol.Progress{JobID: job.ID, Step: 1, Total: 2})
			l.send(t, protocol.Delta{JobID: job.ID, Seq: 0, Text: "har"})
			l.send(t, protocol.Delta{JobID: job.ID, Seq: 1, Text: "bour"})
		}
		if text == "harbour" && seen[client.EventProgress] {
			break
		}
	}
	l.send(t, protocol.CompleteJSON{JobID: job.ID, Result: json.RawMessage(`"harbour"`)})
	expect[protocol.CompleteAck](t, l)
	a.await(t, job.ID, in(client.Done))
	if got, _ := a.fetch(t, job.ID); string(got) != `"harbour"` {
		t.Errorf("the result is %s", got)
	}

	// Log lines.
	l.send(t, protocol.LogBatch{Entries: []protocol.LogEntry{{TS: "2026-01-02T03:04:05Z", Level: "info", Message: "ahoy"}}})
	eventually(t, "the other studio has the log line", func() bool {
		_, data := a.call(t, http.MethodGet, "/api/v1/workers/"+w.id+"/logs", a.token, nil)
		return bytes.Contains(data, []byte("ahoy"))
	})

	// Cancelling, and a result that is uploaded to the studio without the worker.
	l.beat(t, "")
	job = a.submit(t, imageJob)
	l.take(t)
	a.await(t, job.ID, in(client.Running))
	if _, err := a.operator.Cancel(t.Context(), job.ID); err != nil {
		t.Fatal(err)
	}
	if got := expect[protocol.Cancel](t, l); got.JobID != job.ID {
		t.Errorf("cancel for %s", got.JobID)
	}
	l.send(t, protocol.Fail{JobID: job.ID, Error: "cancelled"})
	expect[protocol.FailAck](t, l)
	a.await(t, job.ID, in(client.Cancelled))
	l.beat(t, "")
	job = b.submit(t, imageJob)
	l.take(t)
	w.farm = a
	w.deliver(t, job.ID, []byte("pixels"))
	b.await(t, job.ID, in(client.Done))
	l.beat(t, "")
	next := a.submit(t, imageJob)
	if claim := l.take(t); claim.JobID != next.ID {
		t.Errorf("offered %s", claim.JobID)
	}

	// An accept that is read after another studio has heard the worker name the job.
	w.farm = a
	w.deliver(t, next.ID, []byte("pixels"))
	b.await(t, next.ID, in(client.Done))
	l.beat(t, "")
	job = a.submit(t, imageJob)
	if claim := expect[protocol.Offer](t, l).Claim; claim.JobID != job.ID {
		t.Errorf("offered %s", claim.JobID)
	}
	moved := a.studio.hub.newSession()
	eventually(t, "another session has the job", func() bool {
		rec, err := a.studio.store.Jobs.Get(t.Context(), job.ID)
		if err != nil {
			return false
		}
		rec.Value.State, rec.Value.Session, rec.Value.Attempts = store.Running, moved, 1
		_, err = a.studio.store.Jobs.Update(t.Context(), job.ID, rec.Value, rec.Revision)
		return err == nil
	})
	l.send(t, protocol.Accept{JobID: job.ID})
	l.beat(t, "")
	if rec, err := b.studio.store.Jobs.Get(t.Context(), job.ID); err != nil || rec.Value.Session != moved || rec.Value.Attempts != 1 {
		t.Errorf("the job is %+v, %v", rec.Value, err)
	}
	w.deliver(t, job.ID, []byte("pixels"))
	b.await(t, job.ID, in(client.Done))
	l.beat(t, "")
	next = a.submit(t, imageJob)
	l.take(t)

	// The worker moves to the other studio with its job.
	again := w.connect(t, next.ID)
	expectEnd(t, l, protocol.ErrorDuplicate, protocol.CloseDuplicate)
	eventually(t, "the job is the new session's", func() bool {
		rec, err := b.studio.store.Jobs.Get(t.Context(), next.ID)
		return err == nil && processOf(rec.Value.Session) == a.studio.hub.process
	})
	w.farm = b
	w.deliver(t, next.ID, []byte("pixels"))
	if got := a.await(t, next.ID, in(client.Done)); got.Attempts != 1 {
		t.Errorf("job is %+v", got)
	}

	// Removed at one, gone from the other.
	if status, body := b.call(t, http.MethodDelete, "/api/v1/workers/"+w.id, b.token, nil); status != http.StatusNoContent {
		t.Fatalf("remove answers %d %s", status, body)
	}
	expectEnd(t, again, protocol.ErrorDeleted, protocol.CloseDeleted)
}

// TestAStudioThatDiesGivesItsClaimsBack: another studio queues them again when
// their workers do not come back.
func TestAStudioThatDiesGivesItsClaimsBack(t *testing.T) {
	_, addresses, _ := natsCluster(t, 3)
	dir := tokenFolder(t)
	p := startProcess(t, dir, "127.0.0.1:0", childCluster+"="+addresses)
	a := sharedFarm(t, addresses, func(c *Config) { c.ReclaimGrace = 100 * time.Millisecond })
	w := p.worker(t)
	l := w.connect(t, "")
	job := a.submit(t, imageJob)
	l.take(t)
	a.await(t, job.ID, in(client.Running))
	p.kill()
	a.await(t, job.ID, in(client.Queued))
	second := a.worker(t)
	second.connect(t, "").take(t)
	second.deliver(t, job.ID, []byte("pixels"))
	if got := a.await(t, job.ID, in(client.Done)); got.Attempts != 2 {
		t.Errorf("job is %+v", got)
	}
}

// TestClusterIsRefused: with a reason that says what to do.
func TestClusterIsRefused(t *testing.T) {
	ports := freePorts(t, 3)
	one := &natsServer{options: natsOptions{Name: "n", Dir: t.TempDir(), Port: ports[0], Routing: ports[1], Monitor: ports[2]}}
	one.start(t)
	t.Cleanup(one.kill)
	for name, c := range map[string]struct{ url, want string }{
		"nobody there": {fmt.Sprintf("nats://127.0.0.1:%d", ports[1]), "connect to NATS"},
		"no address":   {"://", "connect to NATS"},
		"one server":   {fmt.Sprintf("nats://127.0.0.1:%d", ports[0]), "a NATS server alone"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(Config{Data: t.TempDir(), Listen: "127.0.0.1:0", Log: testLog(t), Cluster: &store.Cluster{URL: c.url}})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("New says %v, want %q", err, c.want)
			}
		})
	}
}

// roamer is a worker that is at home at several studios: when one is gone it
// goes to another, with what it has not delivered yet.
type roamer struct {
	studios  []string // addresses
	id       string
	token    string
	features []string
	dice     *rand.Rand
	kept     map[string]protocol.TaskKind // finished and not acknowledged
	computed atomic.Int64
}

func (r *roamer) work(ctx context.Context) {
	for ctx.Err() == nil {
		if err := r.session(ctx, r.studios[r.dice.IntN(len(r.studios))]); err != nil && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(50+r.dice.IntN(200)) * time.Millisecond): // as the protocol asks: not all at once
			}
		}
	}
}

func (r *roamer) session(ctx context.Context, studio string) error {
	dialer := websocket.Dialer{Subprotocols: []string{protocol.Version}, HandshakeTimeout: patience}
	base, err := protocol.ParseBase(studio)
	if err != nil {
		return err
	}
	conn, resp, err := dialer.DialContext(ctx, base.ConnectURL(r.id), http.Header{"Authorization": {"Bearer " + r.token}})
	if resp != nil {
		resp.Body.Close()
	}
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it may be closed already
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	caps := capabilities()
	caps.Features = r.features
	var mu sync.Mutex
	send := func(f protocol.Frame) error {
		data, err := protocol.Encode(f)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		return conn.WriteMessage(websocket.TextMessage, data)
	}
	if err := send(protocol.Hello{AuthToken: r.token, Capabilities: caps}); err != nil {
		return err
	}
	var current atomic.Value
	current.Store("")
	beats := time.NewTicker(500 * time.Millisecond)
	defer beats.Stop()
	over := make(chan struct{})
	var beating sync.WaitGroup
	defer beating.Wait()
	defer close(over)
	beating.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-beats.C:
				_ = send(protocol.Heartbeat{Capabilities: caps, CurrentJobID: current.Load().(string)}) // the reader notices
			}
		}
	})
	deliver := func(id string) error {
		if kind := r.kept[id]; kind.JSON() {
			return send(protocol.CompleteJSON{JobID: id, Result: json.RawMessage(`"result of ` + id + `"`)})
		}
		for ctx.Err() == nil { // as an outbox does, at whichever studio answers
			done, err := r.upload(ctx, id)
			if done {
				delete(r.kept, id)
				current.Store("")
				return errors.Join(err, send(protocol.Heartbeat{Capabilities: caps}))
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
		return ctx.Err()
	}
	for {
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		_, data, err := conn.ReadMessage()
		if err != nil {
			return err
		}
		frame, err := protocol.DecodeStudioFrame(data)
		if err != nil {
			return err
		}
		switch f := frame.(type) {
		case protocol.Welcome:
			if len(r.features) == 0 {
				err = send(protocol.Heartbeat{Capabilities: caps})
				break
			}
			err = send(protocol.Resume{JobIDs: slices.Collect(func(yield func(string) bool) {
				for id := range r.kept {
					if !yield(id) {
						return
					}
				}
			})})
		case protocol.Resumed:
			for _, id := range f.Drop {
				delete(r.kept, id)
			}
			if err = send(protocol.Heartbeat{Capabilities: caps}); err != nil {
				return err
			}
			for _, id := range f.Keep {
				if err = deliver(id); err != nil {
					break
				}
			}
		case protocol.CompleteAck:
			delete(r.kept, f.JobID)
			current.Store("")
			err = send(protocol.Heartbeat{Capabilities: caps})
		case protocol.Offer:
			id := f.Claim.JobID
			current.Store(id)
			if err = send(protocol.Accept{JobID: id}); err != nil {
				return err
			}
			if _, have := r.kept[id]; !have {
				r.computed.Add(1)
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(time.Duration(r.dice.IntN(20)) * time.Millisecond): // the work
				}
				r.kept[id] = f.Claim.Task.Kind
			}
			err = deliver(id)
		case protocol.Error:
			err = errors.New(f.Message)
		}
		if err != nil {
			return err
		}
	}
}

// upload delivers bytes to any studio, and says whether they need not be
// delivered again.
func (r *roamer) upload(ctx context.Context, id string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	studio := r.studios[r.dice.IntN(len(r.studios))]
	body := "--B\r\nContent-Disposition: form-data; name=\"ext\"\r\n\r\nwebp\r\n" +
		"--B\r\nContent-Disposition: form-data; name=\"image\"; filename=\"x\"\r\n\r\n\"result of " + id + "\"\r\n--B--\r\n"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, studio+workers+r.id+"/jobs/"+id+"/complete", strings.NewReader(body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	req.Header.Set("Content-Type", "multipart/form-data; boundary=B")
	req.Header.Set("Idempotency-Key", id+"/"+r.id)
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return false, err
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusConflict, http.StatusGone:
		return true, nil
	}
	return false, fmt.Errorf("upload answered %d %s", resp.StatusCode, data)
}

// ledger counts from the records themselves how often each job became done.
type ledger struct {
	mu   sync.Mutex
	done map[string]int
	last map[string]store.JobState
}

func (l *ledger) note(c store.Change[store.Job]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last[c.ID] = c.Entry.Value.State
	if c.Entry.Value.State == store.Done {
		l.done[c.ID]++
	}
}

func (l *ledger) finished() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.done)
}

// TestScaleOut: three NATS servers, three studios and eight workers; in each
// round one server and one studio are killed and started again. Every job that
// was acknowledged ends done, by exactly one write of its record, with its own
// result.
func TestScaleOut(t *testing.T) {
	jobs, rounds := 160, 1
	if os.Getenv(fullScaleOut) != "" {
		jobs, rounds = 2000, 5
	}
	servers, addresses, _ := natsCluster(t, 3)
	var studios []*process
	var urls []string
	listen := freePorts(t, 3)
	folders := make([]string, 3)
	run := func(i int) *process {
		return startProcess(t, folders[i], fmt.Sprintf("127.0.0.1:%d", listen[i]), childCluster+"="+addresses)
	}
	for i := range folders {
		folders[i] = tokenFolder(t)
		studios = append(studios, run(i))
		urls = append(urls, studios[i].url)
	}

	records := &ledger{done: map[string]int{}, last: map[string]store.JobState{}}
	watch, err := store.Open(t.Context(), store.Config{Dir: t.TempDir(), Cluster: &store.Cluster{URL: addresses}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := watch.Jobs.All(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		busy.Wait()
		if err := watch.Close(); err != nil {
			t.Error(err)
		}
	})
	busy.Go(func() {
		watch.Jobs.Follow(ctx, records.note, func(err error) { t.Log(err) })
	})
	var roamers []*roamer
	for i := range uint64(8) {
		w := studios[i%3].worker(t)
		r := &roamer{studios: urls, id: w.id, token: w.token, dice: rand.New(rand.NewPCG(i, 1)), kept: map[string]protocol.TaskKind{}} // #nosec G404 -- the same moods in each run
		if i%2 == 0 {
			r.features = protocol.Features()
		}
		roamers = append(roamers, r)
		busy.Go(func() { r.work(ctx) })
	}

	// Jobs are handed to whichever studio takes them.
	var mu sync.Mutex
	var acknowledged []string
	next := make(chan struct{}, 1)
	var submitting sync.WaitGroup
	for i := range 4 {
		dice := rand.New(rand.NewPCG(uint64(i), 2)) // #nosec G404 -- see above
		submitting.Go(func() {
			for range jobs / 4 {
				body := []string{imageJob, llmJob}[dice.IntN(2)]
				for ctx.Err() == nil {
					id, err := submitAt(ctx, urls[dice.IntN(3)], body)
					if err == nil {
						mu.Lock()
						acknowledged = append(acknowledged, id)
						mu.Unlock()
						break
					}
					select {
					case <-ctx.Done():
					case <-time.After(100 * time.Millisecond):
					}
				}
			}
		})
	}
	go func() {
		submitting.Wait()
		close(next)
	}()

	dice := rand.New(rand.NewPCG(3, 3)) // #nosec G404 -- see above
	began := time.Now()
	for round := range rounds {
		aim := (round*2 + 1) * jobs / (2 * rounds) // in the middle of the round's share
		eventually(t, fmt.Sprintf("%d jobs are done", aim), func() bool { return records.finished() >= aim })
		n, s := servers[dice.IntN(3)], dice.IntN(3)
		studios[s].kill()
		n.kill()
		t.Logf("round %d: after %v and %d jobs, killed %s and studio %d", round, time.Since(began).Round(time.Millisecond), records.finished(), n.options.Name, s)
		time.Sleep(2 * time.Second) // the others must do without
		n.start(t)
		studios[s] = run(s)
	}
	<-next
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, id := range acknowledged {
			if rec, err := watch.Jobs.Get(context.WithoutCancel(t.Context()), id); err != nil || rec.Value.State != store.Done {
				t.Logf("not done: %+v, %v", rec.Value, err)
			}
		}
	})
	eventually(t, "all jobs are done", func() bool { return records.finished() >= len(acknowledged) })
	t.Logf("%d jobs done after %v", records.finished(), time.Since(began).Round(time.Millisecond))
	for _, id := range acknowledged {
		eventually(t, "the ledger has "+id, func() bool {
			records.mu.Lock()
			defer records.mu.Unlock()
			return records.last[id] == store.Done
		})
	}
	records.mu.Lock()
	twice, unacknowledged := 0, 0
	for id, n := range records.done {
		if n != 1 {
			twice++
			t.Errorf("job %s became done %d times", id, n)
		}
		if !slices.Contains(acknowledged, id) {
			unacknowledged++
		}
	}
	records.mu.Unlock()
	for i, id := range acknowledged {
		studios[i%3].await(t, id, in(client.Done)) // each hears of it in its time
		if got, _ := studios[i%3].fetch(t, id); string(got) != `"result of `+id+`"` {
			t.Errorf("the result of %s is %q", id, got)
		}
	}
	computed := int64(0)
	for _, r := range roamers {
		computed += r.computed.Load()
	}
	t.Logf("%d jobs acknowledged, %d done twice, 0 lost; %d were stored though their answer was lost; workers computed %d results",
		len(acknowledged), twice, unacknowledged, computed)
}

// submitAt hands a job to a studio.
func submitAt(ctx context.Context, studio, body string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, studio+"/api/v1/jobs", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+sharedToken)
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var out client.Submitted
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || resp.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("submit answered %d, %w", resp.StatusCode, err)
	}
	return out.ID, nil
}

// TestRow60WithoutQuorum: when most NATS servers are gone, clients hear that
// nothing can be stored, and nothing is half done; when they are back, the
// studio goes on by itself.
func TestRow60WithoutQuorum(t *testing.T) {
	servers, addresses, _ := natsCluster(t, 3)
	f := sharedFarm(t, addresses, nil)
	first := f.submit(t, imageJob)
	servers[0].kill()
	var second client.Submitted
	eventually(t, "two of three servers take a job", func() bool {
		id, err := submitAt(t.Context(), f.url, imageJob)
		second.ID = id
		return err == nil
	})
	servers[1].kill()
	status, body := f.call(t, http.MethodPost, "/api/v1/jobs", f.token, strings.NewReader(imageJob))
	wantError(t, status, body, http.StatusServiceUnavailable, "unavailable")
	eventually(t, "health is red", func() bool {
		status, _ := f.call(t, http.MethodGet, "/healthz", "", nil)
		return status == http.StatusServiceUnavailable
	})
	servers[0].start(t)
	servers[1].start(t)
	eventually(t, "the studio is well again", func() bool {
		status, _ := f.call(t, http.MethodGet, "/healthz", "", nil)
		return status == http.StatusOK
	})
	for _, id := range []string{first.ID, second.ID} {
		if got := f.job(t, id); got.State != client.Queued {
			t.Errorf("job is %+v", got)
		}
	}
	eventually(t, "a job is taken", func() bool {
		_, err := submitAt(t.Context(), f.url, imageJob)
		return err == nil
	})
}
