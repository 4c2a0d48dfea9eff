// Package studio is the self-hosted studio: it lets workers in, queues jobs,
// offers each to a worker that can do it, and keeps the results.
//
// app makes a [Studio] with [New] and runs it with [Studio.Run]. New opens the
// data folder and binds the address, so that what is wrong with either is told
// at once; Run serves until its context ends.
//
// A job's record in the store is the truth, changed by compare-and-set only. The
// hub keeps an index of the records in memory, picks from it which worker gets
// which job, and lets the write decide. Locks are taken in one order: a job's,
// then the hub's; only a job's is held while the store works.
//
// The worker side follows the protocol specification; section numbers in this
// package's comments are its.
package studio
