package config

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// reference is a file as the reference program writes it, with keys of older
// versions and one that nobody knows.
const reference = `api_base_url = "https://studio.example/"
vram_threshold_gb = 8
engine = "multi"
auto_enabled = true
models_root = "~/models"
worker_id = "wk-20"
auth_token = "tok-very-secret"
vram_treshold_gb = 3.0
`

func write(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, path string) (*Store, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	s, err := Open(path, slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s, &out
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestTheReferencesFileIsReadAsItIs(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	s, out := open(t, write(t, reference, 0o600))
	c := s.Get()
	if c.APIBaseURL != "https://studio.example/" || c.VRAMThresholdGB != 8 || c.WorkerID != "wk-20" || !c.Registered() {
		t.Errorf("got %+v", c)
	}
	if !c.StartMinimised || !c.AutoUpdateEnabled || c.AutoUpdateIntervalSecs != 1800 { // spec #151
		t.Errorf("defaults of absent keys: %+v", c)
	}
	if want := filepath.Join(home, "models"); c.ModelsRoot != want { // spec #153
		t.Errorf("models_root = %q, want %q", c.ModelsRoot, want)
	}
	if got := out.String(); strings.Count(got, "unknown key") != 1 || !strings.Contains(got, "key=vram_treshold_gb did_you_mean=vram_threshold_gb") {
		t.Errorf("warnings: %s", got)
	}
	if strings.Contains(out.String(), "tok-very-secret") {
		t.Error("a secret reached the log")
	}
}

func TestSpec152OldKeysVanishAndUnknownOnesStay(t *testing.T) {
	path := write(t, reference+"[mine]\nx = 1\n", 0o600)
	s, _ := open(t, path)
	if err := s.Update(func(c *Config) { c.VRAMThresholdGB = 9 }); err != nil {
		t.Fatal(err)
	}
	text := read(t, path)
	for _, gone := range []string{"auto_enabled", "\nengine"} {
		if strings.Contains(text, gone) {
			t.Errorf("%s is still there:\n%s", gone, text)
		}
	}
	for _, kept := range []string{"vram_treshold_gb = 3.0", "[mine]", "x = 1", "vram_threshold_gb = 9.0"} {
		if !strings.Contains(text, kept) {
			t.Errorf("%q is lost:\n%s", kept, text)
		}
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	open(t, path) // what was written can be read
}

func TestSpec153HomeStaysWhenThereIsNone(t *testing.T) {
	t.Setenv("HOME", "")
	for _, path := range []string{"~", "~/x", "~other/x", "/a/b"} {
		if got := expandHome(path); got != path {
			t.Errorf("%q became %q", path, got)
		}
	}
}

func TestSpec154FilesThatAreRefused(t *testing.T) {
	const secret = "auth_token = \"tok-very-secret\"\n"
	for _, tc := range []struct {
		name, text string
		is         error
		says       string
	}{
		{"not TOML", secret + "api_base_url = = 3", ErrDamaged, "line 2"},
		{"too large", strings.Repeat("#", maxFile+1), ErrDamaged, "larger"},
		{"no address", "vram_threshold_gb = 1.0", nil, "api_base_url"},
		{"no threshold", `api_base_url = "https://a.example"`, nil, "vram_threshold_gb"},
		{"wrong type", secret + "api_base_url = \"https://a.example\"\nvram_threshold_gb = \"much\"", nil, "line 3"},
		{"negative threshold", "api_base_url = \"https://a.example\"\nvram_threshold_gb = -1.0", nil, "threshold must be >= 0"},
		{"no number", "api_base_url = \"https://a.example\"\nvram_threshold_gb = nan", nil, "must be a number"},
		{"hours", "api_base_url = \"https://a.example\"\nvram_threshold_gb = 1.0\nweekly_hours = [\"mon 8-9\"]", nil, `weekly_hours: "mon 8-9": "8" is no time`},
		{"hours of updates", "api_base_url = \"https://a.example\"\nvram_threshold_gb = 1.0\nauto_update_hours = [\"mon 8-9\"]", nil, `auto_update_hours: "mon 8-9": "8" is no time`},
		{"hours that are no list", "api_base_url = \"https://a.example\"\nvram_threshold_gb = 1.0\nweekly_hours = \"mon\"", nil, "line 3"},
	} {
		path := write(t, tc.text, 0o600)
		_, err := Open(path, slog.New(slog.DiscardHandler))
		if err == nil || tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v, want it to say %q", tc.name, err, tc.says)
		} else if strings.Contains(err.Error(), "tok-very-secret") {
			t.Errorf("%s: the error quotes the file: %v", tc.name, err)
		}
		if read(t, path) != tc.text {
			t.Errorf("%s: the file was changed", tc.name)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "config.toml"), slog.New(slog.DiscardHandler)); !errors.Is(err, ErrMissing) {
		t.Errorf("missing file: %v", err)
	}
}

func TestFault10ADamagedFileIsSetAside(t *testing.T) {
	path := write(t, reference, 0o600)
	open(t, path) // leaves a last good copy
	if err := os.Truncate(path, 20); err != nil {
		t.Fatal(err)
	}
	s, out := open(t, path)
	if c := s.Get(); c.WorkerID != "wk-20" || c.AuthToken.Reveal() != "tok-very-secret" {
		t.Errorf("got %+v", c)
	}
	aside, err := filepath.Glob(path + ".corrupt-*")
	if err != nil || len(aside) != 1 || read(t, aside[0]) != reference[:20] {
		t.Errorf("set aside: %v, %v", aside, err)
	}
	if !strings.Contains(out.String(), "the last good copy is in use") {
		t.Errorf("log: %s", out)
	}
}

func TestFault12CredentialsThatOthersCanRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes") // the file inherits the folder's ACL there
	}
	path := write(t, reference, 0o644)
	_, err := Open(path, slog.New(slog.DiscardHandler))
	if !errors.Is(err, ErrMode) || !strings.Contains(err.Error(), "chmod 600 "+path) {
		t.Errorf("got %v", err)
	}
	open(t, write(t, "api_base_url = \"https://a.example\"\nvram_threshold_gb = 1", 0o644)) // nothing to hide yet
}

func TestSpec150TheFirstUpdateCreatesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "config.toml")
	s, err := New(path, Default(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the file was written before anything was chosen")
	}
	if err := s.Update(func(c *Config) { c.APIBaseURL = "http://127.0.0.1:9790" }); err != nil {
		t.Fatal(err)
	}
	again, _ := open(t, path)
	if c := again.Get(); c.APIBaseURL != "http://127.0.0.1:9790" || c.VRAMThresholdGB != DefaultThresholdGB {
		t.Errorf("got %+v", c)
	}
}

func TestSpec155FirstThreshold(t *testing.T) {
	for total, want := range map[float64]float64{8: 8, 24: 12, 12: 12, 0: 12} {
		if got := FirstThreshold(total); got != want {
			t.Errorf("%v GB: got %v, want %v", total, got, want)
		}
	}
}

func TestSpec157EditsThatAreRefused(t *testing.T) {
	path := write(t, reference, 0o600)
	s, _ := open(t, path)
	before := s.Get()
	for key, edit := range map[string]func(*Config){
		"api_base_url":              func(c *Config) { c.APIBaseURL = "ftp://a" },
		"auto_update_feed":          func(c *Config) { c.AutoUpdateFeed = "https://" },
		"vram_threshold_gb":         func(c *Config) { c.VRAMThresholdGB = math.NaN() },
		"threshold must be >= 0":    func(c *Config) { c.VRAMThresholdGB = -1 },
		"auto_update_interval_secs": func(c *Config) { c.AutoUpdateIntervalSecs = 59 },
		"models_root":               func(c *Config) { c.ModelsRoot = " " },
		"from 0 to 4096":            func(c *Config) { c.VRAMThresholdGB = 1e9 },
		"from 0 to 86400":           func(c *Config) { c.DrainSecs = new(uint32(86401)) },
	} {
		if err := s.Update(edit); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: got %v", key, err)
		}
	}
	if got := s.Get(); !reflect.DeepEqual(got, before) || read(t, path) != reference {
		t.Errorf("a refused edit changed something: %+v", got)
	}
}

// A file of the reference, or one that was edited by hand, may hold what an edit through
// this program would not be allowed to.
func TestWrongValuesOfTheFileKeepNothingFromBeingSaved(t *testing.T) {
	path := write(t, "api_base_url = \"https://a.example\"\nvram_threshold_gb = 9000.0\nauto_update_interval_secs = 5\nhealth_listen = \"0.0.0.0:9\"\nmodels_root = \"\"\n", 0o600)
	s, out := open(t, path)
	for _, key := range []string{"vram_threshold_gb", "auto_update_interval_secs", "health_listen"} {
		if !strings.Contains(out.String(), "key="+key) {
			t.Errorf("nothing is said of %s: %s", key, out)
		}
	}
	c := s.Get()
	if c.UpdateInterval() != MinUpdateInterval*time.Second || c.ModelsRoot == "" {
		t.Errorf("in force: interval %v, models in %q", c.UpdateInterval(), c.ModelsRoot)
	}
	if err := s.Update(func(c *Config) { c.WorkerID, c.AuthToken = "wk-1", "tok" }); err != nil {
		t.Fatalf("the credentials are lost: %v", err)
	}
	if c, _ := open(t, path); c.Get().WorkerID != "wk-1" || c.Get().AutoUpdateIntervalSecs != 5 {
		t.Errorf("saved: %+v", c.Get())
	}
	if err := s.Update(func(c *Config) { err := c.Set("only_when_idle", "true"); c.OnlyWhenIdle = err == nil }); err != nil || !s.Get().OnlyWhenIdle {
		t.Errorf("another key cannot be set: %v", err)
	}
	bad, ok := errors.AsType[*KeyError](s.Update(func(c *Config) { c.AutoUpdateIntervalSecs = 6 }))
	if !ok || bad.Key != "auto_update_interval_secs" {
		t.Errorf("another wrong value: %v", bad)
	}
	for _, n := range []uint64{0, math.MaxUint64} {
		if got := (Config{AutoUpdateIntervalSecs: n}).UpdateInterval(); got < time.Minute || got > 31*24*time.Hour {
			t.Errorf("%d seconds are taken as %v", n, got)
		}
	}
	for _, n := range []float64{-1, math.NaN(), math.Inf(1)} {
		if got := (Config{ModelsQuotaGB: n}).ModelsQuota(); got < 0 {
			t.Errorf("a quota of %v is taken as %d", n, got)
		}
	}
}

func TestAFileThatCannotBeUsedIsSetAsideBeforeASave(t *testing.T) {
	path := write(t, reference, 0o600)
	s, out := open(t, path)
	const edited = "vram_threshold_gb = 3 # my own\napi_base_url = \n"
	if err := os.WriteFile(path, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(func(c *Config) { c.WorkerID = "wk-21" }); err != nil {
		t.Fatal(err)
	}
	aside, err := filepath.Glob(path + ".corrupt-*")
	if err != nil || len(aside) != 1 || read(t, aside[0]) != edited {
		t.Errorf("the person's edit is lost: %v, %v", aside, err)
	}
	if !strings.Contains(out.String(), "was set aside") {
		t.Errorf("log: %s", out)
	}
	if c, _ := open(t, path); c.Get().WorkerID != "wk-21" || c.Get().VRAMThresholdGB != 8 {
		t.Errorf("saved: %+v", c.Get())
	}
	if err := s.Update(func(c *Config) { c.WorkerID = "wk-22" }); err != nil {
		t.Fatal(err)
	}
	if again, _ := filepath.Glob(path + ".corrupt-*"); len(again) != 1 {
		t.Errorf("set aside again: %v", again)
	}
	if err := os.WriteFile(path, []byte("api_base_url = \n"), 0o600); err != nil { // within the same second
		t.Fatal(err)
	}
	if err := s.Update(func(c *Config) { c.WorkerID = "wk-23" }); err != nil {
		t.Fatal(err)
	}
	if both, _ := filepath.Glob(path + ".corrupt-*"); len(both) != 2 || read(t, aside[0]) != edited {
		t.Errorf("the second took the place of the first: %v", both)
	}
}

func TestAnotherProcessMayChangeTheFile(t *testing.T) {
	path := write(t, reference, 0o600)
	s, out := open(t, path)
	other, _ := open(t, path)
	if err := other.Update(func(c *Config) { c.VRAMThresholdGB = 5 }); err != nil {
		t.Fatal(err)
	}
	if got := s.Get().VRAMThresholdGB; got != 5 {
		t.Errorf("threshold = %v, want the other process's 5", got)
	}
	if err := other.Update(func(c *Config) { c.OnlyWhenIdle = true }); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(func(c *Config) { c.WorkerID = "wk-21" }); err != nil {
		t.Fatal(err)
	}
	if c := s.Get(); !c.OnlyWhenIdle || c.WorkerID != "wk-21" {
		t.Errorf("one of two changes is lost: %+v", c)
	}
	if err := os.WriteFile(path, []byte("="), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if c := s.Get(); c.WorkerID != "wk-21" || !reflect.DeepEqual(s.Get(), c) {
		t.Errorf("a damaged file replaced what was in force: %+v", c)
	}
	if n := strings.Count(out.String(), "cannot be used"); n != 1 {
		t.Errorf("said %d times, want once", n)
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	s, _ := open(t, write(t, reference, 0o600))
	text, err := s.Show()
	if err != nil || strings.Contains(text, "tok-very-secret") || !strings.Contains(text, "auth_token = '[redacted]'") {
		t.Errorf("got %s, %v", text, err)
	}
	c := s.Get()
	if text := fmt.Sprintf("%v %+v %#v %s", c, c, c, c.AuthToken); strings.Contains(text, "tok-very-secret") {
		t.Errorf("printing shows it: %s", text)
	}
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("hello", "token", c.AuthToken)
	if strings.Contains(out.String(), "tok-very-secret") {
		t.Errorf("logging shows it: %s", out.String())
	}
	if Secret("").String() != "" {
		t.Error("an absent secret looks like one")
	}
}

func TestSpec159ResetKeepsSettings(t *testing.T) {
	c := Default()
	want := c
	c.WorkerID, c.AuthToken, c.InstallID, c.RegistrationRequestID, c.RegistrationSecret = "a", "b", "c", "d", "e"
	if c.ResetRegistration(); !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v", c)
	}
}

func TestHoursAndBatteryAreKept(t *testing.T) {
	path := write(t, reference, 0o600)
	s, _ := open(t, path)
	if c := s.Get(); c.WeeklyHours != nil || c.PauseOnBattery {
		t.Errorf("defaults: %q, %v", c.WeeklyHours, c.PauseOnBattery)
	}
	want := []string{"mon-fri 18:00-08:00", "sat,sun 00:00-24:00"}
	err := s.Update(func(c *Config) { c.WeeklyHours, c.PauseOnBattery = want, true })
	if err != nil {
		t.Fatal(err)
	}
	again, _ := open(t, path)
	if c := again.Get(); !slices.Equal(c.WeeklyHours, want) || !c.PauseOnBattery {
		t.Errorf("after saving: %q, %v", c.WeeklyHours, c.PauseOnBattery)
	}
	err = s.Update(func(c *Config) { c.WeeklyHours = []string{"caturday 10:00-11:00"} })
	if err == nil || !strings.Contains(err.Error(), `weekly_hours: "caturday 10:00-11:00"`) || !slices.Equal(s.Get().WeeklyHours, want) {
		t.Errorf("an edit that is wrong: %v, then %q", err, s.Get().WeeklyHours)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(reference))
	f.Add([]byte("[a]\nb = 1"))
	f.Add([]byte("api_base_url = \"https://a.example\"\nvram_threshold_gb = 1.0\nweekly_hours = []"))
	f.Add([]byte("api_base_url = \"https://a.example\"\nvram_threshold_gb = 1.0\nauto_update_hours = []\nallow_input_hosts = []\nmodels_root = \"\""))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := decode(data)
		if err != nil {
			return
		}
		text, err := first.encode()
		if err != nil {
			t.Fatal(err)
		}
		second, err := decode(text)
		if err != nil || !reflect.DeepEqual(second.Config, first.Config) {
			t.Fatalf("round trip: %v\n%s", err, text)
		}
	})
}

func TestQuotaAndHostsAreCheckedInTheFile(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"models_quota_gb":   func(c *Config) { c.ModelsQuotaGB = -1 },
		"allow_input_hosts": func(c *Config) { c.AllowInputHosts = make([]string, 65) },
	} {
		c := Default()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := Default()
	c.ModelsQuotaGB = 1.5
	if c.ModelsQuota() != 3<<29 {
		t.Errorf("1.5 GiB are %d bytes", c.ModelsQuota())
	}
}
