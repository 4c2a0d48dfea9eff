package outbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Environment of the child that does one job and kills itself at a step.
const (
	crashStep   = "STUDIO_WORKER_OUTBOX_CRASH_STEP" // 0: never
	crashRoot   = "STUDIO_WORKER_OUTBOX_CRASH_ROOT"
	crashStudio = "STUDIO_WORKER_OUTBOX_CRASH_STUDIO"
	crashShort  = "STUDIO_WORKER_OUTBOX_CRASH_SHORT" // not empty: the result is a short one in memory
)

// crashChild makes, commits and delivers one result. Before the operation on
// the file system whose number it was given, it ends as by SIGKILL. It prints
// how many there were.
func crashChild() error {
	last, err := strconv.Atoi(os.Getenv(crashStep))
	if err != nil {
		return err
	}
	o, err := Open(config(os.Getenv(crashRoot), nil))
	if err != nil {
		return err
	}
	var mu sync.Mutex
	n := 0
	step := func() {
		mu.Lock()
		defer mu.Unlock()
		if n++; n != last {
			return
		}
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		if err != nil {
			panic(err)
		}
		select {}
	}
	o.fs = faultFS{FS: OS(), before: func(string, string) error { step(); return nil }}
	d, err := o.Begin("job", 0)
	if err != nil {
		return err
	}
	result := inMemory(someText)
	if os.Getenv(crashShort) == "" {
		result = someResult()
		if err := writeSlowly(filepath.Join(d.Dir(), result.File), step); err != nil {
			return err
		}
	}
	step()
	e, err := d.Commit(result)
	if err != nil {
		return err
	}
	del := NewDeliverer(DelivererConfig{
		Outbox: o, HTTP: &http.Client{}, Target: target(os.Getenv(crashStudio)), Log: quiet(), UserAgent: "studio-worker/test",
	})
	if err := deliverAll(context.Background(), o, del); err != nil {
		return err
	}
	if _, ok := o.Find(e.JobID); ok {
		return errors.New("the result is still in the outbox")
	}
	if err := o.Close(); err != nil {
		return err
	}
	step()
	mu.Lock()
	defer mu.Unlock()
	_, err = fmt.Println(n)
	return err
}

// writeSlowly writes someBytes as an engine does.
func writeSlowly(path string, step func()) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for _, half := range [][]byte{someBytes[:len(someBytes)/2], someBytes[len(someBytes)/2:]} { // S1
		step()
		if _, err := f.Write(half); err != nil {
			return err
		}
	}
	step()
	return f.Close()
}

// deliverAll tries until nothing waits. A JSON result is uploaded, too, as if
// that were its frame: what the worker does before and after is the same.
func deliverAll(ctx context.Context, o *Outbox, d *Deliverer) error {
	var last error
	for range 5 {
		for _, e := range o.Entries() {
			deliver := d.DeliverNow
			if e.JSON() {
				deliver = d.deliver
			}
			if _, err := deliver(ctx, e); err != nil {
				last = err
			}
		}
		if len(o.Entries()) == 0 {
			return nil
		}
	}
	return last
}

// TestRow3KillAtEachStep kills the worker before each operation on the disk and
// after the last, under four faults of the studio (reliability guide §3.2, fault
// rows 3, 25 and 28). The job must be committed once, and nothing be left over.
func TestRow3KillAtEachStep(t *testing.T) {
	for _, f := range []fault{faultNone, faultDrop, fault503, faultReset} {
		for name, short := range map[string]bool{"bytes": false, "short JSON": true} {
			t.Run(name+", "+string(f), func(t *testing.T) {
				t.Parallel()
				steps := crashRun(t, f, 0, short)
				if steps < 14 {
					t.Fatalf("only %d steps, the protocol has 14", steps)
				}
				for step := 1; step <= steps; step++ {
					crashRun(t, f, step, short)
				}
				t.Logf("killed at %d steps", steps)
			})
		}
	}
}

// crashRun lets a child die at a step, goes on after it, and checks what is
// there in the end. It returns how many steps a child made that did not die.
func crashRun(t *testing.T, f fault, step int, short bool) int {
	t.Helper()
	result, file := someBytes, "job.webp"
	if short {
		result, file = []byte(someText), "job.json"
	}
	root := t.TempDir()
	open(t, root, nil) // the child finds the ballast written
	s := newStudio(t)
	defer s.Close()
	s.will(f)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), crashStep+"="+strconv.Itoa(step), crashRoot+"="+root, crashStudio+"="+s.URL)
	if short {
		cmd.Env = append(cmd.Env, crashShort+"=1")
	}
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case step == 0 && err != nil:
		t.Fatalf("the child that is not killed: %v: %s", err, &problem)
	case step > 0 && (!errors.As(err, &exit) || problem.Len() > 0):
		t.Fatalf("step %d: the child ended with %v: %s", step, err, &problem)
	}

	o := open(t, root, nil)
	d := deliverer(t, o, s.URL)
	if err := deliverAll(t.Context(), o, d); err != nil {
		t.Fatalf("step %d: after the restart: %v", step, err)
	}
	if len(s.committed()) == 0 { // nothing was in ready/: the studio gives the job out again
		if short {
			putText(t, o, "job", someText)
		} else {
			put(t, o, "job", someBytes)
		}
		if err := deliverAll(t.Context(), o, d); err != nil {
			t.Fatalf("step %d: the second attempt: %v", step, err)
		}
	}
	got := s.committed()
	if len(got) != 1 || len(got[0].parts) != 3 || got[0].parts[2].text != string(result) {
		t.Errorf("step %d: %d commits, want one with the bytes of the engine", step, len(got))
	}
	for _, dir := range []string{o.tmp, o.ready.dir, o.kept.dir, o.refused} {
		wantNames(t, dir)
	}
	wantNames(t, o.results, file)
	wantFile(t, filepath.Join(o.results, file), result)
	if err := os.RemoveAll(root); err != nil { // each holds a ballast
		t.Fatal(err)
	}
	if step > 0 {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(out.String()))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
