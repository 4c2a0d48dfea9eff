// Package logs is what lies behind the worker's log/slog: one handler that
// words each record for people and hands it to the display ring and to the ship
// queue.
//
// Nothing here waits for the network. The ring ([observe.Ring]) is what the
// window shows; the [Queue] is what the studio gets. Records below Info go to
// neither, but those about a job are in that job's log, in memory.
package logs
