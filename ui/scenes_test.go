package ui

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/widget"

	"studioworker/ui/model"
	"studioworker/ui/words"
	"studioworker/worker/observe"
)

// scene is a page in a state, for the pictures and for the test that nothing is
// cut off.
type scene struct {
	name string
	page int
	fill func(*observe.WorkerObservers)
	do   func(*testing.T, *Window) // may be nil
}

// lived is a worker of a few days: cards, a history, a log.
func lived(o *observe.WorkerObservers) {
	configured(o)
	now := time.Now()
	o.Settings.Update(func(s observe.Settings) observe.Settings {
		s.Commit, s.ConfigPath = "3f9c2a7d51e0", "/home/person/.config/studio-worker/config.toml"
		s.Serves = []string{"image", "llm", "audio_tts"}
		return s
	})
	o.Registration.Set(observe.Registration{State: observe.RegistrationApproved, WorkerID: "wk-7f3a19c2e4"})
	o.Session.Set(observe.Session{State: observe.SessionConnected, Since: now.Add(-3 * time.Hour)})
	o.Heartbeat.Set(observe.Heartbeat{At: now.Add(-2 * time.Second), RoundTrip: 18 * time.Millisecond})
	o.GPUs.Set(observe.GPUs{At: now, List: []observe.GPU{{Name: "NVIDIA GeForce RTX 4070", Driver: "550.1", Total: 12 << 30, Free: 8 << 30}}})
	o.Update.Set(observe.Update{Checked: now.Add(-20 * time.Minute)})
	for i, j := range []observe.RecentJob{
		{Kind: "video", Model: "wan-2.1", Preview: "waves rolling into a harbour at dawn", Outcome: observe.OutcomeCompleted, Duration: 6 * time.Minute},
		{Kind: "audio_stt", Model: "whisper-small", Preview: "harbour.wav", Outcome: observe.OutcomeCancelled, Duration: 9 * time.Second},
		{Kind: "llm", Model: "llama-3.2-3b", Preview: "Name a small harbour town and say why one should go there", Outcome: observe.OutcomeCompleted, Duration: 4200 * time.Millisecond},
		{Kind: "image", Model: "sd-turbo", Preview: "a cathedral of ice", Outcome: observe.OutcomeFailed, Error: "the model needs 9.5 GB, 6.1 GB are free", Duration: 2 * time.Second},
		{Kind: "audio_tts", Model: "de_DE-thorsten", Preview: "Willkommen an Bord.", Outcome: observe.OutcomeKept, Duration: 800 * time.Millisecond},
		{Kind: "image", Model: "sd-turbo", Preview: "a lighthouse in fog, oil on canvas", Outcome: observe.OutcomeCompleted, Duration: 14 * time.Second},
	} {
		j.ID = fmt.Sprintf("job-%02d-4c1e9b", i)
		j.Started = now.Add(-time.Duration(20-3*i) * time.Hour)
		if i == 5 {
			j.Started = now.Add(-3 * time.Minute)
		}
		o.RecentJobs.Add(j)
		o.History.Add(j)
	}
	for i, line := range []struct {
		level         slog.Level
		category, say string
	}{
		{slog.LevelInfo, "session", "connected to studio.example.org"},
		{slog.LevelInfo, "session", "advertising engine=multi, 3 kinds, 5 models"},
		{slog.LevelInfo, "job", "accepted image job, model sd-turbo"},
		{slog.LevelWarn, "session", "heartbeat was not acknowledged within 5 s"},
		{slog.LevelError, "job", "the model needs 9.5 GB, 6.1 GB are free"},
		{slog.LevelInfo, "outbox", "result delivered, 1.3 MB"},
	} {
		o.Logs.Add(observe.LogEntry{At: now.Add(time.Duration(i-60) * time.Second), Level: line.level, Category: line.category, Message: line.say, JobID: "job-03-4c1e9b"})
	}
}

// after changes a worker of a few days.
func after(change func(o *observe.WorkerObservers)) func(*observe.WorkerObservers) {
	return func(o *observe.WorkerObservers) {
		lived(o)
		change(o)
	}
}

func nothing(*observe.WorkerObservers) {}

// scenes are all the states that a person may see.
func scenes() []scene {
	busy := after(func(o *observe.WorkerObservers) {
		o.CurrentJob.Set(observe.CurrentJob{
			ID: "job-06-77aa", Kind: "image", Model: "sd-turbo", Preview: "a fox in the snow, soft light",
			Started: time.Now().Add(-14 * time.Second), Progress: observe.Progress{Step: 12, Total: 20, Text: "sampling"},
		})
		o.Downloads.Set([]observe.Download{{Model: "wan-2.1", File: "wan-2.1.safetensors", Bytes: 3 << 30, Total: 9 << 30, Rate: 24e6, Since: time.Now().Add(-2 * time.Minute)}})
	})
	paused := after(func(o *observe.WorkerObservers) {
		o.Availability.Set(observe.Availability{Block: observe.BlockPaused, Until: time.Now().Add(2 * time.Hour)})
	})
	offline := after(func(o *observe.WorkerObservers) {
		o.Session.Set(observe.Session{State: observe.SessionReconnecting, Attempt: 3, RetryAt: time.Now().Add(12500 * time.Millisecond), Reason: "connection refused", Why: observe.Why{Reason: observe.ReasonNobodyThere, Said: "studio.example.org"}})
		o.Heartbeat.Set(observe.Heartbeat{At: time.Now().Add(-40 * time.Second), Err: "no answer within 5s", Why: observe.Why{Reason: observe.ReasonTooLate, Said: "5s"}})
		o.Outbox.Set(observe.Outbox{Count: 2, Bytes: 14_000_000, Oldest: time.Now().Add(-3 * time.Minute)})
	})
	empty := func(o *observe.WorkerObservers) {
		joined(o)
		o.GPUs.Set(observe.GPUs{At: time.Now()})
	}
	joining := func(r observe.Registration) func(*observe.WorkerObservers) {
		return func(o *observe.WorkerObservers) {
			configured(o)
			o.Registration.Set(r)
			o.Session.Set(observe.Session{State: observe.SessionWaiting})
		}
	}
	later := func(r observe.Registration) func(*observe.WorkerObservers) {
		return after(func(o *observe.WorkerObservers) {
			o.Registration.Set(r)
			o.Session.Set(observe.Session{State: observe.SessionWaiting})
		})
	}
	waiting := observe.Registration{State: observe.RegistrationPending, RequestID: "rr-5d0c1f3a-77be-42d1", Since: time.Now().Add(-4 * time.Minute)}
	declined := observe.Registration{State: observe.RegistrationRejected, Reason: "not one of ours"}
	full := after(func(o *observe.WorkerObservers) {
		o.Availability.Set(observe.Availability{Block: observe.BlockDiskFull, Detail: "0.4 GB free, 1 GB needed", FreeGB: 0.4, NeedGB: 1})
		o.Outbox.Set(observe.Outbox{Count: 1, Bytes: 2_000_000, Oldest: time.Now().Add(-3 * time.Minute), Kept: []observe.KeptResult{{
			Key: "k", JobID: "job-04-4c1e9b", Kind: "image", Model: "sd-turbo", Ext: "png", Bytes: 1_300_000,
			Since: time.Now().Add(-time.Hour), Expires: time.Now().Add(6 * 24 * time.Hour),
		}}})
	})
	signedOut := after(func(o *observe.WorkerObservers) {
		o.Session.Set(observe.Session{State: observe.SessionAuthFailed, RetryAt: time.Now().Add(14 * time.Minute), Reason: "auth failed", Why: observe.Why{Reason: observe.ReasonToken}})
	})
	twice := after(func(o *observe.WorkerObservers) {
		o.Session.Set(observe.Session{State: observe.SessionFatal, Reason: "another computer uses this worker's identity", Why: observe.Why{Reason: observe.ReasonDuplicate}})
	})
	crashed := after(func(o *observe.WorkerObservers) {
		o.Crash.Set(observe.Crash{
			ID: "crash-1.txt", At: time.Now().Add(-2 * time.Minute), Sendable: true,
			Text: "studio-worker 0.1.0 (3f9c2a7d51e0) linux/amd64 crashed\n\npanic: runtime error: index out of range [3] with length 3\n\ngoroutine 41 [running]:\nstudioworker/worker/job.(*Runner).run\n\tworker/job/run.go:212\nstudioworker/worker.(*Worker).Run\n\tworker/worker.go:188\n",
		})
	})
	around := func(_ *testing.T, w *Window) { w.lookAround() }
	return []scene{
		{"first-run", pageStatus, nothing, nil},
		{"first-run-wrong", pageStatus, nothing, func(_ *testing.T, w *Window) {
			w.welcome.address.SetText("studio.example.org")
			w.welcome.ended(w.welcome.joinNote)(&observe.StudioError{Problem: observe.StudioUnreachable, Address: "https://studio.example.org", Detail: "no such host"})
		}},
		{"first-waiting", pageStatus, joining(waiting), nil},
		{"first-rejected", pageStatus, joining(declined), nil},
		{"status-idle", pageStatus, lived, nil},
		{"status-busy", pageStatus, busy, nil},
		{"status-paused", pageStatus, paused, nil},
		{"status-offline", pageStatus, offline, nil},
		{"status-waiting", pageStatus, later(waiting), around},
		{"status-rejected", pageStatus, later(declined), around},
		{"status-empty", pageStatus, empty, nil},
		{"status-full", pageStatus, full, nil},
		{"status-signed-out", pageStatus, signedOut, nil},
		{"status-twice", pageStatus, twice, nil},
		{"status-crash", pageStatus, crashed, nil},
		{"status-crash-report", pageStatus, crashed, func(_ *testing.T, w *Window) { w.status.crash.open() }},
		{"jobs-idle", pageJobs, lived, nil},
		{"jobs-busy", pageJobs, busy, nil},
		{"jobs-failed", pageJobs, lived, func(t *testing.T, w *Window) {
			t.Helper()
			selectJob(t, w, "job-03-4c1e9b")
		}},
		{"jobs-empty", pageJobs, empty, nil},
		{"logs", pageLogs, lived, nil},
		{"logs-empty", pageLogs, empty, nil},
		{"settings", pageSettings, lived, nil},
		{"settings-wrong", pageSettings, lived, func(t *testing.T, w *Window) {
			t.Helper()
			w.settings.entryOf(t, model.KeyThreshold).SetText("ten")
			w.settings.entryOf(t, model.KeyStudio).SetText("ftp://studio")
			w.settings.footer()
		}},
		{"settings-hours", pageSettings, lived, func(_ *testing.T, w *Window) {
			w.settings.scroll.ScrollToOffset(fyne.NewPos(0, 220))
		}},
		{"settings-jobs", pageSettings, lived, func(_ *testing.T, w *Window) {
			w.settings.scroll.ScrollToOffset(fyne.NewPos(0, 620))
		}},
		{"settings-end", pageSettings, lived, func(_ *testing.T, w *Window) { w.settings.scroll.ScrollToBottom() }},
		{"about", pageAbout, lived, nil},
		{"about-update", pageAbout, after(func(o *observe.WorkerObservers) {
			o.Update.Set(observe.Update{State: observe.UpdateReady, Version: "0.2.0", Checked: time.Now().Add(-time.Minute), Notes: "Jobs start sooner.\nThe window speaks German."})
		}), func(_ *testing.T, w *Window) { w.about.licences.Select(2) }},
		{"about-update-failed", pageAbout, after(func(o *observe.WorkerObservers) {
			o.Update.Set(observe.Update{State: observe.UpdateFailed, Checked: time.Now().Add(-time.Minute), Detail: "status 404", Why: observe.Why{
				Reason: observe.ReasonStatus, Said: "404 (https://updates.example.org/v0.2.0/archive-linux-amd64.tar.gz)",
			}})
		}), nil},
	}
}

// open builds a scene in a window of a size, a language and a theme.
func (s scene) open(t *testing.T, size fyne.Size, language, colours string) *Window {
	t.Helper()
	a := test.NewTempApp(t)
	a.Settings().SetTheme(NewTheme())
	o := observe.New()
	s.fill(o)
	path := filepath.Join(t.TempDir(), "ui.json")
	first := firstState()
	first.Language, first.Theme = language, colours
	first.Width, first.Height = size.Width, size.Height
	if err := remember(path, first); err != nil {
		t.Fatal(err)
	}
	w, err := New(a, Config{Observers: o, Controls: &fakeControls{obs: o}, Log: slog.New(slog.DiscardHandler), StatePath: path},
		func(model.State, bool, *words.Printer) {})
	if err != nil {
		t.Fatal(err)
	}
	w.Begin()
	w.Show()
	w.win.Resize(size.SubtractWidthHeight(0, menuHeight)) // the test's window has no menu bar
	w.tabs.SelectIndex(s.page)
	w.refresh(partValues | partJobs | partLogs)
	decodeAll(t, w.loader)
	drainActions(t, w)
	settle(w)
	if s.do != nil {
		s.do(t, w)
		drainActions(t, w)
		settle(w)
	}
	return w
}

// settle lays everything out anew, as a real window does before each frame.
func settle(w *Window) {
	content := w.win.Canvas().Content()
	walk(content, fyne.Position{}, boundsOf(fyne.Position{}, content.Size()), func(f found) {
		switch c := f.object.(type) {
		case *fyne.Container:
			if c.Layout != nil {
				c.Layout.Layout(c.Objects, c.Size())
			}
		case *container.Scroll:
			c.Refresh() // what is in it may have grown
		}
	})
}

// found is what a walk over the window meets.
type found struct {
	object fyne.CanvasObject
	at     fyne.Position
	clip   bounds // what can be seen of it
}

type bounds struct{ x1, y1, x2, y2 float32 }

func boundsOf(at fyne.Position, s fyne.Size) bounds {
	return bounds{at.X, at.Y, at.X + s.Width, at.Y + s.Height}
}

func (b bounds) and(o bounds) bounds {
	return bounds{max(b.x1, o.x1), max(b.y1, o.y1), min(b.x2, o.x2), min(b.y2, o.y2)}
}

// walk visits what is visible, parents first.
func walk(o fyne.CanvasObject, at fyne.Position, clip bounds, visit func(found)) {
	if !o.Visible() {
		return
	}
	at = at.Add(o.Position())
	if _, ok := o.(*container.Scroll); ok {
		clip = clip.and(boundsOf(at, o.Size()))
	}
	visit(found{o, at, clip})
	switch v := o.(type) {
	case *fyne.Container:
		for _, c := range v.Objects {
			walk(c, at, clip, visit)
		}
	case fyne.Widget:
		for _, c := range test.WidgetRenderer(v).Objects() {
			walk(c, at, clip, visit)
		}
	}
}

// fromOutside says whether a text is somebody's data, which may end in an
// ellipsis.
func fromOutside(text string) bool {
	for _, part := range []string{
		"harbour", "fog", "cathedral", "Willkommen an Bord", "fox", "/home/", "github.com/", "golang.org/", "fyne.io", "rr-5d", "RTX", "wk-7f", "job-0",
		"connection refused", " · ", // facts of a job, whose first ones matter most
	} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// TestNothingIsCutOff: at the smallest size, in both languages and in every scene,
// each word of ours is seen whole, and no text lies on another.
func TestNothingIsCutOff(t *testing.T) {
	for _, s := range scenes() {
		if s.page == pageSettings && s.name != "settings" && s.name != "settings-wrong" {
			continue // the same page, scrolled
		}
		for _, language := range []string{words.English, words.German} {
			t.Run(s.name+"-"+language, func(t *testing.T) {
				w := s.open(t, fyne.NewSize(minWidth, minHeight), language, themeDark)
				content := w.win.Canvas().Content()
				if got := content.Size(); got.Width > minWidth || got.Height > minHeight {
					t.Errorf("the window is %v", got)
				}
				var texts []found
				walk(content, fyne.Position{}, boundsOf(fyne.Position{}, content.Size()), func(f found) {
					if err := whole(f.object); err != nil {
						t.Errorf("at %v: %v", f.at, err)
					}
					if line, ok := f.object.(*canvas.Text); ok && strings.TrimSpace(line.Text) != "" {
						texts = append(texts, f)
						if end := f.at.X + line.MinSize().Width; end > f.clip.x2+1 && !fromOutside(line.Text) {
							t.Errorf("%q at %v ends at %v, out of sight from %v on", line.Text, f.at, end, f.clip.x2)
						}
					}
				})
				for i, a := range texts {
					for _, b := range texts[i+1:] {
						if both := seen(a).and(seen(b)); both.x2-both.x1 > 2 && both.y2-both.y1 > 4 {
							t.Errorf("%q at %v lies on %q at %v", a.object.(*canvas.Text).Text, a.at, b.object.(*canvas.Text).Text, b.at)
						}
					}
				}
			})
		}
	}
}

// seen is the part of a line of text that can be seen.
func seen(f found) bounds {
	return boundsOf(f.at, f.object.MinSize()).and(f.clip)
}

// whole says whether an object shows all its text.
func whole(o fyne.CanvasObject) error {
	const slack = 1 // rounding
	var text string
	need := o.MinSize()
	switch v := o.(type) {
	case *label:
		need = v.Label.MinSize() // as its size is
		text = v.Text
		if v.Truncation != fyne.TextTruncateOff && !fromOutside(text) {
			need := fyne.MeasureText(text, v.Theme().Size(cmp.Or(v.SizeName, "text")), v.TextStyle).Width
			if room := v.Size().Width - 2*v.Theme().Size("innerPadding"); need > room+slack && room > 0 {
				return fmt.Errorf("%q needs %v, there are %v", text, need, room)
			}
			return nil
		}
		if v.Truncation != fyne.TextTruncateOff {
			return nil
		}
	case *widget.Button:
		text = v.Text
		need = need.SubtractWidthHeight(2*tuck(), 2*tuck()) // it may be a compact one
	case *widget.Check:
		text = v.Text
	case *widget.Select:
		text = v.Selected
		need := fyne.MeasureText(text, v.Theme().Size("text"), fyne.TextStyle{}).Width + 3*v.Theme().Size("innerPadding") + v.Theme().Size("iconInline")
		if need > v.Size().Width+slack {
			return fmt.Errorf("the choice %q needs %v of %v", text, need, v.Size().Width)
		}
		return nil
	case *entry:
		if need := fyne.MeasureText(v.PlaceHolder, v.Theme().Size("text"), fyne.TextStyle{}).Width; v.Text == "" && need > v.Size().Width-2*v.Theme().Size("innerPadding")+slack {
			return fmt.Errorf("the hint %q needs %v of %v", v.PlaceHolder, need, v.Size().Width)
		}
		return nil
	default:
		return nil
	}
	if has := o.Size(); need.Width > has.Width+slack || need.Height > has.Height+slack {
		return fmt.Errorf("%T %q needs %v, has %v", o, text, need, has)
	}
	return nil
}

// drawTo is the folder that TestDrawScenes draws all pictures into.
var drawTo = flag.String("draw", "", "draw every scene into this folder")

// TestDrawScenes draws one scene, to see that drawing works; with -draw all of
// them in both sizes, languages and themes.
func TestDrawScenes(t *testing.T) {
	sizes := map[string]fyne.Size{"1280x800": fyne.NewSize(1280, 800), "720x480": fyne.NewSize(minWidth, minHeight)}
	if *drawTo == "" {
		w := scenes()[4].open(t, sizes["720x480"], words.English, themeDark)
		img := w.win.Canvas().Capture()
		if got := img.At(2, 2); !near(got, color.NRGBA{0x1C, 0x1F, 0x26, 255}) {
			t.Errorf("the header is %v", got)
		}
		return
	}
	if err := os.MkdirAll(*drawTo, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, s := range scenes() {
		for name, size := range sizes {
			for _, language := range []string{words.English, words.German} {
				for _, colours := range []string{themeDark, themeLight} {
					w := s.open(t, size, language, colours)
					file := filepath.Join(*drawTo, fmt.Sprintf("%s-%s-%s-%s.png", s.name, language, colours, name))
					if err := savePNG(file, w.win.Canvas().Capture()); err != nil {
						t.Fatal(err)
					}
					w.win.Close()
				}
			}
		}
	}
}

func near(a, b color.Color) bool {
	r1, g1, b1, _ := a.RGBA()
	r2, g2, b2, _ := b.RGBA()
	d := func(x, y uint32) int { return int(x>>8) - int(y>>8) }
	return d(r1, r2)*d(r1, r2)+d(g1, g2)*d(g1, g2)+d(b1, b2)*d(b1, b2) < 12
}

func savePNG(path string, img image.Image) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(png.Encode(f, img), f.Close())
}

// selectJob opens a job of the history.
func selectJob(t *testing.T, w *Window, id string) {
	t.Helper()
	for i, item := range w.jobs.items {
		if item.Job.ID == id {
			w.jobs.list.Select(i)
			return
		}
	}
	t.Fatalf("no job %s in the list", id)
}
