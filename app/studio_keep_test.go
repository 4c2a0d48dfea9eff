//go:build !windows

package app

import "testing"

func TestKeepFlagsAreChecked(t *testing.T) {
	h := newHome(t)
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no days":     {[]string{"--keep-days", "0"}, "--keep-days"},
		"much room":   {[]string{"--keep-gib", "99999999"}, "--keep-gib"},
		"no inputs":   {[]string{"--inputs-gib", "0"}, "--inputs-gib"},
		"odd network": {[]string{"--webhook-allow", "attic"}, "--webhook-allow"},
	} {
		t.Run(name, func(t *testing.T) { h.wantRefusal(t, exitUsage, append([]string{"studio"}, c.args...), c.want) })
	}
}
