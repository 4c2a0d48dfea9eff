package config

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestEveryKeyIsDescribed(t *testing.T) {
	var got []string
	for i, d := range Descriptors() {
		got = append(got, d.Key)
		if d.Meaning == "" || d.Default == "" || d.Restart && !d.Editable {
			t.Errorf("%s: %+v", d.Key, d)
		}
		typ := reflect.TypeFor[Config]().Field(i).Type
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		want := map[reflect.Kind]Kind{
			reflect.Bool: KindSwitch, reflect.Float64: KindNumber, reflect.Slice: KindList,
			reflect.Uint16: KindWhole, reflect.Uint32: KindWhole, reflect.Uint64: KindWhole, reflect.String: d.Kind,
		}[typ.Kind()]
		if d.Kind != want || (typ == reflect.TypeFor[Secret]()) != (d.Kind == KindSecret) {
			t.Errorf("%s is a %v, described as %q", d.Key, typ, d.Kind)
		}
		if d.Kind == KindSecret && d.Editable {
			t.Errorf("%s: a secret is no setting", d.Key)
		}
	}
	if !slices.Equal(got, Keys()) {
		t.Errorf("described are\n%q\nthe config has\n%q", got, Keys())
	}
}

func TestSetAndValue(t *testing.T) {
	for _, tc := range []struct{ key, text, want string }{
		{"api_base_url", " https://studio.example.org ", "https://studio.example.org"},
		{"vram_threshold_gb", "10.5", "10.5"},
		{"vram_threshold_gb", "0", "0"},
		{"only_when_idle", "true", "true"},
		{"auto_update_interval_secs", "60", "60"},
		{"auto_update_feed", "", ""},
		{"ws_reconnect_attempts", "7", "7"},
		{"ws_reconnect_attempts", "", ""},
		{"drain_secs", "0", "0"},
		{"weekly_hours", "mon 08:00-09:00\n\n  daily 22:00-24:00 ", "mon 08:00-09:00\ndaily 22:00-24:00"},
		{"weekly_hours", "", ""},
		{"ca_file", "/etc/ca.pem", "/etc/ca.pem"},
		{"health_listen", "[::1]:0", "[::1]:0"},
		{"health_listen", "localhost:9791", "localhost:9791"},
		{"models_quota_gb", "0.5", "0.5"},
		{"allow_input_hosts", "nas.lan\n[fd00::1]:8443", "nas.lan\n[fd00::1]:8443"},
	} {
		c := Default()
		if err := c.Set(tc.key, tc.text); err != nil {
			t.Errorf("%s = %q: %v", tc.key, tc.text, err)
			continue
		}
		if got, err := c.Value(tc.key); err != nil || got != tc.want {
			t.Errorf("%s = %q reads back as %q, %v", tc.key, tc.text, got, err)
		}
	}
}

func TestSetRefuses(t *testing.T) {
	for _, tc := range []struct{ key, text, says string }{
		{"api_base_url", "studio", "must start with http:// or https://"},
		{"vram_threshold_gb", "ten", "must be a number"},
		{"vram_threshold_gb", "NaN", "must be a number"},
		{"vram_threshold_gb", "-1", "from 0 to 4096"},
		{"vram_threshold_gb", "4097", "from 0 to 4096"},
		{"only_when_idle", "perhaps", "true or false"},
		{"auto_update_interval_secs", "59", "from 60 to 2592000"},
		{"auto_update_interval_secs", "1.5", "whole number"},
		{"drain_secs", "99999999999999999999", "whole number"},
		{"drain_secs", "86401", "from 0 to 86400"},
		{"models_root", " ", "must not be empty"},
		{"models_root", "~/models /.", "end with a blank"},
		{"ca_file", "relative.pem", "whole path"},
		{"weekly_hours", "someday 08:00-09:00", "is no day"},
		{"health_listen", "9791", "is not HOST:PORT"},
		{"health_listen", ":9791", "use 127.0.0.1:9791"},
		{"health_listen", "rig.example:9791", "not this computer only"},
		{"health_listen", "127.0.0.1:70000", "is no port"},
		{"models_quota_gb", "-1", "from 0 to 1000000"},
		{"models_quota_gb", "NaN", "number"},
		{"allow_input_hosts", "https://nas.lan", "is no host"},
		{"allow_input_hosts", "nas.lan/x", "is no host"},
		{"allow_input_hosts", ":80", "is no host"},
		{"auth_token", "x", "not for people"},
		{"worker_id", "x", "not for people"},
		{"only_when_idel", "true", "the nearest is only_when_idle"},
	} {
		c := Default()
		err := c.Set(tc.key, tc.text)
		bad, ok := errors.AsType[*KeyError](err)
		if !ok || bad.Key != tc.key || !strings.Contains(bad.Err.Error(), tc.says) || strings.Contains(bad.Err.Error(), tc.key+":") {
			t.Errorf("%s = %q: %v, want %q", tc.key, tc.text, err, tc.says)
		}
		if !reflect.DeepEqual(c, Default()) {
			t.Errorf("%s = %q changed the config", tc.key, tc.text)
		}
	}
	if _, err := Default().Value("nothing"); err == nil {
		t.Error("an unknown key has a value")
	}
	secret := Config{AuthToken: "hidden"}
	if got, err := secret.Value("auth_token"); err != nil || strings.Contains(got, "hidden") {
		t.Errorf("a secret shows as %q, %v", got, err)
	}
}

func FuzzSet(f *testing.F) {
	f.Add("vram_threshold_gb", "10,5")
	f.Add("weekly_hours", "mon-fri 18:00-08:00\nsat 00:00-24:00")
	f.Add("drain_secs", "20")
	f.Add("models_root", "~/models")
	f.Fuzz(func(t *testing.T, key, text string) {
		c := Default()
		if err := c.Set(key, text); err != nil {
			if !reflect.DeepEqual(c, Default()) {
				t.Errorf("a refusal changed the config")
			}
			return
		}
		again := Default()
		value, err := c.Value(key)
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Set(key, value); err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%q = %q reads back as %q: %v", key, text, value, err)
		}
	})
}
