// Package ui is the program's window: a header with the one state and the one
// sensible action, pages for Status, Jobs and Logs, and a status bar. Package
// app fills [Config] and [Controls]; package ui/desktop puts the window on the
// screen and adds the tray.
//
// All that the window shows comes from worker/observe. One subscriber, the
// feed, follows the slots, takes a snapshot at most ten times a second, and none
// while nobody can see it; package ui/model words the snapshot; single values
// then go through data bindings, lists are drawn from the snapshot. Methods of
// [Window] belong to the UI goroutine, except Run, which blocks until its
// context ends and crosses over to the UI goroutine by itself.
package ui
