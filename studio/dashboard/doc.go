// Package dashboard is the web page from which an operator runs a studio.
//
// It is a client of the operator API, called within the process: what a button
// does is what the API does, with the same checks and the same words. Pages are
// drawn here, by html/template; a small script brings them up to date when the
// studio says that something changed, and everything else works without it.
//
// The pages stand under a content security policy without exceptions: no inline
// script, no inline style, nothing from elsewhere. What workers, programs and
// people wrote is only ever text on them.
package dashboard
