package docs

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"studioworker/worker/config"
	"studioworker/worker/logs"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

// TestConfigPage: config.md describes each key of config.toml, once, in the order
// of the file, and no other. What it says of them is docs/generate's.
func TestConfigPage(t *testing.T) {
	page, err := os.ReadFile("config.md")
	if err != nil {
		t.Fatal(err)
	}
	got := firstCells(string(page), "key")
	if want := config.Keys(); !slices.Equal(got, want) {
		t.Errorf("config.md has\n%q\nthe config has\n%q", got, want)
	}
	for _, table := range tables(string(page)) {
		for _, row := range table {
			if len(row) != len(table[0]) || slices.Contains(row[:min(4, len(row))], "") {
				t.Errorf("the row %q has an empty cell", strings.Join(row, " | "))
			}
		}
	}
}

// TestConstants: the values of the reference's constants, as parity.md says them.
func TestConstants(t *testing.T) {
	if protocol.HeartbeatInterval != 5*time.Second {
		t.Errorf("HEARTBEAT_INTERVAL is %v", protocol.HeartbeatInterval)
	}
	for name, c := range map[string]struct{ got, want int }{
		"LOG_SHIP_QUEUE_CAP": {logs.QueueCap, 5000}, "PROMPT_PREVIEW_CHARS": {observe.PromptPreviewChars, 200},
		"RECENT_JOBS_CAP": {observe.RecentJobsCap, 50}, "RECENT_LOGS_CAP": {observe.RecentLogsCap, 1000},
	} {
		if c.got != c.want {
			t.Errorf("%s is %d, want %d", name, c.got, c.want)
		}
	}
}
