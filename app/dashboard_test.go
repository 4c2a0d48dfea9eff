//go:build !windows

package app

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDashboardCommand: the link signs in once; a browser is opened where there
// is a display, and nowhere else.
func TestDashboardCommand(t *testing.T) {
	h, f := newHome(t), newStudio(t)
	to := []string{"dashboard", "--studio", f.url, "--token-file", tokenFile(f.data)}
	visit := func(url string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := f.http.Transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	link := strings.TrimSuffix(h.want(t, to...), "\n")
	if !strings.HasPrefix(link, f.url+"/sign-in?code=") || strings.ContainsAny(link, " \n") {
		t.Fatalf("it prints %q", link)
	}
	if status := visit(link); status != http.StatusSeeOther {
		t.Errorf("the link answers %d", status)
	}
	if status := visit(link); status != http.StatusUnauthorized {
		t.Errorf("the second time it answers %d", status)
	}
	h.wantRefusal(t, exitFail, []string{"dashboard", "--studio", "http://127.0.0.1:1", "--token-file", tokenFile(f.data)}, "no studio runs at http://127.0.0.1:1", "--studio")
	h.wantRefusal(t, exitUsage, []string{"dashboard", "--studio", f.url}, "--token-file")
	h.wantRefusal(t, exitUsage, []string{"dashboard", "now"}, "takes no argument")

	// A desktop: its opener writes down what it was given.
	bin, opened := t.TempDir(), filepath.Join(t.TempDir(), "opened")
	script := "#!/bin/sh\nprintf %s \"$1\" >" + opened + ".new && mv " + opened + ".new " + opened + "\n"
	for _, name := range []string{"xdg-open", "open"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h.extra = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "DISPLAY=:7"}
	h.want(t, append(to, "--print")...)
	if _, err := os.Stat(opened); err == nil {
		t.Error("--print opens a browser")
	}
	link = strings.TrimSuffix(h.want(t, to...), "\n")
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if data, err := os.ReadFile(opened); err == nil {
			if string(data) != link {
				t.Errorf("opened %q, want %q", data, link)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatal("nothing was opened")
		}
	}
}

// TestDashboardOfThePrivateStudio: without a word about where, it is the studio
// beside the config.
func TestDashboardOfThePrivateStudio(t *testing.T) {
	h := newHome(t)
	dir := filepath.Join(filepath.Dir(h.config), "studio")
	f := startStudio(t, "127.0.0.1:0", dir)
	if err := os.WriteFile(addressFile(dir), []byte(f.url+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if link := h.want(t, "dashboard"); !strings.HasPrefix(link, f.url+"/sign-in?code=") {
		t.Errorf("it prints %q", link)
	}
}

// TestStudioFlags: what cannot be meant is refused before anything starts.
func TestStudioFlags(t *testing.T) {
	h := newHome(t)
	h.wantRefusal(t, exitUsage, []string{"studio", "--trusted-proxy", "the.proxy"}, "--trusted-proxy", "10.0.0.0/8")
	h.wantRefusal(t, exitFail, []string{"studio", "--public-url", "studio.example.org"}, "public address", "https://")
	h.wantRefusal(t, exitFail, []string{"studio", "--tls-cert", "cert.pem"}, "certificate and its key")
	log := filepath.Join(t.TempDir(), "access.log")
	data := filepath.Join(t.TempDir(), "studio")
	p := h.start(t, "studio", "--listen", "127.0.0.1:0", "--data", data, "--trusted-proxy", "10.0.0.0/8,127.0.0.1", "--access-log", log)
	if !p.out.await(1, "operator token in ") {
		t.Fatalf("the studio is not up: %s", p.err)
	}
	url, _, _ := strings.Cut(strings.TrimPrefix(p.out.String(), "studio at "), ", ")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-For", "198.51.100.9")
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		line, err := os.ReadFile(log)
		if err == nil && strings.Contains(string(line), `"route":"GET /healthz"`) && strings.Contains(string(line), `"address":"198.51.100.9"`) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the access log has %s (%v)", line, err)
		}
	}
}
