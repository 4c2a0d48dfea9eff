// Package gpu lists the graphics cards of this computer and how much memory they have.
//
// Names come from the system's own list of cards (by ghw), memory from nvidia-smi for
// NVIDIA cards and from the kernel's files under /sys for AMD ones. Nothing here needs
// cgo or special rights. What cannot be learned is left at its zero value, which means
// unknown, and never guessed: on macOS, for one, the list is empty.
//
// A Prober starts nothing that outlives a call. It may be used by several goroutines.
package gpu
