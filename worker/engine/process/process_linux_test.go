package process_test

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"studioworker/worker/engine/process"
)

// Fault row 2: the worker dies while a child runs.
func TestChildDiesWithTheWorker(t *testing.T) {
	line := newLifeline(t)
	host := exec.CommandContext(t.Context(), os.Args[0], line.address())
	host.Env = append(process.Environment(os.Environ()), childMode+"=host")
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	line.await()
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := host.Wait(); err == nil {
		t.Error("the host ended well, want it killed")
	}
	line.gone(2 * time.Second)
}

// Two hundred children at once leave no process and no descriptor behind.
func TestRunManyLeavesNoDescriptors(t *testing.T) {
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	run := func() error {
		_, err := process.Run(t.Context(), process.Config{Path: "/bin/true", WallLimit: time.Minute})
		return err
	}
	if err := run(); err != nil { // opens what the runtime keeps open
		t.Fatal(err)
	}
	before := count()
	errs := make(chan error)
	for range 200 {
		go func() { errs <- run() }()
	}
	for range 200 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
