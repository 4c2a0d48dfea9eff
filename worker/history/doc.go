// Package history remembers the last finished jobs over restarts. [Open] reads
// them from a folder into a ring for the window, [History.Run] follows the jobs
// that the worker finishes and writes them down, one line of JSON a change, until
// its context ends.
//
// A loss of the history is no loss of a result: lines are not synced one by one,
// and a folder that cannot be written costs a warning, never a job. Thumbnails lie
// beside the list as PNG files, so that the ring stays small. The folder holds
// prompts: only its person may read it.
package history
