//go:build !windows

package app

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"studioworker/worker/config"
	"studioworker/worker/localapi"
)

// TestLocalAPI: programs find the running worker's API by its file, and its jobs
// are those that people see.
func TestLocalAPI(t *testing.T) {
	h, f := newHome(t), newStudio(t)
	h.write(t, f.url, "local_api_port = 0\n")
	w := h.start(t, "run")
	w.await(t, 1, "local API is served")
	w.await(t, 1, "server welcomed")
	place := localapi.DiscoveryPath(h.config)
	wantMode(t, place, 0o600)
	data, err := os.ReadFile(place)
	if err != nil {
		t.Fatal(err)
	}
	var found struct {
		URL, Token string
		PID        int
	}
	if err := json.Unmarshal(data, &found); err != nil || found.PID != w.cmd.Process.Pid {
		t.Fatalf("%s: %v", data, err)
	}
	ask := func(method, path, body, token string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, found.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	if status, text := ask(http.MethodGet, "/jobs", "", "wrong"); status != http.StatusUnauthorized {
		t.Errorf("a wrong token: %d %s", status, text)
	}
	status, text := ask(http.MethodPost, "/v1/chat/completions", `{"model":"synthetic-llm","messages":[{"role":"user","content":"hello"}]}`, found.Token)
	if status != http.StatusOK || !strings.Contains(text, "[synthetic] reply") {
		t.Errorf("%d %s", status, text)
	}
	if status, text := ask(http.MethodGet, "/jobs", "", found.Token); status != http.StatusOK || !strings.Contains(text, `"id":"local-`) || !strings.Contains(text, `"completed"`) {
		t.Errorf("%d %s", status, text)
	}
	http.DefaultClient.CloseIdleConnections()
	w.signal(t, syscall.SIGTERM)
	if code := w.wait(t); code != 0 {
		t.Errorf("ended with %d", code)
	}
	if _, err := os.Stat(place); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the discovery file stays: %v", err)
	}
	if strings.Contains(w.err.String(), found.Token) {
		t.Error("the token is in the log")
	}
}

func TestLocalPort(t *testing.T) {
	port := uint16(5000)
	c := config.Config{LocalAPIPort: &port}
	for text, want := range map[string]uint16{"": 5000, "6000": 6000, "0": 0, "99999": 5000, "x": 5000} {
		t.Setenv(localPortVariable, text)
		if got := localPort(c, slog.New(slog.DiscardHandler)); got == nil || *got != want {
			t.Errorf("%q: %v, want %d", text, got, want)
		}
	}
	t.Setenv(localPortVariable, "")
	if got := localPort(config.Config{}, slog.New(slog.DiscardHandler)); got != nil {
		t.Errorf("nothing chosen: %d", *got)
	}
}
