// Package store keeps what the studio must not lose: jobs, workers,
// registrations and models as records, and results as bytes, in a NATS
// JetStream server that runs inside the process on a local folder.
//
// The studio calls it. A record changes by compare-and-set on its revision, so
// that of two writers one wins and the other hears [ErrConflict]. Every write is
// on the disk when the call returns: the server syncs each message, and no
// option turns that off. The server opens no port. A lock file keeps a second
// studio off the folder: two servers on one folder would ruin it.
//
// [Open] starts the server, [Store.Close] stops it and waits for it.
package store
