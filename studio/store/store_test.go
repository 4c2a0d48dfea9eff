package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"studioworker/worker/protocol"
)

// childFolder makes the test binary open that folder, store something, say so
// and wait to be killed.
const childFolder = "STORE_TEST_FOLDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		os.Exit(child(dir))
	}
	// nats.go v1.55.0 leaves this goroutine behind when it is first scheduled after
	// the Put that started it has ended: it then waits on a channel that is nil.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"))
}

func child(dir string) int {
	ctx := context.Background()
	s, err := Open(ctx, Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 1
	}
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		if _, err := s.Jobs.Create(ctx, id, job(id)); err != nil {
			return 1
		}
	}
	if _, err := s.Put(ctx, "a/1", 3, strings.NewReader("kept")); err != nil {
		return 1
	}
	// A part that is never closed: its reader says so and stalls.
	_, err = s.Put(ctx, "a/2", -1, io.MultiReader(bytes.NewReader(make([]byte, 3*chunkBytes)), stalled{}))
	_, _ = os.Stdout.WriteString(err.Error())
	return 1
}

// stalled tells the parent that everything before it was handed to the store,
// and never returns.
type stalled struct{}

func (stalled) Read([]byte) (int, error) {
	_, _ = os.Stdout.WriteString("stored\n")
	select {}
}

func job(id string) Job {
	return Job{
		ID: id, State: Queued, Model: "m", Task: protocol.Task{Kind: protocol.KindTTS, TTS: &protocol.TTSTask{Text: id, Voice: "v", Ext: "wav"}},
		Source: protocol.ModelSource{Engine: protocol.EngineSynthetic},
	}
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Dir: dir, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestEveryWriteIsSynced: no configuration gives a server that does not sync,
// and none opens a port (condition 1).
func TestEveryWriteIsSynced(t *testing.T) {
	for _, cfg := range []Config{{}, {Dir: "x", MaxStore: 1, UploadBytes: 1}} {
		o := options(cfg)
		if !o.SyncAlways || !o.DontListen || !o.NoSigs || o.JetStreamMaxMemory != maxMemory || o.StoreDir == "" || o.JetStreamMaxStore != cfg.MaxStore {
			t.Errorf("options are %+v", o)
		}
	}
	s := open(t, t.TempDir())
	running := s.local.now().JetStreamConfig()
	if !running.SyncAlways || running.MaxStore != defaultDisk || running.MaxMemory != maxMemory {
		t.Errorf("the server runs with %+v", running)
	}
	if addr := s.local.now().Addr(); addr != nil {
		t.Errorf("the server listens on %v", addr)
	}
	if err := s.Healthy(); err != nil {
		t.Error(err)
	}
}

// TestRow57OneWinnerOfAClaim: of many writers of one revision one wins (condition 2).
func TestRow57OneWinnerOfAClaim(t *testing.T) {
	s := open(t, t.TempDir())
	revision, err := s.Jobs.Create(t.Context(), "j", job("j"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	results := make(chan error, 64)
	for range cap(results) {
		wg.Go(func() {
			_, err := s.Jobs.Update(t.Context(), "j", job("j"), revision)
			results <- err
		})
	}
	wg.Wait()
	close(results)
	won := 0
	for err := range results {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, ErrConflict):
			t.Errorf("a loser hears %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d writers won", won)
	}
	if _, err := s.Jobs.Create(t.Context(), "j", job("j")); !errors.Is(err, ErrConflict) {
		t.Errorf("creating it again says %v", err)
	}
}

// TestJobsAreSharded: ids spread over four streams with one value each
// (conditions 2 and 3).
func TestJobsAreSharded(t *testing.T) {
	s := open(t, t.TempDir())
	used := map[string]bool{}
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		if _, err := s.Jobs.Create(t.Context(), id, job(id)); err != nil {
			t.Fatal(err)
		}
		used[s.Jobs.shard(id).Bucket()] = true
	}
	if len(used) != jobShards {
		t.Errorf("8 ids use the buckets %v", used)
	}
	for _, kv := range s.Jobs.shards {
		status, err := kv.Status(t.Context())
		if err != nil || status.History() != 1 {
			t.Errorf("bucket %s: history %d, %v", kv.Bucket(), status.History(), err)
		}
	}
	all, bad, err := s.Jobs.All(t.Context())
	if len(all) != 8 || len(bad) != 0 || err != nil {
		t.Errorf("%d records, %v, %v", len(all), bad, err)
	}
}

func TestRecords(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := s.Jobs.Get(t.Context(), "none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a record that is not there: %v", err)
	}
	if _, err := s.Jobs.Get(t.Context(), "no id"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an id that cannot be: %v", err)
	}
	// The largest task that the studio takes: every character is escaped.
	large := job("large")
	large.Task.TTS.Text = strings.Repeat("<", 1<<20)
	if _, err := s.Jobs.Create(t.Context(), "large", large); err != nil {
		t.Fatal(err)
	}
	got, err := s.Jobs.Get(t.Context(), "large")
	if err != nil || got.Value.Task.TTS.Text != large.Task.TTS.Text {
		t.Errorf("the large task comes back with %d characters, %v", len(got.Value.Task.TTS.Text), err)
	}
	if _, err := s.Jobs.shard("bad").Put(t.Context(), "bad", []byte("{")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Jobs.Get(t.Context(), "bad"); err == nil {
		t.Error("a damaged record was read")
	}
	all, bad, err := s.Jobs.All(t.Context())
	if len(all) != 1 || len(bad) != 1 || err != nil {
		t.Errorf("%d records, %v, %v", len(all), bad, err)
	}
}

// TestResults: bytes come back as they went in, whatever their size and however
// they arrive, in parts of the bound (condition 4).
func TestResults(t *testing.T) {
	s := open(t, t.TempDir())
	for name, n := range map[string]int{"small": 5, "a chunk": chunkBytes, "a part": partBytes, "a part and a byte": partBytes + 1} {
		t.Run(name, func(t *testing.T) {
			data := make([]byte, n)
			_, _ = rand.Read(data)
			result, err := s.Put(t.Context(), "job/1-"+strings.ReplaceAll(name, " ", ""), -1, iotest.HalfReader(bytes.NewReader(data)))
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(data)
			if result.Bytes != int64(n) || result.SHA256 != hex.EncodeToString(sum[:]) || result.Parts != (n+partBytes-1)/partBytes {
				t.Errorf("result is %+v", result)
			}
			info, err := s.objects.GetInfo(t.Context(), result.Folder+"/0")
			if err != nil || int(info.Chunks) != (min(n, partBytes)+chunkBytes-1)/chunkBytes {
				t.Errorf("first part is %+v, %v", info, err)
			}
			var out bytes.Buffer
			if err := s.Copy(t.Context(), &out, result); err != nil || !bytes.Equal(out.Bytes(), data) {
				t.Errorf("%d bytes come back, %v", out.Len(), err)
			}
			if err := s.Discard(t.Context(), result); err != nil {
				t.Error(err)
			}
			if err := s.Copy(t.Context(), io.Discard, result); !errors.Is(err, ErrNotFound) {
				t.Errorf("a discarded result: %v", err)
			}
		})
	}
}

// TestBrokenUploadLeavesNothing: neither parts nor chunks (condition 4).
func TestBrokenUploadLeavesNothing(t *testing.T) {
	s := open(t, t.TempDir())
	broken := errors.New("the line broke")
	in := io.MultiReader(bytes.NewReader(make([]byte, partBytes+chunkBytes)), iotest.ErrReader(broken))
	if _, err := s.Put(t.Context(), "job/1", -1, in); !errors.Is(err, broken) {
		t.Errorf("Put says %v", err)
	}
	if swept, err := s.Sweep(t.Context(), nil); swept.Parts+swept.Chunks != 0 || err != nil {
		t.Errorf("left: %+v, %v", swept, err)
	}
}

// TestUploadsShareTheBudget: one large upload takes 100 MiB of it, and the next
// waits (condition 4).
func TestUploadsShareTheBudget(t *testing.T) {
	s, err := Open(t.Context(), Config{Dir: t.TempDir(), UploadBytes: uploadWeight, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	hold, release := io.Pipe()
	first := make(chan error, 1)
	go func() {
		_, err := s.Put(context.WithoutCancel(t.Context()), "job/1", -1, hold)
		first <- err
	}()
	if _, err := release.Write([]byte("x")); err != nil { // it is reading, so it has the budget
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Put(ctx, "job/2", -1, strings.NewReader("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("a second upload: %v", err)
	}
	if err := release.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
	if _, err := s.Put(t.Context(), "job/2", -1, strings.NewReader("x")); err != nil {
		t.Errorf("after the first: %v", err)
	}
}

// TestFolderIsLocked: a second store on the folder is refused, in this process
// and in another; after the first is closed it is not (condition 8).
func TestFolderIsLocked(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := Open(t.Context(), Config{Dir: dir, Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, ErrLocked) {
		t.Errorf("a second store: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0]) // #nosec G204 -- this very program
	cmd.Env = append(os.Environ(), childFolder+"="+dir)
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("another process got the folder: %v", err)
	}
	if err := s.Healthy(); err != nil {
		t.Error(err)
	}
}

// TestKilledStoreKeepsWhatItAcknowledged: records and results survive SIGKILL,
// and what an upload had not finished is swept.
func TestKilledStoreKeepsWhatItAcknowledged(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0]) // #nosec G204 -- this very program
	cmd.Env = append(os.Environ(), childFolder+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 7)
	if _, err := io.ReadFull(out, said); err != nil || string(said) != "stored\n" {
		t.Fatalf("the child said %q, %v", said, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed, and says so
	s := open(t, dir)
	all, bad, err := s.Jobs.All(t.Context())
	if len(all) != 8 || len(bad) != 0 || err != nil {
		t.Errorf("%d records, %v, %v", len(all), bad, err)
	}
	swept, err := s.Sweep(t.Context(), map[string]int{"a/1": 1})
	if swept.Parts != 0 || len(swept.Damaged) != 0 || err != nil {
		t.Errorf("swept: %+v, %v", swept, err)
	}
	data, err := s.objects.GetBytes(t.Context(), "a/1/0")
	if string(data) != "kept" || err != nil {
		t.Errorf("the result is %q, %v", data, err)
	}
	if swept, err = s.Sweep(t.Context(), nil); swept.Parts != 1 || err != nil {
		t.Errorf("swept: %+v, %v", swept, err)
	}
	if _, err := s.objects.GetBytes(t.Context(), "a/1/0"); !errors.Is(err, jetstream.ErrObjectNotFound) {
		t.Errorf("a swept result: %v", err)
	}
	stream, err := s.js.Stream(t.Context(), "OBJ_"+resultBucket)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter("$O."+resultBucket+".C.>"))
	if err != nil || len(info.State.Subjects) != 0 {
		t.Errorf("chunks are left: %v, %v", info.State.Subjects, err)
	}
}

// TestLongIDs: an id that no server takes is unknown, and cuts nobody off.
func TestLongIDs(t *testing.T) {
	s := open(t, t.TempDir())
	for _, n := range []int{maxKey, maxKey + 1, 5000, 100_000} {
		if _, err := s.Keys.Get(t.Context(), strings.Repeat("a", n)); !errors.Is(err, ErrNotFound) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := s.Keys.Create(t.Context(), strings.Repeat("a", maxKey+1), Key{}); err == nil {
		t.Error("a record with a long id was written")
	}
	if _, err := s.Keys.Create(t.Context(), strings.Repeat("a", maxKey), Key{}); err != nil {
		t.Error(err)
	}
}
