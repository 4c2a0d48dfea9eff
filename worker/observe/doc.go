// Package observe holds what the worker lets others see: one [WorkerObservers]
// with a [Slot] for each fact and a [Ring] for each list.
//
// The worker core writes; the window, the command line and the logs read.
// Values are snapshots: nobody changes one after it was set. A writer never
// waits for a reader. A reader that is slower than the writer skips values and
// always ends with the newest one.
package observe
