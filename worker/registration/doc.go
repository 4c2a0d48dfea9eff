// Package registration gets this worker let in: it makes the install id and the
// secret, asks the studio, and waits for the operator (§6 of the protocol
// specification).
//
// [Registrar.Run] blocks until the operator has decided. Whatever the studio
// grants is on disk before Run returns it.
package registration
