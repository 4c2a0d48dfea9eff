package supervisor

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// childVariable makes the test binary a version that is watched.
const childVariable = "STUDIO_WORKER_TEST_CHILD"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childVariable); mode != "" {
		os.Exit(child(mode))
	}
	goleak.VerifyTestMain(m)
}

// child is a version that does what its mode says.
func child(mode string) int {
	if mode == "nonsense" {
		// Before anybody has attached: the pipe is number 3.
		_, _ = os.NewFile(3, "pipe").WriteString("{\"kind\":\n")
		time.Sleep(time.Minute)
		return 1
	}
	p, err := Attach()
	if err != nil || p == nil {
		fmt.Fprintln(os.Stderr, "no supervisor:", err)
		return 3
	}
	for _, entry := range os.Environ() {
		for _, name := range hidden {
			if strings.HasPrefix(entry, name+"=") {
				fmt.Fprintln(os.Stderr, "left in the environment:", entry)
				return 4
			}
		}
	}
	if p.Installed() != "/the/installed" || !p.Unasked() {
		return 5
	}
	p.Tell(Message{Kind: Opened, Results: 3})
	p.Tell(Message{Kind: Notify, Text: strings.Repeat("x", maxLine)}) // too long to be sent
	if mode == "stubborn" {
		time.Sleep(time.Minute)
	}
	<-p.Gone()
	p.Tell(Message{Kind: Ended})
	return 7
}
