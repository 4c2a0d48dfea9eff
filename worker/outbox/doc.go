// Package outbox keeps finished results on disk until the studio has them.
//
// The job runner begins a [Draft], lets the engine write into its folder and
// commits it. From then on the result survives a crash and a power cut: an
// entry is complete or absent (reliability guide §3.2). The [Deliverer] uploads
// bytes; a JSON result waits here until the session may send it as a frame.
// An entry leaves the outbox only when the studio has acknowledged it, or when
// the studio said for good that it does not want it.
//
// On disk, one folder an entry, named by job and attempt; a JSON result of at most
// 16 KiB is one file of that name, which takes half the syncs:
//
//	tmp/      drafts, entries on their way out, and copies of short results
//	          that wait, for people; emptied at the start
//	ready/    whole entries that wait for the studio
//	kept/     entries that the studio did not want now (409): answered from
//	          when the job is offered again, for 7 days and within 5 GB
//	refused/  damaged entries and those that the studio refused; never deleted
//	ballast   16 MiB that are given up when the disk is full
//
// All methods are safe for concurrent use, those of one [Draft] excepted. They
// block for the disk, never for the network. One process at a time may open an
// outbox; the caller sees to that.
package outbox
