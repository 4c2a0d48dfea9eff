//go:build !windows

package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBackupAndRestore: a running studio is saved, and brought back into an
// empty folder; what cannot be done is said.
func TestBackupAndRestore(t *testing.T) {
	h := newHome(t)
	data := filepath.Join(h.dir, "farm")
	s := h.start(t, "studio", "--listen", "127.0.0.1:0", "--data", data, "--memory-limit", "512")
	if !s.out.await(1, "operator token in ") {
		t.Fatalf("the studio says %s%s", s.out, s.err)
	}
	url, _, _ := strings.Cut(strings.TrimPrefix(s.out.String(), "studio at "), ",")
	at := []string{"studio", "backup", "--studio", url, "--token-file", tokenFile(data)}
	file := filepath.Join(h.dir, "farm.tar.gz")
	if out := h.want(t, append(at, "--results", file)...); !strings.HasPrefix(out, "saved ") {
		t.Errorf("backup prints %q", out)
	}
	h.wantRefusal(t, exitFail, append(at, file), "file exists")
	h.wantRefusal(t, exitUsage, at, "one new file")
	h.wantRefusal(t, exitUsage, []string{"studio", "restore"}, "one backup")
	h.wantRefusal(t, exitUsage, []string{"studio", "restore", filepath.Join(h.dir, "none")}, "no such file")
	h.wantRefusal(t, exitFail, []string{"studio", "restore", "--data", data, file}, "another studio uses this folder")
	s.stop(t)

	torn := filepath.Join(h.dir, "torn.tar.gz")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(torn, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(h.dir, "again")
	h.wantRefusal(t, exitFail, []string{"studio", "restore", "--data", again, torn}, "damaged")
	// The models that every studio has are records.
	if out := h.want(t, "studio", "restore", "--data", again, file); !strings.HasPrefix(out, "brought back ") || strings.HasPrefix(out, "brought back 0") {
		t.Errorf("restore prints %q", out)
	}
	if out := h.want(t, "studio", "restore", "--data", again, file); out != "brought back 0 records and 0 parts of results\n" {
		t.Errorf("a second restore prints %q", out)
	}
}

// TestClusterFlags: what cannot be meant is said before anything is opened.
func TestClusterFlags(t *testing.T) {
	h := newHome(t)
	for _, args := range [][]string{{"studio"}, {"studio", "restore", filepath.Join(h.dir, "x")}} {
		h.wantRefusal(t, exitUsage, append(args, "--nats-creds", "x"), "go with --nats")
		h.wantRefusal(t, exitUsage, append(args, "--nats", "nats://127.0.0.1:1", "--nats-cert", "x"), "go together")
	}
	h.wantRefusal(t, exitFail, []string{"studio", "--listen", "127.0.0.1:0", "--nats", "nats://127.0.0.1:1"}, "connect to NATS")
}
