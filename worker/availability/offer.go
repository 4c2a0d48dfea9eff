package availability

import (
	"context"
	"fmt"
	"math"

	"studioworker/worker/protocol"
)

// reserve is the GPU memory that stays free beside a job, in GiB: what the driver
// and the desktop take while it runs.
const reserve = 1.0

// RefusalOf returns the reject of this offer alone, on a machine that may take
// jobs and has none in flight, or false when it may be taken. What can never fit
// here has no code, so that the studio offers it elsewhere; what does not fit now
// is busy (§3.9), and so is one whose result would find no room on the disk. A job whose result is here already needs no memory, nor does one
// whose model is in it. Models that only wait for a job make room for another.
func (c *Controller) RefusalOf(ctx context.Context, claim protocol.Claim) (reason string, code protocol.RejectCode, refused bool) {
	if c.cfg.Stored != nil && c.cfg.Stored(claim.JobID) {
		return "", "", false
	}
	if reason := c.noRoom(claim.Task.Kind); reason != "" {
		return "worker busy: " + reason, protocol.RejectBusy, true
	}
	need := claim.VRAMGBEstimate
	if need <= 0 {
		return "", "", false
	}
	if limit := c.cfg.Settings().ThresholdGB; need > limit {
		return fmt.Sprintf("too large: the job needs %s of GPU memory, this worker takes at most %s", atLeast(need), gb(limit)), "", true
	}
	if c.cfg.GPUMemory == nil || c.cfg.Warm != nil && c.cfg.Warm(claim.Model) {
		return "", "", false
	}
	total, free := c.cfg.GPUMemory(ctx, need+reserve)
	if total > 0 && need+reserve <= total && need+reserve > free && c.cfg.MakeRoom != nil && c.cfg.MakeRoom(ctx) {
		total, free = c.cfg.GPUMemory(ctx, need+reserve)
	}
	switch {
	case total <= 0: // nobody can tell
		return "", "", false
	case need+reserve > total:
		return fmt.Sprintf("too large: the job needs %s of GPU memory and %s to spare, this computer has %s",
			atLeast(need), gb(reserve), gb(total)), "", true
	case need+reserve > free:
		return fmt.Sprintf("worker busy: not enough free GPU memory: the job needs %s and %s to spare, %s are free",
			atLeast(need), gb(reserve), gb(free)), protocol.RejectBusy, true
	}
	return "", "", false
}

// maxWaiting is how much may wait for the studio before no more jobs are taken, in
// bytes. Nothing that waits is ever removed for it.
const maxWaiting = 10 << 30

// expected is how large a result of a kind can be thought to be, in bytes.
func expected(kind protocol.TaskKind) uint64 {
	switch kind {
	case protocol.KindVideo:
		return 512 << 20
	case protocol.KindImage, protocol.KindTTS:
		return 64 << 20
	case protocol.KindLLM, protocol.KindSTT:
	}
	return 16 << 20 // a frame takes no more
}

// noRoom says why there is no room for the result of a job; empty = there is. An
// engine may write it twice, as frames and as their film.
func (c *Controller) noRoom(kind protocol.TaskKind) string {
	if c.cfg.Waiting != nil {
		if waits := c.cfg.Waiting(); waits >= maxWaiting {
			return fmt.Sprintf("%s of results wait for the studio, and at most %s may", gb(float64(waits)/gib), gb(maxWaiting/gib))
		}
	}
	if c.cfg.FreeDisk == nil {
		return ""
	}
	need := minFree + 2*expected(kind)
	free, err := c.cfg.FreeDisk()
	if err != nil || free >= need { // an error is said where the disk is looked at anyway
		return ""
	}
	return fmt.Sprintf("not enough free disk: a job of kind %s may need %s and %s to spare, %s are free",
		kind, atLeast(float64(2*expected(kind))/gib), gb(minFree/gib), gb(float64(free)/gib))
}

// atLeast words a need of GiB, rounded up.
func atLeast(n float64) string { return fmt.Sprintf("%v GB", math.Ceil(n*10)/10) }
