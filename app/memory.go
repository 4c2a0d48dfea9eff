package app

import (
	"os"
	"runtime/debug"
	"time"
)

// settleTime is how long a start takes at most.
const settleTime = 2 * time.Second

// startGC is how much garbage may lie beside what is in use while the program starts, in
// percent: the start has no time to collect it.
const startGC = 400

// settleMemory lets the start have its garbage, and gives that back once it is over. From then on at
// most so much garbage may lie beside what is in use, in percent: a worker runs for
// months, and the memory is worth more to others than the moments that collecting takes.
// A person's GOGC is left alone. The caller calls stop.
func settleMemory(percent int) (stop func() bool) {
	if os.Getenv("GOGC") != "" {
		return func() bool { return false }
	}
	debug.SetGCPercent(startGC)
	return time.AfterFunc(settleTime, func() {
		debug.SetGCPercent(percent)
		debug.FreeOSMemory()
	}).Stop
}
