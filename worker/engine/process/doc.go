// Package process runs one child process and sees to it that nothing of it
// stays behind.
//
// The engines call Run. It blocks until the child and its whole process group
// are gone. The child gets no input but a file that it is given, only the
// environment it is given, and bounded readers on its output. When the context
// ends, or a limit passes, the group is asked to stop, and what is left of it is
// killed within a second. When the worker itself dies, the child dies with it on Linux and on
// Windows; macOS has no such means.
package process
