package app

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"studioworker/studio"
)

const (
	maxKeepDays = 36_500
	maxKeepGiB  = 1 << 20
)

// keepFlags say how long a studio keeps what has ended, and whom it may tell.
type keepFlags struct {
	days, gib, inputs int64
	hooks             []string
}

func (f *keepFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.Int64Var(&f.days, "keep-days", 30, "days that a job and its result stay after its end")
	flags.Int64Var(&f.gib, "keep-gib", 100, "GiB of results that stay; the oldest go first")
	flags.Int64Var(&f.inputs, "inputs-gib", 20, "GiB of pictures and recordings that are stored for jobs; more are refused")
	flags.StringSliceVar(&f.hooks, "webhook-allow", nil, "private address or network (CIDR) that webhooks may be in; may be repeated")
}

// apply puts the flags into the config.
func (f *keepFlags) apply(cfg *studio.Config) error {
	if f.days < 1 || f.days > maxKeepDays || f.gib < 1 || f.gib > maxKeepGiB || f.inputs < 1 || f.inputs > maxKeepGiB {
		return usageError{errors.New("--keep-days must be 1 to 36500, --keep-gib and --inputs-gib 1 to 1048576")}
	}
	cfg.MaxInputs = f.inputs << 30
	cfg.KeepFor, cfg.KeepBytes = time.Duration(f.days)*24*time.Hour, f.gib<<30
	for _, text := range f.hooks {
		prefix, err := parseNetwork("--webhook-allow", text)
		if err != nil {
			return usageError{err}
		}
		cfg.WebhookAllow = append(cfg.WebhookAllow, prefix)
	}
	return nil
}
