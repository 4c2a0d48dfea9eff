package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"studioworker/worker/config"
)

// TestConfigPageIsCurrent: config.md has each key as the code has it.
func TestConfigPageIsCurrent(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "config.md"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := replace(string(page), table())
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != want {
		t.Error("docs/config.md is not current: run go generate ./docs/generate")
	}
	for _, key := range config.Keys() {
		if !strings.Contains(table(), "| `"+key+"` |") {
			t.Errorf("the table has no %s", key)
		}
	}
}

func TestGenerate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("before\n" + begin + "old\n" + end + "after\n")
	if err := run([]string{path}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if want := "before\n" + begin + table() + end + "after\n"; err != nil || string(got) != want {
		t.Errorf("%v, page\n%s\nwant\n%s", err, got, want)
	}
	for _, text := range []string{"no lines\n", begin + "no end\n"} {
		write(text)
		if err := run([]string{path}); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
	if run(nil) == nil || run([]string{filepath.Join(t.TempDir(), "none")}) == nil {
		t.Error("without a page: no error")
	}
}

func TestKindsHaveBounds(t *testing.T) {
	for key, want := range map[string]string{"auto_update_interval_secs": "whole number, 60 to 2592000 s", "vram_threshold_gb": "number, 0 to 4096 GiB", "local_api_port": "whole number, 0 to 65535", "ca_file": "path"} {
		if d, ok := config.Describe(key); !ok || kind(d) != want {
			t.Errorf("%s: %v, %q, want %q", key, ok, kind(d), want)
		}
	}
}
