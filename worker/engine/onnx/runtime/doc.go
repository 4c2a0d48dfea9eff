// Package runtime runs ONNX models in a process of their own (engines spec §6).
//
// The library that runs them is loaded when it is needed, and can crash. So the
// worker starts its own program once more as a helper, which calls Serve, and a
// Host in the worker sends it tensors over a local socket. A crash ends the
// helper, and the job that it served; the next job starts another. The helper
// ends by itself after five minutes without work.
//
// A build without cgo cannot load the library: there Built is false, and Serve
// refuses.
package runtime
