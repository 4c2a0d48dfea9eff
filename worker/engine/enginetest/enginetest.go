// Package enginetest finds the real programs and models that tests of engines
// run. `make test-engines` brings them here and says where they are.
package enginetest

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Required is the variable that `make test-engines` sets: with it, what is
// missing fails a test instead of skipping it.
const Required = "STUDIO_WORKER_TEST_ENGINES"

// Program returns the program that variable names, else the one called name on
// PATH. Without it the test is skipped.
func Program(tb testing.TB, variable, name string) string {
	tb.Helper()
	if path := os.Getenv(variable); path != "" {
		return path
	}
	path, err := exec.LookPath(name)
	if err != nil {
		missing(tb, name+" is not installed here, and "+variable+" names none")
	}
	return path
}

// File returns the file that variable names. Without it the test is skipped.
func File(tb testing.TB, variable string) string {
	tb.Helper()
	path := os.Getenv(variable)
	if path == "" {
		missing(tb, variable+" names no file")
	}
	if _, err := os.Stat(path); err != nil {
		tb.Fatal(err)
	}
	return path
}

// Given tells whether variable names a file, for a benchmark that needs it. If not, it
// says loudly that what, a figure, is not measured: a benchmark that is skipped is not
// heard of.
func Given(what, variable string) bool {
	if path := os.Getenv(variable); path != "" {
		return true
	}
	fmt.Printf("\nengine %s: NOT RUN, %s names no file; scripts/bench fetches it\n", what, variable)
	return false
}

func missing(tb testing.TB, what string) {
	tb.Helper()
	if os.Getenv(Required) != "" {
		tb.Fatal(what)
	}
	tb.Skip(what + "; make test-engines fetches it")
}
