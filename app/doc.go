// Package app puts the program together: the command line, the order of start
// and stop, and one instance per config.
//
// [Main] is called by main with the process's arguments and streams and returns
// the exit code: 0 for a clean end, 1 for a failure, 2 for a wrong or incomplete
// command.
package app
