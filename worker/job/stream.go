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

// take removes and returns the text of the next frame; empty when there is none.
func (p *pieces) take() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.text)
	if n > protocol.MaxDelta {
		for n = protocol.MaxDelta; n > protocol.MaxDelta-utf8.UTFMax && !utf8.RuneStart(p.text[n]); {
			n--
		}
	}
	piece := string(p.text[:n])
	p.text = p.text[n:]
	return piece
}

// recite sends delta frames to a studio that wants them, until the engine has
// ended; then what is left. What cannot be sent waits for the session that the
// job moves to.
func (r *Runner) recite(ctx, running context.Context, claim protocol.Claim, text *pieces) {
	next := protocol.Delta{JobID: claim.JobID}
	flush := func() {
		for link := r.current(); link.Has(protocol.FeatureStream); next.Seq++ {
			// A frame that failed may have arrived: only the same one can be said again.
			if next.Text == "" {
				next.Text = text.take()
			}
			if next.Text == "" || link.Send(ctx, next) != nil {
				return
			}
			next.Text = ""
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
		case <-r.moved:
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
