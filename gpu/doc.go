// Package gpu lists the graphics cards of this computer and how much memory they have.
//
// Names come from the system's own list of cards (by ghw), memory from whoever knows it:
//
//   - NVIDIA: the driver's own library, loaded at run time when the program was built with
//     cgo, else nvidia-smi;
//   - AMD and Intel on Linux: the kernel's files under /sys;
//   - Windows: the list that DirectX keeps and the system's performance counters;
//   - Apple chips: the memory of the computer, which the graphics share.
//
// What cannot be learned is said to be unknown, with the reason in Device.Note, and never
// guessed. The parts for AMD, Intel, Windows and Apple were tested with recorded files
// and output, not on such computers.
//
// A Prober starts nothing that outlives a call, but for a question to a driver that hangs:
// there is at most one. It may be used by several goroutines.
package gpu
