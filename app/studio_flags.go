package app

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"

	"github.com/DeRuina/timberjack"
	"github.com/spf13/cobra"

	"studioworker/studio"
)

// reachFlags say how a studio is reached, by whom, and what is written of it.
type reachFlags struct {
	public, cert, key string
	proxies           []string
	access            string
}

func (f *reachFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.public, "public-url", "", "address by which people and workers reach the studio, like https://studio.example.org")
	flags.StringVar(&f.cert, "tls-cert", "", "speak HTTPS with the certificate in this PEM file, read again when it changes")
	flags.StringVar(&f.key, "tls-key", "", "PEM file with the certificate's key")
	flags.StringSliceVar(&f.proxies, "trusted-proxy", nil, "address or network (CIDR) of a proxy whose X-Forwarded-For is believed; may be repeated")
	flags.StringVar(&f.access, "access-log", "", "write a line of JSON for each request to this file; - is standard error")
}

// apply puts the flags into the config. The returned function closes the access
// log.
func (f *reachFlags) apply(cfg *studio.Config, stderr io.Writer) (closeLog func(), err error) {
	cfg.PublicURL, cfg.TLSCert, cfg.TLSKey = f.public, f.cert, f.key
	for _, text := range f.proxies {
		prefix, err := parseNetwork("--trusted-proxy", text)
		if err != nil {
			return nil, usageError{err}
		}
		cfg.TrustedProxies = append(cfg.TrustedProxies, prefix)
	}
	switch f.access {
	case "":
		return func() {}, nil
	case "-":
		cfg.Access = slog.New(slog.NewJSONHandler(stderr, nil))
		return func() {}, nil
	}
	file := &timberjack.Logger{Filename: f.access, MaxSize: logFileMiB, MaxBackups: oldLogFiles, FileMode: 0o600, LocalTime: true}
	cfg.Access = slog.New(slog.NewJSONHandler(file, nil))
	return func() { _ = file.Close() }, nil // a log: what is lost is said nowhere else
}

// parseNetwork reads a network, or one address.
func parseNetwork(flag, text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%s: %q is neither an address nor a network like 10.0.0.0/8", flag, text)
	}
	return prefix.Masked(), nil
}
