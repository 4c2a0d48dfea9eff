// Package feed is what a publisher signs and a worker believes about a release: two
// documents, each with a signature in minisign's form beside it.
//
//	keys.json     keys.json.minisig      signed by a root key that the program was built with
//	release.json  release.json.minisig   signed by a key that keys.json lists
//
// keys.json says which keys may sign releases, until when, and which never may again.
// release.json says which version there is, in which place of the order, for whom, until
// when it may be believed, and the size and hash of each archive. Where the documents and
// archives lie is of no importance: nothing is believed for the place it came from.
//
// The package decides nothing and fetches nothing. Its decoders take what a stranger may
// have written: everything is bounded and checked before it is handed on.
package feed
