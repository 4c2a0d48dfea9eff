package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Kind says what a key holds, in the words of docs/config.md.
type Kind string

// The kinds of values. A list is written one entry a line where it is one text.
const (
	KindText   Kind = "text"
	KindPath   Kind = "path"
	KindNumber Kind = "number"
	KindWhole  Kind = "whole number"
	KindSwitch Kind = "true or false"
	KindList   Kind = "list of texts"
	KindSecret Kind = "text, secret"
)

// Descriptor is what there is to know about a key. From the descriptors the
// window makes its page of settings, and a test compares docs/config.md with them.
type Descriptor struct {
	Key      string
	Kind     Kind
	Unit     string  // of a number: GiB, s; empty = none
	Default  string  // in words for people
	Min, Max float64 // of a number; Max 0 = no bound
	Meaning  string  // one line
	Editable bool    // a person sets it; else the worker does, or it has no effect
	Restart  bool    // a change waits for the next start
}

// MaxThresholdGB bounds vram_threshold_gb where a person types it, in GiB; no
// machine has more.
const MaxThresholdGB = 4096

// Bounds of numbers that a person sets, in seconds, in tries and in GiB.
const (
	MaxUpdateInterval = 30 * 24 * 60 * 60
	MaxDrainSecs      = 24 * 60 * 60
	MaxReconnects     = 1_000_000
	MaxQuotaGB        = 1_000_000
)

// Descriptors describes each key, in the order of [Keys].
func Descriptors() []Descriptor {
	const none, kept = "none", "of the reference; kept, without effect"
	return []Descriptor{
		{Key: "api_base_url", Kind: KindText, Default: "`" + DefaultBaseURL + "`", Meaning: "address of the studio, http or https; another one registers anew", Editable: true},
		{
			Key: "vram_threshold_gb", Kind: KindNumber, Unit: "GiB", Max: MaxThresholdGB, Default: "12, or the card's memory when that is less",
			Meaning: "largest estimate of GPU memory that is taken, in GiB; 0 or more", Editable: true,
		},
		{Key: "start_minimised", Kind: KindSwitch, Default: "true", Meaning: "a start at login begins in the tray, without the window", Editable: true},
		{Key: "only_when_idle", Kind: KindSwitch, Default: "false", Meaning: "take jobs only while nobody uses the computer", Editable: true},
		{Key: "auto_update_enabled", Kind: KindSwitch, Default: "true", Meaning: "look for updates and install them when nothing runs", Editable: true},
		{
			Key: "auto_update_interval_secs", Kind: KindWhole, Unit: "s", Min: MinUpdateInterval, Max: MaxUpdateInterval, Default: strconv.Itoa(DefaultUpdateInterval),
			Meaning: "seconds between two checks", Editable: true,
		},
		{Key: "auto_update_feed", Kind: KindText, Default: none, Meaning: "address of a release feed, http or https", Editable: true},
		{Key: "auto_update_prerelease", Kind: KindSwitch, Default: "false", Meaning: "take versions that are not final", Editable: true},
		{Key: "models_root", Kind: KindPath, Default: "`models` in your home folder", Meaning: "where model files lie; a leading `~` is your home folder", Editable: true},
		{
			Key: "ws_reconnect_attempts", Kind: KindWhole, Max: MaxReconnects, Default: "0",
			Meaning: "failures in a row to reach the studio before the worker gives up; 0 is never", Editable: true, Restart: true,
		},
		{
			Key: "local_api_port", Kind: KindWhole, Max: math.MaxUint16, Default: "4787, or any when that is taken",
			Meaning: "port of the API for programs of this computer; 0 is any", Editable: true, Restart: true,
		},
		{Key: "stream_port", Kind: KindWhole, Max: math.MaxUint16, Default: none, Meaning: kept},
		{
			Key: "drain_secs", Kind: KindWhole, Unit: "s", Max: MaxDrainSecs, Default: strconv.Itoa(DefaultDrainSecs),
			Meaning: "seconds that a stop waits for the running job", Editable: true,
		},
		{Key: "auto_update_hours", Kind: KindList, Default: "always", Meaning: "when updates are fetched and installed, written like `weekly_hours`", Editable: true},
		{Key: "weekly_hours", Kind: KindList, Default: "always", Meaning: "when jobs are taken, like `[\"mon-fri 18:00-08:00\", \"sat,sun 00:00-24:00\"]`", Editable: true},
		{Key: "pause_on_battery", Kind: KindSwitch, Default: "false", Meaning: "take no jobs without mains power", Editable: true},
		{
			Key: "ca_file", Kind: KindPath, Default: none,
			Meaning: "PEM certificates that are trusted beside the system's; a whole path; read at the start", Editable: true, Restart: true,
		},
		{
			Key: "health_listen", Kind: KindText, Default: none,
			Meaning: "`HOST:PORT` of this computer where `run` serves /healthz and /metrics, like `127.0.0.1:9791`", Editable: true, Restart: true,
		},
		{
			Key: "send_crash_reports", Kind: KindSwitch, Default: "false",
			Meaning: "tell the makers of this build of crashes and faults: code and constant texts, as `studio-worker crashes` prints them; false sends nothing", Editable: true,
		},
		{
			Key: "models_quota_gb", Kind: KindNumber, Unit: "GiB", Max: MaxQuotaGB, Default: "0",
			Meaning: "most GiB of model files that are fetched and kept; the longest unused go first; 0 is no bound", Editable: true,
		},
		{Key: "keep_prompts", Kind: KindSwitch, Default: "true", Meaning: "keep prompts and small pictures in the list of finished jobs", Editable: true},
		{
			Key: "allow_input_hosts", Kind: KindList, Default: none,
			Meaning: "hosts, or `HOST:PORT`, that the pictures and sounds of jobs may come from although they lie in a private network", Editable: true,
		},
		{Key: "local_api_token", Kind: KindSecret, Default: "another at each start", Meaning: "token of that API, at least 16 characters"},
		{Key: "worker_id", Kind: KindText, Default: none, Meaning: "who this worker is at the studio; written when it is approved"},
		{Key: "auth_token", Kind: KindSecret, Default: none, Meaning: "proves it; written when it is approved"},
		{Key: "install_id", Kind: KindText, Default: none, Meaning: "random name of this installation"},
		{Key: "machine_hash", Kind: KindText, Default: none, Meaning: "ties the install id to this computer; a copy of the file registers anew"},
		{Key: "registration_request_id", Kind: KindText, Default: none, Meaning: "the request that waits for the operator"},
		{Key: "registration_secret", Kind: KindSecret, Default: none, Meaning: "proves that the request is ours"},
	}
}

// KeyError says which key an edit got wrong.
type KeyError struct {
	Key string
	Err error
}

// Error names the key.
func (e *KeyError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap gives what is wrong.
func (e *KeyError) Unwrap() error { return e.Err }

// Describe finds the descriptor of a key; false when there is no such key.
func Describe(key string) (Descriptor, bool) {
	all := Descriptors()
	i := slices.IndexFunc(all, func(d Descriptor) bool { return d.Key == key })
	if i < 0 {
		return Descriptor{}, false
	}
	return all[i], true
}

// Value gives a key's value as one text: a list has one entry a line, a key that
// is absent is empty, a secret is masked. An unknown key gives a [KeyError].
func (c Config) Value(key string) (string, error) {
	v, err := field(reflect.ValueOf(&c), key)
	if err != nil {
		return "", err
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return "", nil
		}
		v = v.Elem()
	}
	switch held := v.Interface().(type) {
	case Secret:
		return held.String(), nil
	case []string:
		return strings.Join(held, "\n"), nil
	}
	return fmt.Sprint(v.Interface()), nil
}

// Set reads a key's value from the text a person wrote, in the form of
// [Config.Value]. An empty text clears a key that may be absent. It refuses, with
// a [KeyError], what is no key for people, what is not of the key's kind or out
// of its bounds, and what [Config.Validate] refuses of it; then nothing changes.
func (c *Config) Set(key, text string) error {
	next := *c
	if err := next.set(key, strings.TrimSpace(text)); err != nil {
		return &KeyError{Key: key, Err: err}
	}
	for _, bad := range next.newProblems(*c) {
		return bad
	}
	*c = next
	return nil
}

func (c *Config) set(key, text string) error {
	d, ok := Describe(key)
	if !ok {
		return fmt.Errorf("no such key; the nearest is %s", nearest(key))
	}
	if !d.Editable {
		return errors.New("this key is not for people to set")
	}
	v, err := field(reflect.ValueOf(c), key)
	if err != nil {
		return err
	}
	if v.Kind() == reflect.Pointer {
		if text == "" {
			v.SetZero()
			return nil
		}
		held := reflect.New(v.Type().Elem())
		if err := d.parse(held.Elem(), text); err != nil {
			return err
		}
		v.Set(held)
		return nil
	}
	return d.parse(v, text)
}

// parse puts the text's value into v.
func (d Descriptor) parse(v reflect.Value, text string) error {
	switch d.Kind {
	case KindSwitch:
		on, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("must be true or false")
		}
		v.SetBool(on)
		return nil
	case KindNumber:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(n) {
			return errors.New("must be a number")
		}
		if err := d.bounded(n); err != nil {
			return err
		}
		v.SetFloat(n)
		return nil
	case KindWhole:
		n, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			return errors.New("must be a whole number" + d.span())
		}
		if err := d.bounded(float64(n)); err != nil {
			return err
		}
		v.SetUint(n)
		return nil
	case KindList:
		v.SetZero() // an empty list is an absent key
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" {
				v.Set(reflect.Append(v, reflect.ValueOf(line)))
			}
		}
		return nil
	case KindPath:
		path := expandHome(text)
		if path != strings.TrimSpace(path) { // it could not be told from one without
			return errors.New("must not end with a blank")
		}
		v.SetString(path)
		return nil
	case KindText, KindSecret:
	}
	v.SetString(text)
	return nil
}

// number is the value of a key that holds one; false when it holds none, or is absent.
func (c Config) number(d Descriptor) (float64, bool) {
	v, err := field(reflect.ValueOf(&c), d.Key)
	if err != nil || v.Kind() == reflect.Pointer && v.IsNil() {
		return 0, false
	}
	v = reflect.Indirect(v)
	switch d.Kind {
	case KindNumber:
		return v.Float(), true
	case KindWhole:
		return float64(v.Uint()), true
	case KindText, KindPath, KindSwitch, KindList, KindSecret:
	}
	return 0, false
}

// bounded checks a number.
func (d Descriptor) bounded(n float64) error {
	if math.IsNaN(n) || n < d.Min || d.Max > 0 && n > d.Max {
		return errors.New("must be a number" + d.span())
	}
	return nil
}

func (d Descriptor) span() string {
	if d.Max > 0 {
		return fmt.Sprintf(" from %.0f to %.0f", d.Min, d.Max)
	}
	return fmt.Sprintf(" from %.0f on", d.Min)
}

// field finds the field of a key in the config that c points to.
func field(c reflect.Value, key string) (reflect.Value, error) {
	if i := slices.Index(Keys(), key); i >= 0 {
		return c.Elem().Field(i), nil
	}
	return reflect.Value{}, &KeyError{Key: key, Err: fmt.Errorf("no such key; the nearest is %s", nearest(key))}
}
