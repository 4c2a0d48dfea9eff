// Package update looks for releases of this program, fetches them, and has them run.
//
// A release is believed because of its signatures alone (package feed); it is put beside
// the installed program, which is never changed (package versions); and the program that
// was there before watches the new one and comes back when that does not work (package
// supervisor). This package is what runs within a worker: it looks once an interval,
// fetches what is newer, and asks for a restart when no job runs.
//
// Nothing is fetched while a job runs, unless that has been so for a whole interval.
// Nobody is asked before it: the outcome of each step stands in the slot Update.
package update
