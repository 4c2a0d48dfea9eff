// Package job takes one job from its offer to its result.
//
// [Runner] answers offers, runs one job at a time on the engines, stores the
// result in the outbox before anyone hears of it, and hands it to the studio. A
// job outlives the session that offered it: what it finished waits in the
// outbox, and the same job offered again is answered from there without
// computing anything twice. Section numbers are those of the protocol
// specification.
package job
