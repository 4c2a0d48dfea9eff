// Package models keeps the files of models on this machine: it fetches them,
// resumes, verifies, keeps and evicts them (engines spec §3).
//
// Engines call Ensure and hold what it returns for as long as they use the
// files. A file is either whole and verified under its name, or not there at
// all: what is on its way has another name. However many callers want a file,
// it is fetched once, also when they sit in different processes. Ensure blocks
// until the files are there or its context ends; every goroutine that it starts
// has ended when the last caller that waits for it returns.
package models
