// Package config is the worker's config.toml: its keys and defaults (§11 of the
// protocol specification), how it is read, checked and saved.
//
// The file may be changed by another process at any time (a command beside a
// running worker); [Store] reads it again when it changed and never overwrites
// what another process wrote. Saving replaces the file whole, with mode 0600.
package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"studioworker/worker/availability/hours"
	"studioworker/worker/protocol"
)

// DefaultBaseURL is the public studio of the reference program.
const DefaultBaseURL = "https://studio.minis.gg/"

// Defaults of the numbers (§11.1).
const (
	DefaultThresholdGB    = 12.0
	DefaultUpdateInterval = 1800 // seconds
	MinUpdateInterval     = 60   // seconds
	DefaultDrainSecs      = 20   // seconds
)

// Secret is a text that never reaches a log or an error.
type Secret = protocol.Secret

// Config is the content of config.toml. Optional keys that are absent are nil
// and are not written.
type Config struct {
	APIBaseURL             string  `toml:"api_base_url"`
	VRAMThresholdGB        float64 `toml:"vram_threshold_gb"` // GiB; the largest estimate that is taken
	StartMinimised         bool    `toml:"start_minimised"`
	OnlyWhenIdle           bool    `toml:"only_when_idle"`
	AutoUpdateEnabled      bool    `toml:"auto_update_enabled"`
	AutoUpdateIntervalSecs uint64  `toml:"auto_update_interval_secs"` // at least MinUpdateInterval
	AutoUpdateFeed         string  `toml:"auto_update_feed,omitempty"`
	AutoUpdatePrerelease   bool    `toml:"auto_update_prerelease"`
	ModelsRoot             string  `toml:"models_root"`

	WSReconnectAttempts *uint32 `toml:"ws_reconnect_attempts,omitempty"` // absent or 0 = for ever
	LocalAPIPort        *uint16 `toml:"local_api_port,omitempty"`
	StreamPort          *uint16 `toml:"stream_port,omitempty"`
	DrainSecs           *uint32 `toml:"drain_secs,omitempty"` // ours: wait for a running job when stopping

	AutoUpdateHours []string `toml:"auto_update_hours,omitempty"` // ours: when updates are installed, as WeeklyHours; none = always

	// Ours: when no jobs are taken.
	WeeklyHours    []string `toml:"weekly_hours,omitempty"`     // entries as package hours reads them; none = always
	PauseOnBattery bool     `toml:"pause_on_battery,omitempty"` // take none without mains power

	CAFile string `toml:"ca_file,omitempty"` // ours: PEM certificates trusted beside the system's; read at the start

	HealthListen string `toml:"health_listen,omitempty"` // ours: where health and metrics are served, on this computer only; empty = nowhere

	SendCrashReports bool `toml:"send_crash_reports,omitempty"` // ours: the person agrees that crashes and faults are told

	// Ours: what engines get.
	ModelsQuotaGB float64 `toml:"models_quota_gb,omitempty"` // GiB of fetched model files; 0 = no bound

	KeepPrompts bool `toml:"keep_prompts"` // ours: the history has what jobs were asked for

	AllowInputHosts []string `toml:"allow_input_hosts,omitempty"` // host or host:port that inputs may come from, private ones too

	LocalAPIToken         Secret `toml:"local_api_token,omitempty"`
	WorkerID              string `toml:"worker_id,omitempty"`
	AuthToken             Secret `toml:"auth_token,omitempty"`
	InstallID             string `toml:"install_id,omitempty"`
	MachineHash           string `toml:"machine_hash,omitempty"` // ours: ties the install id to this computer
	RegistrationRequestID string `toml:"registration_request_id,omitempty"`
	RegistrationSecret    Secret `toml:"registration_secret,omitempty"`
}

// Default returns the settings of a new install.
func Default() Config {
	return Config{
		APIBaseURL:             DefaultBaseURL,
		VRAMThresholdGB:        DefaultThresholdGB,
		StartMinimised:         true,
		AutoUpdateEnabled:      true,
		AutoUpdateIntervalSecs: DefaultUpdateInterval,
		ModelsRoot:             defaultModels(),
		KeepPrompts:            true,
	}
}

// FirstThreshold is the threshold of a new install on a machine with that much
// GPU memory, in GiB; 0 means unknown.
func FirstThreshold(totalGB float64) float64 {
	if totalGB > 0 && totalGB < DefaultThresholdGB {
		return totalGB
	}
	return DefaultThresholdGB
}

func defaultModels() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "studio-worker-models")
	}
	return filepath.Join(home, "models")
}

// Registered says whether the config holds credentials. Empty ones count as
// absent (§6.4).
func (c Config) Registered() bool { return c.WorkerID != "" && c.AuthToken != "" }

// Drain is how long a stop waits for the running job.
func (c Config) Drain() time.Duration {
	if c.DrainSecs == nil {
		return DefaultDrainSecs * time.Second
	}
	return time.Duration(min(*c.DrainSecs, MaxDrainSecs)) * time.Second
}

// holdsSecret says whether others must not read the file.
func (c Config) holdsSecret() bool {
	return c.AuthToken != "" || c.RegistrationSecret != "" || c.LocalAPIToken != ""
}

// Masked returns a copy that can be shown.
func (c Config) Masked() Config {
	for _, secret := range []*Secret{&c.LocalAPIToken, &c.AuthToken, &c.RegistrationSecret} {
		*secret = Secret(secret.String())
	}
	return c
}

// ResetRegistration forgets the registration and the install id with its
// computer, and keeps the settings (§6.3).
func (c *Config) ResetRegistration() {
	c.WorkerID, c.AuthToken, c.RegistrationRequestID, c.RegistrationSecret, c.InstallID = "", "", "", "", ""
	c.MachineHash = ""
}

// Validate checks each key (§11.2). The error is a [KeyError], of the first that is wrong.
func (c Config) Validate() error {
	for _, bad := range c.problems() {
		return bad
	}
	return nil
}

// problems lists the keys that are wrong, in no order that matters.
func (c Config) problems() []*KeyError {
	var list []*KeyError
	add := func(key string, err error) {
		if err != nil {
			list = append(list, &KeyError{Key: key, Err: err})
		}
	}
	add("api_base_url", checkURL(c.APIBaseURL))
	if c.AutoUpdateFeed != "" {
		add("auto_update_feed", checkURL(c.AutoUpdateFeed))
	}
	add("vram_threshold_gb", c.checkThreshold())
	add("weekly_hours", checkHours(c.WeeklyHours))
	add("auto_update_hours", checkHours(c.AutoUpdateHours))
	if c.CAFile != "" && !filepath.IsAbs(c.CAFile) {
		add("ca_file", errors.New("must be a whole path, from the root"))
	}
	if strings.TrimSpace(c.ModelsRoot) == "" {
		add("models_root", errors.New("must not be empty"))
	}
	if c.HealthListen != "" {
		add("health_listen", CheckListen(c.HealthListen))
	}
	add("allow_input_hosts", checkHosts(c.AllowInputHosts))
	for _, d := range Descriptors() {
		if n, ok := c.number(d); ok && (d.Key != "vram_threshold_gb" || c.checkThreshold() == nil) {
			add(d.Key, d.bounded(n))
		}
	}
	return list
}

// newProblems lists the keys that a change of before has made wrong. What was wrong in
// the file already is no reason to refuse another change: the worker must be able to
// save its credentials beside it.
func (c Config) newProblems(before Config) []*KeyError {
	return slices.DeleteFunc(c.problems(), func(bad *KeyError) bool {
		is, err := field(reflect.ValueOf(&c), bad.Key)
		was, errBefore := field(reflect.ValueOf(&before), bad.Key)
		return err == nil && errBefore == nil && reflect.DeepEqual(is.Interface(), was.Interface())
	})
}

// CheckListen refuses an address to listen on that others on the network could reach.
func CheckListen(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT", address)
	}
	if !Loopback(host) {
		return fmt.Errorf("%q is not this computer only; use 127.0.0.1:%s", host, port)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q is no port", port)
	}
	return nil
}

// Loopback says whether a host's name or address can only be this computer's.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// maxHosts bounds the list of allowed hosts.
const maxHosts = 64

func checkHosts(hosts []string) error {
	if len(hosts) > maxHosts {
		return fmt.Errorf("at most %d hosts", maxHosts)
	}
	for _, host := range hosts {
		u, err := url.Parse("https://" + host)
		if err != nil || u.Host != host || u.Hostname() == "" {
			return fmt.Errorf("%q is no host; write HOST or HOST:PORT, without https:// and path", host)
		}
	}
	return nil
}

// ModelsQuota is the bound on fetched model files, in bytes; 0 = none. It lies within the
// key's bounds, whatever the file says.
func (c Config) ModelsQuota() int64 {
	if !(c.ModelsQuotaGB > 0) { // also not a number
		return 0
	}
	return int64(min(c.ModelsQuotaGB, MaxQuotaGB) * (1 << 30))
}

// UpdateInterval is the time between two looks for updates. It lies within the key's
// bounds, whatever the file says: a shorter one would be a burden to the feed.
func (c Config) UpdateInterval() time.Duration {
	return time.Duration(min(max(c.AutoUpdateIntervalSecs, MinUpdateInterval), MaxUpdateInterval)) * time.Second
}

func (c Config) checkThreshold() error {
	switch {
	case math.IsNaN(c.VRAMThresholdGB) || math.IsInf(c.VRAMThresholdGB, 0):
		return errors.New("must be a number")
	case c.VRAMThresholdGB < 0:
		return errors.New("threshold must be >= 0")
	}
	return nil
}

func checkHours(entries []string) error {
	_, err := hours.Parse(entries)
	return err
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return errors.New("not a web address")
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("must start with http:// or https://")
	case u.Hostname() == "":
		return errors.New("has no host name")
	}
	return nil
}

// DefaultPath returns where config.toml lies on this platform.
func DefaultPath() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the config folder: %w", err)
	}
	return filepath.Join(dir, "studio-worker", "config.toml"), nil
}

// expandHome replaces a leading ~ by the home folder, when there is one.
func expandHome(path string) string {
	rest, ok := strings.CutPrefix(path, "~")
	if !ok || rest != "" && rest[0] != '/' && rest[0] != filepath.Separator {
		return path
	}
	home, err := os.UserHomeDir()
	if err != nil || home == "" {
		return path
	}
	return filepath.Join(home, rest)
}
