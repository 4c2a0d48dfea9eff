// Package versions keeps the versions of the program that an update brought, beside the
// one that was installed and is never changed:
//
//	update.json         which version is run, which was before it, which is to be tried
//	versions/VERSION/   one program
//	stage/              what is fetched and unpacked; empty between two updates
//
// A program is complete or not there: it is put together in stage/, synced, and renamed.
// update.json is replaced whole. So whatever moment the power goes, one of the versions
// starts. Before each start the program's hash is compared with the one in update.json.
//
// The program that runs and the one that watches it both change update.json; a lock
// makes them take turns.
package versions
