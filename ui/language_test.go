package ui

import (
	"testing"

	"studioworker/ui/model"
	"studioworker/ui/words"
)

// TestLanguageChangesAtOnce: everything that is in sight speaks the new language,
// on the page that was open.
func TestLanguageChangesAtOnce(t *testing.T) {
	w, _ := newTestWindow(t, joined)
	w.tabs.SelectIndex(pageLogs)
	told := ""
	w.onState = func(_ model.State, _ bool, tr *words.Printer) { told = tr.Language() }
	w.speak(words.New(words.German))
	if told != "" {
		t.Error("a state was told that nobody knows yet")
	}
	if got := w.tabs.Items[pageJobs].Text; got != "Aufträge" || w.tabs.SelectedIndex() != pageLogs {
		t.Errorf("tab %q, page %d", got, w.tabs.SelectedIndex())
	}
	if w.header.word.Text != "Bereit" || w.header.button.Text != "Pause" || w.win.MainMenu().Items[1].Label != "Ansicht" {
		t.Errorf("header %q, menu %q", w.header.word.Text, w.win.MainMenu().Items[1].Label)
	}
	w.tell("idle", false)
	w.speak(words.New(words.German)) // no change: nothing is built
	before := w.tabs
	w.speak(words.New(words.English))
	if told != words.English || w.tabs == before || w.header.word.Text != "Idle" || w.Words().Language() != words.English {
		t.Errorf("told %q, header %q", told, w.header.word.Text)
	}
}
