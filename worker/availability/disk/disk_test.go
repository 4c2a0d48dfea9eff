package disk

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestFree(t *testing.T) {
	dir := t.TempDir()
	if n, err := Free(dir); err != nil || n == 0 || n >= 1<<60 {
		t.Errorf("%d bytes, %v", n, err)
	}
	missing := filepath.Join(dir, "missing")
	if n, err := Free(missing); err == nil || n != 0 || !strings.Contains(err.Error(), missing) {
		t.Errorf("a folder that is not there: %d bytes, %v", n, err)
	}
}
