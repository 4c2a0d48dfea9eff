package outbox

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"studioworker/worker/disktest"
)

// powerCutRoot makes the test binary the program whose computer loses its power:
// it stores results there until it is killed.
const powerCutRoot = "STUDIO_WORKER_OUTBOX_POWER_CUT_ROOT"

// TestRow04PowerCut takes the disk of a working outbox as it is at a random
// moment: the file system lies in an image, and what was not synced is not in
// the image. Every result that was acknowledged before must be whole on it
// (reliability guide §6.3).
func TestRow04PowerCut(t *testing.T) {
	if root := os.Getenv(powerCutRoot); root != "" {
		storeForEver(t, root)
		return
	}
	disk := disktest.NewImage(t, 160)
	acknowledged := map[string]string{} // hashes by job, over all cuts
	for cut, after := range []int{3, 8, 15} {
		checkAfterCut(t, cut, cutPower(t, disk, after, acknowledged).PowerOn(t), acknowledged)
	}
	t.Logf("%d results were acknowledged before the last of 3 cuts, none is lost", len(acknowledged))
}

// storeForEver stores one result after the other, every second a short one, and
// says so on its standard output when each is stored.
func storeForEver(t *testing.T, root string) {
	t.Helper()
	o := open(t, root, nil)
	for n := 0; ; n++ {
		job := fmt.Sprintf("job-%d-%d", os.Getpid(), n)
		var e Entry
		if n%2 == 0 {
			e = put(t, o, job, []byte(strings.Repeat(job, 5000)))
		} else {
			e = putText(t, o, job, strconv.Quote(strings.Repeat(job, 500)))
		}
		if _, err := fmt.Printf("stored %s %s\n", job, e.SHA256); err != nil {
			t.Fatal(err)
		}
	}
}

// cutPower runs the program until it has acknowledged some results, freezes it
// wherever it is then, and copies the disk.
func cutPower(t *testing.T, disk *disktest.Image, after int, acknowledged map[string]string) *disktest.Image {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self, "-test.run=^TestRow04PowerCut$")
	child.Env = append(os.Environ(), powerCutRoot+"="+disk.Dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	note := func() bool {
		if !lines.Scan() {
			return false
		}
		if job, sum, ok := strings.Cut(strings.TrimPrefix(lines.Text(), "stored "), " "); ok && strings.HasPrefix(lines.Text(), "stored ") {
			acknowledged[job] = sum
		}
		return true
	}
	for range after {
		if !note() {
			t.Fatalf("the program ended by itself: %v", lines.Err())
		}
	}
	if err := child.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	awaitStopped(t, child.Process.Pid)
	cut := disk.Cut(t)
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for note() { // said before the cut, read only now
	}
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) {
		t.Fatalf("the program ended with %v", err)
	}
	return cut
}

// awaitStopped returns when every thread of the process stands still.
func awaitStopped(t *testing.T, pid int) {
	t.Helper()
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || !status.Stopped() {
			t.Fatalf("the program does not stand still: %v, %v", status, err)
		}
		return
	}
}

// checkAfterCut opens the outbox of a computer that is on again.
func checkAfterCut(t *testing.T, cut int, root string, acknowledged map[string]string) {
	t.Helper()
	o := open(t, root, nil)
	for job, sum := range acknowledged {
		e, ok := o.Find(job)
		if !ok {
			t.Errorf("cut %d: %s was acknowledged and is lost", cut, job)
			continue
		}
		data, err := read(o, e)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if got := sha256.Sum256(data); hex.EncodeToString(got[:]) != sum || e.SHA256 != sum {
			t.Errorf("cut %d: %s was acknowledged and has %d other bytes", cut, job, len(data))
		}
	}
	// What was not acknowledged is there as a whole or not at all.
	for _, e := range o.Entries() {
		data, err := read(o, e)
		if err != nil {
			t.Fatal(err)
		}
		if got := sha256.Sum256(data); hex.EncodeToString(got[:]) != e.SHA256 {
			t.Errorf("cut %d: %s waits for the studio and is torn", cut, e.JobID)
		}
	}
	wantNames(t, o.tmp)
	wantNames(t, o.refused)
	if err := o.Close(); err != nil {
		t.Error(err)
	}
}

func read(o *Outbox, e Entry) ([]byte, error) {
	r, err := o.openResult(e)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}
