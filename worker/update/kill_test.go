//go:build !windows

package update

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"studioworker/worker/observe"
	"studioworker/worker/update/feed"
	"studioworker/worker/update/versions"
)

// victimVariable makes the test binary an updater that is to be killed; its value is the
// folder where it finds its orders.
const victimVariable = "STUDIO_WORKER_TEST_VICTIM"

// orders are what a victim needs to know.
type orders struct{ Feed, Root string }

// victim takes the release of a feed, over and over: it is to die at any point.
func victim(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, "orders"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var o orders
	if err := json.Unmarshal(text, &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	b, err := victimBench(dir, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for {
		fmt.Println("begins")
		if _, err := b.Fetch(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		// It is tried, proves itself, and what is not needed goes; then all over again.
		p, err := b.cfg.Store.Next(versions.Version{Version: "1.0.0"})
		if err == nil && !p.Trial {
			err = fmt.Errorf("%+v is started", p)
		}
		if err == nil {
			err = b.cfg.Store.Change(func(s *versions.State) error { s.Promote(); return nil })
		}
		if err == nil {
			err = b.cfg.Store.Prune()
		}
		if err == nil {
			err = b.cfg.Store.Change(func(s *versions.State) error { *s = versions.State{}; return nil })
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
}

// TestRow51KilledAtAnyMoment kills an update at 50 moments that a seed draws. What
// starts afterwards is always a whole program that says its version.
func TestRow51KilledAtAnyMoment(t *testing.T) {
	const kills = 50
	s := newSite(t)
	archive := archiveOf(t, versions.ProgramName(), program("1.1.0", strings.Repeat("x", 2<<20)))
	s.publish(t, "v1.1.0", s.release("1.1.0", 6, archive), archive, s.sign)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(orders{s.URL + "/releases", s.rootKey.String()})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(51, 1))
	dir := t.TempDir() // one for all: each start finds what the one before left
	if err := os.WriteFile(filepath.Join(dir, "orders"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	var round time.Duration // that one update takes here
	for i := range kills {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "GOCOVERDIR=") }), victimVariable+"="+dir)
		var problem bytes.Buffer
		cmd.Stderr = &problem
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		await := func() {
			if _, err := lines.ReadString('\n'); err != nil {
				t.Fatalf("kill %d: the updater ended by itself: %v %s", i, err, &problem)
			}
		}
		await()
		if round == 0 {
			began := time.Now()
			await()
			round = time.Since(began)
		}
		time.Sleep(time.Duration(random.Int64N(int64(2 * round)))) // the moment that is drawn
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
		_ = cmd.Wait()
		if problem.Len() > 0 {
			t.Fatalf("kill %d: %s", i, &problem)
		}
		store, err := versions.Open(filepath.Join(dir, versions.Folder), discard())
		if err != nil {
			t.Fatal(err)
		}
		p, err := store.Next(versions.Version{Version: "1.0.0"})
		if err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
		found[p.Version.Version]++
		if p.Path != "" {
			said, err := exec.CommandContext(t.Context(), p.Path, "version").Output()
			if err != nil || string(said) != "studio-worker 1.1.0\n" {
				t.Fatalf("kill %d: %+v says %q, %v", i, p, said, err)
			}
		}
		if aside, err := filepath.Glob(filepath.Join(dir, versions.Folder, "*.corrupt-*")); err != nil || len(aside) > 0 {
			t.Fatalf("kill %d: %v, %v", i, aside, err)
		}
		// As the one that watches would: the next update begins from here.
		if err := store.Change(func(s *versions.State) error { *s = versions.State{}; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("after %d kills these were started: %v", kills, found)
	if len(found) != 2 {
		t.Errorf("after %d kills only these were started: %v", kills, found)
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// victimBench is an updater that takes each release anew.
func victimBench(dir string, o orders) (*Updater, error) {
	store, err := versions.Open(filepath.Join(dir, versions.Folder), discard())
	if err != nil {
		return nil, err
	}
	roots, err := feed.ParseRoots(o.Root)
	if err != nil {
		return nil, err
	}
	return New(Config{
		Store: store, Observer: new(observe.Slot[observe.Update]), Log: discard(), HTTP: &http.Client{}, Settings: func() Settings { return Settings{} },
		InstallID: func() string { return "" }, FreeDisk: func() (uint64, error) { return 1 << 40, nil },
		Feed: o.Feed, Roots: roots, Version: "1.0.0", OS: runtime.GOOS, Arch: runtime.GOARCH, Variant: "headless",
	}), nil
}
