package config

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
)

// TestConformance prints behaviours of the specification's §13 by their number.
func TestConformance(t *testing.T) {
	t.Run("#62 empty credentials are none", func(t *testing.T) {
		for name, c := range map[string]Config{
			"none": {}, "no token": {WorkerID: "wk-20"}, "no id": {AuthToken: "tok"}, "empty": {WorkerID: "", AuthToken: ""},
		} {
			if c.Registered() {
				t.Errorf("%s: counts as registered", name)
			}
		}
		if !(Config{WorkerID: "wk-20", AuthToken: "tok"}).Registered() {
			t.Error("both are there and do not count")
		}
	})
	t.Run("#151 an old file starts minimised", func(t *testing.T) {
		s, _ := open(t, write(t, "api_base_url = \"https://a.example\"\nvram_threshold_gb = 1.0\n", 0o600))
		if !s.Get().StartMinimised {
			t.Error("start_minimised is false")
		}
	})
	t.Run("#153 home is put in its place", func(t *testing.T) {
		home := t.TempDir()
		t.Setenv("HOME", home)
		t.Setenv("USERPROFILE", home)
		for path, want := range map[string]string{"~": home, "~/x": filepath.Join(home, "x")} {
			if got := expandHome(path); got != want {
				t.Errorf("%q became %q", path, got)
			}
		}
	})
	// The reference's keys stay in the file as they are, and its variables change nothing
	// there: app reads the one that has an effect.
	t.Run("#156 ports of the reference are kept and not read", func(t *testing.T) {
		t.Setenv("STUDIO_WORKER_LOCAL_API_PORT", "99999")
		t.Setenv("STUDIO_WORKER_STREAM_PORT", "nonsense")
		path := write(t, reference+"local_api_port = 4787\nstream_port = 4788\n", 0o600)
		s, out := open(t, path)
		if err := s.Update(func(c *Config) { c.OnlyWhenIdle = true }); err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"local_api_port = 4787\n", "stream_port = 4788\n"} {
			if !strings.Contains(read(t, path), line) {
				t.Errorf("%q is lost:\n%s", line, read(t, path))
			}
		}
		if strings.Contains(out.String(), "PORT") {
			t.Errorf("a variable was looked at: %s", out)
		}
	})
	t.Run("#158 what is shown holds no secret", func(t *testing.T) {
		s, _ := open(t, write(t, reference+"registration_secret = \"sec-hidden\"\nlocal_api_token = \"api-hidden\"\n", 0o600))
		text, err := s.Show()
		if err != nil || strings.Contains(text, "hidden") || strings.Contains(text, "tok-very-secret") || strings.Count(text, "[redacted]") != 3 {
			t.Errorf("shows %s, %v", text, err)
		}
	})
	t.Run("#160 a threshold below zero is refused", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "config.toml")
		s, err := New(path, Default(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Update(func(c *Config) { c.VRAMThresholdGB = 12.5 }); err != nil {
			t.Fatal(err)
		}
		if err := s.Update(func(c *Config) { c.VRAMThresholdGB = -1 }); err == nil || !strings.Contains(err.Error(), "threshold must be >= 0") {
			t.Errorf("-1: %v", err)
		}
		if text := read(t, path); !strings.Contains(text, "vram_threshold_gb = 12.5\n") {
			t.Errorf("saved %s", text)
		}
	})
}
