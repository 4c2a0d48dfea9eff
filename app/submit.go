package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
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
	file, init, mask string // paths; empty = none
	print            bool
}

const (
	cancelLimit = 5 * time.Second // an interrupted submit may take to cancel its job
	maxPrinted  = 16 << 20        // bytes of a result whose text is printed
)

func (c *command) submitCommand() *cobra.Command {
	var s submission
	cmd := &cobra.Command{
		Use:   "submit [--studio URL] [--token-file F] [--kind KIND] [--model M] [--file|--init|--mask FILE] [--out FILE] [--print] TEXT...",
		Short: "Send a job to a studio and wait for its result",
		Example: `  studio-worker submit --kind audio_tts "The harbour is quiet tonight"
  studio-worker submit --kind image --out lighthouse.webp "a lighthouse in fog"
  studio-worker submit --kind image --init photo.jpg "the same in winter"
  studio-worker submit --kind audio_stt --file interview.wav`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.checkFiles(); err != nil {
				return err
			}
			if len(args) == 0 && s.file == "" {
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
	cmd.Flags().StringVar(&s.file, "file", "", "recording of an audio_stt job, in place of an address")
	cmd.Flags().StringVar(&s.init, "init", "", "picture that an image or video job begins with")
	cmd.Flags().StringVar(&s.mask, "mask", "", "picture whose white parts an image job may change; with --init")
	cmd.Flags().StringVar(&s.out, "out", "", "file for the result (default: job id and format, here)")
	cmd.Flags().BoolVar(&s.print, "print", false, "write the text of an llm job to standard output as it comes, and its path to standard error")
	return cmd
}

func (c *command) submit(ctx context.Context, s submission, text string) error {
	studioClient, err := c.operator(s.operatorFlags)
	if err != nil {
		return err
	}
	if s.file != "" {
		if text, err = upload(ctx, studioClient, s.file); err != nil {
			return err
		}
	}
	job, err := makeJob(ctx, studioClient, protocol.TaskKind(s.kind), s.model, text, anywhere)
	if err != nil {
		return err
	}
	if err := s.addPictures(ctx, studioClient, &job.Task); err != nil {
		return err
	}
	s.wish(&job.Task)
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

// checkFiles refuses files that the kind of job has no use for.
func (s submission) checkFiles() error {
	kind := protocol.TaskKind(s.kind)
	switch {
	case s.file != "" && kind != protocol.KindSTT:
		return usageError{errors.New("--file is for jobs of --kind audio_stt")}
	case s.init != "" && kind != protocol.KindImage && kind != protocol.KindVideo:
		return usageError{errors.New("--init is for jobs of --kind image or video")}
	case s.mask != "" && (kind != protocol.KindImage || s.init == ""):
		return usageError{errors.New("--mask is for jobs of --kind image with --init")}
	}
	return nil
}

// addPictures stores the pictures of a job at the studio and names them in it.
func (s submission) addPictures(ctx context.Context, c *client.Client, task *protocol.Task) error {
	for _, picture := range []struct {
		path string
		to   func(url *string)
	}{
		{s.init, func(url *string) {
			if task.Video != nil {
				task.Video.InitImageURL = url
			} else {
				task.Image.InitImageURL = url
			}
		}},
		{s.mask, func(url *string) { task.Image.MaskURL = url }},
	} {
		if picture.path == "" {
			continue
		}
		url, err := upload(ctx, c, picture.path)
		if err != nil {
			return err
		}
		picture.to(&url)
	}
	return nil
}

// wish asks for the format that the name of the result says, if it says one.
func (s submission) wish(task *protocol.Task) {
	ext := strings.ToLower(strings.TrimPrefix(filepath.Ext(s.out), "."))
	switch {
	case task.Image != nil && slices.Contains([]string{"png", "jpg", "webp"}, ext):
		task.Image.Ext = ext
	case task.TTS != nil && slices.Contains([]string{"wav", "mp3", "ogg", "opus", "flac", "m4a"}, ext):
		task.TTS.Ext = ext
	case task.Video != nil && slices.Contains([]string{"mp4", "webm", "gif"}, ext):
		task.Video.Ext = ext
	}
}

// upload stores a file of a job at the studio and returns its address.
func upload(ctx context.Context, c *client.Client, path string) (string, error) {
	file, err := os.Open(path) // the person's own
	if err != nil {
		return "", fmt.Errorf("read the job's file: %w", err)
	}
	defer func() { _ = file.Close() }() // only read
	info, err := file.Stat()
	if err != nil {
		return "", fmt.Errorf("read the job's file: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() == 0 || info.Size() > client.MaxInput {
		return "", fmt.Errorf("%s cannot be the file of a job: it must be a file of at most %d MiB, and not empty", path, client.MaxInput>>20)
	}
	head := make([]byte, 512) // what is enough to tell its type
	n, err := io.ReadFull(file, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", fmt.Errorf("read the job's file: %w", err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", fmt.Errorf("read the job's file: %w", err)
	}
	kind := http.DetectContentType(head[:n])
	if !strings.HasPrefix(kind, "image/") && !strings.HasPrefix(kind, "audio/") {
		kind = mime.TypeByExtension(filepath.Ext(path)) // sounds in films' containers, and rarer ones
	}
	if !strings.HasPrefix(kind, "image/") && !strings.HasPrefix(kind, "audio/") {
		return "", fmt.Errorf("%s is neither a picture nor a recording that the studio would take", path)
	}
	input, err := c.PutInput(ctx, kind, file)
	if err != nil {
		return "", fmt.Errorf("store %s at the studio: %w", path, err)
	}
	return input.URL, nil
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
