package app

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"studioworker/worker/observe"
)

func (c *command) logsCommand() *cobra.Command {
	var job string
	cmd := &cobra.Command{
		Use: "logs [--job ID]", Short: "Print the newest log lines of the running worker, or of one job", Args: noArgs,
		Long: `Print the newest log lines of the running worker, up to 64 KiB. With --job, print
what was logged about that job, details too: the last 128 jobs of this run are kept, and
400 lines of each. Older lines of the worker are in worker.log beside the config.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := c.path()
			if err != nil {
				return err
			}
			a, err := askMore(cmd.Context(), path, question{Command: askLogs, Job: job})
			if err != nil {
				return err
			}
			_, err = io.WriteString(c.Out, a.Lines)
			return err
		},
	}
	cmd.Flags().StringVar(&job, "job", "", "id of a job")
	return cmd
}

// logLines answers what is kept of a job, or of everything when there is none.
func (h *host) logLines(job string) answer {
	if job == "" {
		entries, last := h.observers.Logs.Since(0)
		return answer{Lines: newest(entries, last-uint64(len(entries)))}
	}
	entries, dropped, ok := h.logs.JobLines(job)
	if !ok {
		return answer{Error: fmt.Sprintf("nothing is kept of job %q: only the last 128 jobs since the worker's start are", job)}
	}
	return answer{Lines: newest(entries, dropped)}
}

// newest words the newest entries that fit into an answer. dropped is how many
// older ones are gone already.
func newest(entries []observe.LogEntry, dropped uint64) string {
	const room = maxAnswer - 1024 // bytes as JSON; the rest is for what is around
	size, first := 0, len(entries)
	lines := make([]string, len(entries))
	for first > 0 {
		lines[first-1] = logLine(entries[first-1])
		text, err := json.Marshal(lines[first-1])
		if size += len(text); err != nil || size > room {
			break
		}
		first--
	}
	text := strings.Join(lines[first:], "")
	if dropped += uint64(first); dropped > 0 {
		text = fmt.Sprintf("(%d older lines are not shown)\n", dropped) + text
	}
	return text
}

func logLine(e observe.LogEntry) string {
	line := e.At.Format("2006-01-02 15:04:05.000") + " " + e.Level.String() + " " + e.Message
	if e.JobID != "" && !strings.Contains(e.Message, e.JobID) {
		line += " job_id=" + e.JobID
	}
	return line + "\n"
}
