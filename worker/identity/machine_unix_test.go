//go:build !windows && !darwin

package identity

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheFirstFileWithAnIDCounts(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	missing, fresh, good := filepath.Join(dir, "none"), file("fresh", "uninitialized\n"), file("good", id+"\n")
	large := file("large", strings.Repeat("a", 1<<20))
	if got, err := firstOf(missing, fresh, large, good); got != id || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	got, err := firstOf(missing, fresh, large)
	if got != "" || !errors.Is(err, os.ErrNotExist) || !errors.Is(err, errNoID) || !strings.Contains(err.Error(), fresh) {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestMachineID: this computer has an id, or says why not; twice the same.
func TestMachineID(t *testing.T) {
	first, err := MachineID(t.Context())
	again, errAgain := MachineID(t.Context())
	if first != again || (err == nil) != (errAgain == nil) || (err == nil) != (first != "") {
		t.Errorf("first %q, %v; then %q, %v", first, err, again, errAgain)
	}
}
