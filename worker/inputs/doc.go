// Package inputs fetches the pictures and sounds that a job names, from where a
// studio says, into the folder of the job (engines spec §3.1).
//
// What a studio names is not trusted: the address that a name leads to is looked
// at when the connection is made, so that neither a name server nor a redirect
// leads into the network of this computer; every file has a limit on its size
// and the time it takes; and the pixels of a picture are counted before anybody
// decodes it. The errors are those of package engine, with their class.
package inputs
