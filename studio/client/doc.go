// Package client speaks a studio's operator API (HTTP, JSON, server-sent
// events) and holds the JSON types of that API, which the studio uses too. The
// command line and the window call it to submit jobs and to fetch results.
//
// A [Client] starts nothing and may be used from any goroutine. Answers that are
// not a success become an [*Error].
package client
