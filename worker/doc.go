// Package worker is the worker core: it registers with a studio, keeps a
// session open, takes offers, runs jobs on the engines of this machine and
// delivers their results. It knows nothing of windows.
//
// [New] puts the parts together, [Worker.Run] runs them until its context ends.
// What happens is in the observers; commands are methods.
package worker
