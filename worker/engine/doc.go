// Package engine defines what an engine is, what a job asks of it, and the
// router that picks one.
//
// An engine turns one Request into one result file. The job runner translates
// the studio's task into a Request, hands it to a Router, and gives the folder
// with the result to the outbox. This package knows no jobs, no frames and no
// windows.
//
// Router.Run blocks until the engine has ended and says how it ended. It is
// stopped by its context. It starts no goroutine of its own. Every error it
// returns is an *Error: one clean line for the studio, and a class that
// Retryable reads.
package engine
