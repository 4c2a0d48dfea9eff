package model

import (
	"strings"
	"testing"
	"time"

	"studioworker/ui/words"
	"studioworker/worker/observe"
)

// TestSentenceEqualsTheWorkers: the window says in English what the command line
// says, for each reason with each detail and each kind of end.
func TestSentenceEqualsTheWorkers(t *testing.T) {
	blocks := []observe.Block{
		observe.BlockNone, observe.BlockStopping, observe.BlockPaused, observe.BlockDiskFull, observe.BlockHours,
		observe.BlockBattery, observe.BlockUserActive, "moon",
	}
	details := []string{"", "0.4 GB free, 1 GB needed", "this computer does not tell whether you are using it", "it is 100 % full"}
	for _, block := range blocks {
		for _, detail := range details {
			for _, days := range []int{-400, -1, 0, 1, 6, 7, 200, 365} {
				for _, until := range []time.Time{{}, now.AddDate(0, 0, days), now.AddDate(0, 0, days).UTC()} {
					a := observe.Availability{Block: block, Detail: detail, Until: until}
					if got, want := Sentence(en, a, now), observe.Sentence(a, now); got != want {
						t.Errorf("%+v: got %q, want %q", a, got, want)
					}
				}
			}
		}
	}
}

func TestSentenceInGerman(t *testing.T) {
	de := words.New(words.German)
	at := func(days, hour int) time.Time {
		return time.Date(2026, time.March, 12+days, hour, 30, 0, 0, now.Location())
	}
	for want, a := range map[string]observe.Availability{
		"Bereit für Aufträge":                                           {},
		"Hält an: keine neuen Aufträge":                                 {Block: observe.BlockStopping},
		"Von dir pausiert, bis du fortsetzt":                            {Block: observe.BlockPaused},
		"Von dir pausiert bis 18:30":                                    {Block: observe.BlockPaused, Until: at(0, 18)},
		"Von dir pausiert bis Fr 08:30":                                 {Block: observe.BlockPaused, Until: at(1, 8)},
		"Von dir pausiert bis Do 19. März 08:30":                        {Block: observe.BlockPaused, Until: at(7, 8)},
		"Von dir pausiert bis Fr 12. März 2027 08:30":                   {Block: observe.BlockPaused, Until: at(365, 8)},
		"Festplatte fast voll":                                          {Block: observe.BlockDiskFull},
		"Festplatte fast voll: 0,4 GB frei, 1 GB nötig":                 {Block: observe.BlockDiskFull, Detail: "0.4 GB free, 1 GB needed", FreeGB: 0.4, NeedGB: 1},
		"Außerhalb deiner Zeiten":                                       {Block: observe.BlockHours},
		"Außerhalb deiner Zeiten: wieder ab So 18:30":                   {Block: observe.BlockHours, Until: at(3, 18)},
		"Akkubetrieb: wartet auf Netzstrom":                             {Block: observe.BlockBattery},
		"Wartet: Du benutzt diesen Computer":                            {Block: observe.BlockUserActive},
		"Wartet: Dieser Computer verrät nicht, ob du ihn benutzt":       {Block: observe.BlockUserActive, Detail: "this computer does not tell whether you are using it", Why: observe.Why{Reason: observe.ReasonNoPresence}},
		"Nimmt keine Aufträge an: full of its own, as the worker words": {Block: "moon", Detail: "full of its own, as the worker words"},
	} {
		if got := Sentence(de, a, now); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestGermanPages: numbers, times and counts of whole pages are German.
func TestGermanPages(t *testing.T) {
	de := words.New(words.German)
	s := with(running)
	s.Outbox = observe.Outbox{Count: 1, Bytes: 3_200_000, Oldest: now.Add(-26 * time.Hour)}
	s.GPUs = observe.GPUs{At: now, List: []observe.GPU{{Name: "RTX", Total: 12 << 30, Free: 6 << 30}}}
	st := NewStatus(de, s, now)
	for _, tc := range []struct{ got, want string }{
		{st.Word, "Arbeitet"},
		{st.Sentence, "Bild · sd-turbo · Schritt 12 von 20 · 0:14"},
		{st.Serves, "Bild, Sprache"},
		{st.Waiting, "1 fertig (3,2 MB)"},
		{st.WaitingNote, "Auf dem Weg zum Studio. Das älteste ist von gestern 12:02"},
		{st.GPUs[0].Memory, "6,0 von 12,0 GB belegt"},
		{st.Bar, "studio.example.org · Verbunden seit 3 h · Lebenszeichen vor 2 s, 18 ms · wartende Ergebnisse: 1"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %q, want %q", tc.got, tc.want)
		}
	}
	row := NewJobRow(de, observe.RecentJob{Kind: "audio_tts", Outcome: observe.OutcomeFailed, Started: now.AddDate(0, 0, -3), Duration: 2500 * time.Millisecond}, false, now)
	if got := row.Facts + "|" + row.Outcome; got != "Sprache · 9. März 14:02 · 2,5 s|Gescheitert" {
		t.Errorf("row %q", got)
	}
	if _, err := ParseThreshold(de, "zehn"); err == nil || !strings.Contains(err.Error(), "4.096") {
		t.Errorf("refusal: %v", err)
	}
}
