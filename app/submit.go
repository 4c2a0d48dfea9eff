package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// untilSignal returns a context that ends at the first interrupt or SIGTERM.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// submission is what the submit command was given.
type submission struct {
	operatorFlags
	kind, model, out string
	print            bool
}

const (
	cancelLimit = 5 * time.Second // an interrupted submit may take to cancel its job
	maxPrinted  = 16 << 20        // bytes of a result whose text is printed
)

func (c *command) submitCommand() *cobra.Command {
	var s submission
	cmd := &cobra.Command{
		Use:   "submit [--studio URL] [--token-file F] [--kind KIND] [--model M] [--out FILE] [--print] TEXT...",
		Short: "Send a job to a studio and wait for its result",
		Example: `  studio-worker submit --kind audio_tts "The harbour is quiet tonight"
  studio-worker submit --kind image --out lighthouse.webp "a lighthouse in fog"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("submit needs the text of the job")}
			}
			if s.print && s.kind != string(protocol.KindLLM) {
				return usageError{errors.New("--print is for jobs of --kind llm")}
			}
			if !slices.Contains(protocol.TaskKinds(), protocol.TaskKind(s.kind)) {
				return usageError{fmt.Errorf("%q is no kind of job: use one of %v", s.kind, protocol.TaskKinds())}
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			context.AfterFunc(ctx, stop) // a second signal ends the program at once
			return c.submit(ctx, s, strings.Join(args, " "))
		},
	}
	s.add(cmd)
	cmd.Flags().StringVar(&s.kind, "kind", string(protocol.KindTTS), "image, llm, audio_stt, audio_tts or video")
	cmd.Flags().StringVar(&s.model, "model", "", "model (default: the studio's best for the kind)")
	cmd.Flags().StringVar(&s.out, "out", "", "file for the result (default: job id and format, here)")
	cmd.Flags().BoolVar(&s.print, "print", false, "write the text of an llm job to standard output as it comes, and its path to standard error")
	return cmd
}

func (c *command) submit(ctx context.Context, s submission, text string) error {
	studioClient, err := c.operator(s.operatorFlags)
	if err != nil {
		return err
	}
	job, err := makeJob(ctx, studioClient, protocol.TaskKind(s.kind), s.model, text, anywhere)
	if err != nil {
		return err
	}
	queued, err := studioClient.Submit(ctx, job)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Err, "job %s with %s\n", queued.ID, job.Model)
	say, aloud := c.sayProgress(s.kind), &recital{out: c.Out}
	ended, err := follow(ctx, studioClient, queued.ID, func(event client.Event) {
		say(event)
		if s.print {
			aloud.take(event)
		}
	})
	if ctx.Err() != nil && !ended.State.Final() {
		return cancel(ctx, studioClient, queued.ID)
	}
	if err != nil {
		return err
	}
	if ended.State != client.Done {
		return fmt.Errorf("job %s ended as %s: %s", ended.ID, ended.State, ended.Error)
	}
	path, err := fetch(ctx, studioClient, ended, s.out)
	if err != nil {
		return err
	}
	if s.print {
		fmt.Fprintln(c.Err, path)
		return aloud.end(path)
	}
	fmt.Fprintln(c.Out, path)
	return nil
}

// cancel cancels the job of an interrupted submit. The error says how that went.
func cancel(ctx context.Context, c *client.Client, id string) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelLimit)
	defer stop()
	if _, err := c.Cancel(ctx, id); err != nil {
		return fmt.Errorf("interrupted, and job %s was not cancelled: %w", id, err)
	}
	return fmt.Errorf("interrupted: job %s is cancelled", id)
}

// recital prints the text of a job as it comes.
type recital struct {
	out  io.Writer
	said strings.Builder
}

func (r *recital) take(event client.Event) {
	switch {
	case event.Delta != nil:
		r.said.WriteString(event.Delta.Text)
		fmt.Fprint(r.out, event.Delta.Text)
	case event.Job.State == client.Queued && r.said.Len() > 0: // a new attempt begins anew
		r.said.Reset()
		fmt.Fprintln(r.out)
	}
}

// end prints what was not said of the whole text, which is in the result at
// path.
func (r *recital) end(path string) error {
	f, err := os.Open(path) // #nosec G304 -- we wrote it
	if err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	var result struct {
		Choices []struct {
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
		} `json:"choices"`
	}
	if err := json.NewDecoder(io.LimitReader(f, maxPrinted)).Decode(&result); err != nil || len(result.Choices) == 0 {
		return errors.New("print the result: there is no text in it")
	}
	whole, said := result.Choices[0].Message.Content, r.said.String()
	rest, ok := strings.CutPrefix(whole, said)
	if !ok {
		rest = "\n" + whole
	}
	fmt.Fprintln(r.out, rest)
	return nil
}

// sayProgress prints each state and each step of a job once.
func (c *command) sayProgress(label string) func(client.Event) {
	last := ""
	return func(event client.Event) {
		job := event.Job
		line := string(job.State)
		if p := job.Progress; p != nil && job.State == client.Running {
			line += " " + p.Message
			if p.Total > 0 {
				line += fmt.Sprintf(" (%d of %d)", p.Step, p.Total)
			}
		}
		if line != last {
			fmt.Fprintf(c.Err, "%-10s %s\n", label, line)
			last = line
		}
	}
}

// fetch saves a result under out, or under the job's id here, and returns the
// absolute path. An existing file of the default name is not overwritten.
func fetch(ctx context.Context, c *client.Client, job client.JobStatus, out string) (path string, err error) {
	if job.Result == nil {
		return "", errors.New("the studio names no result")
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if out == "" {
		out = fileName(job.ID) + "." + fileName(job.Result.Ext)
		flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	}
	if path, err = filepath.Abs(out); err != nil {
		return "", err
	}
	body, _, err := c.Result(ctx, job.ID)
	if err != nil {
		return "", err
	}
	defer body.Close()
	f, err := os.OpenFile(path, flags, 0o644) // #nosec G302 -- the person's own file
	if err != nil {
		return "", fmt.Errorf("save the result: %w", err)
	}
	n, err := io.Copy(f, body)
	if err == nil && n != job.Result.Bytes {
		err = fmt.Errorf("got %d of %d bytes", n, job.Result.Bytes)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("save the result: %w", err), os.Remove(path))
	}
	return path, nil
}

// fileName makes a plain file name of what a studio sent.
func fileName(text string) string {
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, text)
	if plain == "" || len(plain) > 100 {
		return "result"
	}
	return plain
}
