package logs

import (
	"encoding/json"
	"testing"

	"studioworker/scripts/measure"
	"studioworker/worker/protocol"
)

// BenchmarkHandler logs through the handler, into ring and queue and, for a line
// of a job, its own log and, in turns with it, encodes such an entry (reliability
// guide §7.3, row 5).
func BenchmarkHandler(b *testing.B) {
	const lines = 200_000 // of a turn: a million in five
	for _, bc := range []struct {
		name  string
		attrs []any
	}{
		{"log handler", []any{"bytes", 4096, "elapsed_ms", 12}},
		{"log handler, of a job", []any{"job_id", "job-31", "bytes", 4096, "elapsed_ms", 12}},
	} {
		b.Run(bc.name, func(b *testing.B) {
			log, _, _ := setup()
			entry := protocol.LogEntry{
				TS: "2026-03-02T08:15:30.120Z", Level: protocol.LevelInfo, Category: "ws",
				Message: "binary upload ok bytes=4096 elapsed_ms=12", JobID: "job-31",
			}
			measure.InTurns(b, func() []float64 {
				return []float64{measure.Time(b, func() error {
					for range lines {
						log.Info("binary upload ok", bc.attrs...)
					}
					return nil
				}) / lines}
			}, func() []float64 {
				return []float64{measure.Time(b, func() error {
					for range lines {
						if _, err := json.Marshal(entry); err != nil {
							return err
						}
					}
					return nil
				}) / lines}
			}, measure.Line{Row: 5, What: bc.name, Bare: "json.Marshal", Unit: measure.Seconds, MostRatio: 2})
		})
	}
}
