// Package supervisor has one version of the program watch another.
//
// The installed program, started by a person or a service manager, runs the version that
// [versions.Store] names as its child and stays. A version that has not proved itself is
// on probation: it must say that it is ready within a minute, with all results that the
// one before it left, and connected to the studio if that one was, and then live for ten
// minutes. If it does not, the one before it is started again and the release is held. A
// version that is killed or crashes later is started anew, and not for ever.
//
// The two speak over two pipes, which no other process has. The child writes one JSON
// object a line: what it has opened, that it is connected, what a service manager is to be
// told, that it ends in good order, that it wants to be followed by the next version. The
// supervisor writes nothing; when it closes its pipe, or is gone, the child stops in good
// order. What one of them does not know it passes over: they may be of different versions.
package supervisor
