package job

import (
	"context"
	"sync"
	"time"
	"unicode/utf8"

	"studioworker/worker/protocol"
)

const (
	piecePeriod = 30 * time.Millisecond // of text is gathered for one delta frame
	maxPieces   = 1 << 20               // bytes of one answer that are told before the result
)

// pieces gathers what an engine says of its answer. It never waits.
type pieces struct {
	more chan struct{} // room for one: there is text

	mu   sync.Mutex
	text []byte
	all  int // bytes that ever came
}

func newPieces() *pieces { return &pieces{more: make(chan struct{}, 1)} }

func (p *pieces) add(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all += len(text); p.all > maxPieces {
		return // a gap would be worse than an end
	}
	p.text = append(p.text, text...)
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// next is the text of the next frame; empty when there is none.
func (p *pieces) next() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.text)
	if n > protocol.MaxDelta {
		for n = protocol.MaxDelta; n > protocol.MaxDelta-utf8.UTFMax && !utf8.RuneStart(p.text[n]); {
			n--
		}
	}
	return string(p.text[:n])
}

// sent removes n bytes, which the studio has.
func (p *pieces) sent(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = p.text[n:]
}

// recite sends delta frames to a studio that wants them, until the engine has
// ended; then what is left. What cannot be sent waits for the session that the
// job moves to.
func (r *Runner) recite(ctx, running context.Context, w work, text *pieces) {
	seq := 0
	flush := func() {
		for {
			link, piece := r.current(), text.next()
			if piece == "" || !link.Has(protocol.FeatureStream) {
				return
			}
			if err := link.Send(ctx, protocol.Delta{JobID: w.claim.JobID, Seq: seq, Text: piece}); err != nil {
				return
			}
			seq++
			text.sent(len(piece))
		}
	}
	defer flush()
	pause := time.NewTimer(piecePeriod)
	defer pause.Stop()
	for {
		select {
		case <-running.Done():
			return
		case <-text.more:
		}
		pause.Reset(piecePeriod)
		select {
		case <-running.Done():
			return
		case <-pause.C:
			flush()
		}
	}
}
