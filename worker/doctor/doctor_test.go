package doctor

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"studioworker/gpu"
	"studioworker/worker/config"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
)

func TestMain(m *testing.M) {
	// The faults come one by one; the proxy of whoever runs the tests is none of them.
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"} {
		if err := os.Unsetenv(name); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

const token = "the-workers-token"

// patient is a healthy worker that one thing can be done to.
type patient struct {
	cfg    Config
	config config.Config
	studio *httptest.Server
	date   func() time.Time // what the studio's clock shows
	feed   int              // status of the release feed
	known  string           // the token that the studio knows
	write  bool             // write the config before the check
}

func newPatient(t *testing.T) *patient {
	t.Helper()
	p := &patient{date: time.Now, feed: http.StatusOK, known: token, write: true}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /feed", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(p.feed) })
	mux.HandleFunc("GET /graphics/api/workers/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", p.date().UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error":"no such request"}`)
	})
	mux.HandleFunc("POST /graphics/api/workers/w-1/jobs/", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+p.known {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusNotFound)
	})
	p.studio = httptest.NewTLSServer(mux)
	t.Cleanup(p.studio.Close)

	dir := t.TempDir()
	path := filepath.Join(dir, "config.toml")
	ca := filepath.Join(dir, "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.studio.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	p.config = config.Default()
	p.config.APIBaseURL, p.config.CAFile, p.config.ModelsRoot = p.studio.URL, ca, filepath.Join(dir, "models")
	p.config.AutoUpdateFeed, p.config.LocalAPIPort = p.studio.URL+"/feed", &port
	p.config.OnlyWhenIdle = true
	p.config.WorkerID, p.config.AuthToken = "w-1", protocol.Secret(token)
	p.cfg = Config{
		Path: path, Version: "1.0.0",
		Open:     func() (*config.Store, error) { return config.Open(path, slog.New(slog.DiscardHandler)) },
		Lookup:   net.DefaultResolver.LookupHost,
		FreeDisk: func(string) (uint64, error) { return 50 << 30, nil },
		GPUs: func(context.Context) ([]gpu.Device, error) {
			return []gpu.Device{{Name: "NVIDIA L4", Vendor: "NVIDIA", TotalBytes: 24 << 30, FreeBytes: 20 << 30}}, nil
		},
		Engines: func(context.Context) []observe.Engine {
			return []observe.Engine{
				{ID: "espeak-ng", Found: "/usr/bin/espeak-ng", Kinds: []string{"audio_tts"}},
				{ID: "sd-cpp", Problem: "sd-cli is not installed", Fix: "studio-worker engines install sd-cpp"},
			}
		},
		IdleFor:  func(context.Context) (time.Duration, error) { return time.Second, nil },
		TrayHost: func(context.Context) (bool, error) { return true, nil },
	}
	return p
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return uint16(port)
}

// findings examines the patient.
func (p *patient) findings(t *testing.T) []Finding {
	t.Helper()
	if p.write {
		store, err := config.New(p.cfg.Path, p.config, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Update(func(c *config.Config) { *c = p.config }); err != nil {
			t.Fatal(err)
		}
	}
	var found []Finding
	Run(t.Context(), p.cfg, func(f Finding) { found = append(found, f) })
	return found
}

func problems(found []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(found), func(f Finding) bool { return f.Result != Problem })
}

func TestHealthyWorkerHasNoProblem(t *testing.T) {
	found := newPatient(t).findings(t)
	var names []string
	for _, f := range found {
		names = append(names, f.Check)
		if f.Result != OK && f.Check != CheckProxy {
			t.Errorf("%+v, want ok", f)
		}
	}
	want := []string{
		CheckConfig, CheckDisk, CheckDNS, CheckProxy, CheckTLS, CheckStudio, CheckClock, CheckToken,
		CheckGPU, CheckEngines, CheckPorts, CheckPresence, CheckTray, CheckUpdate,
	}
	if !slices.Equal(names, want) {
		t.Errorf("checks %v, want %v", names, want)
	}
}

// Without a feed in the config the one of the build is asked; a folder is asked for what
// lies in each.
func TestTheFeedOfTheBuild(t *testing.T) {
	p := newPatient(t)
	p.config.AutoUpdateFeed = ""
	found := func() Finding {
		all := p.findings(t)
		return all[slices.IndexFunc(all, func(f Finding) bool { return f.Check == CheckUpdate })]
	}
	if f := found(); f.Result != Skipped {
		t.Errorf("without any feed: %+v", f)
	}
	p.cfg.Feed = p.studio.URL + "/feed"
	if f := found(); f.Result != OK {
		t.Errorf("with the build's: %+v", f)
	}
	p.cfg.Feed = p.studio.URL + "/folder/"
	if f := found(); f.Result != Problem || !strings.Contains(fmt.Sprint(f), "/folder/keys.json") {
		t.Errorf("with a folder that is not there: %+v", f)
	}
}

// Each fault has one name, and only that.
func TestEachFaultIsNamedAlone(t *testing.T) {
	tests := []struct {
		check string
		harm  func(*testing.T, *patient)
		says  string
	}{
		{CheckConfig, func(t *testing.T, p *patient) {
			t.Helper()
			if runtime.GOOS == "windows" {
				t.Skip("modes of files mean nothing on Windows")
			}
			p.findings(t)
			p.write = false
			if err := os.Chmod(p.cfg.Path, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "chmod 600"},
		{CheckDisk, func(_ *testing.T, p *patient) {
			p.cfg.FreeDisk = func(string) (uint64, error) { return 100 << 20, nil }
		}, "0.1 GB free"},
		{CheckDNS, func(_ *testing.T, p *patient) {
			p.config.APIBaseURL = "https://studio.invalid"
			p.cfg.Lookup = func(_ context.Context, host string) ([]string, error) {
				return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
			}
		}, "studio.invalid"},
		{CheckProxy, func(t *testing.T, p *patient) {
			t.Helper()
			// A proxy is not used for this computer's own addresses, so the studio gets a name.
			p.config.APIBaseURL = "https://studio.invalid"
			p.config.AutoUpdateFeed = ""
			t.Setenv("HTTPS_PROXY", fmt.Sprintf("http://127.0.0.1:%d", freePort(t)))
		}, "proxy 127.0.0.1"},
		{CheckTLS, func(_ *testing.T, p *patient) { p.config.CAFile, p.config.AutoUpdateFeed = "", "" }, "certificate"},
		{CheckStudio, func(t *testing.T, p *patient) {
			t.Helper()
			other := httptest.NewServer(http.NotFoundHandler())
			t.Cleanup(other.Close)
			p.config.APIBaseURL = other.URL
		}, "studio"},
		{CheckClock, func(_ *testing.T, p *patient) {
			p.date = func() time.Time { return time.Now().Add(48*time.Hour + 30*time.Second) }
		}, "clock is 48h0m"},
		{CheckToken, func(_ *testing.T, p *patient) { p.known = "another" }, "status 401"},
		{CheckGPU, func(_ *testing.T, p *patient) {
			p.cfg.GPUs = func(context.Context) ([]gpu.Device, error) {
				return []gpu.Device{{Name: "NVIDIA L4", Vendor: "NVIDIA", Note: "Driver Not Loaded"}}, nil
			}
		}, "Driver Not Loaded"},
		{CheckEngines, func(_ *testing.T, p *patient) {
			p.cfg.Engines = func(context.Context) []observe.Engine {
				return []observe.Engine{
					{ID: "espeak-ng", Found: "/usr/bin/espeak-ng", Kinds: []string{"audio_tts"}},
					{ID: "llama-cpp", Found: "/opt/llama-server", Problem: "needs libcublas.so.12", Fix: "apt install libcublas12"},
				}
			}
		}, "libcublas"},
		{CheckPorts, func(t *testing.T, p *patient) {
			t.Helper()
			listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", *p.config.LocalAPIPort))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = listener.Close() })
		}, "in use"},
		{CheckPresence, func(_ *testing.T, p *patient) {
			p.cfg.IdleFor = func(context.Context) (time.Duration, error) { return 0, errors.New("there is no session bus") }
		}, "no session bus"},
		{CheckTray, func(_ *testing.T, p *patient) {
			p.cfg.TrayHost = func(context.Context) (bool, error) { return false, nil }
		}, "no tray icons"},
		{CheckUpdate, func(_ *testing.T, p *patient) { p.feed = http.StatusNotFound }, "status 404"},
	}
	for _, test := range tests {
		t.Run(test.check, func(t *testing.T) {
			p := newPatient(t)
			test.harm(t, p)
			found := problems(p.findings(t))
			if len(found) != 1 || found[0].Check != test.check {
				t.Fatalf("problems %+v, want %s alone", found, test.check)
			}
			if f := found[0]; !strings.Contains(f.Detail, test.says) || f.Fix == "" {
				t.Errorf("%+v, want words with %q and a fix", f, test.says)
			}
			if f := found[0]; strings.Contains(f.Detail+f.Fix, token) {
				t.Errorf("%+v holds the token", f)
			}
		})
	}
}

func TestDoctorNamesWhatIsWrongWithTheSettings(t *testing.T) {
	t.Run("address", func(t *testing.T) {
		p := newPatient(t)
		p.config.APIBaseURL = "ftp://studio"
		path := p.cfg.Path
		text := fmt.Sprintf("api_base_url = %q\n", p.config.APIBaseURL)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p.write = false
		found := problems(p.findings(t))
		if len(found) != 1 || found[0].Check != CheckStudio && found[0].Check != CheckConfig {
			t.Errorf("problems %+v", found)
		}
	})
	t.Run("a value", func(t *testing.T) {
		p := newPatient(t)
		if _, err := p.cfg.Open(); !errors.Is(err, config.ErrMissing) {
			t.Fatal(err)
		}
		text := fmt.Sprintf("api_base_url = %q\nvram_threshold_gb = 1\nhealth_listen = \"0.0.0.0:9791\"\nca_file = %q\n", p.studio.URL, p.config.CAFile)
		if err := os.WriteFile(p.cfg.Path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p.write = false
		found := p.findings(t)
		if found[0].Check != CheckConfig || found[0].Result != Problem || !strings.Contains(found[0].Fix, "change health_listen in ") {
			t.Errorf("found %+v", found[0])
		}
	})
	t.Run("a port for two", func(t *testing.T) {
		p := newPatient(t)
		p.config.HealthListen = fmt.Sprintf("127.0.0.1:%d", *p.config.LocalAPIPort)
		p.config.StreamPort = p.config.LocalAPIPort // without effect
		found := problems(p.findings(t))
		if len(found) != 1 || found[0].Check != CheckPorts || !strings.Contains(found[0].Detail, "are both") {
			t.Errorf("problems %+v", found)
		}
	})
	t.Run("certificates", func(t *testing.T) {
		p := newPatient(t)
		p.config.CAFile, p.config.AutoUpdateFeed = filepath.Join(t.TempDir(), "gone.pem"), ""
		found := problems(p.findings(t))
		if len(found) != 1 || found[0].Check != CheckTLS || !strings.Contains(found[0].Fix, "ca_file") {
			t.Errorf("problems %+v", found)
		}
	})
	t.Run("no engine at all", func(t *testing.T) {
		p := newPatient(t)
		p.cfg.Engines = func(context.Context) []observe.Engine { return nil }
		if found := problems(p.findings(t)); len(found) != 1 || found[0].Check != CheckEngines {
			t.Errorf("problems %+v", found)
		}
	})
	t.Run("no desktop session", func(t *testing.T) {
		p := newPatient(t)
		p.cfg.TrayHost = func(context.Context) (bool, error) { return false, errors.New("no session bus") }
		if found := problems(p.findings(t)); len(found) != 1 || found[0].Check != CheckTray {
			t.Errorf("problems %+v", found)
		}
	})
}

// A running worker holds its ports, and a worker that was never started has nothing to
// check but its computer.
func TestWhatIsNotThereIsSkipped(t *testing.T) {
	p := newPatient(t)
	p.cfg.Running, p.cfg.TrayHost = true, nil
	p.write = false
	p.cfg.Open = func() (*config.Store, error) {
		return config.New(p.cfg.Path, config.Default(), slog.New(slog.DiscardHandler))
	}
	for _, f := range p.findings(t) {
		want := Skipped
		switch f.Check {
		case CheckConfig, CheckDisk, CheckGPU, CheckEngines:
			want = OK
		}
		if f.Result != want {
			t.Errorf("%+v, want %s", f, want)
		}
	}
}
